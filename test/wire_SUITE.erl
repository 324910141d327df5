%%% @doc Frames on the wire: what this client sends, and what it makes of peers that do what no real
%%% server does. RFC numbers without a title are sections of RFC 9113.
-module(wire_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [open/0, open/1, open/2, respond/1, recv/1, drain/1, active/1, silent/1, gone/1,
                  until/1, concurrently/1, result/1]).

-define(MIB, 1048576).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, client}, {group, sending}, {group, receiving}, {group, ending}].

groups() ->
    [{client, [parallel],
      [first_frames, push_is_refused, settings_are_acknowledged, pings_are_answered,
       manual_gives_nothing_by_itself, consume_updates_both_windows, consume_more_than_received,
       auto_gives_back_what_is_read, padding_is_given_back]},
     {sending, [parallel],
      [stream_window_is_kept, connection_window_is_kept, settings_shrink_the_window,
       settings_shrink_it_below_zero, settings_widen_the_window, frame_size_is_kept,
       larger_frames_on_request, empty_window_lets_the_end_pass, header_table_size_is_kept,
       one_way_burst_keeps_order]},
     {receiving, [parallel],
      [trailers_without_data, trailers_only, informational_then_trailers, continuation,
       padding, priority_and_unknown_frames, settings_in_the_middle, huffman_and_tables,
       ten_thousand_tiny_frames, one_byte_at_a_time, half_a_frame_then_silence,
       many_frames_in_one_segment, response_before_the_request_ends,
       answer_races_the_send]},
     {ending, [parallel],
      [close_cancels, close_of_a_half_closed_stream, close_when_all_is_done,
       connection_goes_with_the_stream, fin_waits_for_the_window, reset_no_error_after_response,
       goaway_below_the_stream, goaway_at_the_stream, goaway_in_two_steps,
       goaway_then_reset, goaway_with_window_update, data_after_close_is_dropped]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- what the client sends -------------------------------------------------------------------

%% 3.4: the preface, SETTINGS, and only then anything else.
first_frames(_Config) ->
    {_Stream, Conn} = open(),
    [#{type := preface}, #{type := settings, flags := []} | _] = raw_peer:transcript(Conn),
    _ = raw_peer:sequence(Conn, [preface, settings, headers]),
    #{stream := 1, flags := [end_headers]} = hd([F || #{type := headers} = F <- raw_peer:transcript(Conn)]).

%% 6.5.2
push_is_refused(_Config) ->
    {_Stream, Conn} = open(),
    [#{settings := Settings}] = raw_peer:sequence(Conn, [settings]),
    ?assertEqual(0, proplists:get_value(enable_push, Settings)).

%% 6.5.3
settings_are_acknowledged(_Config) ->
    {_Stream, Conn} = open(),
    [ok, _, ok, ok, _, _] =
        raw_peer:run(Conn, [{settings, [{max_concurrent_streams, 7}]},
                            {expect, #{type => settings, flags => [ack]}},
                            {settings, []}, {settings, [{16#face, 1}]},
                            {expect, #{type => settings, flags => [ack]}},
                            {expect, #{type => settings, flags => [ack]}}]).

%% 6.7
pings_are_answered(_Config) ->
    {_Stream, Conn} = open(),
    [ok, #{opaque := <<"12345678">>}] =
        raw_peer:run(Conn, [{ping, <<"12345678">>}, {expect, #{type => ping, flags => [ack]}}]).

manual_gives_nothing_by_itself(_Config) ->
    {Stream, Conn} = open([{flow_control, manual}, {initial_window_size, 1000},
                           {connection_window_size, 65535}]),
    respond(Conn),
    [1000] = raw_peer:run(Conn, [{flood, 1, 100}]),
    {response, 200, []} = recv(Stream),
    1000 = read_bytes(Stream, 1000),
    ok = raw_peer:barrier(Conn),
    ?assertEqual([], updates(Conn, 1)).

consume_updates_both_windows(_Config) ->
    {Stream, Conn} = open([{flow_control, manual}, {initial_window_size, 65535},
                           {connection_window_size, 65535}]),
    respond(Conn),
    [65535] = raw_peer:run(Conn, [{flood, 1, 16384}]),
    {response, 200, []} = recv(Stream),
    65535 = read_bytes(Stream, 65535),
    ok = hackney_native:h2_consume(Stream, 65535),
    _ = raw_peer:run(Conn, [{expect, #{type => window_update, stream => 1}},
                            {expect, #{type => window_update, stream => 0}}]),
    until(fun() -> {65535, 65535} =:= {lists:sum(updates(Conn, 1)), lists:sum(updates(Conn, 0))} end),
    %% Which is just as much as the peer may send again.
    ?assertEqual([65535], raw_peer:run(Conn, [{flood, 1, 16384}])).

consume_more_than_received(_Config) ->
    {Stream, Conn} = open([{flow_control, manual}, {initial_window_size, 1000}]),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"1234567890">>}]),
    {response, 200, []} = recv(Stream),
    {data, _} = recv(Stream),
    ?assertMatch({error, {badarg, _}}, hackney_native:h2_consume(Stream, 11)),
    ok = hackney_native:h2_consume(Stream, 10),
    ok = raw_peer:barrier(Conn),
    ?assert(lists:sum(updates(Conn, 1)) =< 10).

auto_gives_back_what_is_read(_Config) ->
    {Stream, Conn} = open([{initial_window_size, 10000}, {connection_window_size, 65535}]),
    respond(Conn),
    [10000] = raw_peer:run(Conn, [{flood, 1, 1000}]),
    ok = raw_peer:barrier(Conn),
    ?assertEqual([], updates(Conn, 1)),
    {response, 200, []} = recv(Stream),
    10000 = read_bytes(Stream, 10000),
    _ = raw_peer:expect(Conn, #{type => window_update, stream => 1}),
    %% The same in an active mode: the owner was sent it.
    ok = hackney_native:h2_setopts(Stream, [{active, true}]),
    [#{bytes := 100000}] = raw_peer:run(Conn, [{pump, 1, 100000, 1000, fin}]),
    ?assertEqual(100000, active_bytes(Stream, 0)).

active_bytes(Stream, Sum) ->
    case active(Stream) of
        {data, Data} -> active_bytes(Stream, Sum + byte_size(Data));
        done -> Sum
    end.

%% 6.1: padding counts against the windows although nobody reads it.
padding_is_given_back(_Config) ->
    {Stream, Conn} = open([{initial_window_size, 1000}]),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    %% 20 times 101 bytes are twice the window.
    [begin
         until(fun() -> window(Conn) - N * 101 >= 101 end),
         [ok] = raw_peer:run(Conn, [{raw, h2_frames:data(1, <<>>, nofin, 100)}])
     end || N <- lists:seq(0, 19)],
    [ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}]),
    ?assertEqual([{data, <<"x">>}, done, {error, closed}], drain(Stream)).

window(Conn) -> 1000 + lists:sum(updates(Conn, 1)).

%% ---- sending ---------------------------------------------------------------------------------

stream_window_is_kept(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 10}]}, []),
    ok = hackney_native:h2_send(Stream, <<"0123456789abcdefghij">>, fin),
    [10, ok] = raw_peer:run(Conn, [{expect_bytes, 1, 10}, barrier]),
    ?assertEqual({<<"0123456789">>, nofin}, body(Conn)),
    [ok, 13, ok] = raw_peer:run(Conn, [{window_update, 1, 3}, {expect_bytes, 1, 13}, barrier]),
    ?assertEqual({<<"0123456789abc">>, nofin}, body(Conn)),
    [ok, 20] = raw_peer:run(Conn, [{window_update, 1, 100}, {expect_bytes, 1, 20}]),
    ?assertEqual({<<"0123456789abcdefghij">>, fin}, body(Conn)).

%% 6.9: the connection's own window starts at 65,535 whatever SETTINGS say.
connection_window_is_kept(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, ?MIB}]}, []),
    Data = raw_peer_conn:content(0, 100000),
    ok = hackney_native:h2_send(Stream, Data, fin),
    [65535, ok] = raw_peer:run(Conn, [{expect_bytes, 1, 65535}, barrier]),
    ?assertEqual({binary:part(Data, 0, 65535), nofin}, body(Conn)),
    [ok, 100000] = raw_peer:run(Conn, [{window_update, 0, 40000}, {expect_bytes, 1, 100000}]),
    ?assertEqual({Data, fin}, body(Conn)).

%% 6.9.2, with DATA under way.
settings_shrink_the_window(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 1000}]}, []),
    ok = hackney_native:h2_send(Stream, raw_peer_conn:content(0, 400)),
    %% 600 are left; the difference of 500 leaves 100.
    [400, ok, ok] = raw_peer:run(Conn, [{expect_bytes, 1, 400},
                                        {settings, [{initial_window_size, 500}]}, barrier]),
    ok = hackney_native:h2_send(Stream, raw_peer_conn:content(400, 300), fin),
    [500, ok] = raw_peer:run(Conn, [{expect_bytes, 1, 500}, barrier]),
    ?assertEqual({raw_peer_conn:content(0, 500), nofin}, body(Conn)),
    [ok, 700] = raw_peer:run(Conn, [{window_update, 1, 200}, {expect_bytes, 1, 700}]),
    ?assertEqual({raw_peer_conn:content(0, 700), fin}, body(Conn)).

settings_shrink_it_below_zero(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 50000}]}, []),
    ok = hackney_native:h2_send(Stream, raw_peer_conn:content(0, 40000)),
    %% 10,000 are left; the difference of 49,000 leaves -39,000.
    [40000, ok, ok] = raw_peer:run(Conn, [{expect_bytes, 1, 40000},
                                          {settings, [{initial_window_size, 1000}]}, barrier]),
    ok = hackney_native:h2_send(Stream, raw_peer_conn:content(40000, 5000), fin),
    [ok, ok, ok] = raw_peer:run(Conn, [barrier, {window_update, 1, 39000}, barrier]),
    ?assertEqual({raw_peer_conn:content(0, 40000), nofin}, body(Conn)),
    {ok, #{send_queue_bytes := 5000}} = hackney_native:h2_info(Stream),
    [ok, 42000, ok] = raw_peer:run(Conn, [{window_update, 1, 2000}, {expect_bytes, 1, 42000}, barrier]),
    ?assertEqual({raw_peer_conn:content(0, 42000), nofin}, body(Conn)),
    [ok, 45000] = raw_peer:run(Conn, [{settings, [{initial_window_size, 50000}]}, {expect_bytes, 1, 45000}]),
    ?assertEqual({raw_peer_conn:content(0, 45000), fin}, body(Conn)).

settings_widen_the_window(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 0}]}, []),
    ok = hackney_native:h2_send(Stream, <<"held back">>, fin),
    ok = raw_peer:barrier(Conn),
    ?assertEqual({<<>>, nofin}, body(Conn)),
    [ok, 9] = raw_peer:run(Conn, [{settings, [{initial_window_size, 100}]}, {expect_bytes, 1, 9}]),
    ?assertEqual({<<"held back">>, fin}, body(Conn)).

%% 4.2
frame_size_is_kept(_Config) ->
    {Stream, Conn} = open(wide(#{}), []),
    Data = raw_peer_conn:content(0, 3 * ?MIB),
    ok = hackney_native:h2_send(Stream, Data, fin),
    _ = raw_peer:run(Conn, [{window_update, 0, 4 * ?MIB}, {expect_bytes, 1, 3 * ?MIB}]),
    ?assert(lists:max(sizes(Conn)) =< 16384),
    ?assertMatch({Data, fin}, body(Conn)).

larger_frames_on_request(_Config) ->
    {Stream, Conn} = open(wide(#{max_frame_size => 65536}), []),
    Data = raw_peer_conn:content(0, 3 * ?MIB),
    ok = hackney_native:h2_send(Stream, Data, fin),
    _ = raw_peer:run(Conn, [{window_update, 0, 4 * ?MIB}, {expect_bytes, 1, 3 * ?MIB}]),
    ?assert(lists:max(sizes(Conn)) =< 65536),
    ?assertMatch({Data, fin}, body(Conn)).

wide(More) -> #{settings => maps:to_list(More#{initial_window_size => 4 * ?MIB})}.

sizes(Conn) -> [Size || #{type := data, length := Size} <- raw_peer:transcript(Conn)].

%% 6.9.1: an empty DATA frame with END_STREAM needs no window.
empty_window_lets_the_end_pass(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 0}]}, []),
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    _ = raw_peer:expect(Conn, #{type => data, flags => [end_stream], length => 0}).

%% RFC 7541 section 4.2: a peer may forbid the dynamic table. The trailers must still be readable.
header_table_size_is_kept(_Config) ->
    {Stream, Conn} = open(#{settings => [{header_table_size, 0}]}, []),
    ok = raw_peer:barrier(Conn),
    Trailers = [{<<"x-one">>, <<"1">>}, {<<"x-two">>, <<"2">>}, {<<"x-one">>, <<"1">>}],
    ok = hackney_native:h2_send_trailers(Stream, Trailers),
    #{headers := Got} = raw_peer:expect(Conn, headers),
    ?assertEqual(lists:sort(Trailers), lists:sort(Got)).

one_way_burst_keeps_order(_Config) ->
    {Stream, Conn} = open(wide(#{}), []),
    [ok] = raw_peer:run(Conn, [{window_update, 0, ?MIB}]),
    [ok = hackney_native:h2_send(Stream, <<N:64>>) || N <- lists:seq(1, 5000)],
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    _ = raw_peer:run(Conn, [{expect_bytes, 1, 40000}]),
    {Body, _} = body(Conn),
    ?assertEqual(lists:seq(1, 5000), [N || <<N:64>> <= Body]).

%% ---- receiving -------------------------------------------------------------------------------

trailers_without_data(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<"grpc-status">>, <<"12">>}], fin}]),
    ?assertEqual([{response, 200, []}, {trailers, [{<<"grpc-status">>, <<"12">>}]}, done,
                  {error, closed}], drain(Stream)).

%% gRPC's name for a response of nothing but one HEADERS frame.
trailers_only(_Config) ->
    {Stream, Conn} = open(),
    Headers = [{<<"content-type">>, <<"application/grpc">>}, {<<"grpc-status">>, <<"12">>}],
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>} | Headers], fin}]),
    ?assertEqual([{response, 200, Headers}, done, {error, closed}], drain(Stream)).

