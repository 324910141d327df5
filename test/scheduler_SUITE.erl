%%% No call of the library holds a scheduler for a millisecond, however much it is given.
%%%
%%% Measured in two ways: around the call, by the wall's clock, to which a busy machine may add; and by the library itself
%%% (`hackney_native:nif_times/0'), by the thread's CPU clock, which leaves other threads out but not interrupts, nor what a host
%%% takes from a virtual machine. The library cannot make either less, so of several tries the quickest counts.
-module(scheduler_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([first_stream_of_a_node/1, first_stream/0, many_certificates/1, many_header_fields/1, many_trailers/1,
         many_fields_received/1, short_frames_received/1, short_frames_unread/1, none_under_load/1, times_only_when_asked/1]).
-export([shared_connection_under_load/1, events_of_many_streams/1, guests/2, no_huge_pages/1]).
-export([send_of_100_mb/1, send_of_an_iolist_in_many_parts/1, send_to_a_full_queue/1, recv_of_a_large_frame/1,
         close_with_much_queued/1, death_with_much_queued/1, info_and_setopts/1]).

-define(LIMIT_US, 1000).
-define(TRIES, 5).
-define(MB, 1024 * 1024).

all() ->
    [send_of_100_mb, send_of_an_iolist_in_many_parts, send_to_a_full_queue, recv_of_a_large_frame, close_with_much_queued,
     death_with_much_queued, info_and_setopts,
     first_stream_of_a_node, many_certificates, many_header_fields, many_trailers, many_fields_received, short_frames_received,
     short_frames_unread, none_under_load, shared_connection_under_load, events_of_many_streams, no_huge_pages,
     times_only_when_asked].

suite() -> [{timetrap, {minutes, 5}}].

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
              h2_case:queued(Stream, 3 * ?MB),
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

%% ---- by the library's own clock ----------------------------------------------------------------

%% It starts the engine's threads.
first_stream_of_a_node(_Config) ->
    call_times:least_of(fun() ->
        {ok, Peer, _Node} = peer:start_link(#{connection => standard_io, args => ["-pa" | code:get_path()]}),
        Times = peer:call(Peer, ?MODULE, first_stream, [], 60000),
        peer:stop(Peer),
        Times
    end).

first_stream() ->
    h2_case:start(),
    call_times:measured(fun() ->
        {Stream, _} = h2_case:open(),
        ok = hackney_native:h2_close(Stream)
    end).

many_certificates(_Config) ->
    Certificates = lists:duplicate(5000, binary:copy(<<0>>, 1500)),
    call_times:bounded(fun() ->
        Options = [{ssl_options, [{cacerts, Certificates}]}],
        {error, {options, _}} = hackney_native:h2_open(<<"https://localhost:1">>, Options)
    end).

many_header_fields(_Config) ->
    call_times:bounded(fun() ->
        {error, econnrefused} = hackney_native:h2_open(url(h2_case:refused_port()), fields(20000), [{insecure, true}])
    end).

many_trailers(_Config) ->
    call_times:bounded(fun() ->
        {Stream, _} = h2_case:open(),
        ok = hackney_native:h2_send_trailers(Stream, fields(20000)),
        ok = hackney_native:h2_close(Stream)
    end).

many_fields_received(_Config) ->
    Size = 1000000,
    Fields = [{<<":status">>, <<"200">>} | lists:duplicate(20000, {<<"a">>, <<>>})],
    call_times:bounded(fun() ->
        {Stream, Conn} = h2_case:open([{max_frame_size, Size}, {max_header_list_size, Size}]),
        [ok] = raw_peer:run(Conn, [{headers, 1, Fields}]),
        {response, 200, Received} = h2_case:recv(Stream),
        ?assertEqual(20000, length(Received)),
        ok = hackney_native:h2_close(Stream)
    end).

%% A conversation while the peer sends frames of one byte each: a call that drives the connection meets a socket full of them.
short_frames_received(_Config) ->
    Count = 200000,
    call_times:bounded(fun() ->
        {Stream, Conn} = h2_case:open(),
        h2_case:respond(Conn),
        {response, 200, []} = h2_case:recv(Stream),
        [ok] = raw_peer:run(Conn, [{raw, short_frames(Count)}]),
        converse(Stream, Count),
        ok = hackney_native:h2_close(Stream)
    end).

converse(_Stream, 0) ->
    ok;
converse(Stream, Left) ->
    case hackney_native:h2_send(Stream, <<"x">>) of
        ok -> ok;
        {error, send_buffer_full} -> ok
    end,
    {data, Data} = h2_case:recv(Stream),
    converse(Stream, Left - byte_size(Data)).

%% Nor do they take much more memory than the bytes they carry, in a stream that nobody reads.
short_frames_unread(_Config) ->
    Count = 1000000,
    call_times:bounded(fun() ->
        {Stream, Conn} = h2_case:open([{active, once}]),
        h2_case:respond(Conn),
        {response, 200, []} = h2_case:active(Stream),
        {ok, #{native_bytes := Before}} = hackney_native:memory(),
        [ok] = raw_peer:run(Conn, [{raw, short_frames(Count)}], 60000),
        h2_case:queued(Stream, Count),
        {ok, #{native_bytes := After, recv_queue_bytes := Queued}} = hackney_native:memory(),
        ct:pal("~b bytes queued in ~b", [Queued, After - Before]),
        ?assert(Queued >= Count),
        ?assert(After - Before < 16 * ?MB),
        ok = hackney_native:h2_setopts(Stream, [{active, true}]),
        ok = hackney_native:h2_close(Stream),
        _ = h2_case:gone(Stream)
    end).

%% DATA frames of one byte on stream 1 (RFC 9113, 6.1).
short_frames(Count) -> binary:copy(<<1:24, 0, 0, 1:32, "x">>, Count).

%% Everything at once. `SCHEDULER_SECONDS' sets for how long.
none_under_load(_Config) ->
    Server = embedded_server:start(),
    Seconds = list_to_integer(os:getenv("SCHEDULER_SECONDS", "6")),
    try call_times:least_of(fun() -> call_times:measured(fun() -> nif_load:run(Server, Seconds) end) end)
    after embedded_server:stop(Server)
    end.

%% A thousand streams talk on one connection, while others come and go.
shared_connection_under_load(_Config) ->
    Server = embedded_server:start(),
    Trust = [{ssl_options, [{cacertfile, embedded_server:ca_file(Server)}]}],
    try call_times:bounded(fun() ->
            {ok, Conn} = hackney_native:h2_connect(embedded_server:url(Server, "/"), Trust),
            Target = fun() -> {Conn, <<"/echo">>} end,
            Guests = h2_case:concurrently(fun() -> guests(Conn, 1000) end),
            _ = shared_load:ping_pong(Target, 1000, 20, open_at_once),
            ok = h2_case:result(Guests),
            ok = hackney_native_h2_connection:close(Conn)
        end)
    after embedded_server:stop(Server)
    end.

guests(_Conn, 0) ->
    ok;
guests(Conn, Left) ->
    {ok, Stream} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
    {ok, _} = hackney_native:h2_info(Conn),
    %% To its end: servers take many that are opened and cancelled for an attack.
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    [{response, 200, _} | _] = h2_case:drain(Stream),
    guests(Conn, Left - 1).

%% What concerns them all at once, in the moment in which somebody drives the connection from a call: places for all that wait, a
%% change of all windows, GOAWAY, the connection's end in three ways.
events_of_many_streams(_Config) ->
    call_times:bounded(fun() -> [many_streams(End) || End <- [fun(Conn, _) -> hackney_native_h2_connection:close(Conn) end,
                                                   fun(Conn, _) -> unlink(Conn), exit(Conn, kill) end,
                                                   fun(_, Wire) -> raw_peer:run(Wire, [{goaway, 1, no_error}, abort]) end]]
            end).

many_streams(End) ->
    Count = 1000,
    Peer = raw_peer:start(#{transport => tcp, settings => [{max_concurrent_streams, 1}], when_closed => stop}),
    {ok, Conn} = hackney_native:h2_connect(raw_peer:url(Peer), raw_peer:options(Peer)),
    Wire = raw_peer:accept(Peer),
    {ok, First} = hackney_native:h2_open(post, Conn, [], []),
    [ok, ok] = raw_peer:run(Wire, [{headers, 1, [{<<":status">>, <<"200">>}]}, {data, 1, <<"x">>}]),
    Talker = spawn(fun() -> talk(First) end),
    Others = [h2_case:concurrently(fun() ->
                  {ok, Stream} = hackney_native:h2_open(post, Conn, [], [{connect_timeout, 20000}]),
                  hackney_native:h2_recv(Stream)
              end) || _ <- lists:seq(1, Count)],
    {ok, #{streams := Streams}} = hackney_native:memory(),
    Streams > Count orelse h2_case:until(fun() -> {ok, #{streams := N}} = hackney_native:memory(), N > Count end),
    [ok] = raw_peer:run(Wire, [{settings, [{max_concurrent_streams, 2 * Count}]}]),
    h2_case:until(fun() -> {ok, #{streams := N}} = hackney_native:h2_info(Conn), N =:= Count + 1 end),
    [ok, ok] = raw_peer:run(Wire, [{settings, [{initial_window_size, 0}]}, {settings, [{initial_window_size, 1000000}]}]),
    ok = raw_peer:barrier(Wire),
    _ = End(Conn, Wire),
    [{error, _} = h2_case:result(Task) || Task <- Others],
    exit(Talker, kill),
    unlink(First),
    raw_peer:stop(Peer).

%% Sends as one who waits for answers does: each call drives the connection.
talk(Stream) ->
    _ = hackney_native:h2_recv(Stream, 0),
    _ = hackney_native:h2_send(Stream, <<"x">>),
    talk(Stream).

%% The first touch of a huge page fills 2 MiB with zeros: up to 5 ms in a virtual machine, in whichever call it comes. The allocator must
%% not ask for them, which the flag `hg' shows (madvise, MADV_HUGEPAGE).
no_huge_pages(_Config) ->
    Streams = [full_both_ways() || _ <- [1, 2, 3]],
    {ok, Maps} = file:read_file("/proc/self/smaps"),
    ?assertMatch({match, _}, re:run(Maps, "^VmFlags:.* rd ", [multiline])),
    ?assertEqual(nomatch, re:run(Maps, "^VmFlags:.* hg", [multiline])),
    [ok = hackney_native:h2_close(Stream) || Stream <- Streams].

times_only_when_asked(_Config) ->
    ok = hackney_native:nif_times(start),
    ok = hackney_native:nif_times(stop),
    {Stream, _} = h2_case:open(),
    ?assertEqual({ok, #{normal => #{}, dirty => #{}}}, hackney_native:nif_times()),
    ok = hackney_native:nif_times(start),
    [{ok, _} = hackney_native:h2_info(Stream) || _ <- lists:seq(1, 100)],
    {ok, _} = hackney_native:memory(),
    {ok, #{normal := #{info := #{calls := 100, cpu := Cpu, wall := Wall}}, dirty := #{memory := #{calls := 1}}}} =
        hackney_native:nif_times(),
    [?assert(0.0 < P50 andalso P50 =< P99 andalso P99 =< Max) || #{p50 := P50, p99 := P99, max := Max} <- [Cpu, Wall]],
    ok = hackney_native:nif_times(start),
    ?assertEqual({ok, #{normal => #{}, dirty => #{}}}, hackney_native:nif_times()),
    ok = hackney_native:nif_times(stop),
    ?assertError(badarg, hackney_native:nif_times(pause)),
    ok = hackney_native:h2_close(Stream).

%% ---- measuring -----------------------------------------------------------------------------------

fields(Count) ->
    [{<<"x-", (integer_to_binary(N))/binary>>, <<"v">>} || N <- lists:seq(1, Count)].

url(Port) -> iolist_to_binary(["https://127.0.0.1:", integer_to_list(Port)]).

%% 4 MiB in and 50 MiB out that nobody takes.
full_both_ways() ->
    {Stream, Conn} = h2_case:open(),
    h2_case:respond(Conn),
    [_] = raw_peer:run(Conn, [{flood, 1, 64}]),
    h2_case:queued(Stream, 1 * ?MB),
    ok = hackney_native:h2_send(Stream, binary:copy(<<0>>, 50 * ?MB)),
    Stream.

quick(Prepare, Call) ->
    Times = [begin
                 Prepared = Prepare(),
                 {Time, _} = timer:tc(fun() -> Call(Prepared) end),
                 Time
             end || _ <- lists:seq(1, ?TRIES)],
    ct:pal("~w us", [Times]),
    ?assert(lists:min(Times) < ?LIMIT_US).
