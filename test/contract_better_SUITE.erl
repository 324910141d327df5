%%% @doc Section 4 of the contract: where this library is better than hackney, on purpose.
-module(contract_better_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [open/0, open/1, open/2, respond/1, recv/1, drain/1, active/1, silent/1, gone/1,
                  until/1, concurrently/1, result/1]).

-define(MIB, 1048576).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, flow}, {group, delivery}, {group, sending}, slow_reader_keeps_memory_bounded].

groups() ->
    [{flow, [parallel],
      [slow_reader_loses_nothing, slow_reader_of_the_default_window, default_windows,
       window_options, credit_comes_in_steps, nodelay]},
     {delivery, [parallel],
      [goaway_spares_the_served, once_error_between_messages, once_error_while_passive,
       closed_between_messages, active_n, active_n_adds_up, active_n_takes_from_the_queue,
       active_n_down_to_zero, active_n_ends_with_the_stream, active_n_out_of_range, no_process_on_the_data_path,
       informational_off, informational_on, h2c]},
     {sending, [parallel],
      [any_size_when_nothing_is_queued, send_timeout_expires, send_timeout_waits,
       block_waits, block_expires, block_ends_with_the_stream, max_send_buffer_option,
       connect_timeout_covers_everything]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- flow control ----------------------------------------------------------------------------

%% The peer is always ahead: it fills the window before each step of the reader.
slow_reader_loses_nothing(_Config) ->
    {Stream, Conn} = open([{initial_window_size, 256 * 1024}]),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    read_slowly(Stream, Conn, 0, 0, 16 * ?MIB).

slow_reader_of_the_default_window(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    read_slowly(Stream, Conn, 0, 0, 32 * ?MIB).

%% Reads half of what lies there, then lets the peer fill the window up again.
read_slowly(Stream, Conn, Sent, Read, Total) when Sent < Total ->
    [More] = raw_peer:run(Conn, [{flood, 1, 16384}]),
    {ok, #{recv_queue_bytes := Queued}} = hackney_native:h2_info(Stream),
    ?assert(Queued =< 4 * ?MIB, Queued),
    Upto = read_upto(Stream, Read, Read + (Sent + More - Read) div 2),
    read_slowly(Stream, Conn, Sent + More, Upto, Total);
read_slowly(Stream, Conn, Sent, Read, _Total) ->
    [ok] = raw_peer:run(Conn, [{data, 1, <<>>, fin}]),
    Sent = read_upto(Stream, Read, Sent),
    ?assertEqual([done, {error, closed}], drain(Stream)).

%% Checks each byte against its place.
read_upto(Stream, Read, Upto) when Read < Upto ->
    {data, Data} = recv(Stream),
    Size = byte_size(Data),
    ?assert(raw_peer_conn:content(Read, Size) =:= Data, {differs_after, Read}),
    read_upto(Stream, Read + Size, Upto);
read_upto(_Stream, Read, _Upto) ->
    Read.

%% 128 MiB go through while the reader is always behind.
slow_reader_keeps_memory_bounded(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    Before = h2_case:rss(),
    Peak = skim(Stream, Conn, 128 * ?MIB, 0),
    ?assert(Peak - Before < 64 * ?MIB, {grown_by, Peak - Before}).

skim(Stream, Conn, Left, Peak) when Left > 0 ->
    [N] = raw_peer:run(Conn, [{flood, 1, 16384}]),
    Now = h2_case:rss(),
    %% The peer knows of room only when it has heard of it: until then it sends nothing, and no more than is there can be read.
    {ok, #{recv_queue_bytes := Queued}} = hackney_native:h2_info(Stream),
    Bytes = skim_some(Stream, min(Queued, max(1, N div 2))),
    skim(Stream, Conn, Left - Bytes, max(Peak, Now));
skim(_Stream, _Conn, _Left, Peak) ->
    Peak.

skim_some(Stream, N) when N > 0 ->
    {data, Data} = recv(Stream),
    byte_size(Data) + skim_some(Stream, N - byte_size(Data));
skim_some(_Stream, _N) ->
    0.

default_windows(_Config) ->
    {_Stream, Conn} = open(),
    ?assertEqual({4 * ?MIB, 16 * ?MIB}, windows(Conn)).

window_options(_Config) ->
    {_, Conn} = open([{initial_window_size, 100000}, {connection_window_size, 200000}]),
    ?assertEqual({100000, 200000}, windows(Conn)),
    %% And that is what arrives unread, not a byte more.
    respond(Conn),
    ?assertEqual([100000, 0], raw_peer:run(Conn, [{flood, 1, 16384}, {flood, 1, 16384}])).

%% The windows that the client's first frames grant (RFC 9113 section 6.9.2).
windows(Conn) ->
    Transcript = raw_peer:transcript(Conn),
    [#{settings := Settings} | _] = [F || #{type := settings, flags := []} = F <- Transcript],
    Updates = [N || #{type := window_update, stream := 0, increment := N} <- Transcript],
    {proplists:get_value(initial_window_size, Settings), 65535 + lists:sum(Updates)}.

%% Not a WINDOW_UPDATE per message.
credit_comes_in_steps(_Config) ->
    {Stream, Conn} = open([{initial_window_size, ?MIB}]),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    [?MIB] = raw_peer:run(Conn, [{flood, 1, 1024}]),
    ?MIB = read_upto(Stream, 0, ?MIB),
    ok = raw_peer:barrier(Conn),
    Updates = [N || #{type := window_update, stream := 1, increment := N} <- raw_peer:transcript(Conn)],
    ?assert(length(Updates) >= 1 andalso length(Updates) =< 64, Updates).

%% Two small sends in a row, and an answer to the first: with Nagle's algorithm and delayed ACKs
%% each round would take some 40 ms.
nodelay(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    {Micros, _} = timer:tc(fun() -> [round_trip(Stream, Conn, N) || N <- lists:seq(1, 50)] end),
    ?assert(Micros < 50 * 30000, Micros).

round_trip(Stream, Conn, N) ->
    ok = hackney_native:h2_send(Stream, <<"a">>),
    ok = hackney_native:h2_send(Stream, <<"b">>),
    [_, ok] = raw_peer:run(Conn, [{expect_bytes, 1, 2 * N}, {data, 1, <<"c">>}]),
    {data, <<"c">>} = recv(Stream).

%% ---- delivery --------------------------------------------------------------------------------

goaway_spares_the_served(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{goaway, 1, no_error, <<"max age">>}, barrier]),
    %% Both directions go on.
    ok = hackney_native:h2_send(Stream, <<"still here">>, fin),
    #{data := <<"still here">>} = raw_peer:expect(Conn, data),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"so am I">>},
                                   {headers, 1, [{<<"t">>, <<"1">>}], fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"so am I">>}, {trailers, [{<<"t">>, <<"1">>}]},
                  done, {error, closed}], drain(Stream)).

%% {active, once} has fired, the error comes, the owner asks for the next.
once_error_between_messages(_Config) ->
    [begin
         {Stream, Conn} = open([{active, once}]),
         respond(Conn),
         ?assertEqual({response, 200, []}, active(Stream)),
         _ = raw_peer:run(Conn, Steps),
         until(fun() -> state(Stream) =:= closed end),
         silent(Stream),
         ok = hackney_native:h2_setopts(Stream, [{active, Next}]),
         ?assertEqual({error, Reason}, active(Stream)),
         gone(Stream),
         silent(Stream)
     end || Next <- [once, true, 5],
            {Steps, Reason} <- [{[{rst, 1, cancel}], {stream_error, cancel}},
                                {[{goaway, 0, no_error}], {goaway, no_error}},
                                {[abort], {closed, econnreset}}]].

%% The same with messages still queued before the error.
once_error_while_passive(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    _ = raw_peer:run(Conn, [{data, 1, <<"x">>}, {rst, 1, internal_error}]),
    until(fun() -> state(Stream) =:= closed end),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}, {error, {stream_error, internal_error}}],
                 [begin
                      ok = hackney_native:h2_setopts(Stream, [{active, once}]),
                      active(Stream)
                  end || _ <- [1, 2, 3]]).

closed_between_messages(_Config) ->
    {Stream, Conn} = open([{active, once}]),
    respond(Conn),
    ?assertEqual({response, 200, []}, active(Stream)),
    [ok] = raw_peer:run(Conn, [close]),
    until(fun() -> state(Stream) =:= closed end),
    ok = hackney_native:h2_setopts(Stream, [{active, once}]),
    ?assertEqual({closed, closed}, active(Stream)).

active_n(_Config) ->
    {Stream, Conn} = open([{active, 2}]),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, barrier]),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}, passive],
                 [active(Stream) || _ <- [1, 2, 3]]),
    %% Passive it is.
    [ok] = raw_peer:run(Conn, [{data, 1, <<"y">>}]),
    ?assertEqual({data, <<"y">>}, recv(Stream)),
    silent(Stream).

