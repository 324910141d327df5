%% @doc One HTTP/2 connection as a process: many streams share it.
%%
%% {@link hackney_native:h2_connect/2} makes one, {@link hackney_native:h2_open/4} opens streams on it: each is a
%% {@link hackney_native_h2_stream} with an owner, a delivery mode and a window of its own, and the end of one leaves the others alone.
%% The process is not on the way of the data, and not on the way of opening a stream.
%%
%% == Places ==
%% The peer says how many streams there may be at a time (SETTINGS_MAX_CONCURRENT_STREAMS). More wait in line, in order, each as long
%% as its `connect_timeout' says.
%%
%% == Windows ==
%% What lies unread on a stream counts against that stream's window only: the connection's window is kept open beside it, so that
%% streams that nobody reads do not stop the others.
%%
%% == Events ==
%% The owner gets `{h2, Conn, Event}':
%% <dl>
%% <dt>`{goaway, LastStreamId, Code}'</dt><dd>the peer takes no more requests (RFC 9113, 6.8). Streams up to the last that it serves go
%% on, the others end with `unprocessed', which says that their requests may be sent again, elsewhere; and so does opening a stream
%% from now on</dd>
%% <dt>`{closed, Reason}'</dt><dd>the last one: the connection is over, and so are its streams. `normal' after {@link close/1};
%% `closed' when the peer, or the application's stop, ended it in an orderly way; `{closed, Why}' when it broke: a POSIX atom,
%% `keepalive_timeout' when a PING was not answered, `{connection_error, Code}' when the peer broke the rules of HTTP/2</dd>
%% </dl>
%% The process stops with reason `normal', whatever ended the connection: the link to its owner is there to end it with the owner, not
%% the other way round.
%%
%% == States ==
%% `idle' (not connected) and `connected'. On its end the process stops.
-module(hackney_native_h2_connection).

-behaviour(gen_statem).

-export([start_link/1, connect/1, connect/2, controlling_process/2, info/1, close/1]).

-export([init/1, callback_mode/0, idle/3, connected/3]).

-export_type([event/0]).

-type event() :: {goaway, LastStreamId :: non_neg_integer(), Code :: atom() | non_neg_integer()}
               | {closed, normal | closed | {closed, term()} | term()}.

-record(data, {owner :: pid(),
               monitor :: reference(),
               connecting :: gen_statem:from() | undefined,
               connect_timeout :: timeout()}).

%%====================================================================
%% API
%%====================================================================

%% @doc Starts the process of a connection, linked to the caller, its owner. It is not connected yet.
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
                    case gen_statem:start(?MODULE, {self(), Engine, ConnectTimeout}, []) of
                        {ok, Pid} -> {ok, Pid};
                        {error, {shutdown, Reason}} -> {error, Reason};
                        {error, _} = Error -> Error
                    end;
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

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
info(Conn) when is_pid(Conn) ->
    if node(Conn) =:= node() -> hackney_native_nif:client_info(Conn);
       true -> hackney_native_remote:call(Conn, hackney_native_nif, client_info, [Conn])
    end;
info(_) ->
    error(badarg).

%% @doc Closes the connection: its streams are cancelled and end with `closed', the peer gets GOAWAY. The owner has been sent
%% `{h2, Conn, {closed, normal}}' when this returns. `ok' also for a connection that is over.
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
%% gen_statem
%%====================================================================

%% @private
-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

%% @private
-spec init({pid(), map(), timeout()}) -> {ok, idle, #data{}} | {stop, term()}.
init({Owner, Engine, ConnectTimeout}) ->
    process_flag(trap_exit, true),
    link(Owner),
    case hackney_native_nif:client_new(Engine, hackney_native_options:worker_threads()) of
        ok ->
            Monitor = erlang:monitor(process, Owner),
            {ok, idle, #data{owner = Owner, monitor = Monitor, connect_timeout = ConnectTimeout}};
        {error, Reason} ->
            unlink(Owner),
            %% No crash, which would be reported: the caller hears of it.
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
idle(info, {hackney_native_nif, connected}, #data{connecting = From} = Data) ->
    {next_state, connected, Data#data{connecting = undefined}, [{reply, From, ok}]};
idle(info, {hackney_native_nif, {failed, Reason}}, Data) ->
    not_connected({error, Reason}, Data);
idle(info, {hackney_native_nif, {over, Reason}}, #data{connecting = From} = Data) when From =/= undefined ->
    not_connected({error, Reason}, Data);
idle({call, From}, close, #data{connecting = undefined, owner = Owner}) ->
    unlink(Owner),
    {stop_and_reply, normal, [{reply, From, ok}]};
idle({call, From}, close, Data) ->
    {stop_and_reply, normal, Replies} = not_connected({error, closed}, Data),
    {stop_and_reply, normal, [{reply, From, ok} | Replies]};
idle(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

%% The caller hears of it by the reply: an owner that traps exits gets no message of a process it never got to know.
not_connected(Error, #data{owner = Owner, connecting = From}) ->
    unlink(Owner),
    {stop_and_reply, normal, [{reply, From, Error}]}.

%%--------------------------------------------------------------------
%% connected
%%--------------------------------------------------------------------

%% @private
-spec connected(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
connected(info, {hackney_native_nif, {goaway, LastStreamId, Code}}, Data) ->
    tell({goaway, LastStreamId, Code}, Data),
    keep_state_and_data;
connected(info, {hackney_native_nif, {over, Reason}}, Data) ->
    tell({closed, Reason}, Data),
    {stop, normal};
connected({call, From}, close, Data) ->
    ok = close_engine(Data),
    {stop_and_reply, normal, [{reply, From, ok}]};
%% h2_close/1, which does not wait.
connected(cast, close, Data) ->
    ok = close_engine(Data),
    {stop, normal};
connected(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

close_engine(Data) ->
    _ = hackney_native_nif:client_close(self()),
    tell({closed, normal}, Data).

tell(Event, #data{owner = Owner}) ->
    Owner ! {h2, self(), Event},
    ok.

in_any_state(cast, close, #data{owner = Owner}) ->
    unlink(Owner),
    {stop, normal};
in_any_state({call, From}, {controlling_process, NewOwner}, Data) ->
    case node(NewOwner) =/= node() orelse is_process_alive(NewOwner) of
        true -> {keep_state, hand_over(NewOwner, Data), [{reply, From, ok}]};
        false -> {keep_state_and_data, [{reply, From, {error, noproc}}]}
    end;
in_any_state({call, From}, {connect, _}, _Data) ->
    {keep_state_and_data, [{reply, From, {error, already_connected}}]};
in_any_state({call, From}, _Unknown, _Data) ->
    {keep_state_and_data, [{reply, From, {error, badrequest}}]};
in_any_state(info, {'DOWN', Monitor, process, _, _}, #data{monitor = Monitor}) ->
    {stop, normal};
in_any_state(info, {'EXIT', Owner, _}, #data{owner = Owner}) ->
    {stop, normal};
in_any_state(_, _, _) ->
    keep_state_and_data.

hand_over(Owner, #data{owner = Owner} = Data) ->
    Data;
hand_over(NewOwner, #data{owner = OldOwner, monitor = OldMonitor} = Data) ->
    {NewOwner, Monitor} = hackney_native_remote:change_owner(OldOwner, OldMonitor, NewOwner),
    Data#data{owner = NewOwner, monitor = Monitor}.
