%%% @doc The properties of {@link prop_h2_stream}, with PropEr.
%%%
%%% `PROPERTY_RUNS' in the environment sets how many command sequences are tried in all (default 500). First come, always, those
%%% that have failed once: the terms of `property_SUITE_data/kept.terms'. A sequence that fails is made as short as it can be,
%%% printed, and written to `failed.terms' in the test's private directory, as a term to be kept.
-module(property_SUITE).

-compile([export_all, nowarn_export_all]).

-define(DEFAULT_RUNS, 500).
%% Of all runs, the share of those that are concurrent.
-define(CONCURRENT, 3).
%% Of each sequence that was kept.
-define(TRIES, 20).

suite() -> [{timetrap, {hours, 12}}].

all() -> [kept, commands, concurrent].

init_per_suite(Config) ->
    h2_case:start(),
    Config.

end_per_suite(_Config) ->
    ok.

%% What has failed once, a few times each: most hung on who was first.
kept(Config) ->
    {ok, Kept} = file:consult(filename:join(proplists:get_value(data_dir, Config), "kept.terms")),
    true = Kept =/= [],
    in_world(fun(World) ->
        [{true, Name, Why} = {proper:check(property(Name, World), [Counterexample], [quiet]), Name, Why}
         || {Name, Why, Counterexample} <- Kept, _ <- lists:seq(1, ?TRIES)]
    end).

commands(Config) ->
    holds(commands, runs() - runs() div ?CONCURRENT, Config).

concurrent(Config) ->
    holds(concurrent, runs() div ?CONCURRENT, Config).

holds(Name, Runs, Config) ->
    in_world(fun(World) ->
        Options = [{numtests, Runs}, {max_size, 40}, {on_output, fun output/2}, nocolors],
        {Micros, Result} = timer:tc(fun() -> proper:quickcheck(property(Name, World), [long_result | Options]) end),
        ct:pal("~p: ~b sequences in ~b s", [Name, Runs, Micros div 1000000]),
        Result =:= true orelse keep(Name, Result, Config)
    end).

%% One world for all runs: a server takes longer to start than most sequences to run.
in_world(Fun) ->
    World = h2_rig:world(),
    try Fun(World) after h2_rig:end_world(World) end.

property(commands, World) -> prop_h2_stream:prop_commands(World);
property(concurrent, World) -> prop_h2_stream:prop_concurrent(World).

runs() ->
    list_to_integer(os:getenv("PROPERTY_RUNS", integer_to_list(?DEFAULT_RUNS))).

%% The dots of so many runs tell nothing.
output(".", []) -> ok;
output(Format, Args) -> io:format(Format, Args).

keep(Name, [Counterexample], Config) ->
    Term = io_lib:format("{~p, \"why it failed\",~n ~p}.~n", [Name, Counterexample]),
    File = filename:join(proplists:get_value(priv_dir, Config), "failed.terms"),
    ok = file:write_file(File, Term, [append]),
    ct:pal("Keep this in test/property_SUITE_data/kept.terms; it also stands in ~ts~n~n~ts", [File, Term]),
    ct:fail({property_failed, Name, Counterexample}).
