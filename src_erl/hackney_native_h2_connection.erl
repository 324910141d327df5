%% @doc One HTTP/2 connection as a process, which many streams share: `h2_connection' on a Rust engine.
%%
%% There are two ways to use its streams, and both may be mixed:
%% <ul>
%% <li>{@link hackney_native:h2_open/4} opens one with a process, an owner, a delivery mode and a window of its own: a
%% {@link hackney_native_h2_stream}.</li>
%% <li>{@link send_request/5} and its sisters open one that is named by its identifier, and what happens on it is told by messages
%% `{h2, Conn, Event}'. So it is with every stream that the peer of a server opens.</li>
%% </ul>
%% {@link hackney_native:h2_connect/2} and {@link hackney_native_h2:connect/3} make a client's connection. The process is not on the way of
%% the data: the calls go from the caller straight to the engine, and the engine posts the events.
%%
%% == Events ==
%% `{h2, Conn, Event}', to the stream's handler, or if it has none to the connection's owner:
%% <dl>
%% <dt>`{response, StreamId, Status, Headers}'</dt><dd>to a client</dd>
%% <dt>`{informational, StreamId, Status, Headers}'</dt><dd>a 1xx response, ahead of it</dd>
%% <dt>`{data, StreamId, Data, Fin}'</dt><dd>body bytes; with `true' the last, perhaps none</dd>
%% <dt>`{trailers, StreamId, Headers}'</dt><dd>the peer's side has ended with these</dd>
%% <dt>`{stream_reset, StreamId, Code}'</dt><dd>the stream is over: RST_STREAM from the peer, a rule of the stream that it broke, or a
%% GOAWAY that leaves it out (`refused_stream': the request may be sent again)</dd>
%% </dl>
%% To the owner of a server's connection: `{request, StreamId, Method, Path, Headers}'. What follows waits for {@link set_stream_handler/3};
%% the peer can send a window's worth of it meanwhile.
%%
%% To the owner, and to each handler once:
%% <dl>
%% <dt>`connected'</dt><dd>(owner only) after {@link activate/1}: our SETTINGS have been acknowledged</dd>
%% <dt>`{goaway, LastStreamId, Code}'</dt><dd>the peer takes no more requests (RFC 9113, 6.8). Streams up to the last that it serves go
%% on</dd>
%% <dt>`goaway_sent'</dt><dd>(owner only) {@link send_goaway/1} was called</dd>
%% <dt>`{closed, Reason}'</dt><dd>the last one: the connection is over, and so are its streams. `normal' after {@link close/1};
%% `closed' when the peer, or the application's stop, ended it in an orderly way; `{closed, Why}' when it broke: a POSIX atom,
%% `keepalive_timeout' when a PING was not answered, `{connection_error, Code}' when the peer broke the rules of HTTP/2</dd>
%% </dl>
%% The process stops with reason `normal', whatever ended the connection: the link to its owner is there to end it with the owner, not
%% the other way round. Calls on a connection that is over return `{error, closed}'.
%%
%% == Places ==
%% The peer says how many streams there may be at a time (SETTINGS_MAX_CONCURRENT_STREAMS). Streams of `h2_open' wait in line for a place,
%% each as long as its `connect_timeout' says; {@link send_request/5} returns `{error, max_streams_exceeded}'.
%%
%% == Windows ==
%% What lies unread on a stream counts against that stream's window only: the connection's window is kept open beside it, so that
%% streams that nobody reads do not stop the others.
%%
%% == States ==
%% `idle' (not connected) and `connected'. On its end the process stops. Calls that need a connection which there is not yet return
%% `{error, {not_ready, preface}}' before {@link activate/1} or {@link connect/1}, `{error, {not_ready, settings}}' while the peer's
%% greeting is awaited. A server's connection takes calls as soon as it has told of a request.
-module(hackney_native_h2_connection).

-behaviour(gen_statem).

-export([start_link/1, start_link/3, start_link/4, activate/1, connect/1, connect/2, wait_connected/1, wait_connected/2,
         controlling_process/2, info/1, peername/1, get_settings/1, get_peer_settings/1,
         send_goaway/1, send_goaway/2, close/1]).
-export([send_request/4, send_request/5, send_request_headers/3, send_request_headers/4,
         send_response/4, respond/5,
         send_data/3, send_data/4, send_data/5, send_trailers/3,
         set_stream_handler/3, set_stream_handler/4, unset_stream_handler/2,
         consume/3, cancel_stream/2, cancel_stream/3]).

%% For hackney_native_h2 and its listeners.
-export([start_accepted/3, start_served/3]).

-export([init/1, callback_mode/0, idle/3, connected/3]).

-export_type([stream_id/0, headers/0, event/0, error_code/0, request_options/0]).

-type stream_id() :: pos_integer().
-type headers() :: hackney_native_h2_fields:fields().
%% By name (RFC 9113, 7), or the number where the RFC names none.
-type error_code() :: atom() | non_neg_integer() | {unknown, non_neg_integer()}.
-type event() :: connected
               | goaway_sent
               | {request, stream_id(), Method :: binary(), Path :: binary(), headers()}
               | {informational, stream_id(), 100..199, headers()}
               | {response, stream_id(), Status :: 200..999, headers()}
               | {data, stream_id(), binary(), Fin :: boolean()}
               | {trailers, stream_id(), headers()}
               | {stream_reset, stream_id(), error_code()}
               | {goaway, LastStreamId :: non_neg_integer(), error_code()}
               | {closed, normal | closed | {closed, term()} | term()}.
-type request_options() :: #{handler => pid(), defer => boolean(), flow_control => auto | manual}.

-define(WAIT_CONNECTED, 30000).

-record(data, {owner :: pid() | undefined,
               %% Of the owner, or of the listener.
               monitor :: reference(),
               %% Erlang's own, until it is taken over.
               socket :: {client | server, hackney_native_h2_socket:socket(), map()} | undefined,
               %% With a server that has a handler: the process itself is the owner.
               requests :: hackney_native_h2_requests:requests() | undefined,
               connecting :: gen_statem:from() | undefined,
               waiting = [] :: [gen_statem:from()],
               connect_timeout = infinity :: timeout(),
               settings :: map(),
               peer :: {inet:ip_address(), inet:port_number()} | undefined,
               %% It was asked to take no more streams.
               draining = false :: boolean()}).

%%====================================================================
%% API: the connection
%%====================================================================

%% @doc Starts the process of a client's connection, linked to the caller, its owner. It is not connected yet.
%%
%% Keys of `Options': `host' and `port' (both needed), `transport' (`hackney_ssl'), and every option of
%% {@link hackney_native:h2_connect/2}. Nothing is sent for wrong ones: `{error, {badarg, What}}',
%% `{error, {unsupported_option, Name}}'.
-spec start_link(hackney_native_connection_options:connection()) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    case hackney_native_nif:status() of
        ok ->
            case hackney_native_connection_options:connection(Options) of
                {ok, Engine, ConnectTimeout} ->
                    %% Linked in init/1, as a stream is.
                    start({dial, self(), Engine, ConnectTimeout});
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

start(Init) ->
    case gen_statem:start(?MODULE, Init, []) of
        {ok, Pid} -> {ok, Pid};
        {error, {shutdown, Reason}} -> {error, Reason};
        {error, _} = Error -> Error
    end.

%% @doc `start_link(client, Socket, self(), Options)'.
-spec start_link(client, hackney_native_h2_socket:socket(), map()) -> {ok, pid()} | {error, term()}.
start_link(client, Socket, Options) ->
    start_link(client, Socket, self(), Options).

%% @doc Starts the process of a connection on a socket that is connected already, passive, and on which nothing has been read; with
%% `ssl', ALPN must have agreed on h2. Nothing is sent yet: give the socket to the process (`gen_tcp:controlling_process/2' or
%% `ssl:controlling_process/2'), then call {@link activate/1}. A `gen_tcp' socket is then taken over by its descriptor; the bytes of an
%% `ssl' socket go through Erlang, so that its TLS is still `ssl''s.
%%
%% Options: `settings' (`initial_window_size' of each stream, 1 MiB; `max_frame_size'; `max_header_list_size'; a server's
%% `max_concurrent_streams', 100, and `header_table_size'), `connection_window_size' (16 MiB), `enable_connect_protocol' (a server's),
%% `idle_timeout', `keepalive' and `keepalive_timeout' (as for {@link hackney_native_h2:start_server/2}).
-spec start_link(client | server, hackney_native_h2_socket:socket(), pid(), map()) -> {ok, pid()} | {error, term()}.
start_link(Mode, _Socket, Owner, Options) when (Mode =:= client orelse Mode =:= server), is_pid(Owner), not is_map(Options) ->
    {error, {badarg, options}};
