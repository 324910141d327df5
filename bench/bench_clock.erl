%% @doc Rates.
-module(bench_clock).

-export([start/0, passed/2, rate/2, megabytes/2]).
-export_type([clock/0]).

-opaque clock() :: integer().

%% @doc A clock that runs from now.
-spec start() -> clock().
start() ->
    erlang:monotonic_time().

%% @doc Whether so many seconds have passed.
-spec passed(clock(), number()) -> boolean().
passed(Start, Seconds) ->
    elapsed(Start) >= Seconds.

%% @doc So many things, per second since the start.
-spec rate(clock(), number()) -> float().
rate(Start, Count) ->
    Count / elapsed(Start).

%% @doc So many bytes, in megabytes (10^6) per second since the start.
-spec megabytes(clock(), number()) -> float().
megabytes(Start, Bytes) ->
    rate(Start, Bytes) / 1.0e6.

elapsed(Start) ->
    erlang:convert_time_unit(erlang:monotonic_time() - Start, native, nanosecond) / 1.0e9.
