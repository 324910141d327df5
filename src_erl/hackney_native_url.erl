%% @private URLs as hackney takes them, cut into what a request needs.
-module(hackney_native_url).

-export([parse/1, authority/3]).

-export_type([parsed/0]).

-type parsed() :: #{scheme := http | https, host := binary(), port := inet:port_number(), path := binary()}.

%% @doc Cuts a URL up. The fragment is dropped, the query stays with the path, an empty path is `/'. IPv6 literals lose their
%% brackets. User names and passwords in URLs are refused: they would have to be sent, and nobody expects it of a stream.
-spec parse(binary() | string()) -> {ok, parsed()} | {error, term()}.
parse(URL) ->
    try unicode:characters_to_binary(URL) of
        Bin when is_binary(Bin) ->
            case split_scheme(Bin) of
                invalid -> {error, {invalid_url, URL}};
                Result -> Result
            end;
        _ ->
            {error, {invalid_url, URL}}
    catch
        error:badarg -> {error, {badarg, {url, URL}}}
    end.

%% @doc `:authority' (RFC 9113, 8.3.1): the host, with the port unless it is the scheme's own.
-spec authority(http | https, binary(), inet:port_number()) -> binary().
authority(Scheme, Host, Port) ->
    Name = case binary:match(Host, <<":">>) of
               nomatch -> Host;
               _ -> <<"[", Host/binary, "]">>
           end,
    case default_port(Scheme) of
        Port -> Name;
        _ -> <<Name/binary, ":", (integer_to_binary(Port))/binary>>
    end.

default_port(https) -> 443;
default_port(http) -> 80.

split_scheme(URL) ->
    {Scheme, Rest} = case binary:split(URL, <<"://">>) of
                         [S, R] -> {string:lowercase(S), R};
                         %% hackney takes a URL without a scheme for http.
                         [R] -> {<<"http">>, R}
                     end,
    case Scheme of
        <<"https">> -> split_authority(https, Rest);
        <<"http">> -> split_authority(http, Rest);
        _ -> {error, {scheme_not_supported, scheme_atom(Scheme)}}
    end.

%% A URL may come from a stranger: it makes no new atoms.
scheme_atom(Scheme) ->
    try binary_to_existing_atom(Scheme, utf8)
    catch error:_ -> unknown
    end.

split_authority(Scheme, Rest) ->
    {Authority, Target} = case re:run(Rest, "[/?#]", [{capture, first, index}]) of
                              {match, [{At, _}]} -> split_binary(Rest, At);
                              nomatch -> {Rest, <<>>}
                          end,
    [Path | _Fragment] = binary:split(Target, <<"#">>),
    case split_port(Authority, default_port(Scheme)) of
        {ok, Host, Port} -> {ok, #{scheme => Scheme, host => Host, port => Port, path => path(Path)}};
        error -> invalid
    end.

path(<<>>) -> <<"/">>;
path(<<"?", _/binary>> = Query) -> <<"/", Query/binary>>;
path(Path) -> Path.

split_port(<<"[", Rest/binary>>, Default) ->
    case binary:split(Rest, <<"]">>) of
        [Host, PortPart] ->
            case inet:parse_ipv6strict_address(binary_to_list(Host)) of
                {ok, _} -> with_port(Host, PortPart, Default);
                {error, _} -> error
            end;
        _ -> error
    end;
split_port(Authority, Default) ->
    case binary:split(Authority, <<":">>) of
        [Host, Port] -> with_port(Host, <<":", Port/binary>>, Default);
        [Host] -> with_port(Host, <<>>, Default)
    end.

with_port(Host, PortPart, Default) ->
    case is_host(Host) andalso port(PortPart, Default) of
        Port when is_integer(Port) -> {ok, Host, Port};
        _ -> error
    end.

%% Host names in ASCII; an internationalised one has to be given in its `xn--' form, as it goes over the wire.
is_host(Host) ->
    re:run(Host, "^[A-Za-z0-9._:~%!$&'()*+,;=-]+$", [dollar_endonly, {capture, none}]) =:= match.

port(<<>>, Default) -> Default;
port(<<":">>, Default) -> Default;
port(<<":", Digits/binary>>, _Default) ->
    try binary_to_integer(Digits) of
        Port when Port > 0, Port < 65536 -> Port;
        _ -> error
    catch
        error:badarg -> error
    end;
port(_, _) -> error.
