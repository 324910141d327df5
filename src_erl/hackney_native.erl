%% @doc Full-duplex HTTP/2 streams with hackney's `h2_*' API, on a Rust engine.
%%
%% A program that uses `hackney:h2_open/4' and its sisters replaces the prefix `hackney:' by `hackney_native:' and is done; or calls
%% {@link install_drop_in/0} once, and changes nothing.
%%
%% ```
%% {ok, S} = hackney_native:h2_open(post, <<"https://localhost:8443/echo">>, [{<<"te">>, <<"trailers">>}], []),
%% ok = hackney_native:h2_send(S, <<"hello">>),
%% {ok, {response, 200, _Headers}} = hackney_native:h2_recv(S),
%% {ok, {data, <<"hello">>}} = hackney_native:h2_recv(S),
%% ok = hackney_native:h2_send(S, <<>>, fin),
%% {ok, {trailers, _}} = hackney_native:h2_recv(S),
%% {ok, done} = hackney_native:h2_recv(S),
%% ok = hackney_native:h2_close(S).
%% '''
%%
%% When the native library is missing or of another version, every call returns `{error, {nif_not_loaded, Text}}'.
-module(hackney_native).

-export([h2_connect/1, h2_connect/2, h2_pool/2, h2_pool_stop/1]).
-export([h2_open/2, h2_open/3, h2_open/4,
         h2_send/2, h2_send/3, h2_send/4, h2_send_trailers/2,
         h2_recv/1, h2_recv/2, h2_consume/2,
         h2_setopts/2, h2_controlling_process/2, h2_info/1, h2_close/1]).
-export([memory/0, nif_times/0, nif_times/1]).
-export([install_drop_in/0]).

-export_type([url/0, target/0, method/0, headers/0, options/0, memory/0, nif_times/0, call_times/0, percentiles/0]).

-type url() :: binary() | string().
%% Where a stream goes: a URL, or a connection that is there already, with path and query (else `/').
-type target() :: url() | pid() | {pid(), Path :: binary() | string()}.
-type method() :: atom() | string() | binary().
-type headers() :: [{hackney_native_headers:name(), hackney_native_headers:value()}].
-type options() :: [{atom(), term()} | atom()] | #{atom() => term()}.
-type memory() :: #{streams := non_neg_integer(),
                    connections := non_neg_integer(),
                    recv_queue_bytes := non_neg_integer(),
                    send_queue_bytes := non_neg_integer(),
                    tasks := non_neg_integer(),
                    threads := non_neg_integer(),
                    native_bytes := non_neg_integer()}.
-type nif_times() :: #{normal := #{atom() => call_times()},
                       dirty := #{atom() => call_times()}}.
-type call_times() :: #{calls := pos_integer(), wall := percentiles(), cpu := percentiles()}.
-type percentiles() :: #{p50 := float(), p99 := float(), max := float()}.

%% @doc `h2_connect(URL, [])'.
-spec h2_connect(url()) -> {ok, pid()} | {error, term()}.
h2_connect(URL) ->
    h2_connect(URL, []).

%% @doc Connects to the server of a URL, for many streams to share the connection: `h2_open(Method, Conn, Headers, Options)', or
%% `{Conn, Path}' in the place of `Conn', opens one. Path and query of this URL play no part. The caller becomes the connection's
%% owner: the connection ends with it, and it is told of the connection's end and of the peer's GOAWAY, see
%% {@link hackney_native_h2_connection}. {@link h2_info/1}, {@link h2_controlling_process/2} and {@link h2_close/1} take `Conn' too.
%%
%% ```
%% {ok, Conn} = hackney_native:h2_connect(<<"https://localhost:8443">>),
%% {ok, A} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
%% {ok, B} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], [{active, true}]).
%% '''
%%
%% Options, as for {@link h2_open/4}: `connect_timeout', `h2c', `connect_options', `ssl_options', `insecure', `initial_window_size' (of
%% each stream), `connection_window_size' (beside what lies unread), `max_frame_size', `max_header_list_size'. And, in milliseconds:
%% <dl>
%% <dt>`{keepalive, infinity}'</dt><dd>a PING after so long without a byte from the peer, at most twice as long. Servers hang up on
%% clients that do it too often (`enhance_your_calm'), many below 10 s</dd>
%% <dt>`{keepalive_timeout, 20000}'</dt><dd>how long its answer may take, counted anew as long as data leaves that the peer has to take
%% first. Then the connection ends with `{closed, keepalive_timeout}'</dd>
%% </dl>
%% Errors are those of {@link h2_open/4}.
-spec h2_connect(url(), options()) -> {ok, pid()} | {error, term()}.
h2_connect(URL, Options) ->
    case hackney_native_connection_options:from_url(URL, Options) of
        {ok, Given, _Path} -> start(hackney_native_h2_connection, Given);
        {error, _} = Error -> Error
    end.

%% @doc Makes a pool of connections, or changes its options, for `{pool, Name}' among those of {@link h2_open/4}: a pool that was not
%% made has the defaults. Options that are not given stay as they were; those of keeping alive hold for connections from now on. See
%% {@link hackney_native_h2_pool}.
%%
%% ```
%% ok = hackney_native:h2_pool(api, [{max_connections, 2}, {keepalive, 30000}]),
%% {ok, S} = hackney_native:h2_open(post, <<"https://localhost:8443/echo">>, [], [{pool, api}]).
%% '''
%%
%% Errors: `{unsupported_option, Name}', `{badarg, {Name, Value}}', and `{pool_not_running, Name}': pools need the application
%% `hackney_native' started.
-spec h2_pool(hackney_native_h2_pool:name(), hackney_native_h2_pool:options()) -> ok | {error, term()}.
h2_pool(Name, Options) ->
    hackney_native_h2_pool:configure(Name, Options).

%% @doc Ends a pool: its connections are closed, the streams on them end with `closed', its options are forgotten. `ok' also for one
%% that is not there. The next stream with that name starts it anew.
-spec h2_pool_stop(hackney_native_h2_pool:name()) -> ok | {error, term()}.
h2_pool_stop(Name) ->
    hackney_native_h2_pool:stop(Name).

