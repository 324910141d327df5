%% @doc Connection, request, complete response, end: over and over.
-module(bench_open).

-export([run/2]).

%% @doc How many of these per second, one after the other.
-spec run(bench_stream:context(), bench_scenario:parameters()) -> float().
run(Context, #{seconds := Seconds}) ->
    once(Context),
    Clock = bench_clock:start(),
    bench_clock:rate(Clock, until(Clock, Seconds, Context, 0)).

until(Clock, Seconds, Context, Count) ->
    case bench_clock:passed(Clock, Seconds) of
        true ->
            Count;
        false ->
            once(Context),
            until(Clock, Seconds, Context, Count + 1)
    end.

once(Context) ->
    Stream = bench_stream:open(Context, "/hello", []),
    bench_stream:response(Context, Stream),
    _ = bench_stream:body(Context, Stream),
    bench_stream:close(Context, Stream).
