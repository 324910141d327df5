%%% @doc One stream to an echo server, through a proxy that can do harm, and the people around it: its owner, an heir, a reader.
%%%
%%% The functions that the commands of {@link prop_h2_stream} call. Each gives an {@link h2_contract:observation()}; what it means
%%% is for the contract to say. A rig belongs to the process that made it.
-module(h2_rig).

-export([world/0, end_world/1, start/1, finish/0, stop/0, stray/0]).
-export([open/1, send/3, send_trailers/0, recv/1, start_reader/1, join_reader/1, kill_reader/0, consume/1, setopts/1,
         hand_over/0, hand_over_to_the_dead/0, owner_dies/1, close/0, info/0, fault/2, resume/0, listen/0]).
-export([max_send_buffer/0, stream/0, connection/0, people/0, heard/0, note/1]).
-export_type([world/0, spec/0]).

%% Servers and proxies, for many rigs one after the other.
-type world() :: #{servers := fault_case:servers(), proxies := #{fault_case:transport() => fault_proxy:proxy()}}.

-type spec() :: #{transport := fault_case:transport(), flow_control := auto | manual, active := boolean() | once | pos_integer(),
                  connect_timeout := pos_integer(), plan := fault_proxy:plan()}.

%% Small, so that windows and buffers fill.
-define(WINDOW, 65535).
-define(MAX_SEND_BUFFER, 100000).
%% When the end must come.
-define(DEADLINE, 10000).
%% When it need not.
-define(SHORT, 300).

-record(rig, {world :: world(),
              owner :: pid(),
              heir :: pid(),
              stream :: pid() | undefined,
              connection :: fault_proxy:connection() | undefined,
              reader :: h2_actor:reader() | undefined,
              flow_control = auto :: auto | manual,
              %% A byte was, or may be, inverted.
              corrupted = false :: boolean(),
              %% Bytes taken, bytes read, bytes given back.
              sent = 0 :: non_neg_integer(),
              got = 0 :: non_neg_integer(),
              consumed = 0 :: non_neg_integer()}).