active_n_adds_up(_Config) ->
    {Stream, Conn} = open([{active, 1}]),
    ok = hackney_native:h2_setopts(Stream, [{active, 2}]),
    ?assertEqual({error, {active_mode, 3}}, hackney_native:h2_recv(Stream, 0)),
    ok = hackney_native:h2_setopts(Stream, [{active, -1}]),
    respond(Conn),
    [ok, ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, {data, 1, <<"y">>}, barrier]),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}, passive],
                 [active(Stream) || _ <- [1, 2, 3]]),
    silent(Stream).

active_n_takes_from_the_queue(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    _ = raw_peer:run(Conn, [{data, 1, <<N>>} || N <- lists:seq(1, 5)] ++ [barrier]),
    until(fun() -> {ok, #{recv_queue_bytes := B}} = hackney_native:h2_info(Stream), B =:= 5 end),
    ok = hackney_native:h2_setopts(Stream, [{active, 3}]),
    ?assertEqual([{response, 200, []}, {data, <<1>>}, {data, <<2>>}, passive],
                 [active(Stream) || _ <- [1, 2, 3, 4]]),
    ?assertEqual({data, <<3>>}, recv(Stream)).

%% The last message of a stream is the last, even if it is the last of N.
active_n_ends_with_the_stream(_Config) ->
    {Stream, Conn} = open([{active, 2}]),
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>}], fin}]),
    ?assertEqual([{response, 200, []}, done], [active(Stream) || _ <- [1, 2]]),
    _ = gone(Stream),
    silent(Stream).

