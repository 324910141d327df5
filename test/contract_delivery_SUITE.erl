%%% @doc Section 2 of the contract: how messages are delivered, and whose a stream is.
-module(contract_delivery_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [open/0, open/1, respond/1, recv/1, drain/1, active/1, silent/1, gone/1,
                  until/1, is_bad/1, concurrently/1, result/1, queued/2, ended/1, stream_options/1, reason/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, passive}, {group, active}, {group, ownership}].

groups() ->
    [{passive, [parallel],
      [passive_keeps_order, timeout_loses_nothing, stale_timer, zero_timeout, killed_waiter,
       recv_in_active_modes]},
     {active, [parallel],
      [active_true_from_the_start, switch_to_true_flushes, active_once, once_takes_from_the_queue,
       back_to_passive, readers_take_nothing_from_the_owner, abnormal_end_is_told,
       plain_close_is_told, nothing_after_close, nothing_after_close_by_a_later_switch]},
     {ownership, [parallel],
      [others_may_use_it, controlling_process_moves_delivery, controlling_process_moves_the_link,
       controlling_process_checks, owners_death_when_idle, owners_death_while_connecting,
       owners_death_when_connected, owners_death_when_half_closed, owners_death_after_the_end,
       normal_exit_of_the_owner, supervised_and_monitored]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- passive ------------------------------------------------------------------------------

passive_keeps_order(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    Pieces = [integer_to_binary(N) || N <- lists:seq(1, 500)],
    _ = raw_peer:run(Conn, [{data, 1, Piece} || Piece <- Pieces]
                           ++ [{headers, 1, [{<<"t">>, <<"1">>}], fin}]),
    ?assertEqual([{response, 200, []}, {data, iolist_to_binary(Pieces)},
                  {trailers, [{<<"t">>, <<"1">>}]}, done, {error, closed}], drain(Stream)).

timeout_loses_nothing(_Config) ->
    {Stream, Conn} = open(),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 20)),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    %% Race the timeout against the message, many times over.
    Got = [begin
               raw_peer:tell(Conn, N),
               [ok, ok] = raw_peer:run(Conn, [{wait, N}, {data, 1, <<N:16>>}]),
               case hackney_native:h2_recv(Stream, N rem 3) of
                   {ok, {data, Data}} -> Data;
                   {error, timeout} -> <<>>
               end
           end || N <- lists:seq(1, 300)],
    [ok] = raw_peer:run(Conn, [{data, 1, <<"end">>, fin}]),
    [{data, Rest}, done, {error, closed}] = drain(Stream),
    ?assertEqual(<< (<< <<N:16>> || N <- lists:seq(1, 300) >>)/binary, "end" >>,
                 iolist_to_binary([Got, Rest])),
    silent(Stream).

%% A timer of an answered or timed-out recv must not end a later one.
stale_timer(_Config) ->
    {Stream, Conn} = open(),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 50)),
    First = concurrently(fun() -> hackney_native:h2_recv(Stream, 100) end),
    h2_case:reader_waits(Stream),
    respond(Conn),
    ?assertEqual({ok, {response, 200, []}}, result(First)),
    Second = concurrently(fun() -> hackney_native:h2_recv(Stream, infinity) end),
    h2_case:reader_waits(Stream),
    %% 200 ms later the first timer would have fired.
    ?assertEqual({error, recv_busy}, hackney_native:h2_recv(Stream, 0)),
    receive after 200 -> ok end,
    [ok] = raw_peer:run(Conn, [{data, 1, <<"in time">>}]),
    ?assertEqual({ok, {data, <<"in time">>}}, result(Second)).

zero_timeout(_Config) ->
    {Stream, Conn} = open(),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 0)),
    respond(Conn),
    until(fun() -> {ok, {response, 200, []}} =:= hackney_native:h2_recv(Stream, 0) end).

