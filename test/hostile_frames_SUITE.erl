%%% @doc A server that breaks the rules: of frames, of streams, of HPACK, of HTTP messages, of TLS. Both
%%% sides learn of it by a typed error. RFC numbers without a title are sections of RFC 9113.
%%%
%%% Attacks by amount and by silence are in {@link hostile_SUITE}.
-module(hostile_frames_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [open/0, open/1, open/2, respond/1, recv/1, drain/1, gone/1]).

-define(MIB, 1048576).
-define(STATUS, {<<":status">>, <<"200">>}).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, connection}, {group, stream}, {group, tls}].

groups() ->
    [{connection, [parallel],
      [protocol_violations, frames_of_the_wrong_length, frames_too_long, frames_on_idle_streams,
       frames_on_the_wrong_stream, hpack_violations, push_promise, goaway_that_takes_back,
       settings_acknowledged_twice, initial_window_overflow, window_overflow_by_the_peer,
       frames_after_the_end, garbage_and_other_protocols]},
     {stream, [parallel],
      [malformed_responses, malformed_trailers, misplaced_pseudo_headers, content_length_violations,
       stream_window_violations, header_lists_have_a_bound]},
     {tls, [parallel],
      [garbage_under_tls, giant_tls_record, handshake_without_end, change_cipher_spec_flood,
       key_update_flood, renegotiation]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- errors of the connection (5.4.1) ----------------------------------------------------------

protocol_violations(_Config) ->
    [breaks_connection(Code, Bytes)
     || {Code, Bytes} <-
            [{protocol_error, h2_frames:continuation(1, <<>>, last)},
             {protocol_error, [h2_frames:raw(1, 0, 1, <<16#88>>), h2_frames:data(1, <<"x">>, nofin)]},
             {protocol_error, [h2_frames:raw(1, 0, 1, <<16#88>>), h2_frames:continuation(3, <<>>, last)]},
             {protocol_error, [h2_frames:raw(1, 0, 1, <<16#88>>), h2_frames:headers(1, <<16#88>>, nofin)]},
             %% 8.1: a response begins with HEADERS.
             {protocol_error, h2_frames:data(1, <<"x">>, nofin)},
             {protocol_error, h2_frames:settings([{enable_push, 2}])},
             {protocol_error, h2_frames:settings([{max_frame_size, 1}])},
             {protocol_error, h2_frames:settings([{max_frame_size, 16#1000000}])},
             {flow_control_error, h2_frames:settings([{initial_window_size, 16#80000000}])},
             {protocol_error, h2_frames:window_update(0, 0)},
             {flow_control_error, h2_frames:window_update(0, 16#7fffffff)}]].

%% 4.2, 6.1 to 6.9
frames_of_the_wrong_length(_Config) ->
    [breaks_connection(frame_size_error, h2_frames:raw(Type, Flags, Sid, binary:copy(<<1>>, Length)))
     || {Type, Flags, Sid, Lengths} <- [{2, 0, 1, [0, 4, 6]}, {3, 0, 1, [0, 3, 5]}, {4, 0, 0, [1, 5, 7]},
                                        {4, 1, 0, [6]}, {6, 0, 0, [0, 7, 9]}, {7, 0, 0, [0, 7]},
                                        {8, 0, 0, [0, 3, 5]}, {8, 0, 1, [0, 3, 5]}],
        Length <- Lengths],
    %% Padding (6.1, 6.2) and priority fields that do not fit in.
    [breaks_connection(protocol_error, Bytes)
     || Bytes <- [h2_frames:raw(0, 16#8, 1, <<>>), h2_frames:raw(0, 16#8, 1, <<1>>),
                  h2_frames:raw(0, 16#8, 1, <<255, "short">>), h2_frames:raw(1, 16#c, 1, <<>>),
                  h2_frames:raw(1, 16#c, 1, <<9, 16#88>>), h2_frames:raw(1, 16#24, 1, <<0, 0, 0, 0>>),
                  h2_frames:raw(5, 16#4, 1, <<0, 0, 2>>)]].

frames_too_long(_Config) ->
    [breaks_connection(frame_size_error, h2_frames:raw(Type, 0, Sid, binary:copy(<<0>>, 16385)))
     || Type <- lists:seq(0, 10), Sid <- [0, 1]].

%% 5.1: 2 is the server's to open, 3 is ours; neither is open.
frames_on_idle_streams(_Config) ->
    [breaks_connection(protocol_error, Frame)
     || Sid <- [2, 3, 16#7fffffff],
        Frame <- [h2_frames:data(Sid, <<"x">>, nofin), h2_frames:headers(Sid, <<16#88>>, nofin),
                  h2_frames:rst_stream(Sid, cancel), h2_frames:window_update(Sid, 1)]].

frames_on_the_wrong_stream(_Config) ->
    [breaks_connection(protocol_error, Frame)
     || Frame <- [h2_frames:data(0, <<"x">>, nofin), h2_frames:headers(0, <<16#88>>, nofin),
                  h2_frames:raw(2, 0, 0, <<0:32, 1>>), h2_frames:rst_stream(0, cancel),
                  h2_frames:raw(4, 0, 1, <<>>), h2_frames:raw(6, 0, 1, <<"12345678">>),
                  h2_frames:raw(7, 0, 1, <<0:64>>), h2_frames:continuation(0, <<>>, last)]].

%% RFC 7541
hpack_violations(_Config) ->
    [breaks_connection(compression_error, h2_frames:headers(1, Block, nofin))
     || Block <- [%% Section 6.1: index 0, and places where nothing is.
                  <<16#80>>, <<16#be>>, <<16#c0>>, <<16#88, 16#7f, 0, 1, $v>>,
                  %% Section 5.1: integers without end, and larger than any.
                  <<16#ff, 16#ff, 16#ff>>, <<16#ff, 16#80, 16#80, 16#80, 16#80, 16#80, 16#80, 1>>,
                  <<16#ff, 16#ff, 16#ff, 16#ff, 16#ff, 16#ff, 16#ff, 16#ff, 16#ff, 16#ff, 16#7f>>,
                  %% Section 5.2: strings longer than the block; the code for the end of a string, padding
                  %% of eight bits, padding of zeros.
                  <<16#88, 0, 5, $x>>, <<16#88, 0, 16#7f, 16#ff, 16#ff, 16#ff, 16#7f>>,
                  <<16#88, 0, 1, $x, 16#84, 16#ff, 16#ff, 16#ff, 16#ff>>,
                  <<16#88, 0, 1, $x, 16#82, 16#07, 16#ff>>, <<16#88, 0, 1, $x, 16#81, 16#00>>,
                  %% Sections 4.2 and 6.3: a table larger than was allowed, and one that changes too late.
                  <<16#3f, 16#e2, 16#1f, 16#88>>, <<16#3f, 16#ff, 16#ff, 16#ff, 16#7f, 16#88>>,
                  <<16#88, 16#20>>]].

%% 6.6, 8.4: we have said that we take none.
push_promise(_Config) ->
    Block = hpack_lite:encode([{<<":method">>, <<"GET">>}, {<<":scheme">>, <<"https">>},
                               {<<":authority">>, <<"localhost">>}, {<<":path">>, <<"/pushed">>}]),
    breaks_connection(protocol_error, h2_frames:push_promise(1, 2, Block)).

%% 6.8: the last stream may only go down.
goaway_that_takes_back(_Config) ->
    breaks_connection(protocol_error, [h2_frames:goaway(1, no_error, <<>>), h2_frames:goaway(3, no_error, <<>>)]).

settings_acknowledged_twice(_Config) ->
    breaks_connection(protocol_error, h2_frames:settings_ack()).

%% 6.9.2: a stream's window pushed beyond the largest by SETTINGS.
initial_window_overflow(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{raw, [h2_frames:window_update(1, 16#10000),
                                      h2_frames:settings([{initial_window_size, 16#7fffffff}])]}]),
    {error, Reason} = recv(Stream),
    ?assert(lists:member(Reason, [{stream_error, flow_control_error},
                                  {closed, {connection_error, flow_control_error}}]), Reason),
    #{code := flow_control_error} = raw_peer:expect(Conn, goaway).

%% DATA beyond the connection's window, each stream's own being wide.
window_overflow_by_the_peer(_Config) ->
    {Stream, Conn} = open([{initial_window_size, ?MIB}, {connection_window_size, 65535}]),
    respond(Conn),
    %% In one piece: the connection may be closed as soon as the fourth is read.
    Frame = h2_frames:data(1, binary:copy(<<"x">>, 16384), nofin),
    [ok] = raw_peer:run(Conn, [{raw, [Frame, Frame, Frame, Frame]}]),
    ?assertEqual({error, recv_buffer_overflow}, lists:last(drain(Stream))),
    _ = raw_peer:expect(Conn, closed).

%% 5.1, half-closed (remote): what was whole stays so, and the peer is told.
frames_after_the_end(_Config) ->
    [begin
         {Stream, Conn} = open(),
         [ok] = raw_peer:run(Conn, [{headers, 1, [?STATUS], fin}]),
         ?assertEqual([{response, 200, []}, done, {error, closed}], drain(Stream)),
         [ok] = raw_peer:run(Conn, [{raw, Frame}]),
         #{code := Code} = raw_peer:expect(Conn, fun(#{code := C}) -> C =/= no_error; (_) -> false end),
         ?assert(lists:member(Code, [stream_closed, protocol_error]), {Code, Frame}),
         ok = hackney_native:h2_close(Stream),
         gone(Stream)
     end || Frame <- [h2_frames:data(1, <<"x">>, nofin), h2_frames:data(1, <<>>, fin),
                      h2_frames:headers(1, <<16#88>>, nofin), h2_frames:headers(1, <<>>, fin)]].

garbage_and_other_protocols(_Config) ->
    [begin
         Peer = raw_peer:start(#{transport => Transport, script => [{raw, Bytes}]}),
         {error, {closed, {connection_error, Code}}} =
             hackney_native:h2_open(raw_peer:url(Peer), raw_peer:options(Peer)),
         ?assert(lists:member(Code, [frame_size_error, protocol_error]), {Code, Bytes})
     end || Transport <- [tcp, tls],
            Bytes <- [<<"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n">>, <<"SSH-2.0-OpenSSH_9.6\r\n">>,
                      h2_frames:preface(), binary:copy(<<16#ff>>, 1000), rand:bytes(100000)]].

%% The peer sends the bytes: the connection ends, and both sides learn why. PROTOCOL_ERROR, which can stand
%% for every other code (7), is good enough.
breaks_connection(Expected, Bytes) ->
    {Stream, Conn} = open(#{transport => tcp}, []),
    [ok] = raw_peer:run(Conn, [{raw, Bytes}]),
    {Bytes, {error, Reason}} = {Bytes, recv(Stream)},
    #{code := Code} = raw_peer:expect(Conn, goaway),
    ?assert(lists:member(Code, [Expected, protocol_error]), {Expected, Code, Bytes}),
    ?assertEqual({Bytes, {closed, {connection_error, Code}}}, {Bytes, Reason}),
    _ = raw_peer:expect(Conn, closed),
    ok = hackney_native:h2_close(Stream),
    gone(Stream).

%% ---- errors of one stream (5.4.2, 8.1.1) -------------------------------------------------------

malformed_responses(_Config) ->
    Field = {<<"a">>, <<"b">>},
    Lists = [[], [Field], [Field, ?STATUS], [?STATUS, ?STATUS],
             [?STATUS, {<<":x">>, <<"/">>}], [{<<":method">>, <<"GET">>}, {<<":scheme">>, <<"https">>}, {<<":path">>, <<"/">>}],
             [{<<":status">>, <<>>}], [{<<":status">>, <<"2x0">>}], [{<<":status">>, <<"20">>}],
             [{<<":status">>, <<"2000">>}], [{<<":status">>, <<"-20">>}], [{<<":status">>, <<"200 OK">>}],
             [?STATUS, {<<"A">>, <<"b">>}], [?STATUS, {<<>>, <<"b">>}], [?STATUS, {<<"a b">>, <<"c">>}],
             [?STATUS, {<<"a:">>, <<"b">>}], [?STATUS, {<<"a\n">>, <<"b">>}], [?STATUS, {<<"\x80">>, <<"b">>}],
             [?STATUS, {<<"connection">>, <<"close">>}], [?STATUS, {<<"keep-alive">>, <<"1">>}],
             [?STATUS, {<<"proxy-connection">>, <<"close">>}], [?STATUS, {<<"upgrade">>, <<"h2c">>}],
             [?STATUS, {<<"transfer-encoding">>, <<"chunked">>}], [?STATUS, {<<"te">>, <<"gzip">>}]]
        ++ [[?STATUS, {<<"a">>, <<"b", Byte, "c">>}] || Byte <- [$\r, $\n, 0, 16#7f]],
    [breaks_stream(h2_frames:headers(1, hpack_lite:encode(List), nofin)) || List <- Lists],
    %% 8.1: a 1xx response is no end; 5.3.1: no stream depends on itself.
    breaks_stream(h2_frames:headers(1, hpack_lite:encode([{<<":status">>, <<"103">>}]), fin)),
    breaks_stream(h2_frames:raw(1, 16#24, 1, <<1:32, 15, 16#88>>)).

malformed_trailers(_Config) ->
    [begin
         {Stream, Conn} = open(#{transport => tcp}, []),
         respond(Conn),
         [ok] = raw_peer:run(Conn, [{headers, 1, List, Fin}]),
         {List, [{response, 200, []}, {error, Reason}]} = {List, drain(Stream)},
         ?assert(is_violation(Reason), {List, Reason})
     end || {List, Fin} <- [{[{<<"a">>, <<"b">>}], nofin}, {[?STATUS], nofin}, {[{<<"A">>, <<"b">>}], fin},
                            {[{<<"connection">>, <<"close">>}], fin}, {[{<<"a">>, <<"\r\n">>}], fin}]].

%% 8.1, 8.3: malformed too. The engine's codec drops these fields instead: nobody gets to see them.
misplaced_pseudo_headers(_Config) ->
    {Stream, Conn} = open(),
    [ok, ok] = raw_peer:run(Conn, [{headers, 1, [?STATUS, {<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}]},
                                   {headers, 1, [?STATUS, {<<"t">>, <<"1">>}], fin}]),
    ?assertEqual([{response, 200, []}, {trailers, [{<<"t">>, <<"1">>}]}, done, {error, closed}], drain(Stream)).

content_length_violations(_Config) ->
    Head = fun(Lengths, Fin) ->
        h2_frames:headers(1, hpack_lite:encode([?STATUS | [{<<"content-length">>, L} || L <- Lengths]]), Fin)
    end,
    [breaks_stream(Bytes)
     || Bytes <- [[Head([<<"3">>], nofin), h2_frames:data(1, <<"four">>, fin)],
                  [Head([<<"3">>], nofin), h2_frames:data(1, <<"four">>, nofin)],
                  [Head([<<"5">>], nofin), h2_frames:data(1, <<"four">>, fin)],
                  [Head([<<"5">>], nofin), h2_frames:data(1, <<"four">>, nofin), h2_frames:headers(1, <<>>, fin)],
                  Head([<<"3">>], fin), Head([<<"-1">>], nofin), Head([<<"3, 3">>], nofin), Head([<<"x">>], nofin),
                  Head([<<"18446744073709551616">>], nofin), Head([<<"3">>, <<"4">>], nofin)]].

%% 6.9, 6.9.1
stream_window_violations(_Config) ->
    breaks_stream(h2_frames:window_update(1, 0)),
    breaks_stream(h2_frames:window_update(1, 16#7fffffff)).

%% 10.5.1: a header list larger than we said we take.
header_lists_have_a_bound(_Config) ->
    {Stream, Conn} = open([{max_header_list_size, 10000}]),
    [#{settings := Settings}] = raw_peer:sequence(Conn, [settings]),
    ?assertEqual(10000, proplists:get_value(max_header_list_size, Settings)),
    Headers = [{<<"x-", (integer_to_binary(N))/binary>>, binary:copy(<<"v">>, 90)} || N <- lists:seq(1, 100)],
    [ok] = raw_peer:run(Conn, [{headers, 1, [?STATUS | Headers]}]),
    ?assertEqual({error, {stream_error, protocol_error}}, recv(Stream)),
    %% Of trailers, the engine's codec drops what is too much.
    {Stream2, Conn2} = open([{max_header_list_size, 10000}]),
    respond(Conn2),
    [ok] = raw_peer:run(Conn2, [{headers, 1, [{<<"t">>, <<"1">>} | Headers], fin}]),
    [{response, 200, []}, {trailers, Trailers}, done, {error, closed}] = drain(Stream2),
    ?assert(length(Trailers) < 100),
    ?assertEqual(Trailers, lists:sublist([{<<"t">>, <<"1">>} | Headers], length(Trailers))).

breaks_stream(Bytes) ->
    {Stream, Conn} = open(#{transport => tcp}, []),
    [ok] = raw_peer:run(Conn, [{raw, Bytes}]),
    {Bytes, {error, Reason}} = {Bytes, lists:last(drain(Stream))},
    ?assert(is_violation(Reason), {Bytes, Reason}),
    %% The peer is told, by RST_STREAM or GOAWAY.
    #{code := Code} = raw_peer:expect(Conn, fun(#{code := C}) -> C =/= no_error; (_) -> false end),
    ?assert(lists:member(Code, [protocol_error, flow_control_error, compression_error, cancel]), {Bytes, Code}),
    ok = hackney_native:h2_close(Stream),
    gone(Stream).

is_violation({stream_error, protocol_error}) -> true;
is_violation({stream_error, flow_control_error}) -> true;
is_violation({closed, {connection_error, _}}) -> true;
%% The engine cannot tell one broken window from another.
is_violation(recv_buffer_overflow) -> true;
is_violation(_) -> false.

%% ---- TLS ---------------------------------------------------------------------------------------

%% RFC 8446 section 5.1: what comes beneath the encryption is no record, or none of this connection's.
garbage_under_tls(_Config) ->
    [begin
         {Stream, Conn} = open(#{tls => [{versions, [Version]}]}, []),
         respond(Conn),
         {response, 200, []} = recv(Stream),
         [ok] = raw_peer:run(Conn, [{tcp, Bytes}]),
         {Bytes, {error, {tls_alert, {Alert, Text}}}} = {Bytes, recv(Stream)},
         ?assert(is_atom(Alert)),
         ?assert(io_lib:printable_unicode_list(Text), Text),
         ok = hackney_native:h2_close(Stream),
         gone(Stream)
     end || Version <- ['tlsv1.3', 'tlsv1.2'],
            Bytes <- [<<"HTTP/1.1 200 OK\r\n\r\n">>, <<23, 3, 3, 32:16, 0:256>>, <<99, 3, 3, 1:16, 0>>,
                      <<22, 3, 3, 4:16, 1, 0:24>>, <<21, 3, 3, 2:16, 1, 0>>]].

%% RFC 8446 section 5.2: 2^14 bytes and 256 more.
giant_tls_record(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{tcp, <<23, 3, 3, 16#ffff:16>>}]),
    ?assertMatch({error, {tls_alert, {_, _}}}, recv(Stream)).

%% A handshake message of 16 MB, in records of 16 KB, that never ends; in the answer to the ClientHello.
handshake_without_end(_Config) ->
    Part = <<22, 3, 3, 16384:16, 2, 16#ffffff:24, 0:(16380 * 8)>>,
    fails_in_tls([Part | lists:duplicate(1000, <<22, 3, 3, 16384:16, 0:(16384 * 8)>>)]).

change_cipher_spec_flood(_Config) ->
    fails_in_tls(binary:copy(<<20, 3, 3, 1:16, 1>>, 1000)).

fails_in_tls(Bytes) ->
    Peer = raw_peer:start(#{transport => tcp, script => [{raw, Bytes}]}),
    Url = iolist_to_binary(["https://localhost:", integer_to_list(raw_peer:port(Peer))]),
    Before = h2_case:rss(),
    Result = hackney_native:h2_open(Url, [insecure]),
    ?assertMatch({error, {tls_alert, {_, _}}}, Result),
    ?assert(h2_case:rss() - Before < 64 * ?MIB).

%% RFC 8446 section 4.6.3: each costs both sides new keys.
key_update_flood(_Config) ->
    {Stream, Conn} = open(#{tls => [{versions, ['tlsv1.3']}]}, []),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    _ = raw_peer:run(Conn, [{tls, fun(Socket) -> [ssl:update_keys(Socket, write) || _ <- lists:seq(1, 100)] end}]),
    ?assertMatch({error, {tls_alert, {_, _}}}, recv(Stream)).

%% RFC 9113, 9.2.1: a server that asks for it is refused, and heard out.
renegotiation(_Config) ->
    {Stream, Conn} = open(#{tls => [{versions, ['tlsv1.2']}]}, []),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    [{error, _}] = raw_peer:run(Conn, [{tls, fun ssl:renegotiate/1}], 30000),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}, barrier]),
    ?assertEqual([{data, <<"x">>}, done, {error, closed}], drain(Stream)).