active_n_down_to_zero(_Config) ->
    {Stream, _Conn} = open([{active, 3}]),
    ok = hackney_native:h2_setopts(Stream, [{active, -3}]),
    ?assertEqual(passive, active(Stream)),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 0)).

active_n_out_of_range(_Config) ->
    {Stream, _Conn} = open([{active, 32767}]),
    [?assertEqual({N, {error, badarg}}, {N, hackney_native:h2_setopts(Stream, [{active, N}])})
     || N <- [1, 32767, 32768, -32769, 1 bsl 70]],
    ?assertEqual({error, {active_mode, 32767}}, hackney_native:h2_recv(Stream, 0)).

%% The stream's process, suspended, is in nobody's way.
no_process_on_the_data_path(_Config) ->
    {Stream, Conn} = open(),
    ok = sys:suspend(Stream),
    ok = hackney_native:h2_send(Stream, <<"out">>),
    #{data := <<"out">>} = raw_peer:expect(Conn, data),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"in">>}]),
    ?assertEqual({response, 200, []}, recv(Stream)),
    ?assertEqual({data, <<"in">>}, recv(Stream)),
    ok = hackney_native:h2_consume(Stream, 2),
    ok = hackney_native:h2_setopts(Stream, [{active, true}]),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"in again">>}]),
    ?assertEqual({data, <<"in again">>}, active(Stream)),
    ok = sys:resume(Stream).

informational_off(_Config) ->
    {Stream, Conn} = open(),
    inform(Conn),
    ?assertEqual({response, 200, []}, recv(Stream)).

informational_on(_Config) ->
    {Stream, Conn} = open([{informational, true}]),
    inform(Conn),
    ?assertEqual([{informational, 100, []}, {informational, 103, [{<<"link">>, <<"</a>">>}]},
                  {response, 200, []}], [recv(Stream) || _ <- [1, 2, 3]]).

inform(Conn) ->
    [ok, ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"100">>}]},
                                   {headers, 1, [{<<":status">>, <<"103">>},
                                                 {<<"link">>, <<"</a>">>}]}]),
    respond(Conn).

