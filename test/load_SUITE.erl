%%% @doc Many streams at a time, and owners that are killed whatever their stream is doing.
%%%
%%% `LOAD_STREAMS' and `LOAD_SECONDS' in the environment set how many streams talk for how long.
-module(load_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2]).
-export([many_streams/1]).
-export([idle/1, reading_files/1, looking_up/1, connecting/1, in_handshake/1, before_settings/1, connected/1, active/1, half_closed/1,
         half_closed_by_the_peer/1, sender_waits/1, socket_full/1, reader_waits/1, unread_end/1, draining/1]).

-define(MB, 1048576).
%% From the owner's death until nothing is left.
-define(SOON, 1000).
%% `CLOSE_GRACE' of `native/engine/src/h2/open.rs'.
-define(GRACE, 1000).
%% `MAX_BLOCKING_THREADS' of `native/engine/src/runtime.rs'.
-define(BLOCKING_THREADS, 16).

suite() -> [{timetrap, {minutes, 30}}].

all() -> [many_streams, {group, owner_killed}].

groups() ->
    [{owner_killed, [],
      [idle, reading_files, looking_up, connecting, in_handshake, before_settings, connected, active, half_closed,
       half_closed_by_the_peer, sender_waits, socket_full, reader_waits, unread_end, draining]}].

%% Nothing of other suites is left: servers go with the application.
init_per_suite(Config) ->
    _ = application:stop(hackney_native),
    h2_case:start(),
    %% Makes what is made once, and kept.
    {Stream, _} = h2_case:open(),
    ok = hackney_native:h2_close(Stream),
    Config.

end_per_suite(_Config) -> ok.

%% What the test before left is on its way out: figures that fall on their own would tell nothing.
init_per_testcase(_Case, Config) ->
    h2_case:until(fun() -> lists:sum(maps:values(held())) =:= 0 end),
    Config.

%% ---- many at a time ------------------------------------------------------------------------------

