%%% @doc Streams that wait in line for a shared connection, and what they hear when it goes: GOAWAY, loss, PINGs without an answer.
%%% RFC numbers without a title are sections of RFC 9113.
-module(shared_line_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(shared_case, [connect/0, connect/2, open/2, opened/2, opened/3, respond/2, goes_on/3, read/2, streams/1,
                      in_line/2]).
-import(h2_case, [recv/1, drain/1, active/1, silent/1, gone/1, until/1, concurrently/1, result/1]).

-define(DEADLINE, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, line}, {group, going_away}, {group, loss}, {group, keepalive}].

groups() ->
    [{line, [parallel],
      [wait_in_order, places_added, places_taken_away, no_places, deadline_in_line, owner_dies_in_line, closed_in_line,
       connection_closed_with_a_line, a_long_line_at_once]},
     {going_away, [parallel],
      [goaway_spares_the_served, goaway_with_an_error, goaway_in_two_steps, goaway_with_a_line, goaway_then_open,
       goaway_ends_an_idle_connection, goaway_then_close]},
     {loss, [parallel], [closed_by_the_peer, reset_by_the_peer, cut_in_a_frame, rules_broken]},
     {keepalive, [parallel], [pings_answered, pings_unanswered, no_ping_with_traffic, no_ping_by_default]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- in line (5.1.2) ---------------------------------------------------------------------------

wait_in_order(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {First, 1} = opened(Conn, Wire),
    Tasks = [begin
                 Task = concurrently(fun() -> open_and_tell(Conn, N) end),
                 in_line(Conn, N),
                 Task
             end || N <- [1, 2, 3]],
    ok = raw_peer:barrier(Wire),
    ok = hackney_native:h2_close(First),
    [begin
         #{stream := Id, headers := Fields} = raw_peer:expect(Wire, headers),
         ?assertEqual({2 * N + 1, integer_to_binary(N)}, {Id, proplists:get_value(<<"n">>, Fields)}),
         [ok] = raw_peer:run(Wire, [{headers, Id, [{<<":status">>, <<"200">>}], fin}])
     end || N <- [1, 2, 3]],
    [?assertEqual([{response, 200, []}, done, {error, closed}], result(Task)) || Task <- Tasks].

open_and_tell(Conn, N) ->
    {ok, Stream} = hackney_native:h2_open(post, Conn, [{<<"n">>, integer_to_binary(N)}], [{connect_timeout, ?DEADLINE}]),
    Got = drain(Stream),
    ok = hackney_native:h2_close(Stream),
    Got.

places_added(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {_, 1} = opened(Conn, Wire),
    Tasks = [concurrently(fun() -> {ok, S} = open(Conn, []), hackney_native:h2_info(S) end) || _ <- lists:seq(1, 5)],
    in_line(Conn, 5),
    [ok] = raw_peer:run(Wire, [{settings, [{max_concurrent_streams, 6}]}]),
    Ids = [begin {ok, #{stream_id := Id}} = result(Task), Id end || Task <- Tasks],
    ?assertEqual([3, 5, 7, 9, 11], lists:sort(Ids)).

%% Those that are open stay; no other comes before there are fewer than it is now.
places_taken_away(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 3}]}, []),
    [{A, 1}, {B, 3}, {C, 5}] = [opened(Conn, Wire) || _ <- [1, 2, 3]],
    [ok, _] = raw_peer:run(Wire, [{settings, [{max_concurrent_streams, 1}]}, {expect, #{type => settings, flags => [ack]}}]),
    until(fun() -> {ok, #{max_streams := Max}} = hackney_native:h2_info(Conn), Max =:= 1 end),
    Task = concurrently(fun() -> open_and_tell(Conn, 1) end),
    in_line(Conn, 1),
    [begin
         ok = hackney_native:h2_close(S),
         #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => Id}),
         ok = raw_peer:barrier(Wire)
     end || {S, Id} <- [{A, 1}, {B, 3}]],
    ?assertEqual(3, length([H || #{type := headers} = H <- raw_peer:transcript(Wire)])),
    ok = hackney_native:h2_close(C),
    #{stream := 7} = raw_peer:expect(Wire, headers),
    [ok] = raw_peer:run(Wire, [{headers, 7, [{<<":status">>, <<"200">>}], fin}]),
    ?assertMatch([{response, 200, []}, done | _], result(Task)).

no_places(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 0}]}, []),
    Task = concurrently(fun() -> open_and_tell(Conn, 1) end),
    in_line(Conn, 1),
    ok = raw_peer:barrier(Wire),
    [ok] = raw_peer:run(Wire, [{settings, [{max_concurrent_streams, 1}]}]),
    #{stream := 1} = raw_peer:expect(Wire, headers),
    [ok] = raw_peer:run(Wire, [{headers, 1, [{<<":status">>, <<"200">>}], fin}]),
    ?assertMatch([{response, 200, []}, done | _], result(Task)).

deadline_in_line(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {First, 1} = opened(Conn, Wire),
    Patient = concurrently(fun() -> {ok, S} = open(Conn, []), hackney_native:h2_info(S) end),
    in_line(Conn, 1),
    process_flag(trap_exit, true),
    [?assertEqual({error, connect_timeout}, open(Conn, [{connect_timeout, Ms}])) || Ms <- [0, 1, 50]],
    ok = hackney_native:h2_close(First),
    ?assertMatch({ok, #{stream_id := 3}}, result(Patient)),
    receive {'EXIT', Pid, Reason} when Pid =/= First -> error({unexpected, Reason}) after 0 -> ok end.

owner_dies_in_line(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {First, 1} = opened(Conn, Wire),
    {ok, #{streams := Before}} = hackney_native:memory(),
    {Owner, _} = concurrently(fun() -> open(Conn, []) end),
    in_line(Conn, 1),
    exit(Owner, kill),
    until(fun() -> {ok, #{streams := N}} = hackney_native:memory(), N =< Before end),
    ok = hackney_native:h2_close(First),
    %% Its request is not sent.
    {_, 3} = opened(Conn, Wire),
    ?assertEqual(1, streams(Conn)).

closed_in_line(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {_, 1} = opened(Conn, Wire),
    {ok, Waiting} = hackney_native_h2_stream:start_link(#{connection => Conn}),
    Task = concurrently(fun() -> hackney_native_h2_stream:connect(Waiting) end),
    in_line(Conn, 1),
    ok = hackney_native:h2_close(Waiting),
    ?assertEqual({error, closed}, result(Task)),
    gone(Waiting).

connection_closed_with_a_line(_Config) ->
    [begin
         {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
         {_, 1} = opened(Conn, Wire),
         Tasks = [concurrently(fun() -> open(Conn, []) end) || _ <- lists:seq(1, 10)],
         in_line(Conn, 10),
         End(Conn, Wire),
         [?assertMatch({error, Reason} when Reason =:= closed; Reason =:= {closed, econnreset}, result(Task)) || Task <- Tasks]
     end || End <- [fun(Conn, _) -> hackney_native_h2_connection:close(Conn) end,
                    fun(_, Wire) -> [ok] = raw_peer:run(Wire, [close]) end,
                    fun(_, Wire) -> [ok] = raw_peer:run(Wire, [abort]) end,
                    fun(Conn, _) -> unlink(Conn), exit(Conn, kill) end]].

a_long_line_at_once(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {First, 1} = opened(Conn, Wire),
    Tasks = [concurrently(fun() -> {ok, S} = open(Conn, [{connect_timeout, 60000}]), hackney_native:h2_info(S) end)
             || _ <- lists:seq(1, 1000)],
    in_line(Conn, 1000),
    [ok] = raw_peer:run(Wire, [{settings, [{max_concurrent_streams, 10000}]}]),
    Ids = [begin {ok, #{stream_id := Id}} = result(Task), Id end || Task <- Tasks],
    ?assertEqual(lists:seq(3, 2001, 2), lists:sort(Ids)),
    ok = hackney_native:h2_close(First),
    until(fun() -> streams(Conn) =:= 0 end).

%% ---- GOAWAY (6.8) ------------------------------------------------------------------------------

goaway_spares_the_served(_Config) -> goaway(no_error).
goaway_with_an_error(_Config) -> goaway(internal_error).

goaway(Code) ->
    {Conn, Wire} = connect(),
    {Served, 1} = opened(Conn, Wire),
    {LeftOut, 3} = opened(Conn, Wire),
    {Active, 5} = opened(Conn, Wire, [{active, true}]),
    respond(Wire, 1),
    [ok] = raw_peer:run(Wire, [{goaway, 1, Code}]),
    ?assertEqual({error, unprocessed}, recv(LeftOut)),
    ?assertEqual({error, unprocessed}, active(Active)),
    receive {h2, Conn, {goaway, 1, Code}} -> ok after ?DEADLINE -> error(not_told) end,
    ?assertEqual({error, unprocessed}, open(Conn, [])),
    goes_on(Served, 1, Wire),
    [ok] = raw_peer:run(Wire, [{data, 1, <<>>, fin}]),
    done = recv(Served),
    ok = hackney_native:h2_close(Served),
    %% With its last stream the connection ends.
    _ = raw_peer:expect(Wire, closed),
    receive {h2, Conn, {closed, closed}} -> ok after ?DEADLINE -> error(not_told) end,
    gone(Conn),
    ?assertEqual({error, closed}, open(Conn, [])).

%% The first says only that no new ones are taken, the second which are served.
goaway_in_two_steps(_Config) ->
    {Conn, Wire} = connect(),
    {Served, 1} = opened(Conn, Wire),
    {LeftOut, 3} = opened(Conn, Wire),
    [respond(Wire, Id) || Id <- [1, 3]],
    [ok] = raw_peer:run(Wire, [{goaway, 16#7fffffff, no_error}]),
    receive {h2, Conn, {goaway, 16#7fffffff, no_error}} -> ok after ?DEADLINE -> error(not_told) end,
    ?assertEqual({error, unprocessed}, open(Conn, [])),
    goes_on(LeftOut, 3, Wire),
    [ok] = raw_peer:run(Wire, [{goaway, 1, no_error}]),
    receive {h2, Conn, {goaway, 1, no_error}} -> ok after ?DEADLINE -> error(not_told) end,
    ?assertEqual({error, unprocessed}, recv(LeftOut)),
    goes_on(Served, 1, Wire).

goaway_with_a_line(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 1}]}, []),
    {Served, 1} = opened(Conn, Wire),
    Tasks = [concurrently(fun() -> open(Conn, []) end) || _ <- lists:seq(1, 100)],
    in_line(Conn, 100),
    [ok] = raw_peer:run(Wire, [{goaway, 1, no_error}]),
    [?assertEqual({error, unprocessed}, result(Task)) || Task <- Tasks],
    respond(Wire, 1),
    goes_on(Served, 1, Wire).

%% Opened in the very moment: told to be repeated, or its process that it is over.
goaway_then_open(_Config) ->
    [begin
         {Conn, Wire} = connect(),
         Task = concurrently(fun() ->
             case open(Conn, []) of
                 {ok, Stream} -> recv(Stream);
                 Error -> Error
             end
         end),
         [ok] = raw_peer:run(Wire, [{goaway, 0, no_error}]),
         ?assertMatch({error, Reason} when Reason =:= unprocessed; Reason =:= closed, result(Task))
     end || _ <- lists:seq(1, 50)].

goaway_ends_an_idle_connection(_Config) ->
    {Conn, Wire} = connect(),
    [ok] = raw_peer:run(Wire, [{goaway, 0, enhance_your_calm}]),
    receive {h2, Conn, {goaway, 0, enhance_your_calm}} -> ok after ?DEADLINE -> error(not_told) end,
    receive {h2, Conn, {closed, closed}} -> ok after ?DEADLINE -> error(not_told) end,
    _ = raw_peer:expect(Wire, closed).

goaway_then_close(_Config) ->
    {Conn, Wire} = connect(),
    {Served, 1} = opened(Conn, Wire),
    [ok] = raw_peer:run(Wire, [{goaway, 1, no_error}]),
    receive {h2, Conn, {goaway, 1, no_error}} -> ok after ?DEADLINE -> error(not_told) end,
    ok = hackney_native_h2_connection:close(Conn),
    ?assertEqual({error, closed}, recv(Served)),
    #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => 1}),
    _ = raw_peer:expect(Wire, closed).

%% ---- loss ---------------------------------------------------------------------------------------

closed_by_the_peer(_Config) -> lost([close], closed).
reset_by_the_peer(_Config) -> lost([abort], {closed, econnreset}).
cut_in_a_frame(_Config) -> lost([{raw, <<100:24, 0, 0, 1:32, "half">>}, close], {closed, truncated_frame}).
%% A PING of seven bytes (6.7).
rules_broken(_Config) -> lost([{raw, <<7:24, 6, 0, 0:32, "1234567">>}], {closed, {connection_error, protocol_error}}).

lost(Steps, Reason) ->
    {Conn, Wire} = connect(),
    Passive = [opened(Conn, Wire) || _ <- lists:seq(1, 10)],
    {Active, 21} = opened(Conn, Wire, [{active, true}]),
    {Waiting, 23} = opened(Conn, Wire),
    Reader = concurrently(fun() -> hackney_native:h2_recv(Waiting) end),
    h2_case:reader_waits(Waiting),
    respond(Wire, 1),
    _ = raw_peer:run(Wire, Steps),
    [?assertEqual({error, Reason}, lists:last(drain(S))) || {S, _} <- Passive],
    ?assertEqual(case Reason of closed -> {closed, closed}; _ -> {error, Reason} end, active(Active)),
    ?assertEqual({error, Reason}, result(Reader)),
    receive {h2, Conn, {closed, Told}} -> ?assertEqual(Reason, Told) after ?DEADLINE -> error(not_told) end,
    gone(Conn),
    silent(Conn),
    ?assertEqual({error, closed}, open(Conn, [])).

%% ---- PINGs (6.7) --------------------------------------------------------------------------------

pings_answered(_Config) ->
    {Conn, Wire} = connect(#{}, [{keepalive, 10}, {keepalive_timeout, 5000}]),
    [raw_peer:expect(Wire, #{type => ping, flags => []}) || _ <- lists:seq(1, 5)],
    {Stream, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    goes_on(Stream, 1, Wire),
    silent(Conn).

pings_unanswered(_Config) ->
    {Conn, Wire} = connect(#{auto => [settings]}, [{keepalive, 20}, {keepalive_timeout, 50}]),
    {Passive, 1} = opened(Conn, Wire),
    {Active, 3} = opened(Conn, Wire, [{active, true}]),
    ?assertEqual({error, {closed, keepalive_timeout}}, recv(Passive)),
    ?assertEqual({error, {closed, keepalive_timeout}}, active(Active)),
    receive {h2, Conn, {closed, {closed, keepalive_timeout}}} -> ok after ?DEADLINE -> error(not_told) end,
    _ = raw_peer:expect(Wire, closed),
    ?assertMatch([_], [P || #{type := ping} = P <- raw_peer:transcript(Wire)]).

%% A peer that sends is there: twenty times the interval pass without a PING.
no_ping_with_traffic(_Config) ->
    {Conn, Wire} = connect(#{auto => [settings]}, [{keepalive, 200}, {keepalive_timeout, 200}]),
    {Stream, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    {response, 200, []} = recv(Stream),
    _ = raw_peer:run(Wire, [{drip, iolist_to_binary([h2_frames:data(1, <<"x">>, nofin) || _ <- lists:seq(1, 20)]), 20}], 60000),
    20 = read(Stream, 20),
    ?assertEqual([], [P || #{type := ping} = P <- raw_peer:transcript(Wire)]),
    silent(Conn).

no_ping_by_default(_Config) ->
    {ok, Engine, _} = hackney_native_connection_options:connection(#{host => "h", port => 1}),
    ?assertMatch(#{keepalive := infinity, keepalive_timeout := 20000}, Engine).