start_link(Mode, Socket, Owner, Options) when (Mode =:= client orelse Mode =:= server), is_pid(Owner) ->
    case hackney_native_nif:status() of
        ok ->
            case hackney_native_h2_server_options:connection(maps:remove(handler, Options)) of
                {ok, #{engine := Engine}} -> start({socket, Owner, Mode, Socket, Engine});
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end;
start_link(_, _, _, _) ->
    error(badarg).

%% @private
-spec start_accepted(non_neg_integer(), map(), hackney_native_h2_requests:handler()) -> {ok, pid()} | {error, term()}.
start_accepted(Id, Engine, Handler) ->
    start({accepted, self(), Id, Engine, Handler}).

%% @private
-spec start_served(hackney_native_h2_socket:socket(), map(), hackney_native_h2_requests:handler()) -> {ok, pid()} | {error, term()}.
start_served(Socket, Engine, Handler) ->
    start({served, self(), Socket, Engine, Handler}).

%% @doc Begins to speak HTTP/2 on the socket that {@link start_link/4} was given. `{h2, Conn, connected}' follows, or
%% `{h2, Conn, {closed, Reason}}'. `ok' also when it was called before; `{error, Posix}' for a socket that cannot be used.
-spec activate(pid()) -> ok | {error, term()}.
activate(Conn) ->
    call(Conn, activate).

%% @doc Connects within the option `connect_timeout' (8000 ms). See {@link connect/2}.
-spec connect(pid()) -> ok | {error, term()}.
connect(Conn) ->
    call(Conn, {connect, default}).

%% @doc Connects: look-up, TCP, TLS and the peer's SETTINGS, all within `Timeout' milliseconds, else `{error, connect_timeout}'. The
%% process stops when it fails. Errors are those of {@link hackney_native:h2_open/4}.
-spec connect(pid(), timeout()) -> ok | {error, term()}.
connect(Conn, Timeout) when Timeout =:= infinity; is_integer(Timeout), Timeout >= 0 ->
    call(Conn, {connect, Timeout});
connect(_, _) ->
    error(badarg).

%% @doc `wait_connected(Conn, 30000)'.
-spec wait_connected(pid()) -> ok | {error, term()}.
wait_connected(Conn) ->
    wait_connected(Conn, ?WAIT_CONNECTED).

%% @doc Waits until the connection is connected: `ok', `{error, timeout}', or why it is not.
-spec wait_connected(pid(), timeout()) -> ok | {error, term()}.
wait_connected(Conn, Timeout) when is_pid(Conn), Timeout =:= infinity orelse is_integer(Timeout), Timeout >= 0 ->
    call(Conn, {wait_connected, Timeout});
wait_connected(_, _) ->
    error(badarg).

%% @doc Makes `NewOwner' the owner: it gets the link and the events from now on. It may live on another node. `{error, noproc}' when
%% it is dead.
-spec controlling_process(pid(), pid()) -> ok | {error, term()}.
controlling_process(Conn, NewOwner) when is_pid(NewOwner) ->
    call(Conn, {controlling_process, NewOwner});
controlling_process(_, _) ->
    error(badarg).

%% @doc What is known of the connection: `streams' (on it now), `waiting' (in line), `max_streams' (how many the peer lets there be,
%% `infinity' if it does not say), `recv_queue_bytes' (received on all streams and not given back), `send_window' (bytes that the peer
%% lets us send on the connection), `peer' and `local' (`{Address, Port}'), `alpn', `tls_version', `tls_cipher', `tls_resumed',
%% `peer_certificate' (DER), `bytes_in' and `bytes_out' (HTTP/2 frames included), `rtt_us' (round-trip time in microseconds), `goaway'
%% (`{LastStreamId, Code}'). `undefined' is what is not known. `{error, not_connected}' before it is connected, `{error, closed}'
%% afterwards.
-spec info(pid()) -> {ok, map()} | {error, term()}.
info(Conn) ->
    hackney_native_remote:nif(Conn, client_info, [Conn]).

%% @doc The peer's address.
-spec peername(pid()) -> {ok, {inet:ip_address(), inet:port_number()}} | {error, term()}.
peername(Conn) ->
    case info(Conn) of
        {ok, #{peer := Peer}} -> {ok, Peer};
        {error, closed} -> call(Conn, peername);
        {error, not_connected} -> call(Conn, peername);
        {error, _} = Error -> Error
    end.

%% @doc What we have told the peer by SETTINGS, by name.
-spec get_settings(pid()) -> map() | {error, term()}.
get_settings(Conn) ->
    call(Conn, get_settings).

%% @doc What the peer has told by SETTINGS so far, by name, over what holds without (RFC 9113, 6.5.2); what has no name here, by
%% number. The first 32 settings are kept.
-spec get_peer_settings(pid()) -> map() | {error, term()}.
get_peer_settings(Conn) ->
    hackney_native_h2_exchange:get_peer_settings(Conn).

%% @doc `send_goaway(Conn, no_error)'.
-spec send_goaway(pid()) -> ok | {error, term()}.
send_goaway(Conn) ->
    send_goaway(Conn, no_error).

%% @doc Shuts the connection down: no stream is opened any more, those that are there go on to their end, then the connection ends with
%% `{closed, closed}'. A server tells the peer at once, by GOAWAY, of which the code is always `no_error' while streams go on.
-spec send_goaway(pid(), error_code()) -> ok | {error, term()}.
send_goaway(Conn, Code) ->
    case hackney_native_h2_settings:error_code(Code) of
        {ok, _} -> call(Conn, goaway);
        error -> {error, {badarg, {code, Code}}}
    end.

%% @doc Closes the connection: its streams are cancelled, the peer gets GOAWAY. The owner has been sent `{h2, Conn, {closed, normal}}'
%% when this returns. `ok' also for a connection that is over.
-spec close(pid()) -> ok.
close(Conn) when is_pid(Conn) ->
    _ = call(Conn, close),
    ok;
close(_) ->
    error(badarg).

call(Conn, Request) when is_pid(Conn) ->
    hackney_native_remote:statem_call(Conn, Request);
call(_, _) ->
    error(badarg).

%%====================================================================
%% API: streams
%%====================================================================

%% @doc `send_request(Conn, Method, Path, Headers, true)'.
-spec send_request(pid(), binary(), binary(), headers()) -> {ok, stream_id()} | {error, term()}.
send_request(Conn, Method, Path, Headers) ->
    send_request(Conn, Method, Path, Headers, true).

%% @doc Opens a stream with a request; with `EndStream' that is all of it. The first `host' field becomes `:authority'; without one
%% it is the connection's own. Errors as in {@link send_request_headers/4}.
-spec send_request(pid(), binary(), binary(), headers(), EndStream :: boolean()) -> {ok, stream_id()} | {error, term()}.
send_request(Conn, Method, Path, Headers, EndStream) ->
    hackney_native_h2_exchange:send_request(Conn, Method, Path, Headers, EndStream).

%% @doc `send_request_headers(Conn, Headers, EndStream, #{})'.
-spec send_request_headers(pid(), headers(), EndStream :: boolean()) -> {ok, stream_id()} | {error, term()}.
send_request_headers(Conn, Headers, EndStream) ->
    send_request_headers(Conn, Headers, EndStream, #{}).

%% @doc Opens a stream with a request given as a header list, its pseudo-header fields included; `:scheme' is that of the connection.
%%
%% Options: `handler' (a process of this node that gets the stream's events; else the connection's owner), `defer' (`true': they wait
%% until {@link set_stream_handler/3} names one), `flow_control' (`manual': only {@link consume/3} lets the peer send more).
%% Nothing is sent for what is wrong: `protocol_error' (not a request that HTTP/2 allows), `missing_authority',
%% `extended_connect_method', `extended_connect_disabled' (the peer takes no `:protocol'), `header_list_too_large' (for the peer),
%% `max_streams_exceeded', `unprocessed' (the peer has said GOAWAY), `not_client', `{not_ready, idle}', `closed'.
-spec send_request_headers(pid(), headers(), EndStream :: boolean(), request_options()) -> {ok, stream_id()} | {error, term()}.
send_request_headers(Conn, Headers, EndStream, Options) ->
    hackney_native_h2_exchange:send_request_headers(Conn, Headers, EndStream, Options).

%% @doc Answers a request: its header fields; a body, or trailers, are still to come, unless there can be none (status 204 and 304).
%% A 1xx status goes ahead of the response. Errors: `unknown_stream', `stream_closed' (it is over), `invalid_stream_state' (answered
%% already), `status_101_forbidden', `protocol_error', `not_server', `closed'.
-spec send_response(pid(), stream_id(), 100..999, headers()) -> ok | {error, term()}.
send_response(Conn, StreamId, Status, Headers) ->
    hackney_native_h2_exchange:send_response(Conn, StreamId, Status, Headers).

%% @doc Answers a request at once and as a whole. Errors as in {@link send_response/4}.
-spec respond(pid(), stream_id(), 200..999, headers(), iodata()) -> ok | {error, term()}.
respond(Conn, StreamId, Status, Headers, Body) ->
    hackney_native_h2_exchange:respond(Conn, StreamId, Status, Headers, Body).

%% @doc `send_data(Conn, StreamId, Data, false)'.
-spec send_data(pid(), stream_id(), iodata()) -> ok | {error, term()}.
send_data(Conn, StreamId, Data) ->
    send_data(Conn, StreamId, Data, false).

%% @doc Queues body bytes, all or nothing; with `EndStream' the last. Errors: `send_buffer_full' (over 1 MiB would be queued beyond the
%% peer's window; a larger piece is taken when nothing is queued), `invalid_stream_state' (our side has ended, the stream is over, or a
%% server's response is still to be given), `unknown_stream', `closed'.
-spec send_data(pid(), stream_id(), iodata(), EndStream :: boolean()) -> ok | {error, term()}.
send_data(Conn, StreamId, Data, EndStream) ->
    hackney_native_h2_exchange:send_data(Conn, StreamId, Data, EndStream).

%% @doc `#{block => Timeout}' takes any amount and returns when all that the stream had queued has been sent: `ok', or
%% `{error, timeout}' after so many milliseconds, with the data left in the queue, or `stream_reset', `stream_closed' or `closed' when
%% the stream or connection ended first.
-spec send_data(pid(), stream_id(), iodata(), EndStream :: boolean(), #{block => timeout() | undefined}) -> ok | {error, term()}.
send_data(Conn, StreamId, Data, EndStream, Options) ->
    hackney_native_h2_exchange:send_data(Conn, StreamId, Data, EndStream, Options).

%% @doc Queues trailers behind all data; our side ends with them. Errors as in {@link send_data/4}, and `protocol_error'.
-spec send_trailers(pid(), stream_id(), headers()) -> ok | {error, term()}.
send_trailers(Conn, StreamId, Headers) ->
    hackney_native_h2_exchange:send_trailers(Conn, StreamId, Headers).

%% @doc `set_stream_handler(Conn, StreamId, Handler, #{})'.
-spec set_stream_handler(pid(), stream_id(), pid()) -> ok | {ok, [{binary(), boolean()}]} | {error, term()}.
set_stream_handler(Conn, StreamId, Handler) ->
    set_stream_handler(Conn, StreamId, Handler, #{}).

%% @doc Has a process of the connection's node handle a stream: events that waited are sent to it, in order, and those to come. With
%% `#{drain_buffer => true}', body bytes that waited are returned instead: `{ok, [{Data, Fin}]}'. `#{flow_control => auto | manual}'
%% changes the mode from now on. `{error, unknown_stream | stream_closed | closed}'.
-spec set_stream_handler(pid(), stream_id(), pid(), #{drain_buffer => boolean(), flow_control => auto | manual}) ->
          ok | {ok, [{binary(), boolean()}]} | {error, term()}.
set_stream_handler(Conn, StreamId, Handler, Options) ->
    hackney_native_h2_exchange:set_stream_handler(Conn, StreamId, Handler, Options).

%% @doc Has no process in particular handle a stream: a client's events go to the connection's owner again, a server's wait.
-spec unset_stream_handler(pid(), stream_id()) -> ok | {error, closed}.
unset_stream_handler(Conn, StreamId) ->
    hackney_native_h2_exchange:unset_stream_handler(Conn, StreamId).

%% @doc With `flow_control => manual', lets the peer send so many more bytes on the stream, at most as many as it has sent. The
%% WINDOW_UPDATE leaves once it is worth a frame: half of what the peer has left.
-spec consume(pid(), stream_id(), non_neg_integer()) -> ok | {error, unknown_stream | closed}.
consume(Conn, StreamId, N) ->
    hackney_native_h2_exchange:consume(Conn, StreamId, N).

%% @doc `cancel_stream(Conn, StreamId, cancel)'.
-spec cancel_stream(pid(), stream_id()) -> ok | {error, term()}.
cancel_stream(Conn, StreamId) ->
    cancel_stream(Conn, StreamId, cancel).

%% @doc Resets a stream with a code (RFC 9113, 7). No event tells of it. `{error, stream_closed | unknown_stream | closed}'.
-spec cancel_stream(pid(), stream_id(), error_code()) -> ok | {error, term()}.
cancel_stream(Conn, StreamId, Code) ->
    hackney_native_h2_exchange:cancel_stream(Conn, StreamId, Code).

%%====================================================================
%% gen_statem
%%====================================================================

%% @private
-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

%% @private
-spec init(tuple()) -> {ok, idle, #data{}} | {stop, term()}.
init(Init) ->
    process_flag(trap_exit, true),
    init_as(Init).

init_as({dial, Owner, Engine, ConnectTimeout}) ->
    link(Owner),
    case hackney_native_nif:client_new(hackney_native_remote:post_to(Owner), Engine, hackney_native_options:worker_threads()) of
        ok ->
            {ok, idle, #data{owner = Owner, monitor = erlang:monitor(process, Owner), connect_timeout = ConnectTimeout,
                             settings = hackney_native_h2_settings:ours(client, Engine)}};
        {error, Reason} ->
            unlink(Owner),
            %% No crash, which would be reported: the caller hears of it.
            {stop, {shutdown, Reason}}
    end;
init_as({socket, Owner, Mode, Socket, Engine}) ->
    link(Owner),
    {ok, idle, #data{owner = Owner, monitor = erlang:monitor(process, Owner), socket = {Mode, Socket, Engine},
                     peer = hackney_native_h2_socket:peer(Socket), settings = hackney_native_h2_settings:ours(Mode, Engine)}};
init_as({served, Parent, Socket, Engine, Handler}) ->
    {ok, idle, #data{monitor = erlang:monitor(process, Parent), socket = {server, Socket, Engine},
                     peer = hackney_native_h2_socket:peer(Socket), requests = hackney_native_h2_requests:new(Handler),
                     settings = hackney_native_h2_settings:ours(server, Engine)}};
init_as({accepted, Listener, Id, Engine, Handler}) ->
    case hackney_native_nif:serve_accepted(Listener, Id, self(), Engine) of
        ok ->
            {ok, idle, #data{monitor = erlang:monitor(process, Listener),
                             requests = hackney_native_h2_requests:new(Handler),
                             settings = hackney_native_h2_settings:ours(server, Engine)}};
        {error, Reason} ->
            {stop, {shutdown, Reason}}
    end.

%%--------------------------------------------------------------------
%% idle: not connected, or connecting
%%--------------------------------------------------------------------

%% @private
-spec idle(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
idle({call, From}, {connect, _}, #data{connecting = Busy}) when Busy =/= undefined ->
    {keep_state_and_data, [{reply, From, {error, already_connected}}]};
idle({call, From}, {connect, Timeout0}, #data{connect_timeout = Default} = Data0) ->
    Timeout = case Timeout0 of default -> Default; _ -> Timeout0 end,
    Data = Data0#data{connecting = From},
    case hackney_native_nif:client_connect(Timeout) of
        ok -> {keep_state, Data};
        {error, _} = Error -> not_connected(Error, Data)
    end;
idle({call, From}, activate, #data{socket = undefined}) ->
    {keep_state_and_data, [{reply, From, ok}]};
idle({call, From}, activate, #data{socket = {Mode, Socket, Engine}, owner = Owner} = Data) ->
    case hackney_native_h2_socket:adopt(Mode, Socket, hackney_native_remote:post_to(Owner), Engine) of
        ok -> {keep_state, Data#data{socket = undefined}, [{reply, From, ok}]};
        {error, Reason} = Error ->
            tell_all({closed, {closed, Reason}}, Data),
            {stop_and_reply, normal, [{reply, From, Error} | replies(Error, Data)]}
    end;
idle({call, From}, {wait_connected, Timeout}, #data{waiting = Waiting} = Data) ->
    {keep_state, Data#data{waiting = [From | Waiting]}, [{{timeout, From}, Timeout, wait_connected}]};
idle({timeout, From}, wait_connected, #data{waiting = Waiting} = Data) ->
    {keep_state, Data#data{waiting = lists:delete(From, Waiting)}, [{reply, From, {error, timeout}}]};
idle(info, {hackney_native_nif, connected}, #data{connecting = Connecting} = Data) ->
    _ = Connecting =:= undefined andalso tell_owner(connected, Data),
    {next_state, connected, Data#data{connecting = undefined, waiting = []}, replies(ok, Data)};
%% Nobody has said how long it may take.
idle(info, {hackney_native_nif, {failed, connect_timeout}}, #data{connecting = undefined} = Data) ->
    not_connected({error, settings_timeout}, Data);
idle(info, {hackney_native_nif, {failed, Reason}}, Data) ->
    not_connected({error, Reason}, Data);
idle(info, {hackney_native_nif, {over, Reason}}, Data) ->
    not_connected({error, Reason}, Data);
idle({call, From}, close, Data) ->
    {stop_and_reply, normal, [{reply, From, ok} | close_idle(Data)]};
idle(cast, close, Data) ->
    {stop_and_reply, normal, close_idle(Data)};
idle({call, From}, Call, #data{} = Data) when Call =:= goaway; Call =:= not_ready ->
    {keep_state_and_data, [{reply, From, {error, {not_ready, how_far(Data)}}}]};
idle(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

close_idle(#data{connecting = undefined} = Data) ->
    close_engine(Data),
    replies({error, closed}, Data);
close_idle(Data) ->
    {stop_and_reply, normal, Replies} = not_connected({error, closed}, Data),
    Replies.

how_far(#data{socket = Socket}) when Socket =/= undefined -> preface;
how_far(_) -> settings.

%% Who called connect/1 hears of it by the reply: an owner that traps exits gets no message of a process it never got to know. Who called
%% activate/1 has his reply, and is told.
not_connected({error, Reason} = Error, #data{connecting = undefined} = Data) ->
    tell_all({closed, Reason}, Data),
    {stop_and_reply, normal, replies(Error, Data)};
not_connected(Error, #data{owner = Owner} = Data) ->
    unlink(Owner),
    {stop_and_reply, normal, replies(Error, Data)}.

replies(Answer, #data{connecting = Connecting, waiting = Waiting}) ->
    [{reply, From, Answer} || From <- [Connecting | Waiting], From =/= undefined].

%%--------------------------------------------------------------------
%% connected
%%--------------------------------------------------------------------

%% @private
-spec connected(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
connected({call, From}, activate, _Data) ->
    {keep_state_and_data, [{reply, From, ok}]};
connected({call, From}, {wait_connected, _}, _Data) ->
    {keep_state_and_data, [{reply, From, ok}]};
connected({call, From}, goaway, #data{draining = true}) ->
    {keep_state_and_data, [{reply, From, ok}]};
connected({call, From}, goaway, Data) ->
    _ = hackney_native_nif:h2_drain(),
    tell_owner(goaway_sent, Data),
    {keep_state, Data#data{draining = true}, [{reply, From, ok}]};
connected(info, {hackney_native_nif, {goaway, LastStreamId, Code}}, Data) ->
    tell_all({goaway, LastStreamId, Code}, Data),
    keep_state_and_data;
connected(info, {hackney_native_nif, {over, Reason}}, Data) ->
    tell_all({closed, Reason}, Data),
    {stop, normal};
connected({call, From}, close, Data) ->
    close_engine(Data),
    {stop_and_reply, normal, [{reply, From, ok}]};
%% h2_close/1, which does not wait.
connected(cast, close, Data) ->
    close_engine(Data),
    {stop, normal};
connected(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

close_engine(Data) ->
    _ = hackney_native_nif:client_close(self()),
    tell_all({closed, normal}, Data).

tell_owner(_Event, #data{owner = undefined}) ->
    ok;
tell_owner(Event, #data{owner = Owner}) ->
    Owner ! {h2, self(), Event},
    ok.

tell_all(Event, #data{owner = Owner} = Data) ->
    tell_owner(Event, Data),
    case hackney_native_nif:h2_handlers() of
        Handlers when is_list(Handlers) ->
            lists:foreach(fun(Handler) -> Handler ! {h2, self(), Event} end, Handlers -- [Owner]);
        {error, _} ->
            ok
    end.

in_any_state(info, {h2, Conn, {request, StreamId, Method, Path, Headers}}, #data{requests = Requests} = Data)
  when Conn =:= self(), Requests =/= undefined ->
    Started = hackney_native_h2_requests:started(Conn, StreamId, Method, Path, Headers, Requests),
    {keep_state, Data#data{requests = Started}};
in_any_state(info, {hackney_native_h2_listener, drain}, _Data) ->
    case hackney_native_nif:client_info(self()) of
        {ok, _} -> _ = hackney_native_nif:h2_drain(), keep_state_and_data;
        %% Nobody has asked for anything yet.
        {error, _} -> {stop, normal}
    end;
in_any_state({call, From}, {controlling_process, _}, #data{requests = Requests}) when Requests =/= undefined ->
    {keep_state_and_data, [{reply, From, {error, not_owner}}]};
in_any_state({call, From}, {controlling_process, NewOwner}, Data) ->
    case node(NewOwner) =/= node() orelse is_process_alive(NewOwner) of
        true -> {keep_state, hand_over(NewOwner, Data), [{reply, From, ok}]};
        false -> {keep_state_and_data, [{reply, From, {error, noproc}}]}
    end;
in_any_state({call, From}, get_settings, #data{settings = Settings}) ->
    {keep_state_and_data, [{reply, From, Settings}]};
in_any_state({call, From}, {connect, _}, _Data) ->
    {keep_state_and_data, [{reply, From, {error, already_connected}}]};
in_any_state({call, From}, peername, #data{peer = undefined}) ->
    {keep_state_and_data, [{reply, From, {error, not_connected}}]};
in_any_state({call, From}, peername, #data{peer = Peer}) ->
    {keep_state_and_data, [{reply, From, {ok, Peer}}]};
%% The engine had no connection, and the process has not heard of its end yet.
in_any_state({call, From}, not_ready, _Data) ->
    {keep_state_and_data, [{reply, From, {error, closed}}]};
in_any_state({call, From}, _Unknown, _Data) ->
    {keep_state_and_data, [{reply, From, {error, badrequest}}]};
in_any_state(info, {'DOWN', Monitor, process, _, Reason}, #data{monitor = Monitor} = Data) ->
    orphaned(Reason, Data);
in_any_state(info, {'DOWN', Monitor, process, _, Reason}, #data{requests = Requests} = Data) when Requests =/= undefined ->
    case hackney_native_h2_requests:down(Monitor, Reason, Requests) of
        {ok, Left} -> {keep_state, Data#data{requests = Left}};
        error -> keep_state_and_data
    end;
in_any_state(info, {'EXIT', Owner, Reason}, #data{owner = Owner} = Data) ->
    orphaned(Reason, Data);
%% For an owner on another node: the engine posts to local processes only.
in_any_state(info, {h2, Conn, _} = Event, #data{owner = Owner}) when Conn =:= self(), is_pid(Owner), node(Owner) =/= node() ->
    Owner ! Event,
    keep_state_and_data;
in_any_state(_, _, _) ->
    keep_state_and_data.

%% Whose streams these are is gone: those who handle them hear of it.
orphaned(Reason, #data{owner = Owner} = Data) ->
    Closed = case Owner of undefined -> closed; _ -> {owner_exit, Reason} end,
    tell_all({closed, Closed}, Data),
    {stop, normal}.

hand_over(Owner, #data{owner = Owner} = Data) ->
    Data;
hand_over(NewOwner, #data{owner = OldOwner, monitor = OldMonitor} = Data) ->
    _ = hackney_native_nif:h2_set_owner(hackney_native_remote:post_to(NewOwner)),
    {NewOwner, Monitor} = hackney_native_remote:change_owner(OldOwner, OldMonitor, NewOwner),
    Data#data{owner = NewOwner, monitor = Monitor}.
