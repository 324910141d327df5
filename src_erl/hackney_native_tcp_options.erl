%% @private `connect_options': what they may be and what the engine is told.
-module(hackney_native_tcp_options).

-export([parse/1]).

-import(hackney_native_check, [bool/2, integer/4, bad/2, unsupported/1]).

%% @doc Checks `connect_options'. Names and values are those of `gen_tcp'.
%%
%% `{nodelay, boolean()}' (true), `{keepalive, boolean()}' (false), `inet' or `inet6' (both families are tried), `{ip, Address}' or
%% `{ifaddr, Address}' and `{port, Port}' (our own end), `{recbuf, Bytes}', `{sndbuf, Bytes}', `{linger, {boolean(), Seconds}}' (the
%% operating system's).
-spec parse(list() | map()) -> {ok, map()} | {error, term()}.
parse(Options) ->
    hackney_native_check:options(fun option/3, Options, defaults()).

defaults() ->
    #{nodelay => true, keepalive => false, family => any, local_address => undefined, local_port => undefined,
      recbuf => undefined, sndbuf => undefined, linger => undefined}.

option(nodelay, Value, Acc) -> Acc#{nodelay := bool(nodelay, Value)};
option(keepalive, Value, Acc) -> Acc#{keepalive := bool(keepalive, Value)};
option(Family, Value, Acc) when Family =:= inet; Family =:= inet6 ->
    case bool(Family, Value) of
        true -> Acc#{family := Family};
        false -> Acc
    end;
option(Name, Value, Acc) when Name =:= ip; Name =:= ifaddr -> Acc#{local_address := address(Name, Value)};
option(port, Value, Acc) -> Acc#{local_port := integer(port, Value, 0, 65535)};
option(recbuf, Value, Acc) -> Acc#{recbuf := integer(recbuf, Value, 1, 16#7fffffff)};
option(sndbuf, Value, Acc) -> Acc#{sndbuf := integer(sndbuf, Value, 1, 16#7fffffff)};
option(linger, {true, Seconds}, Acc) -> Acc#{linger := integer(linger, Seconds, 0, 65535)};
option(linger, {false, _}, Acc) -> Acc#{linger := undefined};
option(linger, Value, _Acc) -> bad(linger, Value);
option(Name, _Value, _Acc) -> unsupported(Name).

address(_Name, any) -> undefined;
address(_Name, loopback) -> <<"127.0.0.1">>;
address(Name, Value) when is_tuple(Value) ->
    case inet:ntoa(Value) of
        {error, _} -> bad(Name, Value);
        Text -> list_to_binary(Text)
    end;
address(Name, Value) when is_list(Value) ->
    try inet:parse_strict_address(Value) of
        {ok, Address} -> address(Name, Address);
        {error, _} -> bad(Name, Value)
    catch
        error:_ -> bad(Name, Value)
    end;
address(Name, Value) when is_binary(Value) ->
    address(Name, binary_to_list(Value));
address(Name, Value) ->
    bad(Name, Value).
