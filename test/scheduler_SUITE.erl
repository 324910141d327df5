%%% No call of the library holds a scheduler for a millisecond, however much it is given.
%%%
%%% Time is measured around the call, so a busy machine may add to it; the library cannot make it less. Of several tries the
%%% quickest counts.
-module(scheduler_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([send_of_100_mb/1, send_of_an_iolist_in_many_parts/1, send_to_a_full_queue/1, recv_of_a_large_frame/1,
         close_with_much_queued/1, death_with_much_queued/1, info_and_setopts/1]).

-define(LIMIT_US, 1000).
-define(TRIES, 5).
-define(MB, 1024 * 1024).

all() ->
    [send_of_100_mb, send_of_an_iolist_in_many_parts, send_to_a_full_queue, recv_of_a_large_frame, close_with_much_queued,
     death_with_much_queued, info_and_setopts].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

send_of_100_mb(_Config) ->
    Data = binary:copy(<<0>>, 100 * ?MB),
    quick(fun() -> h2_case:open() end,
          fun({Stream, _}) -> ok = hackney_native_nif:send(Stream, Data, nofin) end).

%% Parts by the hundred thousand: the call that looks at each runs on a dirty scheduler, and this one stays free.
send_of_an_iolist_in_many_parts(_Config) ->
    Part = binary:copy(<<0>>, 1000),
    Data = lists:duplicate(100000, Part),
    {Stream, _} = h2_case:open(),
    Test = self(),
    Ticker = spawn_link(fun() -> tick(Test, erlang:monotonic_time(microsecond), 0) end),
    ok = hackney_native:h2_send(Stream, Data),
    Ticker ! stop,
    receive {longest_gap, Gap} -> ct:pal("longest gap of a process beside it: ~b us", [Gap]) end,
    {ok, #{send_queue_bytes := Queued}} = hackney_native:h2_info(Stream),
    ?assert(Queued > 90 * ?MB),
    hackney_native:h2_close(Stream).

tick(Test, Last, Longest) ->
    receive stop -> Test ! {longest_gap, Longest}
    after 0 ->
        Now = erlang:monotonic_time(microsecond),
        erlang:yield(),
        tick(Test, Now, max(Longest, Now - Last))
    end.

send_to_a_full_queue(_Config) ->
    Data = binary:copy(<<0>>, 16384),
    quick(fun() ->
              {Stream, _} = Case = h2_case:open(),
              ok = hackney_native:h2_send(Stream, binary:copy(<<0>>, 2 * ?MB)),
              Case
          end,
          fun({Stream, _}) -> {wait, 0} = hackney_native_nif:send(Stream, Data, nofin) end).

recv_of_a_large_frame(_Config) ->
    quick(fun() ->
              {Stream, Conn} = h2_case:open([{max_frame_size, 4 * ?MB}]),
              h2_case:respond(Conn),
              [ok] = raw_peer:run(Conn, [{data, 1, binary:copy(<<0>>, 3 * ?MB)}]),
              queued(Stream, 3 * ?MB),
              {ok, {response, 200, []}} = hackney_native:h2_recv(Stream),
              Stream
          end,
          fun(Stream) -> {ok, {data, _}} = hackney_native_nif:recv(Stream, make_ref()) end).

close_with_much_queued(_Config) ->
    quick(fun full_both_ways/0, fun(Stream) -> ok = hackney_native_nif:close(Stream) end).

death_with_much_queued(_Config) ->
    quick(fun full_both_ways/0,
          fun(Stream) ->
              unlink(Stream),
              Monitor = monitor(process, Stream),
              exit(Stream, kill),
              receive {'DOWN', Monitor, process, Stream, killed} -> ok end
          end).

info_and_setopts(_Config) ->
    quick(fun full_both_ways/0,
          fun(Stream) ->
              {ok, _} = hackney_native_nif:info(Stream),
              ok = hackney_native_nif:set_active(Stream, true)
          end).

%% 4 MiB in and 50 MiB out that nobody takes.
full_both_ways() ->
    {Stream, Conn} = h2_case:open(),
    h2_case:respond(Conn),
    [_] = raw_peer:run(Conn, [{flood, 1, 64}]),
    queued(Stream, 1 * ?MB),
    ok = hackney_native:h2_send(Stream, binary:copy(<<0>>, 50 * ?MB)),
    Stream.

queued(Stream, Bytes) ->
    h2_case:until(fun() ->
        {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Stream),
        N >= Bytes
    end).

quick(Prepare, Call) ->
    Times = [begin
                 Prepared = Prepare(),
                 {Time, _} = timer:tc(fun() -> Call(Prepared) end),
                 Time
             end || _ <- lists:seq(1, ?TRIES)],
    ct:pal("~w us", [Times]),
    ?assert(lists:min(Times) < ?LIMIT_US).