killed_waiter(_Config) ->
    {Stream, Conn} = open(),
    {Waiter, Monitor} = concurrently(fun() -> hackney_native:h2_recv(Stream) end),
    h2_case:reader_waits(Stream),
    exit(Waiter, kill),
    receive {'DOWN', Monitor, process, Waiter, killed} -> ok end,
    %% The next reader may come before the message and after it.
    Next = concurrently(fun() -> hackney_native:h2_recv(Stream) end),
    h2_case:reader_waits(Stream),
    respond(Conn),
    ?assertEqual({ok, {response, 200, []}}, result(Next)),
    {Other, OtherMonitor} = concurrently(fun() -> hackney_native:h2_recv(Stream) end),
    h2_case:reader_waits(Stream),
    exit(Other, kill),
    receive {'DOWN', OtherMonitor, process, Other, killed} -> ok end,
    [ok] = raw_peer:run(Conn, [{data, 1, <<"not lost">>}]),
    ?assertEqual({data, <<"not lost">>}, recv(Stream)).

recv_in_active_modes(_Config) ->
    {Stream, _Conn} = open(),
    [begin
         ok = hackney_native:h2_setopts(Stream, [{active, Mode}]),
         ?assertEqual({error, {active_mode, Mode}}, hackney_native:h2_recv(Stream, 10))
     end || Mode <- [true, once]],
    ok = hackney_native:h2_setopts(Stream, [{active, false}]),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 0)).

%% ---- active -------------------------------------------------------------------------------

active_true_from_the_start(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, {headers, 1, [{<<"t">>, <<"1">>}], fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}, {trailers, [{<<"t">>, <<"1">>}]}, done],
                 [active(Stream) || _ <- lists:seq(1, 4)]),
    gone(Stream),
    silent(Stream).

switch_to_true_flushes(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    _ = raw_peer:run(Conn, [{data, 1, <<N>>} || N <- lists:seq(1, 100)] ++ [barrier]),
    queued(Stream, 100),
    ok = hackney_native:h2_setopts(Stream, [{active, true}]),
    %% What came before the switch stands before what comes after it.
    [ok] = raw_peer:run(Conn, [{data, 1, <<101>>, fin}]),
    ?assertEqual({response, 200, []}, active(Stream)),
    ?assertEqual(list_to_binary(lists:seq(1, 101)), active_body(Stream)).

active_body(Stream) ->
    case active(Stream) of
        {data, Data} -> <<Data/binary, (active_body(Stream))/binary>>;
        done -> <<>>
    end.

active_once(_Config) ->
    {Stream, Conn} = open([{active, once}]),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, barrier]),
    ?assertEqual({response, 200, []}, active(Stream)),
    silent(Stream),
    %% It is passive now.
    ?assertEqual({data, <<"x">>}, recv(Stream)),
    ok = hackney_native:h2_setopts(Stream, [{active, once}]),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"y">>, fin}]),
    ?assertEqual({data, <<"y">>}, active(Stream)),
    ok = hackney_native:h2_setopts(Stream, [{active, once}]),
    ?assertEqual(done, active(Stream)),
    silent(Stream).

once_takes_from_the_queue(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, barrier]),
    queued(Stream, 1),
    ok = hackney_native:h2_setopts(Stream, [{active, once}]),
    ?assertEqual({response, 200, []}, active(Stream)),
    silent(Stream),
    ?assertEqual({data, <<"x">>}, recv(Stream)).

back_to_passive(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    respond(Conn),
    ?assertEqual({response, 200, []}, active(Stream)),
    ok = hackney_native:h2_setopts(Stream, [{active, false}]),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}]),
    ?assertEqual([{data, <<"x">>}, done, {error, closed}], drain(Stream)),
    silent(Stream).