many_streams(_Config) ->
    Streams = number("LOAD_STREAMS", 1000),
    Seconds = number("LOAD_SECONDS", 10),
    Node = stream_load:start_node(),
    Report = peer:call(Node, stream_load, run, [Streams, Seconds], infinity),
    peer:stop(Node),
    #{before := Before, 'after' := After, samples := Samples, messages := Messages, bytes := Bytes} = Report,
    ct:pal("~b streams, open after ~b ms, ~b messages and ~b MB each way in ~b s~nbefore ~p~nfirst  ~p~nlast   ~p~nafter  ~p~n"
           "resident MiB ~w",
           [Streams, maps:get(opened_in_ms, Report), Messages, Bytes div ?MB, Seconds, Before, hd(Samples), lists:last(Samples),
            After, [maps:get(rss, Sample) div ?MB || Sample <- Samples]]),
    ?assert(Messages > Streams),
    [?assertMatch(#{streams := Streams, connections := Streams}, Sample) || Sample <- Samples],
    %% While they talk nothing is added: neither a descriptor nor a process, and no atom, or there would be one for each stream or
    %% message. The VM itself comes and goes by a few.
    {Warm, Late} = {lists:nth(length(Samples) div 2, Samples), lists:last(Samples)},
    flat([{fds, 4}, {processes, 8}, {ports, 2}, {atoms, 50}, {tasks, 50}, {threads, 0}], Warm, Late),
    %% Memory comes and goes with what is under way. A leak of 16 bytes a message would show in a nightly run, of a million
    %% messages in a third of it.
    Third = length(Samples) div 3,
    Growth = mean(rss, lists:nthtail(2 * Third, Samples)) - mean(rss, lists:sublist(Samples, Third + 1, Third)),
    ?assert(Growth < 16 * ?MB, {grown_by, Growth}),
    %% Afterwards it is as if they had never been.
    flat([{fds, 4}, {processes, 8}, {ports, 2}, {atoms, 50}, {streams, 0}, {connections, 0}, {tasks, 0}, {recv_queue_bytes, 0},
          {send_queue_bytes, 0}], Before, After).

flat(Slacks, Before, After) ->
    [?assert(maps:get(Key, After) =< maps:get(Key, Before) + Slack, {Key, maps:get(Key, Before), maps:get(Key, After)})
     || {Key, Slack} <- Slacks],
    ok.

mean(Key, Samples) ->
    lists:sum([maps:get(Key, Sample) || Sample <- Samples]) div length(Samples).

number(Variable, Default) ->
    list_to_integer(os:getenv(Variable, integer_to_list(Default))).

%% ---- owners killed -------------------------------------------------------------------------------

%% Only made.
idle(_Config) ->
    killed(fun(_) -> {ok, _} = hackney_native_h2_stream:start_link(#{host => <<"localhost">>, port => 1}) end, peer(#{})).

%% A file that does not come: a pipe that nobody writes to.
reading_files(Config) ->
    Pipe = pipe(Config),
    killed_while_opening(peer(#{}), [{ssl_options, [{cacertfile, Pipe}]}], fun() -> ok end),
    release(Pipe).

%% A name that is not answered: every thread for look-ups waits for a file.
looking_up(Config) ->
    Pipe = pipe(Config),
    Peer = peer(#{transport => tcp}),
    Before = figure(streams),
    Readers = [spawn(fun() -> h2_open(raw_peer:port(Peer), [{ssl_options, [{cacertfile, Pipe}]}]) end)
               || _ <- lists:seq(1, ?BLOCKING_THREADS)],
    h2_case:until(fun() -> figure(streams) =:= Before + ?BLOCKING_THREADS end),
    %% A name of this machine that was looked up within the last second is known.
    timer:sleep(1100),
    killed_while_opening(Peer, [], fun() -> ok end),
    ?assertEqual(0, raw_peer:connections(Peer)),
    [exit(Reader, kill) || Reader <- Readers],
    release(Pipe),
    h2_case:until(fun() -> figure(streams) =:= Before end).

%% A listener whose queue is full answers no SYN.
connecting(_Config) ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {backlog, 0}]),
    {ok, Port} = inet:port(Listen),
    Queued = fill(Port),
    killed_while(fun() -> h2_open(Port, []) end, fun opening/1),
    [ok = gen_tcp:close(Socket) || Socket <- [Listen | Queued]],
    ok.

fill(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [], 100) of
        {ok, Socket} -> [Socket | fill(Port)];
        {error, timeout} -> []
    end.

in_handshake(_Config) ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    killed_while(fun() -> h2_open(Port, []) end, fun(Before) ->
        opening(Before),
        {ok, Socket} = gen_tcp:accept(Listen),
        {ok, _ClientHello} = gen_tcp:recv(Socket, 5),
        ok = gen_tcp:close(Socket)
    end),
    ok = gen_tcp:close(Listen).

before_settings(_Config) ->
    Peer = peer(#{script => []}),
    killed_while_opening(Peer, [], fun() -> raw_peer:expect(raw_peer:accept(Peer), headers) end).

connected(_Config) ->
    killed(fun(Peer) -> open(Peer) end, peer(#{})).

active(_Config) ->
    killed(fun(Peer) ->
        {Stream, Conn} = open(Peer, [{active, true}]),
        h2_case:respond(Conn),
        {response, 200, _} = h2_case:active(Stream)
    end, peer(#{})).

half_closed(_Config) ->
    killed(fun(Peer) ->
        {Stream, Conn} = open(Peer),
        ok = hackney_native:h2_send(Stream, <<"x">>, fin),
        raw_peer:expect(Conn, #{type => data, flags => [end_stream]})
    end, peer(#{})).

half_closed_by_the_peer(_Config) ->
    killed(fun(Peer) ->
        {Stream, Conn} = open(Peer),
        [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>}], fin}]),
        {response, 200, []} = h2_case:recv(Stream),
        done = h2_case:recv(Stream)
    end, peer(#{})).

%% For the peer's window. The sender is told.
sender_waits(_Config) ->
    killed(fun(Peer) ->
        {Stream, _} = open(Peer),
        ok = hackney_native:h2_send(Stream, binary:copy(<<0>>, 2 * ?MB)),
        {waits, waiter(fun() -> hackney_native:h2_send(Stream, <<"x">>, nofin, #{block => infinity}) end)}
    end, peer(#{})).

%% A peer that has stopped reading gets a second to take the goodbye.
socket_full(_Config) ->
    Peer = peer(#{settings => [{initial_window_size, 16#7fffffff}]}),
    killed(fun(_) ->
        {Stream, Conn} = open(Peer),
        [ok, ok] = raw_peer:run(Conn, [{window_update, 0, 16#7fff0000}, pause]),
        ok = hackney_native:h2_send(Stream, binary:copy(<<0>>, 50 * ?MB)),
        still(fun() ->
            {ok, #{send_queue_bytes := Queued}} = hackney_native:h2_info(Stream),
            Queued
        end),
        %% It has to read to see the end.
        {afterwards, fun() -> [ok] = raw_peer:run(Conn, [resume]) end}
    end, Peer, ?SOON + ?GRACE).

reader_waits(_Config) ->
    killed(fun(Peer) ->
        {Stream, _} = open(Peer),
        Waiter = waiter(fun() -> hackney_native:h2_recv(Stream) end),
        h2_case:reader_waits(Stream),
        {waits, Waiter}
    end, peer(#{})).

unread_end(_Config) ->
    killed(fun(Peer) ->
        {Stream, Conn} = open(Peer),
        ok = hackney_native:h2_send(Stream, <<>>, fin),
        h2_case:respond(Conn),
        [ok] = raw_peer:run(Conn, [{data, 1, <<"unread">>, fin}]),
        h2_case:until(fun() ->
            {ok, #{state := State}} = hackney_native:h2_info(Stream),
            State =:= closed
        end)
    end, peer(#{})).

%% Closed by its owner, who has not read everything.
draining(_Config) ->
    killed(fun(Peer) ->
        {Stream, Conn} = open(Peer),
        h2_case:respond(Conn),
        h2_case:until(fun() ->
            {ok, #{recv_queue_messages := Messages}} = hackney_native:h2_info(Stream),
            Messages > 0
        end),
        ok = hackney_native:h2_close(Stream)
    end, peer(#{})).

%% ---- ways to the owner's death -------------------------------------------------------------------

killed(Prepare, Peer) -> killed(Prepare, Peer, ?SOON).

%% Has an owner bring a stream into some state, kills it there, and waits until nothing is left.
killed(Prepare, Peer, Within) ->
    Test = self(),
    gone_within(Within, fun() ->
        Owner = spawn(fun() ->
            Test ! {self(), Prepare(Peer)},
            receive after infinity -> ok end
        end),
        Monitor = monitor(process, Owner),
        receive
            {Owner, {waits, Waiter}} ->
                {Owner, fun() -> ended_waiting(Waiter) end};
            {Owner, {afterwards, Afterwards}} ->
                {Owner, Afterwards};
            {Owner, _} ->
                {Owner, fun() -> ok end};
            {'DOWN', Monitor, process, Owner, Reason} -> error({not_prepared, Reason})
        end
    end).

%% A process that waits for the stream; whoever asks it hears how that ended.
waiter(Wait) ->
    spawn(fun() ->
        Result = Wait(),
        receive {how, Asker} -> Asker ! {self(), Result} end
    end).

ended_waiting(Waiter) ->
    Waiter ! {how, self()},
    receive {Waiter, Result} -> ?assertEqual({error, closed}, Result) end.

killed_while_opening(Peer, Options, Reached) ->
    killed_while(fun() -> hackney_native:h2_open(raw_peer:url(Peer), [], options(Peer, Options)) end,
                 fun(Before) -> opening(Before), Reached() end).

%% The same for an owner that does not return from what it does.
killed_while(Act, Reached) ->
    gone_within(?SOON, fun() ->
        Before = held(),
        Owner = spawn(fun() -> error({opened, Act()}) end),
        _ = Reached(Before),
        true = is_process_alive(Owner),
        {Owner, fun() -> ok end}
    end).

opening(#{streams := Streams, tasks := Tasks}) ->
    h2_case:until(fun() -> figure(streams) > Streams andalso figure(tasks) > Tasks end).

%% A busy machine may add to the time, the library cannot make it less: of three tries the quickest counts.
gone_within(Within, Reach) ->
    Times = [begin
                 {Before, Fds} = {held(), h2_case:fds()},
                 {Owner, Afterwards} = Reach(),
                 Start = erlang:monotonic_time(millisecond),
                 exit(Owner, kill),
                 h2_case:until(fun() -> held() =:= Before end),
                 Took = erlang:monotonic_time(millisecond) - Start,
                 Afterwards(),
                 h2_case:until(fun() -> h2_case:fds() =< Fds end),
                 Took
             end || _ <- lists:seq(1, 3)],
    ct:pal("gone after ~w ms", [Times]),
    ?assert(lists:min(Times) < Within).

held() ->
    {ok, Figures} = hackney_native:memory(),
    maps:with([streams, connections, tasks, recv_queue_bytes, send_queue_bytes], Figures).

figure(Key) ->
    {ok, #{Key := Value}} = hackney_native:memory(),
    Value.

%% Its side of a connection ends with the client's.
peer(Options) -> raw_peer:start(Options#{when_closed => stop}).

open(Peer) -> open(Peer, []).

open(Peer, Options) ->
    {ok, Stream} = hackney_native:h2_open(raw_peer:url(Peer), [], options(Peer, Options)),
    Conn = raw_peer:accept(Peer),
    #{stream := 1} = raw_peer:expect(Conn, headers),
    {Stream, Conn}.

options(Peer, Options) -> Options ++ raw_peer:options(Peer, [{connect_timeout, infinity}]).

h2_open(Port, Options) ->
    URL = iolist_to_binary(["https://127.0.0.1:", integer_to_list(Port)]),
    hackney_native:h2_open(URL, [], [{connect_timeout, infinity} | Options]).

%% Waits until something does not change any more.
still(Fun) -> still(Fun, Fun()).

still(Fun, Before) ->
    receive after 100 -> ok end,
    case Fun() of
        Before -> Before;
        Now -> still(Fun, Now)
    end.

pipe(Config) ->
    Name = filename:join(proplists:get_value(priv_dir, Config), "pipe" ++ integer_to_list(erlang:unique_integer([positive]))),
    "" = os:cmd("mkfifo '" ++ Name ++ "'"),
    Name.

%% Whoever waits to read reads nothing. Opened both ways it does not wait for anybody: a stream may have been killed before it got to its
%% file.
release(Pipe) ->
    "" = os:cmd(": <> '" ++ Pipe ++ "'"),
    ok.