%% @doc `h2_open(post, Target, [], Options)'.
-spec h2_open(target(), options()) -> {ok, pid()} | {error, term()}.
h2_open(Target, Options) ->
    h2_open(post, Target, [], Options).

%% @doc `h2_open(post, Target, Headers, Options)'.
-spec h2_open(target(), headers(), options()) -> {ok, pid()} | {error, term()}.
h2_open(Target, Headers, Options) ->
    h2_open(post, Target, Headers, Options).

%% @doc Connects, opens one stream and sends the request's HEADERS without END_STREAM. Returns when the stream is open, not when the
%% response comes. The caller becomes the stream's owner: linked to it, and the receiver in the active modes.
%%
%% On a connection of {@link h2_connect/2}, in the place of the URL, only the stream is opened. Then `connect_timeout' is how long it may
%% wait until the peer lets there be one more; options that concern the connection are refused; and there are two more errors:
%% `unprocessed' (the peer has said GOAWAY and has not looked at this request: send it again on another connection), and `closed' (the
%% connection is over).
%%
%% With `{pool, Name}', a URL's stream is opened on a connection that others of that pool share, see {@link hackney_native_h2_pool}.
%% `connect_timeout' is for getting a connection and a place on it together; `max_recv_buffer' is not to be had, as the windows of the
%% connection bound what lies unread. Errors are those of connecting, and `{pool_not_running, Name}'.
%%
%% The method: atoms and strings are upper-cased, a binary is sent as it is. `Headers': names are lower-cased, `host' is dropped in
%% favour of `:authority'. Options, with their defaults; sizes in bytes, times in milliseconds or `infinity':
%% <dl>
%% <dt>`{connect_timeout, 8000}'</dt><dd>for look-up, TCP, TLS and the peer's SETTINGS together</dd>
%% <dt>`{recv_timeout, infinity}'</dt><dd>for {@link h2_recv/1}</dd>
%% <dt>`{send_timeout, 0}'</dt><dd>how long {@link h2_send/3} waits for room in a full send buffer</dd>
%% <dt>`{active, false}'</dt><dd>`true', `false', `once', or a number of messages, 1 to 32767</dd>
%% <dt>`{flow_control, auto}'</dt><dd>or `manual': only {@link h2_consume/2} lets the peer send more</dd>
%% <dt>`{informational, false}'</dt><dd>deliver 1xx responses</dd>
%% <dt>`{h2c, false}'</dt><dd>`true' lets `http://' URLs speak HTTP/2 in cleartext, with prior knowledge</dd>
%% <dt>`{initial_window_size, 4194304}', `{connection_window_size, 16777216}'</dt><dd>receive windows: the most that arrives in one
%% round trip</dd>
%% <dt>`{max_recv_buffer, 67108864}'</dt><dd>received and unread; a window larger than this is made as small</dd>
%% <dt>`{max_send_buffer, 1048576}'</dt><dd>queued beyond the peer's window</dd>
%% <dt>`{max_frame_size, 16384}', `{max_header_list_size, 262144}'</dt><dd>the largest frame and header list taken</dd>
%% <dt>`{connect_options, []}'</dt><dd>`nodelay' (true), `keepalive', `inet', `inet6', `ip'/`ifaddr', `port', `recbuf', `sndbuf',
%% `linger', as `gen_tcp' has them</dd>
%% <dt>`{ssl_options, []}'</dt><dd>`verify', `cacerts', `cacertfile', `cert', `certfile', `key', `keyfile', `password',
%% `server_name_indication', `versions', `alpn_advertised_protocols', `session_tickets', `reuse_sessions' as `ssl' has them,
%% `insecure' as hackney has it, `keylog' a file. The peer is verified by default, against the operating system's roots</dd>
%% <dt>`{insecure, false}'</dt><dd>`true': the peer is not verified at all</dd>
%% </dl>
%% Unknown options, and known ones that cannot be honoured: `{error, {unsupported_option, Name}}'. Other errors before anything is
%% sent: `{badarg, What}', `{invalid_url, URL}', `{scheme_not_supported, Scheme}', `{invalid_method, M}',
%% `{invalid_request_target, T}', `{invalid_header, Name}', `{options, {Name, Text}}' for a file or certificate that cannot be used.
%% While connecting: POSIX and resolver atoms (`econnrefused', `nxdomain', ...), `connect_timeout', `{tls_alert, {Alert, Text}}',
%% `{protocol_not_negotiated, http1 | Other}', `closed', `{closed, Reason}', `{goaway, Code}'.
-spec h2_open(method(), target(), headers(), options()) -> {ok, pid()} | {error, term()}.
h2_open(Method, Target, Headers, Options) ->
    case stream_options(Method, Target, Headers, Options) of
        {ok, #{host := _, pool := Pool} = Given} ->
            {Connection, Stream} = hackney_native_options:split(maps:remove(pool, Given)),
            hackney_native_h2_pool:open(Pool, Connection, Stream);
        {ok, StreamOptions} ->
            start(hackney_native_h2_stream, StreamOptions);
        {error, _} = Error ->
            Error
    end.

stream_options(Method, Connection, Headers, Options) when is_pid(Connection) ->
    hackney_native_options:on_connection(Method, {Connection, <<"/">>}, Headers, Options);
stream_options(Method, {Connection, _Path} = Target, Headers, Options) when is_pid(Connection) ->
    hackney_native_options:on_connection(Method, Target, Headers, Options);
stream_options(Method, URL, Headers, Options) ->
    hackney_native_options:from_url(Method, URL, Headers, Options).

start(Module, Options) ->
    case Module:start_link(Options) of
        {ok, Pid} ->
            case Module:connect(Pid) of
                ok -> {ok, Pid};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Queues DATA. See {@link hackney_native_h2_stream:send/4}.
-spec h2_send(pid(), iodata()) -> ok | {error, term()}.
h2_send(Pid, Data) ->
    hackney_native_h2_stream:send(Pid, Data).

%% @doc Queues DATA; `fin' half-closes the stream. See {@link hackney_native_h2_stream:send/4}.
-spec h2_send(pid(), iodata(), fin | nofin) -> ok | {error, term()}.
h2_send(Pid, Data, Fin) ->
    hackney_native_h2_stream:send(Pid, Data, Fin).

%% @doc Queues DATA; `#{block => Timeout}' waits for room in a full send buffer. See {@link hackney_native_h2_stream:send/4}.
-spec h2_send(pid(), iodata(), fin | nofin, hackney_native_h2_stream:send_options()) -> ok | {error, term()}.
h2_send(Pid, Data, Fin, Options) ->
    hackney_native_h2_stream:send(Pid, Data, Fin, Options).

%% @doc Half-closes the stream with trailing HEADERS. See {@link hackney_native_h2_stream:send_trailers/2}.
-spec h2_send_trailers(pid(), headers()) -> ok | {error, term()}.
h2_send_trailers(Pid, Trailers) ->
    hackney_native_h2_stream:send_trailers(Pid, Trailers).

%% @doc Takes the next message of a passive stream. See {@link hackney_native_h2_stream:recv/2}.
-spec h2_recv(pid()) -> {ok, hackney_native_h2_stream:h2_msg()} | {error, term()}.
h2_recv(Pid) ->
    hackney_native_h2_stream:recv(Pid).

%% @doc Takes the next message of a passive stream, waiting so many milliseconds. See {@link hackney_native_h2_stream:recv/2}.
-spec h2_recv(pid(), timeout()) -> {ok, hackney_native_h2_stream:h2_msg()} | {error, term()}.
h2_recv(Pid, Timeout) ->
    hackney_native_h2_stream:recv(Pid, Timeout).

%% @doc Lets the peer send `N' more bytes. See {@link hackney_native_h2_stream:consume/2}.
-spec h2_consume(pid(), non_neg_integer()) -> ok | {error, term()}.
h2_consume(Pid, N) ->
    hackney_native_h2_stream:consume(Pid, N).

%% @doc Sets the delivery mode. See {@link hackney_native_h2_stream:setopts/2}.
-spec h2_setopts(pid(), [{active, boolean() | once | -32768..32767}]) -> ok | {error, term()}.
h2_setopts(Pid, Options) ->
    hackney_native_h2_stream:setopts(Pid, Options).

%% @doc Makes another process the owner. See {@link hackney_native_h2_stream:controlling_process/2}.
-spec h2_controlling_process(pid(), pid()) -> ok | {error, term()}.
h2_controlling_process(Pid, NewOwner) ->
    hackney_native_h2_stream:controlling_process(Pid, NewOwner).

%% @doc What is known of the stream, or of a connection. See {@link hackney_native_h2_stream:info/1} and
%% {@link hackney_native_h2_connection:info/1}.
-spec h2_info(pid()) -> {ok, map()} | {error, term()}.
h2_info(Pid) ->
    hackney_native_h2_stream:info(Pid).

%% @doc Cancels the stream and closes its connection, if that is its own. See {@link hackney_native_h2_stream:close/1}. With a
%% connection, closes that, and its streams with it; {@link hackney_native_h2_connection:close/1} does so and waits for it.
-spec h2_close(pid()) -> ok.
h2_close(Pid) ->
    hackney_native_h2_stream:close(Pid).

%% @doc What the engine holds beside the VM; `erlang:memory/0' shows none of it.
%% <dl>
%% <dt>`streams'</dt><dd>streams of this node, from `h2_open' to the end of their process</dd>
%% <dt>`connections'</dt><dd>HTTP/2 connections that stand, those that say goodbye included. One that still connects is a task, and no
%% connection yet</dd>
%% <dt>`recv_queue_bytes', `send_queue_bytes'</dt><dd>what {@link h2_info/1} tells by these names, of all streams together: body
%% bytes received and unread, and bytes queued beyond the peers' windows. Large binaries that were sent are the VM's own: they count
%% here and in `erlang:memory(binary)'</dd>
%% <dt>`tasks'</dt><dd>of the engine: one for each stream with a connection of its own, for each connection that streams share and
%% for each stream in line there, and now and then a brief one</dd>
%% <dt>`threads'</dt><dd>of the engine: `worker_threads', and up to 16 that look up names and read files; these end when they have
%% had nothing to do for 5 seconds</dd>
%% <dt>`native_bytes'</dt><dd>bytes that the library's allocator has from the operating system: what the engine has allocated, and
%% what is free and kept for its next allocations</dd>
%% </dl>
%% Looks at every stream, on a dirty scheduler.
-spec memory() -> {ok, memory()} | {error, term()}.
memory() ->
    hackney_native_nif:memory().

%% @doc Starts or stops measuring how long calls into the native library take. `start' forgets what was measured before. Not
%% measuring, which is how a node starts, costs a call nothing that could be measured; measuring costs it one or two microseconds.
-spec nif_times(start | stop) -> ok | {error, term()}.
nif_times(start) ->
    hackney_native_nif:measure(true);
nif_times(stop) ->
    hackney_native_nif:measure(false);
nif_times(_) ->
    error(badarg).

%% @doc How long calls into the native library have taken since `nif_times(start)', by function of `hackney_native_nif' and in
%% microseconds: `wall', from begin to end, and `cpu', without the time in which the operating system let others run. `p50' and `p99'
%% are at most an eighth too high, `max' is exact. Functions that were not called are left out. `normal' are those that run on
%% normal schedulers, which they must not keep for a millisecond; `down' among them is the VM's telling that a stream's process
%% has ended. `dirty' are those that may work longer and have dirty schedulers for it.
-spec nif_times() -> {ok, nif_times()} | {error, term()}.
nif_times() ->
    hackney_native_nif:measured().

%% @doc Loads modules with hackney's own names, so that unchanged calls of `hackney:h2_*' run on this engine. Has no effect on the
%% rest of hackney. The same is done at start with `{env, [{drop_in, true}]}'.
-spec install_drop_in() -> ok | {error, term()}.
install_drop_in() ->
    hackney_native_drop_in:install().
