%% @doc The command line of the bench.
-module(bench_options).

-export([parse/1, usage/0]).
-export_type([options/0]).

-type options() :: #{subjects := [bench_subject:subject()],
                     scenarios := [bench_scenario:name()],
                     rounds := pos_integer(),
                     scale := float(),
                     url := undefined | string(),
                     cacertfile := undefined | file:filename(),
                     h2c := boolean(),
                     long_schedule := off | pos_integer()}.

-define(RUNTIMES, ["mt2", "ct"]).

%% @doc Reads the words of a command line.
-spec parse([string()]) -> {ok, options()} | help | {error, unicode:chardata()}.
parse(Words) ->
    Defaults = #{subjects => [], scenarios => [], rounds => 5, scale => 1.0, url => undefined,
                 cacertfile => undefined, h2c => false, long_schedule => off},
    try words(Words, Defaults) of
        help -> help;
        Options -> {ok, complete(Options)}
    catch
        throw:{wrong, Text} -> {error, Text}
    end.

%% @doc What the command line may hold, for people.
-spec usage() -> unicode:chardata().
usage() ->
    ["usage: bench/run [OPTION]...\n"
     "  --subject S        a module with hackney's h2_* functions; again for more. The ratios are the first one's.\n"
     "                     S is MODULE, MODULE:[OPTIONS] or LABEL=MODULE:[OPTIONS], where OPTIONS is Erlang and\n"
     "                     goes to h2_open, as in 'small=hackney_native:[{initial_window_size,65535}]'\n"
     "  --rust [R,...]     the same scenarios in pure Rust, on the runtimes R: mt2 (two workers, the scenario on the\n"
     "                     main thread), mt2s (two workers, the scenario on one of them), ct (one thread); default mt2,ct\n"
     "                     (with neither --subject nor --rust: hackney_native, hackney, --rust)\n"
     "  --scenario NAME    only this one; again for more: ", lists:join(", ", names()), "\n"
     "  --rounds N         measurements per scenario and subject (5)\n"
     "  --scale F          factor on all durations and amounts (1.0)\n"
     "  --url URL          a server that is there already, instead of h2-server started by this program\n"
     "  --cacert FILE      the authority to trust with --url\n"
     "  --h2c              h2-server without TLS\n"
     "  --long-schedule MS report processes that a scheduler could not leave for MS ms (a NIF, mostly)\n"].

words([], Options) ->
    Options;
words([Help | _], _Options) when Help =:= "--help"; Help =:= "-h" ->
    help;
words(["--h2c" | Rest], Options) ->
    words(Rest, Options#{h2c := true});
words(["--rust" | Rest], Options) ->
    {Runtimes, Rest1} = case Rest of
                            [[C | _] = List | Tail] when C =/= $- -> {string:lexemes(List, ","), Tail};
                            _ -> {?RUNTIMES, Rest}
                        end,
    words(Rest1, lists:foldl(fun(Runtime, Acc) -> append(subjects, rust(Runtime), Acc) end, Options, Runtimes));
words(["--" ++ Name, Value | Rest], Options) ->
    words(Rest, value(Name, Value, Options));
words([Word | _], _Options) ->
    wrong("not understood: ~ts", [Word]).

value("subject", Text, Options) ->
    case bench_subject:parse(Text) of
        {ok, Subject} -> append(subjects, Subject, Options);
        {error, Why} -> wrong("--subject ~ts: ~ts", [Text, Why])
    end;
value("scenario", Text, Options) ->
    case lists:member(Text, names()) of
        true -> append(scenarios, list_to_existing_atom(Text), Options);
        false -> wrong("no such scenario: ~ts", [Text])
    end;
value("rounds", Text, Options) -> Options#{rounds := positive("rounds", Text)};
value("scale", Text, Options) -> Options#{scale := factor(Text)};
value("url", Text, Options) -> Options#{url := string:trim(Text, trailing, "/")};
value("cacert", Text, Options) -> Options#{cacertfile := filename:absname(Text)};
value("long-schedule", Text, Options) -> Options#{long_schedule := positive("long-schedule", Text)};
value(Name, _Text, _Options) -> wrong("no such option: --~ts", [Name]).

complete(#{subjects := [], scenarios := _} = Options) ->
    {ok, Native} = bench_subject:parse("hackney_native"),
    {ok, Hackney} = bench_subject:parse("hackney"),
    complete(Options#{subjects := [Native, Hackney | [rust(Runtime) || Runtime <- ?RUNTIMES]]});
complete(#{subjects := Subjects, scenarios := Scenarios} = Options) ->
    Labels = [bench_subject:label(Subject) || Subject <- Subjects],
    length(lists:usort(Labels)) =:= length(Labels) orelse wrong("two subjects have the same label", []),
    case Scenarios of
        [] -> Options#{scenarios := bench_scenario:names()};
        _ -> Options
    end.

rust(Runtime) ->
    case bench_subject:rust(Runtime) of
        {ok, Subject} -> Subject;
        {error, Why} -> wrong("--rust ~ts: ~ts", [Runtime, Why])
    end.

append(Key, Value, Options) ->
    maps:update_with(Key, fun(Values) -> Values ++ [Value] end, Options).

names() ->
    [atom_to_list(Name) || Name <- bench_scenario:names()].

positive(Name, Text) ->
    case string:to_integer(Text) of
        {Number, ""} when Number > 0 -> Number;
        _ -> wrong("--~ts does not take ~ts", [Name, Text])
    end.

factor(Text) ->
    case string:list_to_float(Text) of
        {Factor, ""} when Factor > 0 -> Factor;
        _ -> float(positive("scale", Text))
    end.

-spec wrong(string(), [term()]) -> no_return().
wrong(Format, Arguments) ->
    throw({wrong, io_lib:format(Format, Arguments)}).