informational_then_trailers(_Config) ->
    [begin
         {Stream, Conn} = open([{informational, On}]),
         [ok, ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"100">>}]},
                                        {headers, 1, [{<<":status">>, <<"103">>}]}]),
         respond(Conn),
         [ok] = raw_peer:run(Conn, [{headers, 1, [{<<"t">>, <<"1">>}], fin}]),
         Expected = [{informational, 100, []} || On] ++ [{informational, 103, []} || On]
             ++ [{response, 200, []}, {trailers, [{<<"t">>, <<"1">>}]}, done, {error, closed}],
         ?assertEqual({On, Expected}, {On, drain(Stream)})
     end || On <- [true, false]].

%% 6.10: one header block in pieces.
continuation(_Config) ->
    {Stream, Conn} = open(),
    Headers = [{<<"x-long">>, binary:copy(<<"v">>, 5000)}, {<<"y">>, <<"1">>}],
    <<A:10/binary, B:2000/binary, C/binary>> =
        iolist_to_binary(hpack_lite:encode([{<<":status">>, <<"200">>} | Headers])),
    [ok] = raw_peer:run(Conn, [{raw, [h2_frames:raw(1, 0, 1, A), h2_frames:continuation(1, B, more),
                                      h2_frames:continuation(1, C, last)]}]),
    ?assertEqual({response, 200, Headers}, recv(Stream)).

