%% @doc HTTP/2 clients and servers with many streams on a connection: `h2' on a Rust engine, TLS included.
%%
%% ```
%% {ok, Server} = hackney_native_h2:start_server(8443, #{cert => "cert.pem", key => "key.pem",
%%     handler => fun(Conn, StreamId, <<"GET">>, _Path, _Headers) ->
%%         hackney_native_h2:respond(Conn, StreamId, 200, [{<<"content-type">>, <<"text/plain">>}], <<"Hello!">>)
%%     end}),
%% {ok, Conn} = hackney_native_h2:connect("localhost", 8443, #{cacerts => CaCerts}),
%% {ok, StreamId} = hackney_native_h2:request(Conn, <<"GET">>, <<"/">>, []),
%% receive {h2, Conn, {response, StreamId, 200, _}} -> ok end,
%% receive {h2, Conn, {data, StreamId, <<"Hello!">>, true}} -> ok end.
%% '''
%%
%% Connections are {@link hackney_native_h2_connection}s: see there for the events, and for what the functions of the same names do.
%%
%% A server's handler is called in a process of its own for each request. It gets the body by
%% {@link set_stream_handler/3}. When it fails, the client gets status 500, or if it had got a response its stream is reset; when it
%% returns and has neither answered nor left the stream to another process, the stream is reset.
-module(hackney_native_h2).

-export([connect/2, connect/3, wait_connected/1, wait_connected/2, controlling_process/2, close/1,
         get_settings/1, get_peer_settings/1, peername/1, goaway/1, goaway/2]).
-export([request/2, request/3, request/4, request/5, send_data/3, send_data/4, send_data/5, send_trailers/3, consume/3,
         cancel/2, cancel/3, cancel_stream/2, cancel_stream/3,
         set_stream_handler/3, set_stream_handler/4, unset_stream_handler/2]).
-export([start_server/2, start_server/3, stop_server/1, stop_server/2, server_port/1, serve_socket/2,
         send_response/4, respond/5]).

-export_type([server_ref/0]).

-opaque server_ref() :: {Listener :: pid(), reference(), inet:port_number()}.
-type stream_id() :: hackney_native_h2_connection:stream_id().
-type headers() :: hackney_native_h2_connection:headers().

-define(TIMEOUT, 30000).
%% How long a server that is stopped waits for requests under way.
-define(STOP_TIMEOUT, 5000).

%%====================================================================
%% Client
%%====================================================================

%% @doc `connect(Host, Port, #{})'.
-spec connect(string() | binary() | inet:ip_address(), inet:port_number()) -> {ok, pid()} | {error, term()}.
connect(Host, Port) ->
    connect(Host, Port, #{}).

%% @doc Connects, within `timeout' milliseconds (30000); the caller is the connection's owner. Options: `transport' (`ssl', or `tcp'
%% for HTTP/2 in cleartext, with prior knowledge), `verify' (`verify_peer'), `cacerts' (a list of DER; else the operating system's
%% roots), `cert' and `key' (PEM files), `ssl_opts' and `connect_options' (as for {@link hackney_native:h2_open/4}), `settings'
%% (`initial_window_size', `max_frame_size', `max_header_list_size'), `keepalive', `keepalive_timeout', `connection_window_size'. Unknown
%% ones and those that cannot be honoured: `{error, {unsupported_option, Name}}'. Other errors as in
%% {@link hackney_native:h2_open/4}.
-spec connect(string() | binary() | inet:ip_address(), inet:port_number(), map()) -> {ok, pid()} | {error, term()}.
connect(Host, Port, Options) when is_map(Options) ->
    case connect_options(Options) of
        {ok, Given} ->
            case hackney_native_h2_connection:start_link(Given#{host => host(Host), port => Port}) of
                {ok, Conn} ->
                    case hackney_native_h2_connection:connect(Conn) of
                        ok ->
                            self() ! {h2, Conn, connected},
                            {ok, Conn};
                        {error, _} = Error ->
                            Error
                    end;
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end;
connect(_, _, _) ->
    error(badarg).

host(Host) when is_tuple(Host) -> inet:ntoa(Host);
host(Host) -> Host.

connect_options(Options) ->
    hackney_native_check:options(fun connect_option/3, Options, #{ssl_options => [], connect_timeout => ?TIMEOUT}).

connect_option(transport, ssl, Acc) -> Acc;
connect_option(transport, tcp, Acc) -> Acc#{transport => hackney_tcp, h2c => true};
connect_option(transport, Other, _Acc) -> hackney_native_check:bad(transport, Other);
connect_option(timeout, Value, Acc) -> Acc#{connect_timeout := hackney_native_check:timeout(timeout, Value)};
connect_option(verify, Value, Acc) -> ssl_option({verify, Value}, Acc);
connect_option(cacerts, Value, Acc) -> ssl_option({cacerts, Value}, Acc);
connect_option(cert, Value, Acc) -> ssl_option({certfile, Value}, Acc);
connect_option(key, Value, Acc) -> ssl_option({keyfile, Value}, Acc);
connect_option(ssl_opts, Value, #{ssl_options := Before} = Acc) when is_list(Value) -> Acc#{ssl_options := Value ++ Before};
connect_option(settings, Value, Acc) when is_map(Value) ->
    maps:fold(fun(Name, Setting, In) when Name =:= initial_window_size; Name =:= max_frame_size; Name =:= max_header_list_size ->
                      In#{Name => Setting};
                 (Name, _, _) ->
                      hackney_native_check:unsupported({settings, Name})
              end, Acc, Value);
connect_option(Name, Value, _Acc) when Name =:= settings; Name =:= ssl_opts -> hackney_native_check:bad(Name, Value);
connect_option(Name, Value, Acc) when Name =:= connect_options; Name =:= keepalive; Name =:= keepalive_timeout;
                                      Name =:= connection_window_size ->
    Acc#{Name => Value};
connect_option(Name, _Value, _Acc) -> hackney_native_check:unsupported(Name).

ssl_option(Option, #{ssl_options := Before} = Acc) -> Acc#{ssl_options := Before ++ [Option]}.

%% @doc See {@link hackney_native_h2_connection:wait_connected/1}.
-spec wait_connected(pid()) -> ok | {error, term()}.
wait_connected(Conn) -> hackney_native_h2_connection:wait_connected(Conn).

%% @doc See {@link hackney_native_h2_connection:wait_connected/2}.
-spec wait_connected(pid(), timeout()) -> ok | {error, term()}.
wait_connected(Conn, Timeout) -> hackney_native_h2_connection:wait_connected(Conn, Timeout).

%% @doc See {@link hackney_native_h2_connection:controlling_process/2}.
-spec controlling_process(pid(), pid()) -> ok | {error, term()}.
controlling_process(Conn, NewOwner) -> hackney_native_h2_connection:controlling_process(Conn, NewOwner).

%% @doc See {@link hackney_native_h2_connection:close/1}.
-spec close(pid()) -> ok.
close(Conn) -> hackney_native_h2_connection:close(Conn).

%% @doc See {@link hackney_native_h2_connection:get_settings/1}.
-spec get_settings(pid()) -> map() | {error, term()}.
get_settings(Conn) -> hackney_native_h2_connection:get_settings(Conn).

%% @doc See {@link hackney_native_h2_connection:get_peer_settings/1}.
-spec get_peer_settings(pid()) -> map() | {error, term()}.
get_peer_settings(Conn) -> hackney_native_h2_connection:get_peer_settings(Conn).

%% @doc See {@link hackney_native_h2_connection:peername/1}.
-spec peername(pid()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, term()}.
peername(Conn) -> hackney_native_h2_connection:peername(Conn).

%% @doc See {@link hackney_native_h2_connection:send_goaway/1}.
-spec goaway(pid()) -> ok | {error, term()}.
goaway(Conn) -> hackney_native_h2_connection:send_goaway(Conn).

%% @doc See {@link hackney_native_h2_connection:send_goaway/2}.
-spec goaway(pid(), hackney_native_h2_connection:error_code()) -> ok | {error, term()}.
goaway(Conn, Code) -> hackney_native_h2_connection:send_goaway(Conn, Code).

%% @doc `request(Conn, Headers, #{})'.
-spec request(pid(), headers()) -> {ok, stream_id()} | {error, term()}.
request(Conn, Headers) ->
    request(Conn, Headers, #{}).

%% @doc Sends a request given as a whole header list. Options: `end_stream' (`true'; `false' for CONNECT and with `protocol'),
%% `protocol' (an extended CONNECT, RFC 8441), and those of {@link hackney_native_h2_connection:send_request_headers/4}.
-spec request(pid(), headers(), map()) -> {ok, stream_id()} | {error, term()}.
request(Conn, Headers0, Options) when is_list(Headers0), is_map(Options) ->
    Headers = case Options of
                  #{protocol := Protocol} -> with_protocol(Protocol, Headers0);
                  _ -> Headers0
              end,
    IsTunnel = lists:member({<<":method">>, <<"CONNECT">>}, Headers),
    EndStream = maps:get(end_stream, Options, not IsTunnel),
    hackney_native_h2_connection:send_request_headers(Conn, Headers, EndStream,
                                                      maps:with([handler, defer, flow_control], Options));
request(_, _, _) ->
    error(badarg).

with_protocol(Protocol, Headers) ->
    case lists:keymember(<<":protocol">>, 1, Headers) of
        true ->
            Headers;
        false ->
            {Pseudo, Rest} = lists:splitwith(fun({<<":", _/binary>>, _}) -> true; (_) -> false end, Headers),
            Pseudo ++ [{<<":protocol">>, Protocol} | Rest]
    end.

%% @doc Sends a request without a body; with CONNECT, the tunnel stays open.
-spec request(pid(), binary(), binary(), headers()) -> {ok, stream_id()} | {error, term()}.
request(Conn, Method, Path, Headers) ->
    hackney_native_h2_connection:send_request(Conn, Method, Path, Headers, Method =/= <<"CONNECT">>).

%% @doc Sends a request with its body.
-spec request(pid(), binary(), binary(), headers(), iodata()) -> {ok, stream_id()} | {error, term()}.
request(Conn, Method, Path, Headers, Body) ->
    case hackney_native_h2_connection:send_request(Conn, Method, Path, Headers, false) of
        {ok, StreamId} ->
            %% A body of any size is taken when nothing is queued.
            case hackney_native_h2_connection:send_data(Conn, StreamId, Body, true) of
                ok ->
                    {ok, StreamId};
                {error, _} = Error ->
                    _ = hackney_native_h2_connection:cancel_stream(Conn, StreamId),
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc See {@link hackney_native_h2_connection:send_data/3}.
-spec send_data(pid(), stream_id(), iodata()) -> ok | {error, term()}.
send_data(Conn, StreamId, Data) -> hackney_native_h2_connection:send_data(Conn, StreamId, Data).

%% @doc See {@link hackney_native_h2_connection:send_data/4}.
-spec send_data(pid(), stream_id(), iodata(), boolean()) -> ok | {error, term()}.
send_data(Conn, StreamId, Data, EndStream) -> hackney_native_h2_connection:send_data(Conn, StreamId, Data, EndStream).

%% @doc See {@link hackney_native_h2_connection:send_data/5}.
-spec send_data(pid(), stream_id(), iodata(), boolean(), map()) -> ok | {error, term()}.
send_data(Conn, StreamId, Data, EndStream, Options) ->
    hackney_native_h2_connection:send_data(Conn, StreamId, Data, EndStream, Options).

%% @doc See {@link hackney_native_h2_connection:send_trailers/3}.
-spec send_trailers(pid(), stream_id(), headers()) -> ok | {error, term()}.
send_trailers(Conn, StreamId, Headers) -> hackney_native_h2_connection:send_trailers(Conn, StreamId, Headers).

%% @doc See {@link hackney_native_h2_connection:consume/3}.
-spec consume(pid(), stream_id(), non_neg_integer()) -> ok | {error, term()}.
consume(Conn, StreamId, N) -> hackney_native_h2_connection:consume(Conn, StreamId, N).

%% @doc See {@link hackney_native_h2_connection:cancel_stream/2}.
-spec cancel(pid(), stream_id()) -> ok | {error, term()}.
cancel(Conn, StreamId) -> hackney_native_h2_connection:cancel_stream(Conn, StreamId).

%% @doc See {@link hackney_native_h2_connection:cancel_stream/3}.
-spec cancel(pid(), stream_id(), hackney_native_h2_connection:error_code()) -> ok | {error, term()}.
cancel(Conn, StreamId, Code) -> hackney_native_h2_connection:cancel_stream(Conn, StreamId, Code).

%% @doc The same as {@link cancel/2}.
-spec cancel_stream(pid(), stream_id()) -> ok | {error, term()}.
cancel_stream(Conn, StreamId) -> cancel(Conn, StreamId).

%% @doc The same as {@link cancel/3}.
-spec cancel_stream(pid(), stream_id(), hackney_native_h2_connection:error_code()) -> ok | {error, term()}.
cancel_stream(Conn, StreamId, Code) -> cancel(Conn, StreamId, Code).

%% @doc See {@link hackney_native_h2_connection:set_stream_handler/3}.
-spec set_stream_handler(pid(), stream_id(), pid()) -> ok | {ok, [{binary(), boolean()}]} | {error, term()}.
set_stream_handler(Conn, StreamId, Handler) -> hackney_native_h2_connection:set_stream_handler(Conn, StreamId, Handler).

%% @doc See {@link hackney_native_h2_connection:set_stream_handler/4}.
-spec set_stream_handler(pid(), stream_id(), pid(), map()) -> ok | {ok, [{binary(), boolean()}]} | {error, term()}.
set_stream_handler(Conn, StreamId, Handler, Options) ->
    hackney_native_h2_connection:set_stream_handler(Conn, StreamId, Handler, Options).

%% @doc See {@link hackney_native_h2_connection:unset_stream_handler/2}.
-spec unset_stream_handler(pid(), stream_id()) -> ok | {error, term()}.
unset_stream_handler(Conn, StreamId) -> hackney_native_h2_connection:unset_stream_handler(Conn, StreamId).

%%====================================================================
%% Server
%%====================================================================

%% @doc Listens on a port (0: any that is free) and has a handler called for each request. The application must be started.
%%
%% Options: `handler' (needed: a fun of `(Conn, StreamId, Method, Path, Headers)', or a module that exports `handle_request/5');
%% `transport' (`ssl', or `tcp' for HTTP/2 in cleartext, with prior knowledge); `cert' and `key' (PEM files, needed for `ssl'),
%% `verify' (`verify_none'; `verify_peer' asks clients for a certificate of `cacerts', a list of DER), `ssl_opts' (`cert', `certfile',
%% `key', `keyfile', `password', `cacerts', `cacertfile', `verify', `versions', `alpn_preferred_protocols' as `ssl' has them); `ip',
%% `inet6', `backlog' (1024), `nodelay' (true); `settings' (`max_concurrent_streams', 100, `initial_window_size', 1 MiB,
%% `max_frame_size', `max_header_list_size', 256 KiB, `header_table_size'), `connection_window_size' (16 MiB),
%% `enable_connect_protocol' (RFC 8441); `idle_timeout' (`infinity', or milliseconds without a stream after which a connection is
%% closed, with GOAWAY); `keepalive' and `keepalive_timeout' (as for {@link hackney_native:h2_connect/2}, to find clients that have
%% vanished). `acceptors' is taken and without effect: nobody is blocked in accepting.
%%
%% Certificates, keys and roots that are in files may be renewed there: connections that come in two seconds after the files were
%% written are shown the new ones. Files that cannot be used change nothing, and `logger' gets a warning.
%%
%% Errors: `{missing_required_option, Names}', `{listen_failed, Posix}', `verify_peer_requires_cacerts', `{options, {Name, Text}}' for
%% a file that cannot be used, `{unsupported_option, Name}', `{badarg, What}', `{not_started, hackney_native}'.
-spec start_server(inet:port_number(), map()) -> {ok, server_ref()} | {error, term()}.
start_server(Port, Options) ->
    case hackney_native_h2_server_options:listen(Port, Options) of
        {ok, Checked} ->
            case hackney_native_h2_server_sup:start_server(Port, Checked) of
                {ok, Listener, Actual} -> {ok, {Listener, make_ref(), Actual}};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc The same; `Name' is kept as `{h2, server, Name}' in `persistent_term', with the reference, until the server is stopped.
-spec start_server(term(), inet:port_number(), map()) -> {ok, server_ref()} | {error, term()}.
start_server(Name, Port, Options) ->
    case start_server(Port, Options) of
        {ok, {Listener, _, _} = Ref} ->
            ok = hackney_native_h2_listener:name(Listener, Name, Ref),
            {ok, Ref};
        {error, _} = Error ->
            Error
    end.

%% @doc `stop_server(Server, 5000)'.
-spec stop_server(server_ref()) -> ok.
stop_server(Server) ->
    stop_server(Server, ?STOP_TIMEOUT).

%% @doc Stops a server: it accepts nothing any more, tells its clients so (GOAWAY), and requests under way have so many milliseconds to
%% be answered. Does not wait for it.
-spec stop_server(server_ref(), timeout()) -> ok.
stop_server({Listener, _, _}, Timeout) when Timeout =:= infinity; is_integer(Timeout), Timeout >= 0 ->
    hackney_native_h2_listener:stop(Listener, Timeout).

%% @doc The port a server listens on.
-spec server_port(server_ref()) -> inet:port_number().
server_port({_, _, Port}) ->
    Port.

%% @doc Serves one connection on a socket that is connected already (`ssl' after its handshake), which is given away by it. Of the
%% options only `handler' (needed), `settings', `enable_connect_protocol', `connection_window_size', `idle_timeout', `keepalive' and
%% `keepalive_timeout' count. `{ok, Pid}': the connection's process, which monitors the caller and ends with it.
%% `{error, {controlling_process_failed, Reason}}': the socket is still the caller's.
-spec serve_socket(gen_tcp:socket() | ssl:sslsocket(), map()) -> {ok, pid()} | {error, term()}.
serve_socket(_Socket, Options) when not is_map_key(handler, Options) ->
    {error, {missing_required_option, [handler]}};
serve_socket(Socket, Options) ->
    Served = maps:with([handler, settings, enable_connect_protocol, connection_window_size, idle_timeout, keepalive,
                        keepalive_timeout], Options),
    case hackney_native_h2_server_options:connection(Served) of
        {ok, #{engine := Engine, handler := Handler}} ->
            case hackney_native_h2_connection:start_served(Socket, Engine, Handler) of
                {ok, Conn} -> give(Socket, Conn);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

give(Socket, Conn) ->
    Module = case is_tuple(Socket) andalso element(1, Socket) =:= sslsocket of true -> ssl; false -> gen_tcp end,
    case Module:controlling_process(Socket, Conn) of
        ok ->
            case hackney_native_h2_connection:activate(Conn) of
                ok -> {ok, Conn};
                {error, _} = Error -> Error
            end;
        {error, Reason} ->
            _ = hackney_native_h2_connection:close(Conn),
            {error, {controlling_process_failed, Reason}}
    end.

%% @doc See {@link hackney_native_h2_connection:send_response/4}.
-spec send_response(pid(), stream_id(), 100..999, headers()) -> ok | {error, term()}.
send_response(Conn, StreamId, Status, Headers) ->
    hackney_native_h2_connection:send_response(Conn, StreamId, Status, Headers).

%% @doc See {@link hackney_native_h2_connection:respond/5}.
-spec respond(pid(), stream_id(), 200..999, headers(), iodata()) -> ok | {error, term()}.
respond(Conn, StreamId, Status, Headers, Body) ->
    hackney_native_h2_connection:respond(Conn, StreamId, Status, Headers, Body).
