%% @doc The bench: runs scenarios against any module with hackney's `h2_*' functions, and against the same
%% scenarios in pure Rust, and prints a table of medians and ratios.
%%
%% Subjects take turns inside each scenario (A B C A B C ...), so that a machine that becomes slower or
%% faster meanwhile does so for all of them.
-module(bench).

-export([main/0]).

%% @doc Runs what the command line asks for and halts. Status 1 when the first subject failed somewhere.
-spec main() -> no_return().
main() ->
    Words = init:get_plain_arguments(),
    case bench_options:parse(Words) of
        {ok, Options} ->
            halt(guarded(Options, Words));
        help ->
            io:put_chars(bench_options:usage()),
            halt(0);
        {error, Text} ->
            note("~ts~n~n~ts", [Text, bench_options:usage()]),
            halt(2)
    end.

guarded(Options, Words) ->
    try run(Options, Words)
    catch
        Class:Reason:Stack ->
            note("~p: ~p~n~p", [Class, Reason, Stack]),
            1
    end.

run(#{subjects := Asked} = Options, Words) ->
    case present(Asked) of
        [] ->
            note("no subject is left", []),
            1;
        [First | _] = Subjects ->
            Watch = bench_watch:start(maps:get(long_schedule, Options)),
            {Target, Stop} = target(Options),
            Results = [scenario(Name, Subjects, Target, Options) || Name <- maps:get(scenarios, Options)],
            Stop(),
            io:put_chars(bench_table:report(Subjects, Results, Options, Words)),
            io:put_chars(bench_watch:report(Watch)),
            case [fails || {_, #{First := {fails, _}}} <- Results] of
                [] -> 0;
                _ -> 1
            end
    end.

%% Hackney, above all, is there only when somebody put it on ERL_LIBS.
present(Asked) ->
    lists:filtermap(
      fun(Subject) ->
              case bench_subject:prepare(Subject) of
                  {ok, Ready} ->
                      {true, Ready};
                  {left_out, Why} ->
                      note("~ts is left out: ~ts", [bench_subject:label(Subject), Why]),
                      false
              end
      end, Asked).

target(#{url := undefined, h2c := H2c}) ->
    {ok, Server, Target} = bench_server:start(H2c),
    {Target, fun() -> bench_server:stop(Server) end};
target(#{url := Url, cacertfile := CaCertFile}) ->
    {#{url => Url, cacertfile => CaCertFile}, fun() -> ok end}.

scenario(Name, Subjects, Target, #{rounds := Rounds, scale := Scale}) ->
    Parameters = bench_scenario:parameters(Name, Scale),
    Turns = [{Round, Subject} || Round <- lists:seq(1, Rounds), Subject <- Subjects],
    Turn = fun({Round, Subject}, Results) ->
                   case Results of
                       #{Subject := {fails, _}} ->
                           Results;
                       _ ->
                           bench_watch:now_runs(bench_subject:label(Subject), Name),
                           Outcome = bench_scenario:run(Name, Parameters, Subject, Target),
                           progress(Name, Round, Rounds, Subject, Outcome),
                           add(Subject, Outcome, Results)
                   end
           end,
    {Name, lists:foldl(Turn, #{}, Turns)}.

add(Subject, {ok, Value}, Results) ->
    maps:update_with(Subject, fun({values, Values}) -> {values, [Value | Values]} end, {values, [Value]}, Results);
add(Subject, {fails, Reason}, Results) ->
    Results#{Subject => {fails, Reason}}.

progress(Name, Round, Rounds, Subject, Outcome) ->
    Text = case Outcome of
               {ok, Value} -> [bench_table:number(Value), " ", bench_scenario:unit(Name)];
               {fails, Reason} -> io_lib:format("fails: ~0tp", [Reason])
           end,
    note("~-17s ~b/~b  ~ts ~ts", [Name, Round, Rounds, string:pad(bench_subject:label(Subject), 20), Text]).

note(Format, Arguments) ->
    io:format(standard_error, Format ++ "~n", Arguments).
