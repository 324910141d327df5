%% @doc Medians, ranges and ratios as a Markdown table.
-module(bench_table).

-export([report/4, row/1, figure/1, median/1, number/1]).
-export_type([result/0]).

-type result() :: {bench_scenario:name(),
                   #{bench_subject:subject() => {values, [float(), ...]} | {fails, term()}}}.

%% @doc The whole report: what ran where, the table, what failed and why.
-spec report([bench_subject:subject()], [result()], bench_options:options(), [string()]) -> unicode:chardata().
report([First | Others] = Subjects, Results, Options, Words) ->
    Labels = [bench_subject:label(Subject) || Subject <- Subjects],
    Ratios = [[bench_subject:label(First), " : ", bench_subject:label(Other)] || Other <- Others],
    [setting(Subjects, Options, Words),
     row(["scenario", "unit" | Labels ++ Ratios]),
     row(["---" || _ <- [scenario, unit | Labels ++ Ratios]]),
     [row([name(Name), bench_scenario:unit(Name)]
          ++ [cell(maps:get(Subject, Figures)) || Subject <- Subjects]
          ++ [ratio(maps:get(First, Figures), maps:get(Other, Figures)) || Other <- Others])
      || {Name, Figures} <- Results],
     failures(Subjects, Results)].

setting(Subjects, #{rounds := Rounds, scale := Scale}, Words) ->
    Versions = [io_lib:format("~ts (~ts)", [bench_subject:label(Subject), bench_subject:version(Subject)])
                || Subject <- Subjects],
    io_lib:format("~n`bench/run~ts`: OTP ~ts, ~b schedulers on ~ts cores. Medians of ~b alternating rounds (least to "
                  "most), scale ~w. ~ts.~n~n",
                  [[[" ", quoted(Word)] || Word <- Words], erlang:system_info(otp_release),
                   erlang:system_info(schedulers_online), cores(), Rounds, Scale, lists:join(", ", Versions)]).

quoted(Word) ->
    case re:run(Word, "^[A-Za-z0-9_.:/,=@-]+$") of
        nomatch -> ["'", Word, "'"];
        _ -> Word
    end.

cores() ->
    case erlang:system_info(logical_processors_available) of
        unknown -> "?";
        Number -> integer_to_list(Number)
    end.

name(Name) ->
    case bench_scenario:better(Name) of
        more -> atom_to_list(Name);
        less -> [atom_to_list(Name), " (less is better)"]
    end.

%% @doc A row of a table.
-spec row([unicode:chardata()]) -> unicode:chardata().
row(Cells) ->
    ["| ", lists:join(" | ", Cells), " |\n"].

cell({fails, _}) ->
    "fails";
cell({values, [Value]}) ->
    number(Value);
cell({values, Values}) ->
    figure(Values).

%% @doc The median of some values, and from where to where they go.
-spec figure([number(), ...]) -> unicode:chardata().
figure(Values) ->
    [number(median(Values)), " (", number(lists:min(Values)), " to ", number(lists:max(Values)), ")"].

ratio({values, Ours}, {values, Theirs}) ->
    case median(Theirs) of
        Zero when Zero == 0 -> "-";
        Theirs1 -> [number(median(Ours) / Theirs1), "x"]
    end;
ratio(_, _) ->
    "-".

failures(Subjects, Results) ->
    case [io_lib:format("- ~ts, ~ts: `~0tp`~n", [bench_subject:label(Subject), Name, Reason])
          || {Name, Figures} <- Results, Subject <- Subjects, {fails, Reason} <- [maps:get(Subject, Figures)]] of
        [] -> [];
        Lines -> ["\nWhat fails, and how:\n" | Lines]
    end.

%% @doc The value in the middle, or between the two there.
-spec median([number(), ...]) -> number().
median(Values) ->
    Sorted = lists:sort(Values),
    Middle = length(Sorted) div 2,
    case length(Sorted) rem 2 of
        1 -> lists:nth(Middle + 1, Sorted);
        0 -> (lists:nth(Middle, Sorted) + lists:nth(Middle + 1, Sorted)) / 2
    end.

%% @doc A figure in three or four digits.
-spec number(number()) -> string().
number(Value) when abs(Value) >= 10000 -> decimals(Value / 1000, 1) ++ "k";
number(Value) when abs(Value) >= 100 -> decimals(Value, 0);
number(Value) when abs(Value) >= 10 -> decimals(Value, 1);
number(Value) when abs(Value) >= 0.1 -> decimals(Value, 2);
number(Value) -> decimals(Value, 4).

decimals(Value, Places) ->
    float_to_list(float(Value), [{decimals, Places}]).