padding(_Config) ->
    {Stream, Conn} = open(),
    Block = hpack_lite:encode([{<<":status">>, <<"200">>}]),
    Padded = h2_frames:raw(1, 16#4 bor 16#8, 1, [7, Block, <<0:56>>]),
    Prioritised = h2_frames:raw(1, 16#1 bor 16#4 bor 16#20, 1,
                                [<<0:32, 15>>, hpack_lite:encode([{<<"t">>, <<"1">>}])]),
    [ok] = raw_peer:run(Conn, [{raw, [Padded, h2_frames:data(1, <<"abc">>, nofin, 255), Prioritised]}]),
    ?assertEqual([{response, 200, []}, {data, <<"abc">>}, {trailers, [{<<"t">>, <<"1">>}]}, done,
                  {error, closed}], drain(Stream)).

%% 5.3.2 and 5.5: to be ignored.
priority_and_unknown_frames(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{raw, [h2_frames:raw(2, 0, 1, <<0:32, 1>>), h2_frames:raw(16#fa, 16#ff, 1, <<"??">>),
                                      h2_frames:raw(10, 0, 0, <<"altsvc">>)]}]),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{raw, h2_frames:raw(16#fb, 0, 0, binary:copy(<<"?">>, 16384))}]),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}, done, {error, closed}], drain(Stream)).

settings_in_the_middle(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    _ = raw_peer:run(Conn, [{data, 1, <<"a">>}, {settings, [{max_concurrent_streams, 0}]}, {data, 1, <<"b">>},
                            {settings, [{max_frame_size, 20000}, {max_header_list_size, 100}]},
                            {data, 1, <<"c">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"abc">>}, done, {error, closed}], drain(Stream)).

%% RFC 7541 C.6.1: a response in Huffman codes that fills the dynamic table.
huffman_and_tables(_Config) ->
    {Stream, Conn} = open(),
    Block = binary:decode_hex(<<"488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff"
                                "6e919d29ad171863c78f0b97c8e9ae82ae43d3">>),
    [ok] = raw_peer:run(Conn, [{raw, h2_frames:headers(1, Block, nofin)}]),
    Fields = [{<<"cache-control">>, <<"private">>}, {<<"date">>, <<"Mon, 21 Oct 2013 20:13:21 GMT">>},
              {<<"location">>, <<"https://www.example.com">>}],
    ?assertEqual({response, 302, Fields}, recv(Stream)),
    %% The same fields again, by nothing but their places in the table.
    [ok] = raw_peer:run(Conn, [{raw, h2_frames:headers(1, <<16#c0, 16#bf, 16#be>>, fin)}]),
    ?assertEqual({trailers, Fields}, recv(Stream)).

%% The h2 crate takes many small frames that lie unread for an attack: they must not lie there.
ten_thousand_tiny_frames(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    Frames = [h2_frames:data(1, <<N:64>>, nofin) || N <- lists:seq(1, 10000)],
    _ = raw_peer:run(Conn, [{raw, Frames}, barrier, {data, 1, <<>>, fin}]),
    [{response, 200, []}, {data, Body}, done, {error, closed}] = drain(Stream),
    ?assertEqual(lists:seq(1, 10000), [N || <<N:64>> <= Body]).

one_byte_at_a_time(_Config) ->
    {Stream, Conn} = open(#{transport => tcp}, []),
    Bytes = iolist_to_binary([h2_frames:headers(1, hpack_lite:encode([{<<":status">>, <<"200">>}]), nofin),
                              h2_frames:settings([{max_concurrent_streams, 9}]),
                              h2_frames:data(1, <<"slowly">>, nofin),
                              h2_frames:headers(1, hpack_lite:encode([{<<"t">>, <<"1">>}]), fin)]),
    _ = raw_peer:run(Conn, [{raw, <<Byte>>} || <<Byte>> <= Bytes]),
    ?assertEqual([{response, 200, []}, {data, <<"slowly">>}, {trailers, [{<<"t">>, <<"1">>}]}, done,
                  {error, closed}], drain(Stream)).

%% Nothing that waits, waits for ever; nothing that works stops working.
half_a_frame_then_silence(_Config) ->
    [begin
         {Stream, Conn} = open(),
         respond(Conn),
         {response, 200, []} = recv(Stream),
         Frame = iolist_to_binary(h2_frames:data(1, <<"never to be whole">>, nofin)),
         [ok] = raw_peer:run(Conn, [{raw, binary:part(Frame, 0, Size)}]),
         ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 30)),
         ok = hackney_native:h2_send(Stream, <<"the other way works">>),
         #{data := <<"the other way works">>} = raw_peer:expect(Conn, data),
         Reader = concurrently(fun() -> hackney_native:h2_recv(Stream) end),
         h2_case:reader_waits(Stream),
         ok = hackney_native:h2_close(Stream),
         ?assertEqual({error, closed}, result(Reader)),
         #{code := cancel} = raw_peer:expect(Conn, rst_stream),
         _ = raw_peer:expect(Conn, closed),
         gone(Stream)
     end || Size <- [1, 8, 9, 12]].

many_frames_in_one_segment(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{raw, [h2_frames:headers(1, hpack_lite:encode([{<<":status">>, <<"200">>}]), nofin),
                                      [h2_frames:data(1, <<N>>, nofin) || N <- lists:seq(1, 200)],
                                      h2_frames:ping(<<"in there">>),
                                      h2_frames:headers(1, hpack_lite:encode([{<<"t">>, <<"1">>}]), fin)]}]),
    ?assertEqual([{response, 200, []}, {data, list_to_binary(lists:seq(1, 200))},
                  {trailers, [{<<"t">>, <<"1">>}]}, done, {error, closed}], drain(Stream)).

%% 8.1: a server may answer, and end its side, before it has read the request.
response_before_the_request_ends(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"first half">>),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"seen enough">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"seen enough">>}, done, {error, closed}], drain(Stream)).

%% The answer comes while the first send is being written: whoever drives the connection then must not
%% lose the socket's only word that there is something to read.
answer_races_the_send(_Config) ->
    Peer = raw_peer:start(#{script => [{settings, []}, {expect, headers},
                                       {headers, 1, [{<<":status">>, <<"200">>}]}]}),
    [begin
         {ok, Stream} = hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer)),
         ok = hackney_native:h2_send(Stream, <<"x">>, fin),
         ?assertEqual({N, {response, 200, []}}, {N, recv(Stream)}),
         ok = hackney_native:h2_close(Stream)
     end || N <- lists:seq(1, 500)].

