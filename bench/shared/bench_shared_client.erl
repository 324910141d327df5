%% @doc Many streams on one connection, each with a process of its own that plays ping-pong on it.
-module(bench_shared_client).

-export([run/3]).

-define(SIZE, 64).
-define(SILENCE, 60000).

%% @doc Messages there and back per second, of so many streams with so many rounds each. Opening them is not measured.
-spec run(atom(), inet:port_number(), {Streams :: pos_integer(), Rounds :: pos_integer()}) -> float().
run(Module, Port, {Streams, Rounds}) ->
    Conn = connect(Module, Port),
    Message = binary:copy(<<"p">>, ?SIZE),
    Parent = self(),
    Players = [spawn_link(fun() -> player(Parent, Module, Conn, Message, Rounds) end) || _ <- lists:seq(1, Streams)],
    await(ready, Players),
    Clock = bench_clock:start(),
    _ = [Player ! go || Player <- Players],
    await(played, Players),
    Rate = bench_clock:rate(Clock, Streams * Rounds),
    _ = [Player ! stop || Player <- Players],
    close(Module, Conn),
    Rate.

await(What, Players) ->
    lists:foreach(fun(Player) -> receive {What, Player} -> ok after ?SILENCE -> error({no, What}) end end, Players).

connect(hackney_native, Port) ->
    {ok, Conn} = hackney_native:h2_connect("https://localhost:" ++ integer_to_list(Port), [{ssl_options, [{verify, verify_none}]}]),
    Conn;
connect(Module, Port) ->
    {ok, Conn} = Module:connect("localhost", Port, #{verify => verify_none}),
    ok = Module:wait_connected(Conn),
    Conn.

close(hackney_native, Conn) -> hackney_native:h2_close(Conn);
close(Module, Conn) -> Module:close(Conn).

player(Parent, Module, Conn, Message, Rounds) ->
    Stream = open(Module, Conn),
    play(1, Module, Conn, Stream, Message),
    Parent ! {ready, self()},
    receive go -> ok end,
    play(Rounds, Module, Conn, Stream, Message),
    Parent ! {played, self()},
    receive stop -> ok end.

open(hackney_native, Conn) ->
    {ok, Stream} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
    {ok, {response, 200, _}} = hackney_native:h2_recv(Stream, ?SILENCE),
    Stream;
open(Module, Conn) ->
    Headers = [{<<":method">>, <<"POST">>}, {<<":scheme">>, <<"https">>}, {<<":path">>, <<"/echo">>}, {<<":authority">>, <<"localhost">>}],
    {ok, Id} = Module:request(Conn, Headers, #{end_stream => false, handler => self()}),
    receive {h2, Conn, {response, Id, 200, _}} -> Id end.

play(0, _Module, _Conn, _Stream, _Message) ->
    ok;
play(Rounds, hackney_native, Conn, Stream, Message) ->
    ok = hackney_native:h2_send(Stream, Message),
    back(hackney_native, Conn, Stream, ?SIZE),
    play(Rounds - 1, hackney_native, Conn, Stream, Message);
play(Rounds, Module, Conn, Id, Message) ->
    ok = Module:send_data(Conn, Id, Message, false),
    back(Module, Conn, Id, ?SIZE),
    play(Rounds - 1, Module, Conn, Id, Message).

back(_Module, _Conn, _Stream, 0) ->
    ok;
back(hackney_native, Conn, Stream, Left) ->
    {ok, {data, Data}} = hackney_native:h2_recv(Stream, ?SILENCE),
    back(hackney_native, Conn, Stream, Left - byte_size(Data));
back(Module, Conn, Id, Left) ->
    receive {h2, Conn, {data, Id, Data, false}} -> back(Module, Conn, Id, Left - byte_size(Data)) end.