%% All is there, the end too, and on its way to the owner: a reader that comes just now finds nothing of it.
readers_take_nothing_from_the_owner(_Config) ->
    [begin
         {Stream, Conn} = open(),
         respond(Conn),
         [ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}]),
         until(fun() -> {ok, #{recv_queue_messages := N}} = hackney_native:h2_info(Stream), N =:= 3 end),
         ok = hackney_native:h2_setopts(Stream, [{active, true}]),
         Early = hackney_native:h2_recv(Stream, 0),
         ?assert(lists:member(Early, [{error, {active_mode, true}}, {error, closed}]), Early),
         ?assertEqual([{response, 200, []}, {data, <<"x">>}, done], [active(Stream) || _ <- [1, 2, 3]])
     end || _ <- lists:seq(1, 20)].

abnormal_end_is_told(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{rst, 1, refused_stream}]),
    ?assertEqual([{response, 200, []}, {error, {stream_error, refused_stream}}],
                 [active(Stream), active(Stream)]),
    %% Told once, and by a message only: the stream's process ends as processes should.
    ?assertEqual(normal, reason(gone(Stream))),
    silent(Stream).

plain_close_is_told(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    respond(Conn),
    ?assertEqual({response, 200, []}, active(Stream)),
    [ok] = raw_peer:run(Conn, [close]),
    ?assertEqual({closed, closed}, active(Stream)),
    gone(Stream),
    silent(Stream).

%% What a passive stream had received stays for readers: a switch does not send it to the owner.
nothing_after_close_by_a_later_switch(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    until(fun() -> {ok, #{recv_queue_messages := N}} = hackney_native:h2_info(Stream), N =:= 1 end),
    ok = hackney_native:h2_close(Stream),
    [?assertEqual({error, closed}, hackney_native:h2_setopts(Stream, [{active, Active}])) || Active <- [true, once, 1, -1, false]],
    ?assertEqual([{response, 200, []}, {error, closed}], drain(Stream)),
    _ = gone(Stream),
    silent(Stream).

nothing_after_close(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    respond(Conn),
    ?assertEqual({response, 200, []}, active(Stream)),
    ok = hackney_native:h2_close(Stream),
    silent(Stream),
    _ = raw_peer:expect(Conn, closed),
    gone(Stream),
    silent(Stream).

%% ---- ownership ----------------------------------------------------------------------------

others_may_use_it(_Config) ->
    {Stream, Conn} = open(),
    ok = result(concurrently(fun() -> hackney_native:h2_send(Stream, <<"theirs">>) end)),
    #{data := <<"theirs">>} = raw_peer:expect(Conn, data),
    respond(Conn),
    ?assertEqual({ok, {response, 200, []}},
                 result(concurrently(fun() -> hackney_native:h2_recv(Stream) end))).

controlling_process_moves_delivery(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    respond(Conn),
    ?assertEqual({response, 200, []}, active(Stream)),
    New = concurrently(fun() -> [active(Stream), active(Stream)] end),
    ok = hackney_native:h2_controlling_process(Stream, element(1, New)),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"yours">>, fin}]),
    ?assertEqual([{data, <<"yours">>}, done], result(New)),
    silent(Stream).

controlling_process_moves_the_link(_Config) ->
    {Stream, Conn} = open(),
    {New, Monitor} = spawn_monitor(fun() -> receive stop -> ok end end),
    ok = hackney_native_h2_stream:controlling_process(Stream, New),
    {links, Links} = process_info(self(), links),
    ?assertNot(lists:member(Stream, Links)),
    {links, NewLinks} = process_info(New, links),
    ?assert(lists:member(Stream, NewLinks)),
    New ! stop,
    receive {'DOWN', Monitor, process, New, normal} -> ok end,
    #{code := cancel} = raw_peer:expect(Conn, rst_stream),
    gone(Stream).

controlling_process_checks(_Config) ->
    {Stream, _Conn} = open(),
    ?assert(is_bad(fun() -> hackney_native:h2_controlling_process(Stream, not_a_pid) end)),
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, _} -> ok end,
    ?assertEqual({error, noproc}, hackney_native:h2_controlling_process(Stream, Dead)),
    ok = hackney_native:h2_send(Stream, <<"still there">>).

owners_death_when_idle(_Config) ->
    Peer = raw_peer:start(),
    Stream = orphan(fun() -> hackney_native_h2_stream:start_link(stream_options(Peer)) end),
    gone(Stream),
    ?assertEqual(0, raw_peer:connections(Peer)).

owners_death_while_connecting(_Config) ->
    Peer = raw_peer:start(#{script => []}),
    {Owner, Monitor} = concurrently(fun() -> h2_open(Peer) end),
    Conn = raw_peer:accept(Peer),
    _ = raw_peer:expect(Conn, headers),
    {links, [Stream]} = process_info(Owner, links),
    exit(Owner, kill),
    receive {'DOWN', Monitor, process, Owner, killed} -> ok end,
    _ = raw_peer:expect(Conn, closed),
    gone(Stream).

owners_death_when_connected(_Config) ->
    owners_death(fun(_Stream, _Conn) -> ok end, cancelled).

owners_death_when_half_closed(_Config) ->
    owners_death(fun(Stream, Conn) ->
                     ok = hackney_native:h2_send(Stream, <<"all">>, fin),
                     ended(Conn),
                     respond(Conn)
                 end, cancelled).

owners_death_after_the_end(_Config) ->
    owners_death(fun(Stream, Conn) ->
                     ok = hackney_native:h2_send(Stream, <<"all">>, fin),
                     ended(Conn),
                     respond(Conn),
                     [ok] = raw_peer:run(Conn, [{data, 1, <<"unread">>, fin}]),
                     until(fun() ->
                         {ok, #{state := State}} = hackney_native:h2_info(Stream),
                         State =:= closed
                     end)
                 end, over).

normal_exit_of_the_owner(_Config) ->
    Peer = raw_peer:start(),
    Stream = orphan(fun() -> h2_open(Peer) end),
    Conn = raw_peer:accept(Peer),
    #{code := cancel} = raw_peer:expect(Conn, rst_stream),
    _ = raw_peer:expect(Conn, closed),
    gone(Stream).

supervised_and_monitored(_Config) ->
    Peer = raw_peer:start(),
    {Supervisor, SupervisorMonitor} = spawn_monitor(fun() ->
        {ok, Sup} = supervisor:start_link(h2_case_sup, stream_options(Peer)),
        [{_, Stream, _, _}] = supervisor:which_children(Sup),
        exit({result, begin
                          ok = hackney_native_h2_stream:connect(Stream),
                          ok = supervisor:terminate_child(Sup, stream),
                          is_process_alive(Stream)
                      end})
    end),
    receive {'DOWN', SupervisorMonitor, process, Supervisor, Reason} ->
        ?assertEqual({result, false}, Reason)
    end,
    Conn = raw_peer:accept(Peer),
    _ = raw_peer:expect(Conn, closed).

%% ---- helpers ---------------------------------------------------------------------------------

h2_open(Peer) ->
    hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer)).

%% A stream whose owner has come to its end.
orphan(Start) ->
    {Owner, Monitor} = spawn_monitor(fun() -> {ok, S} = Start(), exit({made, S}) end),
    receive
        {'DOWN', Monitor, process, Owner, {made, Stream}} -> Stream;
        {'DOWN', Monitor, process, Owner, Reason} -> error(Reason)
    end.

%% `Expected' is `over' where both sides had ended and nothing was left to cancel.
owners_death(Prepare, Expected) ->
    Peer = raw_peer:start(),
    Test = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        {ok, S} = h2_open(Peer),
        Test ! {opened, S},
        receive never -> ok end
    end),
    Stream = receive {opened, S} -> S; {'DOWN', Monitor, _, _, Reason} -> error(Reason) end,
    Conn = raw_peer:accept(Peer),
    _ = raw_peer:expect(Conn, headers),
    Prepare(Stream, Conn),
    exit(Owner, kill),
    receive {'DOWN', Monitor, process, Owner, killed} -> ok end,
    _ = raw_peer:expect(Conn, closed),
    Resets = [Code || #{type := rst_stream, code := Code} <- raw_peer:transcript(Conn)],
    ?assertEqual(case Expected of cancelled -> [cancel]; over -> [] end, Resets),
    gone(Stream).