%% ---- ending ----------------------------------------------------------------------------------

close_cancels(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_close(Stream),
    _ = raw_peer:expect(Conn, closed),
    [#{stream := 1}, _] = raw_peer:sequence(Conn, [#{type => rst_stream, code => cancel}, closed]),
    gone(Stream).

%% Our side is done, the peer's is not: there is still something to cancel.
close_of_a_half_closed_stream(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    ok = hackney_native:h2_close(Stream),
    _ = raw_peer:expect(Conn, closed),
    _ = raw_peer:sequence(Conn, [data, #{type => rst_stream, code => cancel}, closed]).

close_when_all_is_done(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    _ = raw_peer:expect(Conn, data),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"y">>, fin}]),
    [{response, 200, []}, {data, <<"y">>}, done, {error, closed}] = drain(Stream),
    ok = hackney_native:h2_close(Stream),
    _ = raw_peer:expect(Conn, closed),
    ?assertEqual([], [F || #{type := rst_stream} = F <- raw_peer:transcript(Conn)]).

%% A dedicated connection: nobody is left to use it, even if nobody calls h2_close.
connection_goes_with_the_stream(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    _ = raw_peer:expect(Conn, data),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"y">>, fin}]),
    [{response, 200, []}, {data, <<"y">>}, done, {error, closed}] = drain(Stream),
    gone(Stream),
    _ = raw_peer:expect(Conn, closed).

%% The end of our side comes behind the data that the window holds back.
fin_waits_for_the_window(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 0}]}, []),
    ok = hackney_native:h2_send(Stream, <<"held">>),
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    ok = raw_peer:barrier(Conn),
    ?assertEqual({<<>>, nofin}, body(Conn)),
    [ok, _] = raw_peer:run(Conn, [{window_update, 1, 4},
                                  {expect, fun(#{type := data, flags := [end_stream]}) -> true;
                                              (_) -> false
                                           end}]),
    ?assertEqual({<<"held">>, fin}, body(Conn)).

%% 8.1: RST_STREAM(NO_ERROR) behind a whole response asks to stop sending; the response stands.
reset_no_error_after_response(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"whole">>, fin}, {rst, 1, no_error}]),
    ?assertEqual([{response, 200, []}, {data, <<"whole">>}, done, {error, closed}], drain(Stream)).

