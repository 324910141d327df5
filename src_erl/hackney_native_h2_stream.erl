%% @doc One full-duplex HTTP/2 stream as a process: `hackney_h2_stream' on a Rust engine.
%%
%% The process stands for the stream's life: it is linked to its owner, can be monitored, supervised and sent to other nodes, and
%% when it ends, however it ends, the stream is cancelled and its connection closed. It is not on the way of the data: {@link send/2},
%% {@link recv/1} and {@link consume/2} go from the caller straight to the engine, and in an active mode the engine posts straight to
%% the owner. Calls from other nodes are carried out on the stream's own node.
%%
%% == Send and receive ==
%% {@link send/2} queues DATA, `fin' half-closes; {@link send_trailers/2} half-closes with trailing HEADERS. {@link recv/2} takes the
%% next of `{informational, Status, Headers}' (if asked for), `{response, Status, Headers}', `{data, Binary}', `{trailers, Headers}',
%% `done'. After `done' it gives `{error, closed}', and so does `send'.
%%
%% == Delivery ==
%% Passive (the default): messages queue up for {@link recv/1}. With `{active, true | once | N}' each goes to the owner as
%% `{hackney_h2, Pid, Msg}', an abnormal end as `{hackney_h2_error, Pid, Reason}', an orderly close by the peer before the stream's end
%% as `{hackney_h2, Pid, {closed, closed}}', and after N messages comes `{hackney_h2_passive, Pid}'.
%%
%% == Flow control ==
%% With `{flow_control, auto}' received bytes are given back to the peer when the reader takes them or the owner is sent them: a
%% passive reader may be as slow as it likes, the peer waits. With `manual' they are given back by {@link consume/2} only.
%%
%% == States ==
%% `idle' (not connected), `connected', `closed' (over; what was received can still be read). A stream that is over and read to its
%% end stops by itself a second later; one that was closed by {@link close/1} stops at once, or a second later at most if there is
%% something left to read.
-module(hackney_native_h2_stream).

-behaviour(gen_statem).

-export([start_link/1, connect/1, connect/2,
         send/2, send/3, send/4, send_trailers/2,
         recv/1, recv/2, consume/2,
         setopts/2, controlling_process/2, info/1, close/1]).

%% For pools.
-export([connect_if_free/2]).

%% For calls from other nodes.
-export([recv_for/3, send_for/5, start_for/2]).

-export([init/1, callback_mode/0, idle/3, connected/3, closed/3]).

-export_type([h2_msg/0, headers/0, send_options/0]).

-type headers() :: [{Name :: binary(), Value :: binary()}].
-type h2_msg() :: {informational, 100..199, headers()}
                | {response, Status :: 200..599, headers()}
                | {data, binary()}
                | {trailers, headers()}
                | done.
-type send_options() :: #{block => timeout()}.

