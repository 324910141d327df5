%% @doc Watches for processes that a scheduler could not leave for long: a NIF that works too long in one call shows here.
%%
%% The VM measures real time. On a machine with fewer free cores than schedulers, a scheduler thread that the
%% operating system has put aside shows as well: compare subjects, one of which has no NIF.
-module(bench_watch).

-export([start/1, now_runs/2, report/1]).
-export_type([watch/0]).

-opaque watch() :: off | pid().

%% @doc Starts watching for everything that takes at least so many milliseconds.
-spec start(off | pos_integer()) -> watch().
start(off) ->
    off;
start(Milliseconds) ->
    Pid = spawn_link(fun() -> loop({"start", none}, []) end),
    true = register(?MODULE, Pid),
    _ = erlang:system_monitor(Pid, [{long_schedule, Milliseconds}]),
    Pid.

%% @doc Says whose turn it is.
-spec now_runs(string(), bench_scenario:name()) -> ok.
now_runs(Label, Scenario) ->
    case whereis(?MODULE) of
        undefined -> ok;
        Pid -> Pid ! {now_runs, {Label, Scenario}}, ok
    end.

%% @doc Ends the watch; the text of what it saw.
-spec report(watch()) -> unicode:chardata().
report(off) ->
    [];
report(Pid) ->
    _ = erlang:system_monitor(undefined),
    Pid ! {report, self()},
    receive {events, Events} -> text(Events) end.

loop(Current, Events) ->
    receive
        {now_runs, Next} ->
            loop(Next, Events);
        {monitor, Who, long_schedule, Info} when is_pid(Who); is_port(Who) ->
            Where = {proplists:get_value(in, Info), proplists:get_value(out, Info)},
            loop(Current, [{Current, Where, proplists:get_value(timeout, Info)} | Events]);
        {report, From} ->
            unlink(From),
            From ! {events, Events}
    end.

text([]) ->
    "\nLong schedules: none.\n";
text(Events) ->
    Groups = lists:foldl(fun({Current, Where, Time}, Acc) ->
                                 maps:update_with({Current, Where}, fun(Times) -> [Time | Times] end, [Time], Acc)
                         end, #{}, Events),
    ["\n| subject | scenario | from | to | times | longest, ms |\n|---|---|---|---|---|---|\n",
     [io_lib:format("| ~ts | ~ts | ~ts | ~ts | ~b | ~b |~n",
                    [Label, Scenario, place(In), place(Out), length(Times), lists:max(Times)])
      || {{{Label, Scenario}, {In, Out}}, Times} <- lists:sort(maps:to_list(Groups))]].

place({Module, Function, Arity}) -> io_lib:format("`~ts:~ts/~b`", [Module, Function, Arity]);
place(_) -> "?".
