%%% @doc A node ends, or the application stops, in the middle of everything: quickly, and never by a crash.
%%%
%%% Every round runs in a node of its own, with streams of all kinds at work. `SHUTDOWN_ROUNDS' in the
%%% environment sets how many rounds each case has (default 5).
-module(shutdown_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(DEFAULT_ROUNDS, 5).
%% Milliseconds that any of it may take.
-define(PATIENCE, 5000).
-define(SIGSEGV, 11).

suite() -> [{timetrap, {hours, 2}}].

all() ->
    [a_crash_is_seen, halt, halt_without_flush, init_stop, sigterm, application_stop,
     halt_while_the_application_stops, opened_while_the_application_stops, connected_after_the_application_stopped,
     read_after_the_application_stopped].

init_per_suite(Config) ->
    {ok, Pattern} = file:read_file("/proc/sys/kernel/core_pattern"),
    ct:log("core_pattern: ~ts", [Pattern]),
    h2_case:start(),
    [{distributed, os_node:distributed()}, {server, embedded_server:start()} | Config].

end_per_suite(Config) ->
    embedded_server:stop(?config(server, Config)),
    _ = ?config(distributed, Config) andalso net_kernel:stop(),
    ok.

%% ---- the node ends -----------------------------------------------------------------------------

%% What the other cases rely on.
a_crash_is_seen(Config) ->
    {_, Node} = busy_node(Config),
    os_node:ask(Node, "SEGV"),
    {Status, _, LeftBehind} = os_node:end_of(Node),
    ?assertEqual(128 + ?SIGSEGV, Status),
    [ok = file:delete(File) || File <- LeftBehind].

halt(Config) ->
    ends_well(Config, {erlang, halt, []}).

halt_without_flush(Config) ->
    ends_well(Config, {erlang, halt, [0, [{flush, false}]]}).

init_stop(Config) ->
    ends_well(Config, {init, stop, []}).

sigterm(Config) ->
    ends_well(Config, "TERM").

halt_while_the_application_stops(Config) ->
    rounds(fun() ->
        {_, Node} = busy_node(Config),
        os_node:ask(Node, {application, stop, [hackney_native]}),
        os_node:ask(Node, {erlang, halt, []}),
        well_ended(Node)
    end).

ends_well(Config, How) ->
    rounds(fun() ->
        {_, Node} = busy_node(Config),
        os_node:ask(Node, How),
        well_ended(Node)
    end).

well_ended(Node) ->
    {Status, Took, LeftBehind} = os_node:end_of(Node),
    ?assertEqual({0, []}, {Status, LeftBehind}),
    ?assert(Took < ?PATIENCE, Took),
    Took.

%% ---- the application stops ---------------------------------------------------------------------

%% In one node, again and again: all owners hear of it, nothing is left, and streams work again after a start.
application_stop(Config) ->
    Node = node_with(Config, []),
    Before = quiet_figures(Node),
    rounds(fun() ->
        Traffic = os_node:call(Node, traffic, start, [target(Config)]),
        {Micros, ok} = os_node:call(Node, timer, tc, [application, stop, [hackney_native]]),
        ?assert(Micros div 1000 < ?PATIENCE, Micros),
        Ends = os_node:call(Node, traffic, ends, [Traffic]),
        ?assertEqual([], [End || {Kind, Reason} = End <- Ends, Reason =/= closed,
                                 {Kind, Reason} =/= {churn, stopped}]),
        Micros div 1000
    end),
    h2_case:until(fun() -> quiet_figures(Node) =:= Before end),
    os_node:stop(Node).

%% What the engine has when it is stopped: streams, tasks and threads by its own count, threads by the
%% system's, sockets. The stop is a second one: whoever opens a stream after the first starts the engine.
quiet_figures(Node) ->
    {ok, _} = os_node:call(Node, application, ensure_all_started, [hackney_native]),
    ok = os_node:call(Node, application, stop, [hackney_native]),
    {ok, Held} = os_node:call(Node, hackney_native, memory, []),
    %% The allocator keeps what it likes.
    {maps:remove(native_bytes, Held), engine_threads(Node), sockets(Node)}.

engine_threads(Node) ->
    Tasks = filelib:wildcard(lists:concat(["/proc/", os_node:os_pid(Node), "/task/*/comm"])),
    length([File || File <- Tasks, {ok, <<"hackney_h2", _/binary>>} <- [file:read_file(File)]]).

sockets(Node) ->
    Dir = lists:concat(["/proc/", os_node:os_pid(Node), "/fd"]),
    {ok, Names} = file:list_dir(Dir),
    length([Name || Name <- Names, {ok, "socket:" ++ _} <- [file:read_link(filename:join(Dir, Name))]]).

%% A thousand opens while the application stops and starts: each works or says that it is closed.
opened_while_the_application_stops(Config) ->
    Node = node_with(Config, []),
    Traffic = os_node:call(Node, traffic, start, [target(Config), [{churn, 1}]]),
    Openers = [h2_case:concurrently(fun() -> os_node:call(Node, ?MODULE, open_some, [target(Config), 100]) end)
               || _ <- lists:seq(1, 10)],
    Starts = stop_and_start(Node, Openers, 0),
    Results = lists:append([h2_case:result(Opener) || Opener <- Openers]),
    ct:pal("~b opens during ~b stops: ~b refused", [length(Results), Starts, length([R || R <- Results, R =/= ok])]),
    ?assertEqual([], lists:usort(Results) -- [ok, {error, closed}]),
    _ = os_node:call(Node, traffic, ends, [Traffic]),
    os_node:stop(Node).

stop_and_start(Node, Openers, N) ->
    ok = os_node:call(Node, application, stop, [hackney_native]),
    ok = os_node:call(Node, application, start, [hackney_native]),
    case lists:any(fun({Pid, _}) -> is_process_alive(Pid) end, Openers) of
        true -> stop_and_start(Node, Openers, N + 1);
        false -> N + 1
    end.

%% @doc Runs in the other node.
open_some(Target, N) ->
    [traffic:exchange(Target) || _ <- lists:seq(1, N)].

%% The engine that the stream was made for is no more.
connected_after_the_application_stopped(_Config) ->
    h2_case:start(),
    {ok, Stream} = hackney_native_h2_stream:start_link(#{host => <<"localhost">>, port => 1}),
    ok = application:stop(hackney_native),
    Connect = h2_case:concurrently(fun() -> hackney_native_h2_stream:connect(Stream) end),
    ?assertEqual({error, closed}, h2_case:result(Connect)),
    h2_case:gone(Stream),
    h2_case:start().

%% What was received can still be read, in every way, and the process goes when it has been.
read_after_the_application_stopped(_Config) ->
    h2_case:start(),
    Streams = [unread() || _ <- lists:seq(1, 3)],
    ok = application:stop(hackney_native),
    [Passive, Active, Once] = Streams,
    ?assertEqual([{response, 200, []}, {data, <<"unread">>}, {error, closed}], h2_case:drain(Passive)),
    ok = hackney_native:h2_setopts(Active, [{active, true}]),
    ?assertEqual([{response, 200, []}, {data, <<"unread">>}, {closed, closed}], [h2_case:active(Active) || _ <- [1, 2, 3]]),
    ?assertEqual([{response, 200, []}, {data, <<"unread">>}, {closed, closed}],
                 [begin
                      ok = hackney_native:h2_setopts(Once, [{active, once}]),
                      h2_case:active(Once)
                  end || _ <- [1, 2, 3]]),
    [h2_case:gone(Stream) || Stream <- Streams],
    h2_case:start().

unread() ->
    {Stream, Conn} = h2_case:open(),
    h2_case:respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"unread">>}]),
    h2_case:until(fun() ->
        {ok, #{recv_queue_messages := Queued}} = hackney_native:h2_info(Stream),
        Queued =:= 2
    end),
    Stream.

%% ---- helpers -----------------------------------------------------------------------------------

rounds(Round) ->
    Took = [Round() || _ <- lists:seq(1, rounds())],
    ct:pal("~b rounds; the longest end took ~b ms, the median ~b ms",
           [length(Took), lists:max(Took), lists:nth((length(Took) + 1) div 2, lists:sort(Took))]).

rounds() ->
    case os:getenv("SHUTDOWN_ROUNDS") of
        false -> ?DEFAULT_ROUNDS;
        Text -> list_to_integer(Text)
    end.

busy_node(Config) ->
    Node = os_node:start(?config(priv_dir, Config)),
    {os_node:call(Node, traffic, start, [target(Config)]), Node}.

%% The engine has been at work there, so that what is made once is there.
node_with(Config, Kinds) ->
    Node = os_node:start(?config(priv_dir, Config)),
    Traffic = os_node:call(Node, traffic, start, [target(Config), [{churn, 1} | Kinds]]),
    _ = os_node:call(Node, traffic, ends, [Traffic]),
    Node.

target(Config) ->
    Server = ?config(server, Config),
    #{url => embedded_server:url(Server, ""), ca_file => embedded_server:ca_file(Server)}.
