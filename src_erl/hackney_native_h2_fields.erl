%% @private Header lists as `h2_connection' takes them, checked by the rules of RFC 9113, 8.2 and 8.3 before anything is sent.
%%
%% Unlike {@link hackney_native_headers} nothing is made right here: names must be in lower case already, and the pseudo-header fields
%% are the caller's own.
-module(hackney_native_h2_fields).

-export([request/1, response/1, trailers/1, list_size/1]).

-export_type([fields/0, request/0]).

-type fields() :: [{Name :: binary(), Value :: binary()}].
-type request() :: #{method := binary(), scheme := binary() | undefined, authority := binary(), path := binary(),
                     protocol := binary() | undefined, headers := fields()}.

-define(is_lower(C), (C >= $a andalso C =< $z)).
-define(is_digit(C), (C >= $0 andalso C =< $9)).
%% Of tokens, beside letters and digits (RFC 9110, 5.6.2).
-define(is_mark(C), (C =:= $! orelse C =:= $# orelse C =:= $$ orelse C =:= $% orelse C =:= $& orelse C =:= $' orelse C =:= $*
                     orelse C =:= $+ orelse C =:= $- orelse C =:= $. orelse C =:= $^ orelse C =:= $_ orelse C =:= $`
                     orelse C =:= $| orelse C =:= $~)).

%% @doc Takes a request's list apart. `protocol_error' for one that HTTP/2 does not allow, `extended_connect_method' for `:protocol'
%% with another method than CONNECT, `missing_authority' for a tunnel to nowhere.
-spec request(fields()) -> {ok, request()} | {error, protocol_error | extended_connect_method | missing_authority | badarg}.
request(Fields) when is_list(Fields) ->
    try
        {Pseudo, Headers} = pseudo(Fields, #{}),
        check(Headers),
        {ok, request(Pseudo, Headers)}
    catch
        throw:Reason -> {error, Reason}
    end;
request(_) ->
    {error, badarg}.

%% @doc Checks a response's list, which has no pseudo-header fields: the status is given beside it.
-spec response(fields()) -> ok | {error, protocol_error | badarg}.
response(Fields) ->
    trailers(Fields).

%% @doc Checks a list of trailers.
-spec trailers(fields()) -> ok | {error, protocol_error | badarg}.
trailers(Fields) when is_list(Fields) ->
    try check(Fields)
    catch throw:Reason -> {error, Reason}
    end;
trailers(_) ->
    {error, badarg}.

%% @doc The size of a header list as SETTINGS_MAX_HEADER_LIST_SIZE counts it (RFC 9113, 6.5.2).
-spec list_size(fields()) -> non_neg_integer().
list_size([{Name, Value} | Fields]) -> 32 + byte_size(Name) + byte_size(Value) + list_size(Fields);
list_size([]) -> 0.

%% Pseudo-header fields come first, each once (RFC 9113, 8.3).
pseudo([{<<":", _/binary>> = Name, Value} | Fields], Pseudo) when is_binary(Value) ->
    case Name of
        _ when is_map_key(Name, Pseudo) -> throw(protocol_error);
        <<":method">> -> ok;
        <<":scheme">> -> ok;
        <<":authority">> -> ok;
        <<":path">> -> ok;
        <<":protocol">> -> ok;
        _ -> throw(protocol_error)
    end,
    case is_value(Value) of
        true -> pseudo(Fields, Pseudo#{Name => Value});
        false -> throw(protocol_error)
    end;
pseudo(Fields, Pseudo) ->
    {Pseudo, Fields}.

request(#{<<":protocol">> := Protocol} = Pseudo, Headers) ->
    case Pseudo of
        #{<<":method">> := <<"CONNECT">>, <<":scheme">> := Scheme, <<":path">> := <<_, _/binary>> = Path,
          <<":authority">> := Authority} ->
            is_token(Protocol) orelse throw(protocol_error),
            request(<<"CONNECT">>, Scheme, authority(Authority, Headers), Path, Protocol, Headers);
        #{<<":method">> := <<"CONNECT">>} ->
            throw(protocol_error);
        _ ->
            throw(extended_connect_method)
    end;
request(#{<<":method">> := <<"CONNECT">>} = Pseudo, Headers) ->
    case Pseudo of
        #{<<":authority">> := Authority} when map_size(Pseudo) =:= 2 ->
            request(<<"CONNECT">>, undefined, authority(Authority, Headers), <<"/">>, undefined, Headers);
        #{<<":authority">> := _} ->
            throw(protocol_error);
        _ ->
            throw(missing_authority)
    end;
request(#{<<":method">> := Method, <<":scheme">> := Scheme, <<":path">> := <<_, _/binary>> = Path} = Pseudo, Headers) ->
    is_token(Method) orelse throw(protocol_error),
    is_path(Scheme, Method, Path) orelse throw(protocol_error),
    request(Method, Scheme, authority(maps:get(<<":authority">>, Pseudo, <<>>), Headers), Path, undefined, Headers);
request(_, _) ->
    throw(protocol_error).

request(Method, Scheme, Authority, Path, Protocol, Headers) ->
    #{method => Method, scheme => Scheme, authority => Authority, path => Path, protocol => Protocol, headers => Headers}.

is_path(Scheme, Method, Path) when Scheme =:= <<"http">>; Scheme =:= <<"https">> ->
    case Path of
        <<"/", _/binary>> -> is_visible(Path);
        <<"*">> -> Method =:= <<"OPTIONS">>;
        _ -> false
    end;
is_path(_Scheme, _Method, Path) ->
    is_visible(Path).

%% No user names, and what `host' says is the same (RFC 9113, 8.3.1).
authority(Authority, Headers) ->
    binary:match(Authority, <<"@">>) =:= nomatch orelse throw(protocol_error),
    is_visible(Authority) orelse throw(protocol_error),
    case lists:keyfind(<<"host">>, 1, Headers) of
        {_, Host} when Authority =/= <<>> ->
            string:equal(Host, Authority, true) orelse throw(protocol_error);
        _ ->
            true
    end,
    Authority.