%% @doc What all rigs share. It must be made by a process that stays.
-spec world() -> world().
world() ->
    Servers = fault_case:servers(#{window => ?WINDOW}),
    World = #{servers => Servers, proxies => maps:from_list([{T, fault_case:proxy(Servers, T)} || T <- [tls, h2c]])},
    %% What is made once and kept, by the engine and by the VM, is there before any rig counts.
    [begin
         ok = start(World),
         #{result := ok} = open(#{transport => T, flow_control => auto, active => false, connect_timeout => ?DEADLINE, plan => []}),
         {complete, _} = finish(),
         ok = stop()
     end || T <- [tls, h2c]],
    World.

%% @doc Ends it.
-spec end_world(world()) -> ok.
end_world(#{servers := Servers, proxies := Proxies}) ->
    lists:foreach(fun fault_proxy:stop/1, maps:values(Proxies)),
    fault_case:stop(Servers).

%% @doc Makes the calling process's rig.
-spec start(world()) -> ok.
start(World) ->
    set(#rig{world = World, owner = h2_actor:start(), heir = h2_actor:start()}).

%% @doc The stream, for what the rig does not know to do.
-spec stream() -> pid() | undefined.
stream() -> (rig())#rig.stream.

%% @doc Its connection in the proxy.
-spec connection() -> fault_proxy:connection() | undefined.
connection() -> (rig())#rig.connection.

%% @doc The owner and the heir.
-spec people() -> {pid(), pid()}.
people() ->
    #rig{owner = Owner, heir = Heir} = rig(),
    {Owner, Heir}.

%% @doc What they were sent, each.
-spec heard() -> [[h2_contract:notice()]].
heard() ->
    #rig{stream = Stream, owner = Owner, heir = Heir} = rig(),
    [h2_actor:notices(Actor, Stream) || Actor <- [Owner, Heir]].

%% @doc What others have done: the bytes that they have sent, read and given back, whether the heir is the owner now, and whether
%% a byte was inverted.
-spec note(#{sent := non_neg_integer(), got := non_neg_integer(), consumed := non_neg_integer(), inherited := boolean(),
             corrupted := boolean()}) -> ok.
note(#{sent := Sent, got := Got, consumed := Consumed, inherited := Inherited, corrupted := Corrupted}) ->
    #rig{owner = Owner, heir = Heir} = Rig = rig(),
    {NewOwner, NewHeir} = case Inherited of true -> {Heir, Owner}; false -> {Owner, Heir} end,
    set(Rig#rig{sent = Sent, got = Got, consumed = Consumed, owner = NewOwner, heir = NewHeir, corrupted = Corrupted}).

%% @doc The send buffer's bound.
-spec max_send_buffer() -> pos_integer().
max_send_buffer() -> ?MAX_SEND_BUFFER.

%% ---- the calls -------------------------------------------------------------------------------

-spec open(spec()) -> h2_contract:observation().
open(#{transport := Transport, flow_control := FlowControl, active := Active, connect_timeout := Timeout, plan := Plan}) ->
    #rig{world = #{servers := Servers, proxies := Proxies}, owner = Owner} = Rig = rig(),
    Proxy = maps:get(Transport, Proxies),
    ok = fault_proxy:plan(Proxy, Plan),
    Options = fault_case:options(Servers, Transport,
                                 [{flow_control, FlowControl}, {active, Active}, {connect_timeout, Timeout},
                                  {initial_window_size, ?WINDOW}, {max_send_buffer, ?MAX_SEND_BUFFER}]),
    Url = fault_case:url(Transport, Proxy, "/echo"),
    {Micros, Opened} = timer:tc(fun() ->
        h2_actor:call(Owner, fun() -> hackney_native:h2_open(Url, [], Options) end)
    end),
    Connection = fault_proxy:accept(Proxy),
    Seen = #{before => [], behind => [], took => Micros div 1000},
    case Opened of
        {ok, Stream} ->
            set(Rig#rig{stream = Stream, connection = Connection, flow_control = FlowControl,
                        corrupted = lists:keymember(corrupt, 3, Plan)}),
            Seen#{result => ok};
        {error, _} ->
            set(Rig#rig{connection = Connection}),
            Seen#{result => Opened}
    end.

-spec send(non_neg_integer(), fin | nofin, default | non_neg_integer()) -> h2_contract:observation().
send(Size, Fin, Block) ->
    #rig{sent = Sent} = rig(),
    Options = case Block of default -> #{}; _ -> #{block => Block} end,
    Data = h2_pattern:at(Sent, Size),
    observe(fun(Stream) -> hackney_native:h2_send(Stream, Data, Fin, Options) end,
            fun(Result, Rig) -> case Result of ok -> Rig#rig{sent = Sent + Size}; _ -> Rig end end).

-spec send_trailers() -> h2_contract:observation().
send_trailers() ->
    observe(fun(Stream) -> hackney_native:h2_send_trailers(Stream, [{<<"x-trailer">>, <<"1">>}]) end).

-spec recv(non_neg_integer()) -> h2_contract:observation().
recv(Timeout) ->
    observe(fun(Stream) -> hackney_native:h2_recv(Stream, Timeout) end, fun note_read/2).

%% @doc With another process as the reader: `waits', or its answer.
-spec start_reader(non_neg_integer()) -> h2_contract:observation().
start_reader(Timeout) ->
    case rig() of
        #rig{stream = undefined} -> no_stream();
        #rig{stream = Stream, owner = Owner} = Rig ->
            Before = h2_actor:notices(Owner, Stream),
            Reader = h2_actor:reader(Stream, Timeout),
            {Result, Took} = case h2_actor:answer(Reader) of
                                 waits -> set(Rig#rig{reader = Reader}), {waits, 0};
                                 Answer -> Answer
                             end,
            Behind = h2_actor:notices(Owner, Stream),
            note_all(Before ++ Behind),
            set(note_read(Result, rig())),
            #{before => Before, result => Result, behind => Behind, took => Took}
    end.

-spec join_reader(non_neg_integer()) -> h2_contract:observation().
join_reader(Timeout) ->
    reader_ends(fun(Reader) -> h2_actor:joined(Reader, min(Timeout, ?SHORT) + ?DEADLINE) end).

-spec kill_reader() -> h2_contract:observation().
kill_reader() ->
    reader_ends(fun(Reader) ->
        ok = nothing_comes(unknown),
        h2_actor:kill_waiting(Reader)
    end).

%% A message that comes in the very moment of the death is lost with the reader, as it may be; nobody could tell then what to expect.
nothing_comes(Before) ->
    case hackney_native:h2_info((rig())#rig.stream) of
        {ok, #{bytes_in := Before}} -> ok;
        {ok, #{bytes_in := Now}} -> receive after 20 -> nothing_comes(Now) end;
        _ -> ok
    end.

reader_ends(How) ->
    case rig() of
        #rig{stream = undefined} -> no_stream();
        #rig{reader = undefined} -> quiet(no_reader);
        #rig{reader = Reader} = Rig ->
            set(Rig#rig{reader = undefined}),
            case How(Reader) of
                killed -> quiet(killed);
                {Result, Took} -> set(note_read(Result, rig())), (quiet(Result))#{took => Took}
            end
    end.

%% @doc Gives back all that was read, half of it, or so many bytes more than that.
-spec consume(all | half | {more, pos_integer()}) -> h2_contract:observation().
consume(HowMuch) ->
    #rig{got = Got, consumed = Consumed} = rig(),
    Left = max(0, Got - Consumed),
    N = case HowMuch of all -> Left; half -> Left div 2; {more, More} -> Left + More end,
    Seen = observe(fun(Stream) -> hackney_native:h2_consume(Stream, N) end,
                   fun(Result, Rig) -> case Result of ok -> Rig#rig{consumed = Consumed + N}; _ -> Rig end end),
    Seen#{bytes => N}.

-spec setopts(boolean() | once | integer()) -> h2_contract:observation().
setopts(Active) ->
    observe(fun(Stream) -> hackney_native:h2_setopts(Stream, [{active, Active}]) end).

%% @doc The heir becomes the owner, and the owner the heir.
-spec hand_over() -> h2_contract:observation().
hand_over() ->
    #rig{heir = Heir, stream = Stream} = rig(),
    Seen = #{result := Result} = observe(fun(S) -> hackney_native:h2_controlling_process(S, Heir) end),
    case Result of
        ok ->
            #rig{owner = Owner} = Rig = rig(),
            set(Rig#rig{owner = Heir, heir = Owner}),
            %% What the old owner was sent came first.
            #{behind := Behind} = Seen,
            Heard = h2_actor:notices(Heir, Stream),
            note_all(Heard),
            Seen#{behind := Behind ++ Heard};
        _ ->
            Seen
    end.

-spec hand_over_to_the_dead() -> h2_contract:observation().
hand_over_to_the_dead() ->
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, _} -> ok end,
    observe(fun(Stream) -> hackney_native:h2_controlling_process(Stream, Dead) end).

%% @doc The owner dies, and the stream's process with it. The heir goes on to ask.
-spec owner_dies(normal | kill) -> h2_contract:observation().
owner_dies(How) ->
    case rig() of
        #rig{stream = undefined} -> no_stream();
        #rig{stream = Stream, owner = Owner, heir = Heir} ->
            Heard = h2_actor:notices(Owner, Stream),
            note_all(Heard),
            ok = h2_actor:dies(Owner, How),
            {Micros, _} = timer:tc(fun() -> h2_case:gone(Stream) end),
            set((rig())#rig{owner = Heir, heir = h2_actor:start()}),
            #{before => Heard, result => gone, behind => [], took => Micros div 1000}
    end.

-spec close() -> h2_contract:observation().
close() ->
    observe(fun hackney_native:h2_close/1).

-spec info() -> h2_contract:observation().
info() ->
    observe(fun hackney_native:h2_info/1).

-spec fault(fault_proxy:direction(), fault_proxy:fault()) -> h2_contract:observation().
fault(Direction, Fault) ->
    #rig{connection = Connection} = rig(),
    observe(fun(_Stream) -> fault_proxy:inject(Connection, Direction, Fault) end,
            fun(_Result, Rig) -> Rig#rig{corrupted = Rig#rig.corrupted orelse Fault =:= corrupt} end).

%% @doc Both directions go on.
-spec resume() -> h2_contract:observation().
resume() ->
    #rig{connection = Connection} = rig(),
    observe(fun(_Stream) -> [ok, ok] = [fault_proxy:inject(Connection, D, resume) || D <- [up, down]], ok end).

%% @doc What the owner has been sent.
-spec listen() -> h2_contract:observation().
listen() ->
    observe(fun(_Stream) -> ok end).

%% ---- the end of a run ------------------------------------------------------------------------

%% @doc Ends our side and reads to the end: whatever was done to the stream before, it ends in an orderly way, with every byte
%% (`complete'), unless it was closed, its owner died, or its connection came to harm: then it is `over' with an error. Only where
%% the length of a record may have come to harm, the end need not come: the other side waits for the rest. Returns which it must
%% be, and the events.
-spec finish() -> {complete | over | any, [h2_contract:event()]}.
finish() ->
    case rig() of
        #rig{stream = undefined} ->
            {any, []};
        #rig{reader = Reader, connection = Connection} ->
            Joined = [{kill_reader, [], kill_reader()} || Reader =/= undefined],
            %% What the owner was sent has to be given back too.
            Resumed = [{resume, [], resume()}, {setopts, [false], setopts(false)}, {consume, [all], consume(all)}],
            Read = end_our_side(),
            Must = case {fault_proxy:harmed(Connection), (rig())#rig.corrupted} of
                       {false, _} -> complete;
                       {true, false} -> over;
                       {true, true} -> any
                   end,
            {Must, Joined ++ Resumed ++ Read}
    end.

%% As soon as there is room for that.
end_our_side() ->
    Seen = send(0, fin, default),
    Sent = {send, [0, fin, default], Seen},
    case Seen of
        #{result := {error, send_buffer_full}} -> [Sent | read_on(fun end_our_side/0)];
        _ -> [Sent | read_on(fun read_to_the_end/0)]
    end.

read_to_the_end() -> read_on(fun read_to_the_end/0).

read_on(Next) -> read_on(Next, ?DEADLINE div ?SHORT).

%% Where a record may come to harm at any time, the wait is a short one, and another while nothing has: what trickles is late.
read_on(Next, Tries) ->
    #rig{corrupted = Corrupted, flow_control = FlowControl, connection = Connection} = rig(),
    Timeout = case Corrupted of true -> ?SHORT; false -> ?DEADLINE end,
    Seen = #{result := Result} = recv(Timeout),
    Event = {recv, [Timeout], Seen},
    case Result of
        {ok, done} -> [Event, {recv, [0], recv(0)}];
        {ok, _} when FlowControl =:= manual -> [Event, {consume, [all], consume(all)} | Next()];
        {ok, _} -> [Event | Next()];
        {error, timeout} when Corrupted, Tries > 1 ->
            case fault_proxy:harmed(Connection) of
                true -> [Event];
                false -> [Event | read_on(Next, Tries - 1)]
            end;
        {error, _} -> [Event]
    end.

%% @doc Closes the stream and lets the people go; the calling process has no rig then. Waits for the stream's process.
-spec stop() -> ok.
stop() ->
    #rig{stream = Stream, connection = Connection} = rig(),
    _ = [begin ok = hackney_native:h2_close(Stream), h2_case:gone(Stream) end || Stream =/= undefined],
    %% A direction that stands still would not see the client go.
    _ = [ok = fault_proxy:inject(Connection, D, resume) || Connection =/= undefined, D <- [up, down]],
    _ = [h2_case:until(fun() -> fault_proxy:is_over(Connection) end) || Connection =/= undefined],
    #rig{owner = Owner, heir = Heir} = rig(),
    [ok, ok] = [h2_actor:dies(Actor, kill) || Actor <- [Owner, Heir]],
    _ = erase(?MODULE),
    ok.

%% @doc What lies where nothing may lie: with the heir, who was handed nothing, and with the owner of a stream that was closed.
-spec stray() -> [h2_contract:notice()].
stray() ->
    lists:append(heard()).

%% ---- the rig ---------------------------------------------------------------------------------

rig() -> get(?MODULE).

set(Rig) ->
    put(?MODULE, Rig),
    ok.

observe(Fun) -> observe(Fun, fun(_Result, Rig) -> Rig end).

observe(Fun, Note) ->
    case rig() of
        #rig{stream = undefined} ->
            no_stream();
        #rig{stream = Stream, owner = Owner} ->
            Seen = #{before := Before, result := Result, behind := Behind} =
                h2_actor:timed(Owner, Stream, fun() -> Fun(Stream) end),
            note_all(Before ++ Behind),
            set(Note(Result, rig())),
            Seen
    end.

no_stream() -> quiet(no_stream).

quiet(Result) -> #{before => [], result => Result, behind => [], took => 0}.

note_all(Notices) ->
    set(lists:foldl(fun({message, Message}, Rig) -> note_read({ok, Message}, Rig); (_, Rig) -> Rig end, rig(), Notices)).

note_read({ok, {data, Data}}, #rig{got = Got} = Rig) -> Rig#rig{got = Got + byte_size(Data)};
note_read(_Result, Rig) -> Rig.
