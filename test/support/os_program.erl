%% @doc Programs of the operating system that do their work and end: run with a deadline, their output kept.
-module(os_program).

-export([run/2, run/3, succeed/2, succeed/3]).
-export_type([options/0]).

%% `deadline' in milliseconds (60,000), after which it is killed; the others as for open_port/2.
-type options() :: #{deadline => timeout(), env => [{string(), string() | false}], cd => file:filename()}.

-define(DEADLINE, 60000).

%% @doc `run(Program, Arguments, #{})'.
-spec run(file:filename(), [string() | binary()]) -> {non_neg_integer(), binary()}.
run(Program, Arguments) ->
    run(Program, Arguments, #{}).

%% @doc Its exit status, and what it wrote to standard output and standard error.
-spec run(file:filename(), [string() | binary()], options()) -> {non_neg_integer(), binary()}.
run(Program, Arguments, Options) ->
    Port = open_port({spawn_executable, find(Program)},
                     [{args, Arguments}, {env, maps:get(env, Options, [])}, exit_status, stderr_to_stdout, binary, in]
                     ++ [{cd, Dir} || #{cd := Dir} <- [Options]]),
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    Timer = erlang:start_timer(maps:get(deadline, Options, ?DEADLINE), self(), late),
    Result = output(Port, Timer, []),
    case Result of
        {late, Text} ->
            _ = os:cmd("kill -KILL " ++ integer_to_list(Pid)),
            error({late, Program, Arguments, Text});
        _ ->
            _ = erlang:cancel_timer(Timer),
            receive {timeout, Timer, late} -> ok after 0 -> ok end,
            Result
    end.

%% @doc What a program wrote that has to end well.
-spec succeed(file:filename(), [string() | binary()]) -> binary().
succeed(Program, Arguments) ->
    succeed(Program, Arguments, #{}).

%% @doc The same with options.
-spec succeed(file:filename(), [string() | binary()], options()) -> binary().
succeed(Program, Arguments, Options) ->
    case run(Program, Arguments, Options) of
        {0, Text} -> Text;
        {Status, Text} -> error({failed, Program, Arguments, Status, Text})
    end.

find(Program) ->
    case os:find_executable(Program) of
        false -> error({missing, Program, "run `sh test/setup/install.sh test', which installs it"});
        Path -> Path
    end.

output(Port, Timer, Text) ->
    receive
        {Port, {data, Data}} -> output(Port, Timer, [Text, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Text)};
        {timeout, Timer, late} -> {late, iolist_to_binary(Text)}
    end.