goaway_below_the_stream(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{goaway, 0, refused_stream, <<"not served">>}]),
    ?assertEqual({error, {goaway, refused_stream}}, recv(Stream)),
    ?assertEqual({error, closed}, hackney_native:h2_send(Stream, <<"x">>)),
    _ = raw_peer:expect(Conn, closed).

goaway_at_the_stream(_Config) ->
    {Stream, Conn} = open(),
    [ok, ok] = raw_peer:run(Conn, [{goaway, 1, no_error}, barrier]),
    respond(Conn),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    _ = raw_peer:expect(Conn, data),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"y">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"y">>}, done, {error, closed}], drain(Stream)).

%% 6.8: first "no new ones", then the last one that is served.
goaway_in_two_steps(_Config) ->
    [begin
         {Stream, Conn} = open(),
         respond(Conn),
         %% The DATA in one segment with the GOAWAY: for a stream above its last one the connection is closed at once.
         Segment = [h2_frames:goaway(Last, no_error, <<>>), h2_frames:data(1, <<"x">>, fin)],
         [ok, ok, ok] = raw_peer:run(Conn, [{goaway, 16#7fffffff, no_error}, barrier, {raw, Segment}]),
         ?assertEqual({Last, Expected}, {Last, drain(Stream)})
     end || {Last, Expected} <- [{1, [{response, 200, []}, {data, <<"x">>}, done, {error, closed}]},
                                 {0, [{response, 200, []}, {error, {goaway, no_error}}]}]].

goaway_then_reset(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{goaway, 1, no_error}, {rst, 1, internal_error}]),
    ?assertEqual([{response, 200, []}, {error, {stream_error, internal_error}}], drain(Stream)).

%% In one segment: no order of events may upset the stream.
goaway_with_window_update(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 0}]}, []),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{raw, [h2_frames:goaway(1, no_error, <<>>), h2_frames:window_update(1, 10),
                                      h2_frames:window_update(0, 10)]}]),
    #{data := <<"x">>} = raw_peer:expect(Conn, data),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"y">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"y">>}, done, {error, closed}], drain(Stream)).

