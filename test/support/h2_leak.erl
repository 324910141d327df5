%%% @doc What this node holds, and whether something of it was left behind.
-module(h2_leak).

-export([figures/0, settled/1, balanced/1]).
-export_type([figures/0]).

-type figures() :: #{atom() => non_neg_integer()}.

%% Processes and ports of the VM's own come and go by a few.
-define(SLACK, #{streams => 0, tasks => 2, processes => 3, ports => 2, fds => 2}).
-define(DEADLINE, 15000).

%% @doc What there is now: what the engine holds (`hackney_native:memory/0'), and what the VM and the system count.
-spec figures() -> figures().
figures() ->
    {ok, Native} = hackney_native:memory(),
    Native#{processes => erlang:system_info(process_count), ports => erlang:system_info(port_count),
            atoms => erlang:system_info(atom_count), fds => h2_case:fds(), rss => h2_case:rss(),
            vm => erlang:memory(total)}.

%% @doc Waits until there is no more than before; fails when that never comes.
-spec settled(figures()) -> ok.
settled(Before) ->
    try
        h2_case:until(fun() -> grown(Before, figures()) =:= [] end, ?DEADLINE)
    catch
        error:{never, _} -> error({left_behind, grown(Before, figures()), Before})
    end.

grown(Before, Now) ->
    [{Key, maps:get(Key, Before), maps:get(Key, Now)}
     || {Key, Slack} <- maps:to_list(?SLACK), maps:get(Key, Now) > maps:get(Key, Before) + Slack].

%% @doc Runs it in a process of its own, and fails unless all that it used is gone soon after.
-spec balanced(fun(() -> term())) -> ok.
balanced(Fun) ->
    Before = figures(),
    {Pid, Monitor} = spawn_monitor(Fun),
    receive
        {'DOWN', Monitor, process, Pid, normal} -> settled(Before);
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.
