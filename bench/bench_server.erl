%% @doc Starts and stops the server that all subjects talk to. It is a separate operating-system process and
%% ends when its standard input closes, so at the latest when this node ends.
-module(bench_server).

-export([start/1, stop/1, program/1]).

-define(START_TIMEOUT, 15000).

%% @doc Starts `h2-server', with TLS or in clear text, and waits until it listens.
-spec start(H2c :: boolean()) -> {ok, port(), bench_scenario:target()}.
start(H2c) ->
    Arguments = ["--h2c" || H2c],
    Port = open_port({spawn_executable, program("h2-server")}, [{args, Arguments}, {line, 4096}, exit_status]),
    receive
        {Port, {data, {eol, "READY " ++ Fields}}} ->
            {match, [Number, File]} =
                re:run(Fields, "^port=([0-9]+) cacert=(.*)$", [{capture, all_but_first, list}]),
            {ok, Port, target(H2c, Number, File)};
        {Port, {exit_status, Status}} ->
            error({h2_server_ended, Status})
    after ?START_TIMEOUT ->
            error(h2_server_is_silent)
    end.

target(true, Number, _File) -> #{url => "http://localhost:" ++ Number, cacertfile => undefined};
target(false, Number, File) -> #{url => "https://localhost:" ++ Number, cacertfile => File}.

%% @doc Ends the server.
-spec stop(port()) -> ok.
stop(Port) ->
    true = port_close(Port),
    ok.

%% @doc Where a program of `native/peer' is; `bench/run' has built it.
-spec program(string()) -> file:filename_all().
program(Name) ->
    case os:getenv("H2_PEER_DIR") of
        false -> error({environment_variable_missing, "H2_PEER_DIR"});
        Directory -> filename:absname(filename:join(Directory, Name))
    end.
