%% @doc `make demo-server': started as a program of the operating system, with the curl commands that it prints.
-module(demo_server_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([printed_commands_work/1, port_is_taken/1, port_is_no_number/1]).

-define(TIMEOUT, 30000).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [printed_commands_work, port_is_taken, port_is_no_number].

init_per_suite(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Source = peer_server:source("../../examples/demo_server/demo_service.erl"),
    {ok, demo_service} = compile:file(Source, [{outdir, Dir}, warnings_as_errors, return_errors]),
    Config.

end_per_suite(_Config) -> ok.

printed_commands_work(Config) ->
    Program = start("0", Config),
    [Root, Echo, Clock] = commands(Program, []),
    ?assertMatch(<<"Hello! This is stream 1", _/binary>>, shell(Root)),
    ?assertEqual(<<"say it again">>, shell(Echo)),
    ?assertEqual(4, length(binary:split(shell(Clock), <<"\n">>, [global, trim]))),
    ?assertMatch(<<"There are ", _/binary>>, shell(Root ++ "elsewhere")),
    %% Its standard input's end is its own.
    {os_pid, Pid} = erlang:port_info(Program, os_pid),
    port_close(Program),
    h2_case:until(fun() -> not filelib:is_dir("/proc/" ++ integer_to_list(Pid)) end, ?TIMEOUT).

port_is_taken(Config) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ?assertMatch({1, {match, _}}, fails(integer_to_list(Port), "another program listens at that port", Config)),
    ok = gen_tcp:close(Socket).

port_is_no_number(Config) ->
    ?assertMatch({1, {match, _}}, fails("https", "PORT must be a number", Config)).

fails(Port, Text, Config) ->
    {Status, Lines} = last_words(start(Port, Config), []),
    {Status, re:run(Lines, Text)}.

start(Port, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Ebin = filename:dirname(code:which(hackney_native)),
    open_port({spawn_executable, os:find_executable("erl")},
              [{args, ["+Bd", "-noshell", "-pa", Ebin, Dir, "-s", "demo_service", "main"]},
               {env, [{"PORT", Port}, {"DIR", Dir}]}, {line, 4096}, exit_status]).

%% What it prints up to its first request.
commands(Program, Commands) ->
    receive
        {Program, {data, {eol, "  curl" ++ Rest}}} -> commands(Program, ["curl" ++ Rest | Commands]);
        {Program, {data, {eol, "Ctrl-C" ++ _}}} -> lists:reverse(Commands);
        {Program, {data, _}} -> commands(Program, Commands);
        {Program, {exit_status, Status}} -> error({ended, Status})
    after ?TIMEOUT -> error(silent)
    end.

last_words(Program, Lines) ->
    receive
        {Program, {data, {_, Line}}} -> last_words(Program, [Line | Lines]);
        {Program, {exit_status, Status}} -> {Status, lists:join($\n, lists:reverse(Lines))}
    after ?TIMEOUT -> error(silent)
    end.

shell(Command) ->
    os_program:succeed("sh", ["-c", Command ++ " --silent --show-error --max-time 20"]).
