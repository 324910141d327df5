%% @doc The same scenarios in the Rust client, which is one program run per measurement.
-module(bench_rust).

-export([run/5]).

%% @doc Runs `h2-client' once and reads its figure.
-spec run(bench_scenario:name(), bench_scenario:parameters(), string(), bench_scenario:target(), timeout()) ->
          {ok, float()} | {fails, term()}.
run(Name, Parameters, Runtime, #{url := Url, cacertfile := CaCertFile}, Deadline) ->
    Arguments = [atom_to_list(Name), "--runtime", Runtime, "--url", Url]
        ++ [Word || CaCertFile =/= undefined, Word <- ["--cacert", CaCertFile]]
        ++ lists:append([argument(Key, Value) || {Key, Value} <- lists:sort(maps:to_list(Parameters))]),
    Port = open_port({spawn_executable, bench_server:program("h2-client")},
                     [{args, Arguments}, {line, 4096}, exit_status, stderr_to_stdout]),
    collect(Port, atom_to_list(Name), [], Deadline).

%% Piece and mode are in the scenario's name already.
argument(piece, _) -> [];
argument(mode, _) -> [];
argument(seconds, Seconds) -> ["--seconds", float_to_list(Seconds, [{decimals, 3}])];
argument(Key, Number) -> ["--" ++ atom_to_list(Key), integer_to_list(Number)].

collect(Port, Name, Lines, Deadline) ->
    receive
        {Port, {data, {_, Line}}} -> collect(Port, Name, [Line | Lines], Deadline);
        {Port, {exit_status, 0}} -> figure(Name, Lines);
        {Port, {exit_status, Status}} -> {fails, {status, Status, lists:last(["" | Lines])}}
    after Deadline ->
            port_close(Port),
            {fails, deadline}
    end.

figure(Name, [Line]) ->
    case string:lexemes(Line, " ") of
        [Name, Value, _Unit] -> {ok, list_to_float(Value)};
        _ -> {fails, {no_figure, Line}}
    end;
figure(_Name, Lines) ->
    {fails, {no_figure, lists:reverse(Lines)}}.
