%% @doc A server of the bench, in an operating-system process of its own: one of Erlang's, `h2-server' or `hyper-server'.
-module(bench_shared_server).

-export([start/2, stop/1, main/0]).

-define(START_TIMEOUT, 15000).

%% @doc Starts a subject's server and waits until it listens: its port.
-spec start(atom(), tls | h2c) -> {port(), inet:port_number()}.
start(rust, Transport) ->
    start_peer("h2-server", Transport);
start(hyper, Transport) ->
    start_peer("hyper-server", Transport);
start(Module, Transport) ->
    Paths = [filename:absname(Dir) || Dir <- code:get_path(), Dir =/= "."],
    Args = ["-noshell", "-pa"] ++ lists:reverse(Paths) ++ ["-s", atom_to_list(?MODULE), "main", "-extra", atom_to_list(Module),
                                                           atom_to_list(Transport)],
    await(open_port({spawn_executable, os:find_executable(os:getenv("ERL", "erl"))}, [{args, Args} | options()])).

%% A program of `native/peer'; `bench/server' has built it.
start_peer(Name, Transport) ->
    Arguments = ["--threads", "2"] ++ ["--h2c" || Transport =:= h2c],
    await(open_port({spawn_executable, bench_server:program(Name)}, [{args, Arguments} | options()])).

options() ->
    [{line, 4096}, exit_status].

await(Port) ->
    receive
        {Port, {data, {eol, "READY port=" ++ Rest}}} ->
            {Number, _} = string:to_integer(Rest),
            {Port, Number};
        {Port, {data, _}} ->
            await(Port);
        {Port, {exit_status, Status}} ->
            error({server_ended, Status})
    after ?START_TIMEOUT ->
            error(server_is_silent)
    end.

%% @doc Ends it.
-spec stop(port()) -> ok.
stop(Port) ->
    true = port_close(Port),
    ok.

%% @doc The process of a server in Erlang: its module and transport are the plain arguments.
-spec main() -> no_return().
main() ->
    [Name, Transport] = init:get_plain_arguments(),
    Module = list_to_atom(Name),
    {ok, _} = application:ensure_all_started(application_of(Module)),
    Handler = fun(Conn, Id, _Method, _Path, _Headers) ->
                      Module:respond(Conn, Id, 200, [{<<"content-type">>, <<"text/plain">>}], <<"hello\n">>)
              end,
    Dir = os:getenv("BENCH_DIR"),
    Options = case Transport of
                  "h2c" -> #{transport => tcp};
                  "tls" -> #{cert => filename:join(Dir, "bench.pem"), key => filename:join(Dir, "bench.key")}
              end,
    {ok, Server} = Module:start_server(0, Options#{handler => Handler}),
    io:format("READY port=~b~n", [Module:server_port(Server)]),
    until_input_ends(),
    halt(0, [{flush, false}]).

application_of(hackney_native_h2) -> hackney_native;
application_of(Module) -> Module.

until_input_ends() ->
    case io:get_line("") of
        Line when is_list(Line); is_binary(Line) -> until_input_ends();
        _ -> ok
    end.