h2c(_Config) ->
    Peer = raw_peer:start(#{transport => tcp}),
    {ok, Stream} = hackney_native:h2_open(raw_peer:url(Peer, "/p"), [{h2c, true}]),
    Conn = raw_peer:accept(Peer),
    [#{}, #{headers := Headers}] = raw_peer:run(Conn, [{expect, preface}, {expect, headers}]),
    ?assertEqual(<<"http">>, proplists:get_value(<<":scheme">>, Headers)),
    respond(Conn),
    ok = hackney_native:h2_send(Stream, <<"clear">>, fin),
    #{data := <<"clear">>} = raw_peer:expect(Conn, data),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"text">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"text">>}, done, {error, closed}], drain(Stream)).

%% ---- sending ---------------------------------------------------------------------------------

%% hackney refuses every piece above 1 MiB.
any_size_when_nothing_is_queued(_Config) ->
    {Stream, Conn} = open(no_window(), []),
    Data = raw_peer_conn:content(0, 5 * ?MIB),
    ok = hackney_native:h2_send(Stream, Data, fin),
    [ok, ok, _] = raw_peer:run(Conn, room(8 * ?MIB) ++ [{expect_bytes, 1, 5 * ?MIB}]),
    ?assert(Data =:= body(Conn)).

send_timeout_expires(_Config) ->
    {Stream, Conn} = open(no_window(), [{send_timeout, 50}]),
    ok = hackney_native:h2_send(Stream, binary:copy(<<"x">>, ?MIB)),
    ?assertEqual({error, timeout}, hackney_native:h2_send(Stream, <<"refused">>)),
    [ok, ok, _] = raw_peer:run(Conn, room(2 * ?MIB) ++ [{expect_bytes, 1, ?MIB}]),
    ok = hackney_native:h2_send(Stream, <<"taken">>, fin),
    [_] = raw_peer:run(Conn, [{expect_bytes, 1, ?MIB + 5}]),
    ?assert(<<(binary:copy(<<"x">>, ?MIB))/binary, "taken">> =:= body(Conn)).

send_timeout_waits(_Config) ->
    waits([{send_timeout, infinity}], fun(Stream) -> hackney_native:h2_send(Stream, <<"waited">>, fin) end).

block_waits(_Config) ->
    waits([], fun(Stream) -> hackney_native:h2_send(Stream, <<"waited">>, fin, #{block => infinity}) end).

waits(Opts, Send) ->
    {Stream, Conn} = open(no_window(), Opts),
    ok = hackney_native:h2_send(Stream, binary:copy(<<"x">>, ?MIB)),
    Sender = concurrently(fun() -> Send(Stream) end),
    until(fun() -> {status, waiting} =:= process_info(element(1, Sender), status) end),
    [ok, ok, _] = raw_peer:run(Conn, room(2 * ?MIB) ++ [{expect_bytes, 1, ?MIB + 6}]),
    ?assertEqual(ok, result(Sender)),
    ?assert(<<(binary:copy(<<"x">>, ?MIB))/binary, "waited">> =:= body(Conn)).

block_expires(_Config) ->
    {Stream, _Conn} = open(no_window(), [{send_timeout, infinity}]),
    ok = hackney_native:h2_send(Stream, binary:copy(<<"x">>, ?MIB)),
    ?assertEqual({error, timeout}, hackney_native:h2_send(Stream, <<"y">>, nofin, #{block => 50})),
    ?assertEqual({error, timeout}, hackney_native:h2_send(Stream, <<"y">>, fin, #{block => 0})),
    silent(Stream).

block_ends_with_the_stream(_Config) ->
    {Stream, Conn} = open(no_window(), []),
    ok = hackney_native:h2_send(Stream, binary:copy(<<"x">>, ?MIB)),
    Sender = concurrently(fun() ->
        hackney_native:h2_send(Stream, <<"y">>, nofin, #{block => infinity})
    end),
    until(fun() -> {status, waiting} =:= process_info(element(1, Sender), status) end),
    [ok] = raw_peer:run(Conn, [{rst, 1, cancel}]),
    ?assertEqual({error, closed}, result(Sender)).

max_send_buffer_option(_Config) ->
    {Stream, _Conn} = open(no_window(), [{max_send_buffer, 10}]),
    ok = hackney_native:h2_send(Stream, <<"123456">>),
    ok = hackney_native:h2_send(Stream, <<"7890">>),
    ?assertEqual({error, send_buffer_full}, hackney_native:h2_send(Stream, <<"1">>)).

%% TCP, TLS and SETTINGS share one deadline: each is fast enough, and together they are not.
connect_timeout_covers_everything(_Config) ->
    Peer = raw_peer:start(#{script => [{expect, headers}, {wait, never}]}),
    Start = erlang:monotonic_time(millisecond),
    ?assertEqual({error, connect_timeout},
                 hackney_native:h2_open(raw_peer:url(Peer), [],
                                        raw_peer:options(Peer, [{connect_timeout, 1000}]))),
    Took = erlang:monotonic_time(millisecond) - Start,
    ?assert(Took >= 1000 andalso Took < 5000, Took).

%% ---- helpers ---------------------------------------------------------------------------------

no_window() -> #{settings => [{initial_window_size, 0}]}.

room(N) -> [{window_update, 0, N}, {window_update, 1, N}].

state(Stream) ->
    case hackney_native:h2_info(Stream) of
        {ok, #{state := State}} -> State;
        {error, closed} -> gone
    end.

body(Conn) ->
    iolist_to_binary([Data || #{type := data, data := Data} <- raw_peer:transcript(Conn)]).