check([{Name, Value} | Fields]) when is_binary(Name), is_binary(Value) ->
    is_name(Name) andalso is_value(Value) andalso is_allowed(Name, Value) orelse throw(protocol_error),
    check(Fields);
check([]) ->
    ok;
check(_) ->
    throw(badarg).

is_name(<<>>) -> false;
is_name(Name) -> is_lower_token(Name).

is_lower_token(<<C, Rest/binary>>) when ?is_lower(C); ?is_digit(C); ?is_mark(C) -> is_lower_token(Rest);
is_lower_token(Rest) -> Rest =:= <<>>.

is_token(<<>>) -> false;
is_token(Token) -> is_any_token(Token).

is_any_token(<<C, Rest/binary>>) when ?is_lower(C); ?is_digit(C); ?is_mark(C); C >= $A, C =< $Z -> is_any_token(Rest);
is_any_token(Rest) -> Rest =:= <<>>.

is_visible(<<C, Rest/binary>>) when C > $\s, C < 127 -> is_visible(Rest);
is_visible(<<C/utf8, Rest/binary>>) when C > 127 -> is_visible(Rest);
is_visible(Rest) -> Rest =:= <<>>.

%% No space around it, and nothing that could end a line where a hop behind the peer speaks HTTP/1.1 (RFC 9113, 8.2.1).
is_value(<<>>) -> true;
is_value(<<C, _/binary>>) when C =:= $\s; C =:= $\t -> false;
is_value(Value) ->
    Last = binary:last(Value),
    Last =/= $\s andalso Last =/= $\t andalso is_text(Value).

is_text(<<C, Rest/binary>>) when C >= $\s, C =/= 127; C =:= $\t -> is_text(Rest);
is_text(Rest) -> Rest =:= <<>>.

%% What belongs to a connection of HTTP/1.1 (RFC 9113, 8.2.2).
is_allowed(<<"connection">>, _) -> false;
is_allowed(<<"keep-alive">>, _) -> false;
is_allowed(<<"proxy-connection">>, _) -> false;
is_allowed(<<"transfer-encoding">>, _) -> false;
is_allowed(<<"upgrade">>, _) -> false;
is_allowed(<<"te">>, Value) -> Value =:= <<"trailers">>;
is_allowed(_, _) -> true.
