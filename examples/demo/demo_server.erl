%% @doc Starts the embedded HTTP/2 server of `native/peer' for the demo.
%%
%% It is a separate operating-system process, so that every byte between the two sides crosses a socket
%% and TLS. It ends when its standard input closes, which happens at the latest when this node ends.
-module(demo_server).

-export([start/0]).

%% The Makefile has built the program: what is left is cargo's check that nothing changed.
-define(START_TIMEOUT, 60000).

%% @doc Starts the server and waits until it listens.
-spec start() -> {ok, #{port := inet:port_number(), cacert := file:filename()}} | {error, iodata()}.
start() ->
    Cargo = os:getenv("CARGO", "cargo"),
    case os:find_executable(Cargo) of
        false ->
            {error, [Cargo, " is not in the PATH"]};
        Path ->
            Args = ["run", "--quiet", "--release", "--locked", "-p", "hackney_peer", "--bin", "h2-server"],
            Port = open_port({spawn_executable, Path}, [{args, Args}, {line, 4096}, exit_status]),
            await_ready(Port)
    end.

await_ready(Port) ->
    receive
        {Port, {data, {eol, "READY " ++ Fields}}} -> parse(Fields);
        {Port, {data, _Other}} -> await_ready(Port);
        {Port, {exit_status, Status}} -> {error, ["it ended with status ", integer_to_list(Status)]}
    after ?START_TIMEOUT ->
            {error, "it did not report within a minute"}
    end.

parse(Fields) ->
    case re:run(Fields, "^port=([0-9]+) cacert=(.+)$", [{capture, all_but_first, list}]) of
        {match, [Port, CaFile]} -> {ok, #{port => list_to_integer(Port), cacert => CaFile}};
        nomatch -> {error, ["it reported ", Fields]}
    end.
