%% @private The options of a server: checked, completed with their defaults, and cut to what the engine is told.
-module(hackney_native_h2_server_options).

-export([listen/2, connection/1]).

-import(hackney_native_check, [bool/2, integer/4, bad/2, unsupported/1]).

-define(BACKLOG, 1024).
-define(MAX_CONCURRENT_STREAMS, 100).
%% Of each stream. What nobody reads of requests' bodies is bounded by this times the streams.
-define(INITIAL_WINDOW_SIZE, 1024 * 1024).
-define(CONNECTION_WINDOW_SIZE, 16 * 1024 * 1024).
-define(MAX_HEADER_LIST_SIZE, 256 * 1024).
-define(HEADER_TABLE_SIZE, 4096).
-define(MIN_FRAME_SIZE, 16#4000).
-define(MAX_FRAME_SIZE, 16#ffffff).
-define(MAX_WINDOW, 16#7fffffff).
-define(MAX_32, 16#ffffffff).

%% @doc The options of `start_server': where to listen, what connections are told, and who handles requests.
-spec listen(inet:port_number(), map()) -> {ok, #{listen := map(), engine := map(), handler := term()}} | {error, term()}.
listen(Port, Options) when is_integer(Port), Port >= 0, Port =< 65535, is_map(Options) ->
    Defaults = maps:merge(connection_defaults(),
                          #{transport => ssl, tls => [], verify => verify_none, ip => undefined, inet6 => false,
                            backlog => ?BACKLOG, nodelay => true, connection_window_size => ?CONNECTION_WINDOW_SIZE}),
    case missing(maps:get(transport, Options, ssl), Options) of
        [] ->
            case hackney_native_check:options(fun option/3, Options, Defaults) of
                {ok, Checked} -> finish(Port, Checked);
                {error, _} = Error -> Error
            end;
        Missing ->
            {error, {missing_required_option, Missing}}
    end;
listen(Port, Options) when is_map(Options) ->
    {error, {badarg, {port, Port}}};
listen(_, _) ->
    {error, {badarg, options}}.

missing(ssl, Options) ->
    Ssl = maps:get(ssl_opts, Options, []),
    Given = fun(Name, Names) -> is_map_key(Name, Options)
                                    orelse is_list(Ssl) andalso lists:any(fun(N) -> lists:keymember(N, 1, Ssl) end, Names)
            end,
    [Name || {Name, Names} <- [{cert, [cert, certfile]}, {key, [cert, certfile]}, {handler, []}], not Given(Name, Names)];
missing(_, Options) ->
    [handler || not is_map_key(handler, Options)].

%% @doc The options of a connection that is served on a socket of Erlang's.
-spec connection(map()) -> {ok, #{engine := map(), handler := term()}} | {error, term()}.
connection(Options) when is_map(Options) ->
    case hackney_native_check:options(fun connection_option/3, Options, connection_defaults()) of
        {ok, Checked} -> {ok, #{engine => engine(Checked), handler => maps:get(handler, Checked)}};
        {error, _} = Error -> Error
    end;
connection(_) ->
    {error, {badarg, options}}.

connection_defaults() ->
    (hackney_native_connection_options:keepalive())
    #{handler => undefined, enable_connect_protocol => false, connection_window_size => ?CONNECTION_WINDOW_SIZE, idle_timeout => infinity,
      settings => #{header_table_size => ?HEADER_TABLE_SIZE, max_concurrent_streams => ?MAX_CONCURRENT_STREAMS,
                    initial_window_size => ?INITIAL_WINDOW_SIZE, max_frame_size => ?MIN_FRAME_SIZE,
                    max_header_list_size => ?MAX_HEADER_LIST_SIZE}}.

connection_option(handler, Fun, Acc) when is_function(Fun, 5) -> Acc#{handler := Fun};
connection_option(handler, Module, Acc) when is_atom(Module), Module =/= undefined -> Acc#{handler := Module};
connection_option(handler, Other, _Acc) -> bad(handler, Other);
connection_option(enable_connect_protocol, Value, Acc) ->
    Acc#{enable_connect_protocol := bool(enable_connect_protocol, Value)};
connection_option(connection_window_size, Value, Acc) ->
    Acc#{connection_window_size := integer(connection_window_size, Value, 65535, ?MAX_WINDOW)};
connection_option(Name, Value, Acc) when Name =:= keepalive; Name =:= keepalive_timeout ->
    hackney_native_connection_options:keepalive(Name, Value, Acc);
connection_option(idle_timeout, infinity, Acc) -> Acc#{idle_timeout := infinity};
connection_option(idle_timeout, Value, Acc) -> Acc#{idle_timeout := integer(idle_timeout, Value, 1, ?MAX_32)};
connection_option(settings, Given, #{settings := Defaults} = Acc) when is_map(Given) ->
    Acc#{settings := maps:fold(fun setting/3, Defaults, Given)};
connection_option(settings, Other, _Acc) -> bad(settings, Other);
connection_option(Name, _Value, _Acc) -> unsupported(Name).

setting(header_table_size, Value, Acc) -> Acc#{header_table_size := integer(header_table_size, Value, 0, ?MAX_32)};
setting(max_concurrent_streams, unlimited, Acc) -> Acc#{max_concurrent_streams := infinity};
setting(max_concurrent_streams, Value, Acc) ->
    Acc#{max_concurrent_streams := integer(max_concurrent_streams, Value, 0, ?MAX_32)};
setting(initial_window_size, Value, Acc) -> Acc#{initial_window_size := integer(initial_window_size, Value, 0, ?MAX_WINDOW)};
setting(max_frame_size, Value, Acc) ->
    Acc#{max_frame_size := integer(max_frame_size, Value, ?MIN_FRAME_SIZE, ?MAX_FRAME_SIZE)};
setting(max_header_list_size, unlimited, Acc) -> Acc#{max_header_list_size := ?MAX_32};
setting(max_header_list_size, Value, Acc) ->
    Acc#{max_header_list_size := integer(max_header_list_size, Value, 1, ?MAX_32)};
%% A server pushes nothing, whatever is set (RFC 9113, 6.5.2).
setting(enable_push, 0, Acc) -> Acc;
setting(Name, _Value, _Acc) -> unsupported({settings, Name}).

option(transport, Value, Acc) -> Acc#{transport := hackney_native_check:one_of(transport, Value, [ssl, tcp])};
%% PEM files.
option(cert, Value, #{tls := Tls} = Acc) -> Acc#{tls := [{certfile, Value} | Tls]};
option(key, Value, #{tls := Tls} = Acc) -> Acc#{tls := [{keyfile, Value} | Tls]};
option(cacerts, Value, #{tls := Tls} = Acc) -> Acc#{tls := [{cacerts, Value} | Tls]};
option(verify, Value, Acc) -> Acc#{verify := hackney_native_check:one_of(verify, Value, [verify_none, verify_peer])};
option(ssl_opts, Value, #{tls := Tls} = Acc) when is_list(Value) ->
    lists:foldl(fun({verify, Verify}, In) -> option(verify, Verify, In);
                   (_, In) -> In
                end, Acc#{tls := [tls_option(Option) || Option <- Value, not is_verify(Option)] ++ Tls}, Value);
option(ssl_opts, Other, _Acc) -> bad(ssl_opts, Other);
option(ip, Value, Acc) ->
    case is_tuple(Value) andalso inet:ntoa(Value) of
        Text when is_list(Text) -> Acc#{ip := list_to_binary(Text)};
        _ -> bad(ip, Value)
    end;
option(inet6, Value, Acc) -> Acc#{inet6 := bool(inet6, Value)};
option(backlog, Value, Acc) -> Acc#{backlog := integer(backlog, Value, 1, ?MAX_WINDOW)};
option(nodelay, Value, Acc) -> Acc#{nodelay := bool(nodelay, Value)};
%% Nobody is blocked in accepting here: any number will do.
option(acceptors, Value, Acc) -> _ = integer(acceptors, Value, 1, ?MAX_32), Acc;
option(Name, Value, Acc) -> connection_option(Name, Value, Acc).

is_verify({verify, _}) -> true;
is_verify(_) -> false.

tls_option({Name, _} = Option) when Name =:= cert; Name =:= certfile; Name =:= key; Name =:= keyfile; Name =:= password;
                                    Name =:= cacerts; Name =:= cacertfile; Name =:= versions ->
    Option;
tls_option({alpn_preferred_protocols, Protocols}) -> {alpn_advertised_protocols, Protocols};
%% As it is here.
tls_option({honor_cipher_order, true}) -> {session_tickets, auto};
tls_option({fail_if_no_peer_cert, true}) -> {session_tickets, auto};
tls_option({Name, _}) -> unsupported({ssl_opts, Name});
tls_option(Name) -> unsupported({ssl_opts, Name}).

finish(Port, #{transport := tcp} = Checked) ->
    {ok, done(Port, Checked, undefined)};
finish(Port, #{tls := Tls, verify := Verify} = Checked) ->
    case hackney_native_tls_options:parse(Tls) of
        {ok, #{identity := undefined}} ->
            {error, {missing_required_option, [cert, key]}};
        {ok, #{roots := system}} when Verify =:= verify_peer ->
            {error, verify_peer_requires_cacerts};
        {ok, #{roots := Roots} = Parsed} ->
            Server = maps:with([identity, tls12, tls13, alpn], Parsed),
            ClientRoots = case Verify of verify_peer -> Roots; verify_none -> undefined end,
            {ok, done(Port, Checked, Server#{verify => Verify, roots => ClientRoots})};
        {error, _} = Error ->
            Error
    end.

done(Port, #{backlog := Backlog, nodelay := NoDelay, handler := Handler} = Checked, Tls) ->
    {Ip, V6Only} = address(Checked),
    #{listen => #{ip => Ip, port => Port, backlog => Backlog, v6_only => V6Only, nodelay => NoDelay, tls => Tls},
      engine => engine(Checked),
      handler => Handler}.

address(#{ip := undefined, inet6 := false}) -> {<<"0.0.0.0">>, false};
address(#{ip := undefined, inet6 := true}) -> {<<"::">>, false};
address(#{ip := Ip}) -> {Ip, false}.

engine(#{settings := Settings} = Checked) ->
    maps:merge(Settings, maps:with([enable_connect_protocol, connection_window_size, keepalive, keepalive_timeout, idle_timeout], Checked)).
