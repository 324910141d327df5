%% @doc One message there and back, then the next: on one stream, and on many at once.
-module(bench_ping_pong).

-export([one/2, many/2]).

%% Rounds before the clock starts: the first ones pay for cold caches and growing buffers.
-define(WARM_UP, 200).

%% @doc Rounds per second on one stream.
-spec one(bench_stream:context(), bench_scenario:parameters()) -> float().
one(Context, #{seconds := Seconds, size := Size}) ->
    Message = message(Size),
    Stream = open(Context, Message),
    Clock = bench_clock:start(),
    Rounds = until(Clock, Seconds, Context, Stream, Message, 0),
    Rate = bench_clock:rate(Clock, Rounds),
    bench_stream:close(Context, Stream),
    Rate.

%% @doc Rounds per second of many streams together, each with a connection and a process of its own.
-spec many(bench_stream:context(), bench_scenario:parameters()) -> float().
many(Context, #{streams := Streams, rounds := Rounds, size := Size}) ->
    Message = message(Size),
    Players = [start_player(Context, Message, Rounds) || _ <- lists:seq(1, Streams)],
    Clock = bench_clock:start(),
    _ = [Player ! go || {Player, _} <- Players],
    lists:foreach(fun await_end/1, Players),
    bench_clock:rate(Clock, Streams * Rounds).

%% One after the other until all are open: it is not the opening that is measured here.
start_player(Context, Message, Rounds) ->
    Parent = self(),
    {Pid, Monitor} = spawn_opt(fun() -> player(Parent, Context, Message, Rounds) end, [link, monitor]),
    receive
        {ready, Pid} -> {Pid, Monitor};
        {'DOWN', Monitor, process, Pid, {shutdown, Thrown}} -> throw(Thrown)
    end.

player(Parent, Context, Message, Rounds) ->
    %% The parent learns of an end by its monitor; by the link it would die without a word.
    try
        Stream = open(Context, Message),
        Parent ! {ready, self()},
        receive go -> ok end,
        play(Rounds, Context, Stream, Message),
        Parent ! {played, self()},
        %% The end of this process ends the stream: that is not to happen while others still play.
        receive stop -> ok end
    catch
        throw:{fails, _} = Thrown ->
            unlink(Parent),
            exit({shutdown, Thrown})
    end.

await_end({Pid, Monitor}) ->
    receive
        {played, Pid} -> ok;
        {'DOWN', Monitor, process, Pid, {shutdown, Thrown}} -> throw(Thrown)
    end.

open(Context, Message) ->
    Stream = bench_stream:open(Context, "/echo", []),
    bench_stream:response(Context, Stream),
    play(?WARM_UP, Context, Stream, Message),
    Stream.

until(Clock, Seconds, Context, Stream, Message, Rounds) ->
    case bench_clock:passed(Clock, Seconds) of
        true ->
            Rounds;
        false ->
            round_trip(Context, Stream, Message),
            until(Clock, Seconds, Context, Stream, Message, Rounds + 1)
    end.

play(0, _Context, _Stream, _Message) ->
    ok;
play(Rounds, Context, Stream, Message) ->
    round_trip(Context, Stream, Message),
    play(Rounds - 1, Context, Stream, Message).

round_trip(Context, Stream, Message) ->
    bench_stream:send(Context, Stream, Message),
    bench_stream:receive_bytes(Context, Stream, byte_size(Message)).

message(Size) ->
    binary:copy(<<"p">>, Size).