%% How long a stream that is over stays, in milliseconds: for its end to be asked about again, or for what was received before
%% `close/1' to be read.
-define(LINGER, 1000).

-record(data, {owner :: pid(),
               monitor :: reference(),
               connecting :: gen_statem:from() | undefined,
               connect_timeout :: timeout(),
               %% The one it shares with others; else it has its own.
               connection :: pid() | undefined,
               %% close/1 was called.
               closing = false :: boolean()}).

%%====================================================================
%% API
%%====================================================================

%% @doc Starts the process of a stream, linked to the caller, its owner. The stream is not connected yet.
%%
%% Keys of `Options': `host' and `port' (both needed), `method' (`<<"POST">>'), `path' (`<<"/">>'), `headers' (`[]'), `transport'
%% (`hackney_ssl'), and every option of {@link hackney_native:h2_open/4}. Nothing is sent for wrong ones:
%% `{error, {badarg, What}}', `{error, {unsupported_option, Name}}', `{error, {invalid_header, Name}}',
%% `{error, {invalid_method, M}}', `{error, {invalid_request_target, T}}'.
%%
%% With `connection', a {@link hackney_native_h2_connection} instead of `host' and `port', the stream is opened there, on that
%% connection's node; the options of connections are not its own then.
-spec start_link(hackney_native_options:stream() | hackney_native_options:shared_stream()) -> {ok, pid()} | {error, term()}.
start_link(#{connection := Connection} = Options) when is_pid(Connection), node(Connection) =/= node() ->
    hackney_native_remote:call(Connection, ?MODULE, start_for, [self(), Options]);
start_link(Options) ->
    start_for(self(), Options).

%% @private
-spec start_for(pid(), map()) -> {ok, pid()} | {error, term()}.
start_for(Owner, Options) ->
    case hackney_native_nif:status() of
        ok ->
            case hackney_native_options:stream(Options) of
                {ok, Engine, ConnectTimeout} ->
                    %% Linked in init/1: gen_statem would take the exit of a parent for an order to terminate, and a killed
                    %% owner for an error worth a crash report.
                    Connection = maps:get(connection, Options, undefined),
                    case gen_statem:start(?MODULE, {Owner, Engine, ConnectTimeout, Connection}, []) of
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
connect(Pid) ->
    call(Pid, {connect, default}).

%% @doc Connects and opens the stream: look-up, TCP, TLS, the request, and the peer's SETTINGS, all within `Timeout' milliseconds,
%% else `{error, connect_timeout}'. Not until the response. The process stops when it fails. On a shared connection, the time is for
%% waiting until the peer lets one more stream be opened; `{error, unprocessed}' says that the peer takes no more requests and has
%% not looked at this one.
-spec connect(pid(), timeout()) -> ok | {error, term()}.
connect(Pid, Timeout) when Timeout =:= infinity; is_integer(Timeout), Timeout >= 0 ->
    call(Pid, {connect, Timeout});
connect(_, _) ->
    error(badarg).

%% @private On a shared connection, if there is a place: else `{error, full}' at once.
-spec connect_if_free(pid(), timeout()) -> ok | {error, term()}.
connect_if_free(Pid, Timeout) ->
    call(Pid, {connect, {if_free, Timeout}}).

%% @doc Queues DATA. See {@link send/4}.
-spec send(pid(), iodata()) -> ok | {error, term()}.
send(Pid, Data) ->
    send(Pid, Data, nofin).

%% @doc Queues DATA; with `fin', the last. Waits for room as long as the option `send_timeout' says (0). See {@link send/4}.
-spec send(pid(), iodata(), fin | nofin) -> ok | {error, term()}.
send(Pid, Data, Fin) ->
    send_to(Pid, Data, Fin, default).

%% @doc Queues DATA, all of it or nothing. Empty data without `fin' sends no frame.
%%
%% `#{block => Timeout}' waits so many milliseconds for room: `{error, timeout}' after that. Room is when nothing is queued, whatever
%% the size, or no more than `max_send_buffer' bytes (1 MiB) would be queued beyond the peer's window. Errors: `send_buffer_full'
%% (there is no room and the caller does not wait), `stream_closed' (after `fin' or trailers), `closed' (the stream is over),
%% `not_connected'.
-spec send(pid(), iodata(), fin | nofin, send_options()) -> ok | {error, term()}.
send(Pid, Data, Fin, Options) when is_map(Options) ->
    case maps:to_list(Options) of
        [] -> send_to(Pid, Data, Fin, default);
        [{block, T}] when T =:= infinity; is_integer(T), T >= 0 -> send_to(Pid, Data, Fin, {block, T});
        [{block, T}] -> {error, {badarg, {block, T}}};
        Others -> {error, {unsupported_option, hd([Name || {Name, _} <- Others, Name =/= block])}}
    end;
send(_, _, _, _) ->
    error(badarg).

%% @doc Queues trailing HEADERS behind all DATA; they half-close the stream. Errors as in {@link send/4}, and
%% `{invalid_header, Name}'.
-spec send_trailers(pid(), [{hackney_native_headers:name(), hackney_native_headers:value()}]) -> ok | {error, term()}.
send_trailers(Pid, Trailers) when is_pid(Pid) ->
    case hackney_native_headers:trailers(Trailers) of
        {ok, Fields} ->
            Send = case hackney_native_weight:is_large(Fields) of true -> send_many_trailers; false -> send_trailers end,
            hackney_native_remote:nif(Pid, Send, [Pid, Fields]);
        {error, _} = Error ->
            Error
    end;
send_trailers(_, _) ->
    error(badarg).

%% @doc Takes the next message; waits as long as the option `recv_timeout' says (`infinity'). See {@link recv/2}.
-spec recv(pid()) -> {ok, h2_msg()} | {error, term()}.
recv(Pid) ->
    recv_from(Pid, default).

%% @doc Takes the next message; waits for it `Timeout' milliseconds, else `{error, timeout}', by which nothing is lost. A process that
%% is killed while it waits takes at most the message with it that came at that moment.
%%
%% Other errors: `recv_busy' (another process waits), `{active_mode, Mode}', `not_connected', and once everything is read, how the
%% stream ended: `closed' after `done', {@link close/1} or the peer's closing the connection, `{stream_error, Code}' after
%% RST_STREAM, `{goaway, Code}', `{closed, Reason}' when the connection broke, `recv_buffer_overflow'.
-spec recv(pid(), timeout()) -> {ok, h2_msg()} | {error, term()}.
recv(Pid, Timeout) when Timeout =:= infinity; is_integer(Timeout), Timeout >= 0 ->
    recv_from(Pid, Timeout);
recv(_, _) ->
    error(badarg).

%% @doc With `{flow_control, manual}', lets the peer send `N' more bytes, on the stream and on the connection. The WINDOW_UPDATE leaves
%% once it is worth a frame: half of what the peer has left. No more than was received can be given back:
%% `{error, {badarg, {consume, Outstanding}}}'. With `auto', and after the stream's end, it does nothing.
-spec consume(pid(), non_neg_integer()) -> ok | {error, term()}.
consume(Pid, N) when is_pid(Pid), is_integer(N), N >= 0 ->
    hackney_native_remote:nif(Pid, consume, [Pid, N]);
consume(_, _) ->
    error(badarg).

%% @doc Sets the delivery mode: `[{active, true | false | once | N}]'. What is queued goes to the owner at once, in order, as far as
%% the mode allows. `N', -32768 to 32767, is added to what is left of an earlier `N'; at zero the stream turns passive and the owner
%% gets `{hackney_h2_passive, Pid}'. Anything else: `{error, badarg}'.
-spec setopts(pid(), [{active, boolean() | once | -32768..32767}]) -> ok | {error, badarg | closed | term()}.
setopts(Pid, []) when is_pid(Pid) ->
    ok;
setopts(Pid, [{active, Active}]) when is_pid(Pid), is_boolean(Active) orelse Active =:= once orelse
                                      is_integer(Active) andalso Active >= -32768 andalso Active =< 32767 ->
    hackney_native_remote:nif(Pid, set_active, [Pid, Active]);
setopts(Pid, _) when is_pid(Pid) ->
    {error, badarg};
setopts(_, _) ->
    error(badarg).

%% @doc Makes `NewOwner' the owner: it gets the link and what is delivered from now on. It may live on another node. What the old owner
%% was sent already stays with it. `{error, noproc}' when `NewOwner' is dead.
-spec controlling_process(pid(), pid()) -> ok | {error, term()}.
controlling_process(Pid, NewOwner) when is_pid(NewOwner) ->
    call(Pid, {controlling_process, NewOwner});
controlling_process(_, _) ->
    error(badarg).

%% @doc What is known of the stream. Always: `state' (`idle', `connected', `closed'), `recv_queue_bytes', `recv_queue_messages',
%% `recv_waiting' (whether a process waits in {@link recv/2}), `send_queue_bytes' (beyond the peer's window). Once connected also: `stream_id', `peer' and `local' (`{Address, Port}'), `alpn',
%% `tls_version', `tls_cipher', `tls_resumed', `peer_certificate' (DER), `send_window' and `connection_send_window' (bytes that the
%% peer lets us send), `recv_window' (bytes that it may send), `bytes_in' and `bytes_out' (on the connection, HTTP/2 frames
%% included), `rtt_us' (round-trip time in microseconds), `goaway' (`{LastStreamId, Code}'). `undefined' is what is not known.
-spec info(pid()) -> {ok, map()} | {error, term()}.
info(Pid) ->
    hackney_native_remote:nif(Pid, info, [Pid]).

%% @doc Cancels the stream if it still runs (RST_STREAM, CANCEL) and closes its connection. Does not wait for it. Nothing is delivered
%% once it has returned; what a passive stream had received can still be read.
-spec close(pid()) -> ok.
close(Pid) when is_pid(Pid) ->
    _ = node(Pid) =:= node() andalso hackney_native_nif:close(Pid),
    gen_statem:cast(Pid, close);
close(_) ->
    error(badarg).

%%====================================================================
%% Sending and receiving: in the caller's process
%%====================================================================

send_to(Pid, Data, Fin, Patience) when is_pid(Pid), Fin =:= fin orelse Fin =:= nofin ->
    if node(Pid) =:= node() -> send_for(undefined, Pid, Data, Fin, Patience);
       true -> hackney_native_remote:call(Pid, ?MODULE, send_for, [self(), Pid, Data, Fin, Patience])
    end;
send_to(_, _, _, _) ->
    error(badarg).

%% @private
-spec send_for(pid() | undefined, pid(), iodata(), fin | nofin, default | {block, timeout()}) -> ok | {error, term()}.
send_for(Caller, Pid, Data, Fin, Patience) when is_binary(Data) ->
    send_queued(Caller, Pid, send, Data, Fin, Patience);
send_for(Caller, Pid, Data, Fin, Patience) ->
    %% The engine is given binaries only: walking a long list takes the VM's own, interruptible functions.
    case erlang:iolist_to_iovec(Data) of
        [] -> send_queued(Caller, Pid, send, <<>>, Fin, Patience);
        [Binary] -> send_queued(Caller, Pid, send, Binary, Fin, Patience);
        Binaries when length(Binaries) =< 64 -> send_queued(Caller, Pid, send, Binaries, Fin, Patience);
        Binaries -> send_queued(Caller, Pid, send_many, Binaries, Fin, Patience)
    end.

send_queued(Caller, Pid, Send, Data, Fin, Patience) ->
    case hackney_native_nif:Send(Pid, Data, Fin) of
        {wait, SendTimeout} ->
            case Patience of
                default when SendTimeout =:= 0 -> {error, send_buffer_full};
                default -> await_room(watch(Caller), Pid, Send, Data, Fin, deadline(SendTimeout));
                {block, Timeout} -> await_room(watch(Caller), Pid, Send, Data, Fin, deadline(Timeout))
            end;
        Result ->
            Result
    end.

await_room(Watch, Pid, Send, Data, Fin, Deadline) ->
    Ref = make_ref(),
    case hackney_native_nif:await_room(Pid, iolist_size(Data), Ref) of
        wait ->
            case await(Watch, Pid, Ref, Deadline) of
                ready -> retry_send(Watch, Pid, Send, Data, Fin, Deadline);
                timeout -> {error, timeout}
            end;
        ready ->
            retry_send(Watch, Pid, Send, Data, Fin, Deadline);
        {error, _} = Error ->
            Error
    end.

retry_send(Watch, Pid, Send, Data, Fin, Deadline) ->
    case hackney_native_nif:Send(Pid, Data, Fin) of
        {wait, _} -> await_room(Watch, Pid, Send, Data, Fin, Deadline);
        Result -> Result
    end.

recv_from(Pid, Timeout) when is_pid(Pid) ->
    if node(Pid) =:= node() -> recv_for(undefined, Pid, Timeout);
       true -> hackney_native_remote:call(Pid, ?MODULE, recv_for, [self(), Pid, Timeout])
    end;
recv_from(_, _) ->
    error(badarg).

%% @private
-spec recv_for(pid() | undefined, pid(), timeout() | default) -> {ok, h2_msg()} | {error, term()}.
recv_for(Caller, Pid, Timeout) ->
    Name = name(Caller),
    case look(Pid, Name) of
        {wait, RecvTimeout} ->
            Deadline = deadline(case Timeout of default -> RecvTimeout; _ -> Timeout end),
            await_message(Caller, watch(Caller), Pid, Name, Deadline);
        Result ->
            Result
    end.

%% By a number, the engine may hand over the message itself; by a reference, it is told where to look, as nothing may be taken for a
%% caller on another node that is gone.
name(undefined) -> erlang:unique_integer();
name(_Caller) -> make_ref().

%% The engine asks to look again, a tenth of a millisecond at most, when answers have been coming quickly.
look(Pid, Ref) ->
    case hackney_native_nif:recv(Pid, Ref) of
        again ->
            erlang:yield(),
            look(Pid, Ref);
        many ->
            look_at_many(Pid, Ref);
        Result ->
            Result
    end.

look_at_many(Pid, Ref) ->
    case hackney_native_nif:recv_many(Pid, Ref) of
        %% Another reader was quicker.
        again -> look(Pid, Ref);
        Result -> Result
    end.

await_message(Caller, Watch, Pid, Name, Deadline) ->
    case await(Watch, Pid, Name, Deadline) of
        {ok, _} = Handed ->
            Handed;
        ready ->
            Next = name(Caller),
            case look(Pid, Next) of
                {wait, _} -> await_message(Caller, Watch, Pid, Next, Deadline);
                Result -> Result
            end;
        timeout ->
            {error, timeout}
    end.

%% Waits for the engine's word, which always comes: when there is something, and when the stream ends.
await(Watch, Pid, Ref, Deadline) ->
    receive
        {hackney_native, Ref, Msg} -> {ok, Msg};
        {hackney_native, Ref} -> ready;
        {'DOWN', Watch, process, _, _} -> give_up(Pid, Ref)
    after remaining(Deadline) ->
        give_up(Pid, Ref)
    end.

give_up(Pid, Ref) ->
    case hackney_native_nif:stop_waiting(Pid) of
        true ->
            timeout;
        _ ->
            %% The word was given already: it is here, or will be in a moment. It must not stay behind in the mailbox.
            receive
                {hackney_native, Ref, Msg} -> {ok, Msg};
                {hackney_native, Ref} -> ready
            after 1000 -> timeout
            end
    end.

%% A caller on another node, for whom this process waits: no message must be taken for it once it is gone.
watch(undefined) -> undefined;
watch(Caller) -> erlang:monitor(process, Caller).

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

call(Pid, Request) when is_pid(Pid) ->
    hackney_native_remote:statem_call(Pid, Request);
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
-spec init({pid(), map(), timeout(), pid() | undefined}) -> {ok, idle, #data{}} | {stop, term()}.
init({Owner, Engine, ConnectTimeout, Connection}) ->
    process_flag(trap_exit, true),
    link(Owner),
    case new(hackney_native_remote:post_to(Owner), Engine) of
        ok ->
            Monitor = erlang:monitor(process, Owner),
            {ok, idle, #data{owner = Owner, monitor = Monitor, connect_timeout = ConnectTimeout, connection = Connection}};
        {error, Reason} ->
            unlink(Owner),
            %% No crash, which would be reported: the caller hears of it.
            {stop, {shutdown, Reason}}
    end.

%% What takes the engine longer than a scheduler can be kept goes to a dirty one: many certificates or header fields, and starting
%% its threads.
new(Owner, Engine) ->
    case hackney_native_weight:is_large(Engine) orelse hackney_native_nif:new(Owner, Engine) of
        Later when Later =:= true; Later =:= again ->
            hackney_native_nif:new_many(Owner, Engine, hackney_native_options:worker_threads());
        Result ->
            Result
    end.

%%--------------------------------------------------------------------
%% idle: not connected, or connecting
%%--------------------------------------------------------------------

%% @private
-spec idle(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
idle({call, From}, {connect, _}, #data{connecting = Busy}) when Busy =/= undefined ->
    {keep_state_and_data, [{reply, From, {error, already_connected}}]};
idle({call, From}, {connect, Timeout0}, #data{connect_timeout = Default, connection = Connection} = Data0) ->
    Timeout = case Timeout0 of default -> Default; _ -> Timeout0 end,
    Data = Data0#data{connecting = From},
    case connect_engine(Connection, Timeout) of
        Later when Later =:= ok; Later =:= wait -> {keep_state, Data};
        opened -> opened(Data);
        {error, _} = Error -> not_opened(Error, Data)
    end;
idle(info, {hackney_native_nif, opened}, Data) ->
    opened(Data);
idle(info, {hackney_native_nif, {failed, Reason}}, Data) ->
    not_opened({error, Reason}, Data);
idle(cast, close, #data{connecting = undefined}) ->
    {stop, normal};
idle(cast, close, Data) ->
    not_opened({error, closed}, Data);
idle({call, From}, {controlling_process, _}, _Data) ->
    {keep_state_and_data, [{reply, From, {error, not_connected}}]};
idle(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

connect_engine(undefined, Timeout) -> hackney_native_nif:connect(Timeout);
connect_engine(Connection, {if_free, Timeout}) -> hackney_native_nif:connect_on(Connection, Timeout, false);
connect_engine(Connection, Timeout) -> hackney_native_nif:connect_on(Connection, Timeout, true).

opened(#data{connecting = From} = Data) ->
    {next_state, connected, Data#data{connecting = undefined}, [{reply, From, ok}]}.

%% The caller hears of it by the reply: an owner that traps exits gets no message of a process it never got to know.
not_opened(Error, #data{owner = Owner, connecting = From}) ->
    unlink(Owner),
    {stop_and_reply, normal, [{reply, From, Error}]}.

%%--------------------------------------------------------------------
%% connected
%%--------------------------------------------------------------------

%% @private
-spec connected(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
connected(cast, close, Data) ->
    user_closed(Data);
connected(info, {hackney_native_nif, ended}, Data) ->
    {next_state, closed, Data};
connected(info, {hackney_native_nif, drained}, Data) ->
    %% The reader was faster than the connection's own end.
    {next_state, closed, Data, [{state_timeout, ?LINGER, linger}]};
connected(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

%%--------------------------------------------------------------------
%% closed: over; what was received can still be read
%%--------------------------------------------------------------------

%% @private
-spec closed(gen_statem:event_type(), term(), #data{}) -> gen_statem:event_handler_result(atom()).
closed(cast, close, Data) ->
    user_closed(Data);
closed(info, {hackney_native_nif, drained}, #data{closing = true}) ->
    {stop, normal};
closed(info, {hackney_native_nif, drained}, _Data) ->
    {keep_state_and_data, [{state_timeout, ?LINGER, linger}]};
closed(state_timeout, linger, _Data) ->
    {stop, normal};
closed(EventType, Event, Data) ->
    in_any_state(EventType, Event, Data).

%% Called from another node, close/1 has not been to the engine yet, which does not mind being told twice.
user_closed(Data) ->
    _ = hackney_native_nif:close(self()),
    case hackney_native_nif:info(self()) of
        {ok, #{recv_queue_messages := N}} when N > 0 ->
            {next_state, closed, Data#data{closing = true}, [{state_timeout, ?LINGER, linger}]};
        _ ->
            {stop, normal}
    end.

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
in_any_state(info, Message, #data{owner = Owner}) when node(Owner) =/= node() ->
    relay(Message, Owner);
in_any_state(_, _, _) ->
    keep_state_and_data.

%% The engine posts to local processes only: for an owner on another node this process passes its messages on.
relay(Message, Owner) when element(1, Message) =:= hackney_h2;
                           element(1, Message) =:= hackney_h2_error;
                           element(1, Message) =:= hackney_h2_passive ->
    Owner ! Message,
    keep_state_and_data;
relay(_, _) ->
    keep_state_and_data.

hand_over(Owner, #data{owner = Owner} = Data) ->
    Data;
hand_over(NewOwner, #data{owner = OldOwner, monitor = OldMonitor} = Data) ->
    _ = hackney_native_nif:set_owner(self(), hackney_native_remote:post_to(NewOwner)),
    {NewOwner, Monitor} = hackney_native_remote:change_owner(OldOwner, OldMonitor, NewOwner),
    Data#data{owner = NewOwner, monitor = Monitor}.