%% The peer does not know of the close yet.
data_after_close_is_dropped(_Config) ->
    {Stream, Conn} = open([{active, true}]),
    [ok] = raw_peer:run(Conn, [pause]),
    ok = hackney_native:h2_close(Stream),
    %% Or knows it by now, and has nowhere to send to.
    _ = try raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>}]}, {data, 1, <<"late">>}])
        catch error:{raw_peer, _, _} -> too_late
        end,
    _ = raw_peer:run(Conn, [resume, {expect, closed}]),
    gone(Stream),
    silent(Stream).

%% ---- helpers ---------------------------------------------------------------------------------

read_bytes(Stream, N) when N > 0 ->
    {data, Data} = recv(Stream),
    byte_size(Data) + read_bytes(Stream, N - byte_size(Data));
read_bytes(_Stream, _N) ->
    0.

%% What WINDOW_UPDATE has given, without the one of the greeting.
updates(Conn, 0) ->
    AfterHeaders = lists:dropwhile(fun(#{type := Type}) -> Type =/= headers end, raw_peer:transcript(Conn)),
    [N || #{type := window_update, stream := 0, increment := N} <- AfterHeaders];
updates(Conn, Sid) ->
    [N || #{type := window_update, stream := S, increment := N} <- raw_peer:transcript(Conn), S =:= Sid].

body(Conn) ->
    Data = [F || #{type := data} = F <- raw_peer:transcript(Conn)],
    Fin = lists:any(fun(#{flags := Flags}) -> lists:member(end_stream, Flags) end, Data),
    {iolist_to_binary([D || #{data := D} <- Data]), case Fin of true -> fin; false -> nofin end}.
