%% @private Requests' header lists, methods and targets: made uniform, and refused before anything is sent when HTTP does not
%% allow them.
-module(hackney_native_headers).

-export([request/1, trailers/1, method/1, target/1]).

-type name() :: atom() | string() | binary().
-type value() :: binary() | string() | integer() | atom().

-export_type([name/0, value/0]).

%% Fields of an HTTP/1.1 connection, which HTTP/2 forbids (RFC 9113, 8.2.2).
-define(CONNECTION_FIELDS, [<<"connection">>, <<"keep-alive">>, <<"proxy-connection">>, <<"transfer-encoding">>,
                            <<"upgrade">>]).

%% @doc The header list of a request: names in lower case, order kept, `host' dropped, for `:authority' says the same.
-spec request([{name(), value()}]) -> {ok, [{binary(), binary()}]} | {error, term()}.
request(Headers) ->
    case fields(Headers) of
        {ok, Fields} -> {ok, [Field || {Name, _} = Field <- Fields, Name =/= <<"host">>]};
        Error -> Error
    end.

%% @doc The header list of trailers.
-spec trailers([{name(), value()}]) -> {ok, [{binary(), binary()}]} | {error, term()}.
trailers(Headers) ->
    fields(Headers).

%% @doc A method: atoms and strings in upper case, binaries as they are. A token (RFC 9110, 9.1).
-spec method(atom() | string() | binary()) -> {ok, binary()} | {error, term()}.
method(Method) ->
    Bin = case Method of
              _ when is_binary(Method) -> Method;
              _ when is_atom(Method) -> string:uppercase(atom_to_binary(Method));
              _ -> try string:uppercase(unicode:characters_to_binary(Method))
                   catch _:_ -> not_text
                   end
          end,
    case is_token(Bin) of
        true -> {ok, Bin};
        false -> {error, {invalid_method, Method}}
    end.

%% @doc A request target: path and query, of visible ASCII.
-spec target(binary()) -> {ok, binary()} | {error, term()}.
target(<<"/", _/binary>> = Target) ->
    case re:run(Target, "^[!-~]+$", [dollar_endonly, {capture, none}]) of
        match -> {ok, Target};
        nomatch -> {error, {invalid_request_target, Target}}
    end;
target(Target) ->
    {error, {invalid_request_target, Target}}.

fields(Headers) when is_list(Headers) ->
    try
        {ok, [field(Header) || Header <- Headers]}
    catch
        throw:Reason -> {error, Reason};
        %% An improper list.
        error:_ -> {error, {badarg, headers}}
    end;
fields(_) ->
    {error, {badarg, headers}}.

field({Name0, Value0}) ->
    Name = name(Name0),
    Value = value(Name, Value0),
    case is_token(Name) andalso is_value(Value) andalso is_allowed(Name, Value) of
        true -> {Name, Value};
        false -> throw({invalid_header, Name})
    end;
field(Other) ->
    throw({badarg, {header, Other}}).

name(Name) when is_binary(Name) -> lowercase(Name);
name(Name) when is_atom(Name) -> lowercase(atom_to_binary(Name));
name(Name) when is_list(Name) -> lowercase(text(Name, Name));
name(Name) -> throw({invalid_header, Name}).

lowercase(Name) ->
    << <<(if C >= $A, C =< $Z -> C + 32; true -> C end)>> || <<C>> <= Name >>.

%% Space around a value is no part of it and must not be sent (RFC 9113, 8.2.1).
value(Name, Value) when is_binary(Value) -> trim(Name, Value);
value(_Name, Value) when is_integer(Value) -> integer_to_binary(Value);
value(_Name, Value) when is_atom(Value) -> atom_to_binary(Value);
value(Name, Value) when is_list(Value) -> trim(Name, text(Name, Value));
value(Name, _Value) -> throw({invalid_header, Name}).

text(Name, Chars) ->
    try unicode:characters_to_binary(Chars) of
        Bin when is_binary(Bin) -> Bin;
        _ -> throw({invalid_header, Name})
    catch
        error:badarg -> throw({invalid_header, Name})
    end.

trim(_Name, Value) ->
    re:replace(Value, "^[ \t]+|[ \t]+$", <<>>, [global, dollar_endonly, {return, binary}]).

is_token(Bin) when is_binary(Bin) ->
    re:run(Bin, "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", [dollar_endonly, {capture, none}]) =:= match;
is_token(_) ->
    false.

%% No control characters but tab (RFC 9110, 5.5): CR, LF and NUL could smuggle fields into an HTTP/1.1 hop behind the peer.
is_value(Value) ->
    re:run(Value, "[\\x00-\\x08\\x0a-\\x1f\\x7f]", [{capture, none}]) =:= nomatch.

is_allowed(<<"te">>, Value) -> Value =:= <<"trailers">>;
is_allowed(Name, _Value) -> not lists:member(Name, ?CONNECTION_FIELDS).
