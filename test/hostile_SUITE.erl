%%% @doc A server that attacks its client by sheer amount, or by silence. Each attack gets a typed
%%% error or is survived, within a deadline, and costs next to no memory; a well-behaved stream of the
%%% same node goes on beside it. RFC numbers without a title are sections of RFC 9113.
%%%
%%% The attackers run on a node of their own. `HOSTILE_MB' in the environment sets how much a flood
%%% sends that nobody stops (default 100).
-module(hostile_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [respond/1, respond/2, recv/1, drain/1, gone/1, concurrently/1, result/1]).

-define(MIB, 1048576).
%% What an attack may cost this node; four million frames of one byte take two seconds of a processor.
-define(MEMORY, 32 * ?MIB).
-define(CPU_MS, 10000).
%% For a round trip of the neighbour on a busy machine; it takes microseconds.
-define(ROUND_TRIP_US, 2000000).
%% How long a flood lasts if nobody stops it.
-define(FLOOD_MS, 5000).
-define(CALM, {closed, {connection_error, enhance_your_calm}}).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, floods}, {group, bombs}, {group, silence}, {group, honest}].

groups() ->
    %% One after the other: each is measured.
    [{floods, [],
      [ping_flood, ping_ack_flood, settings_flood, window_update_flood, stream_window_update_flood,
       priority_flood, unknown_frame_flood, large_unknown_frame_flood, goaway_flood,
       rst_stream_flood, empty_data_flood, padding_flood, informational_flood,
       continuation_flood, empty_continuation_flood, flood_before_settings, flood_over_tls,
       unread_answers]},
     {bombs, [],
      [one_huge_field, many_fields, indexed_fields, indexed_informational_responses,
       table_churn, crumbs_of_data, giant_frame]},
     {silence, [parallel], [slow_drip_while_connecting, slow_drip_of_a_response, peer_that_never_reads,
                            settings_never_acknowledged]},
     {honest, [parallel], [calm_is_asked_for, keepalives_are_no_flood, window_given_back_in_crumbs]}].

init_per_suite(Config) ->
    h2_case:start(),
    Attacker = attacker:start(),
    Config1 = [{attacker, Attacker}, {neighbour, h2_neighbour:start()} | Config],
    %% What is made once and kept is not the first attack's.
    {Stream, Conn} = attacker:open(Attacker, #{transport => tcp}),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    ok = hackney_native:h2_close(Stream),
    Config1.

end_per_suite(Config) ->
    h2_neighbour:stop(proplists:get_value(neighbour, Config)),
    attacker:stop(proplists:get_value(attacker, Config)).

%% ---- floods ----------------------------------------------------------------------------------

%% CVE-2019-9512
ping_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:ping(<<"flooding">>), Config)).

ping_ack_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:ping_ack(<<"flooding">>), Config)).

%% CVE-2019-9515
settings_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:settings([]), Config)),
    Moves = [{initial_window_size, 0}, {initial_window_size, 16#7fffffff}, {header_table_size, 0},
             {header_table_size, 16#ffffffff}, {max_frame_size, 16384}, {16#face, 1}],
    ?assertEqual({error, ?CALM}, flood(h2_frames:settings(Moves), Config)).

window_update_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:window_update(0, 1), Config)).

stream_window_update_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:window_update(1, 1), Config)).

%% CVE-2019-9513
priority_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:raw(2, 0, 1, <<0:32, 1>>), Config)),
    ?assertEqual({error, ?CALM}, flood(h2_frames:raw(2, 0, 3, <<1:1, 1:31, 255>>), Config)).

%% 5.5: to be ignored, but not for ever.
unknown_frame_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:raw(16#fa, 16#ff, 1, <<>>), Config)).

large_unknown_frame_flood(Config) ->
    ?assertEqual({error, ?CALM}, flood(h2_frames:raw(16#fa, 0, 0, binary:copy(<<"?">>, 16384)), Config)).

goaway_flood(Config) ->
    Goaway = h2_frames:goaway(1, no_error, binary:copy(<<"?">>, 1000)),
    ?assertEqual({error, ?CALM}, flood(Goaway, Config)).

%% CVE-2019-9514 from the other side. The first ends the stream and with it all that there is to flood.
rst_stream_flood(Config) ->
    ?assertEqual({error, {stream_error, cancel}}, flood(h2_frames:rst_stream(1, cancel), Config)).

%% CVE-2019-9518, with and without padding.
empty_data_flood(Config) ->
    Response = h2_frames:headers(1, hpack_lite:encode([{<<":status">>, <<"200">>}]), nofin),
    [begin
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
         [ok] = raw_peer:run(Conn, [{raw, Response}]),
         ?assertEqual({error, ?CALM}, flood(Frame, Stream, Conn, Config))
     end || Frame <- [h2_frames:data(1, <<>>, nofin), h2_frames:data(1, <<>>, nofin, 0),
                      h2_frames:data(1, <<>>, nofin, 255)]].

%% One byte of body in 265: within the window, so it goes on for as long as somebody reads, and no longer.
padding_flood(Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}, [{initial_window_size, 65535}]),
    respond(Conn),
    ?assertEqual({error, recv_buffer_overflow},
                 flood(h2_frames:data(1, <<"x">>, nofin, 255), Stream, Conn, Config)).

informational_flood(Config) ->
    Headers = h2_frames:headers(1, hpack_lite:encode([{<<":status">>, <<"103">>}, {<<"link">>, <<"</x>">>}]), nofin),
    ?assertEqual({error, ?CALM}, flood(Headers, Config)),
    ?assertEqual({error, ?CALM}, flood(Headers, [{informational, true}], Config)).

%% CVE-2024-28182 and its like.
continuation_flood(Config) ->
    Part = hpack_lite:encode([{<<"x">>, binary:copy(<<"v">>, 16000)}]),
    ?assertEqual({error, ?CALM}, open_block_flood(h2_frames:continuation(1, Part, more), Config)).

empty_continuation_flood(Config) ->
    ?assertEqual({error, ?CALM}, open_block_flood(h2_frames:continuation(1, <<>>, more), Config)).

open_block_flood(Frame, Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
    [ok] = raw_peer:run(Conn, [{raw, h2_frames:raw(1, 0, 1, <<16#88>>)}]),
    flood(Frame, Stream, Conn, Config).

%% 3.4: SETTINGS must come first. Told by the call that opens.
flood_before_settings(Config) ->
    Batch = batch(h2_frames:raw(16#fa, 0, 0, <<>>)),
    Peer = attacker:peer(attacker(Config), #{transport => tcp,
                                             script => [{storm, Batch, #{ms => ?FLOOD_MS}}]}),
    harmless(fun() ->
        ?assertEqual({error, ?CALM}, hackney_native:h2_open(raw_peer:url(Peer), raw_peer:options(Peer)))
    end, Config).

flood_over_tls(Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{}),
    ?assertEqual({error, ?CALM}, flood(h2_frames:ping(<<"flooding">>), Stream, Conn, Config)).

%% Our answers must not pile up when the peer does not read them: we stop reading too.
unread_answers(Config) ->
    [begin
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
         Storm = {storm, batch(Frame), #{ms => 1000, read => false, bytes => 100 * ?MIB}},
         harmless(fun() ->
             [#{ended := Ended}] = raw_peer:run(Conn, [Storm], 30000),
             ?assertNotEqual(done, Ended),
             %% Either it is cut off, or it has cut itself off: the reader's own deadline holds.
             case hackney_native:h2_recv(Stream, 100) of
                 {error, timeout} -> ?assertEqual(stalled, Ended);
                 {error, Reason} -> ?assertEqual(?CALM, Reason)
             end,
             ok = hackney_native:h2_close(Stream),
             gone(Stream)
         end, Config)
     end || Frame <- [h2_frames:ping(<<"unread!!">>), h2_frames:settings([])]].

%% ---- bombs -----------------------------------------------------------------------------------

%% 10.5.1: a field larger than every limit, in as many frames as it takes.
one_huge_field(Config) ->
    %% A literal of 100 MB (RFC 7541 sections 5.1 and 6.2.2), and bytes of it without end.
    Start = [<<16#88>>, 0, 1, $x, 16#7f, 16#ff, 16#ff, 16#ff, 16#2f],
    {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
    [ok] = raw_peer:run(Conn, [{raw, h2_frames:raw(1, 0, 1, Start)}]),
    Part = h2_frames:continuation(1, binary:copy(<<"v">>, 16384), more),
    ?assertEqual({error, ?CALM}, flood(Part, Stream, Conn, Config)).

many_fields(Config) ->
    bomb(hpack_lite:encode([{<<":status">>, <<"200">>} |
                            [{integer_to_binary(N), <<>>} || N <- lists:seq(1, 100000)]]), Config).

%% One byte on the wire stands for 4 KB of the table.
indexed_fields(Config) ->
    bomb([<<16#88>>, table_entry(4000), binary:copy(<<16#be>>, 100000)], Config).

%% Each is as large as a header list may be, and costs the peer a hundred bytes.
indexed_informational_responses(Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}, [{informational, true}]),
    Status = hpack_lite:encode([{<<":status">>, <<"103">>}]),
    First = h2_frames:headers(1, [Status, table_entry(4000)], nofin),
    Next = h2_frames:headers(1, [Status, binary:copy(<<16#be>>, 60)], nofin),
    harmless(fun() ->
        [ok, #{ended := cut}] = raw_peer:run(Conn, [{raw, First}, {storm, batch(Next), #{ms => ?FLOOD_MS}}], 30000),
        %% Nobody has read them meanwhile.
        ?assertEqual({error, recv_buffer_overflow}, lists:last(drain(Stream)))
    end, Config).

%% Entries that push each other out of the table, in responses that are no response.
table_churn(Config) ->
    Status = hpack_lite:encode([{<<":status">>, <<"103">>}]),
    Churn = h2_frames:headers(1, [Status | lists:duplicate(4, table_entry(4000))], nofin),
    ?assertEqual({error, ?CALM}, flood(Churn, Config)).

%% A window full of frames of one byte, each with as much padding as there can be, while nobody reads.
crumbs_of_data(Config) ->
    [begin
         %% As many as the window takes, or fewer.
         Batches = min(mb() * ?MIB div iolist_size(Frame), 4 * ?MIB) div 1000,
         Batch = binary:copy(iolist_to_binary(Frame), 1000),
         Sent = Batches * 1000,
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
         respond(Conn),
         harmless(fun() ->
             Storm = {storm, Batch, #{ms => 60000, bytes => Batches * byte_size(Batch)}},
             [#{ended := done}, ok] = raw_peer:run(Conn, [Storm, {data, 1, <<>>, fin}], 60000),
             h2_case:until(fun() ->
                 {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Stream),
                 N =:= Sent
             end),
             %% All of it is there.
             ?assertEqual(Sent, body_size(Stream))
         end, Config)
     end || Frame <- [h2_frames:data(1, <<"x">>, nofin), h2_frames:data(1, <<"x">>, nofin, 255)]].

body_size(Stream) ->
    case recv(Stream) of
        {response, 200, []} -> body_size(Stream);
        {data, Data} -> byte_size(Data) + body_size(Stream);
        done -> 0
    end.

%% 4.2: refused at its header, not when it is whole.
giant_frame(Config) ->
    [begin
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
         [ok] = raw_peer:run(Conn, [{raw, <<16#ffffff:24, Type, 0, Sid:32>>}]),
         ?assertEqual({error, {closed, {connection_error, frame_size_error}}},
                      flood(binary:copy(<<0>>, 16384), Stream, Conn, Config))
     end || {Type, Sid} <- [{0, 1}, {1, 1}, {4, 0}, {16#fa, 0}]].

bomb(Block, Config) ->
    <<First:16384/binary, Rest/binary>> = iolist_to_binary(Block),
    Frames = [h2_frames:raw(1, 0, 1, First) | continuations(Rest)],
    [begin
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => Transport}),
         harmless(fun() ->
             _ = raw_peer:run(Conn, [{storm, Frames, #{bytes => 1}}]),
             {error, Reason} = recv(Stream),
             ?assert(lists:member(Reason, [?CALM, {stream_error, protocol_error}]), Reason)
         end, Config)
     end || Transport <- [tcp, tls]].

continuations(<<Part:16384/binary, Rest/binary>>) when Rest =/= <<>> ->
    [h2_frames:continuation(1, Part, more) | continuations(Rest)];
continuations(Part) ->
    [h2_frames:continuation(1, Part, last)].

%% RFC 7541 section 6.2.1: a literal that goes into the table, as its newest entry 62.
table_entry(Size) ->
    [16#40, 1, $x, 16#7f, (Size - 127) rem 128 + 128, (Size - 127) div 128, binary:copy(<<"v">>, Size)].

%% ---- silence ---------------------------------------------------------------------------------

%% A byte now and then keeps nothing open beyond `connect_timeout': in the greeting, and in TLS.
slow_drip_while_connecting(Config) ->
    Settings = h2_frames:settings([{max_concurrent_streams, 1}]),
    [times_out(raw_peer:url(Peer), raw_peer:options(Peer))
     || Peer <- [dripping(#{}, Settings, Config), dripping(#{transport => tcp}, Settings, Config)]],
    %% A ServerHello that is announced (RFC 8446 section 5.1) and does not come.
    Silent = dripping(#{transport => tcp}, <<22, 3, 3, 16384:16, 2, 16380:24>>, Config),
    times_out(["https://localhost:", integer_to_list(raw_peer:port(Silent))], [insecure]).

dripping(Opts, Bytes, Config) ->
    attacker:peer(attacker(Config), Opts#{script => [{drip, iolist_to_binary(Bytes), 200}], auto => []}).

times_out(Url, Opts) ->
    Started = erlang:monotonic_time(millisecond),
    ?assertEqual({error, connect_timeout},
                 hackney_native:h2_open(iolist_to_binary(Url), [{connect_timeout, 1000} | Opts])),
    Took = erlang:monotonic_time(millisecond) - Started,
    ?assert(Took >= 1000 andalso Took < 5000, Took).

%% Once the stream stands, the reader's own deadline holds, and what comes slowly still comes.
slow_drip_of_a_response(Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{}),
    Response = iolist_to_binary(h2_frames:headers(1, hpack_lite:encode([{<<":status">>, <<"200">>}]), nofin)),
    Drip = concurrently(fun() -> raw_peer:run(Conn, [{drip, Response, 50}], 30000) end),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 200)),
    ?assertEqual({response, 200, []}, recv(Stream)),
    [ok] = result(Drip),
    ok = hackney_native:h2_close(Stream).

%% Windows wide open and nobody at the socket: the sender meets its own limits.
peer_that_never_reads(Config) ->
    [begin
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => Transport,
                                                            settings => [{initial_window_size, 16#7fffffff}]}),
         [ok, ok] = raw_peer:run(Conn, [{window_update, 0, 16#7fffffff - 65535}, pause]),
         harmless(fun() ->
             Piece = binary:copy(<<"x">>, 16384),
             ?assertEqual({error, timeout}, send_on(Stream, Piece)),
             {ok, #{send_queue_bytes := Queued}} = hackney_native:h2_info(Stream),
             ?assert(Queued =< ?MIB, Queued),
             ok = hackney_native:h2_close(Stream),
             gone(Stream)
         end, Config)
     end || Transport <- [tcp, tls]].

send_on(Stream, Piece) ->
    case hackney_native:h2_send(Stream, Piece, nofin, #{block => 500}) of
        ok -> send_on(Stream, Piece);
        Error -> Error
    end.

%% 6.5.3: our limits hold whether the peer says that it knows them or not.
settings_never_acknowledged(Config) ->
    Peer = attacker:peer(attacker(Config), #{auto => [ping]}),
    {Stream, Conn} = open_unacknowledged(Peer, []),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"works">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"works">>}, done, {error, closed}], drain(Stream)),
    {Strict, StrictConn} = open_unacknowledged(Peer, [{max_header_list_size, 10000}]),
    respond(StrictConn, [{<<"x">>, binary:copy(<<"v">>, 10000)}]),
    ?assertEqual({error, {stream_error, protocol_error}}, recv(Strict)).

open_unacknowledged(Peer, Opts) ->
    {ok, Stream} = hackney_native:h2_open(raw_peer:url(Peer), raw_peer:options(Peer, Opts)),
    Conn = raw_peer:accept(Peer),
    _ = raw_peer:expect(Conn, headers),
    {Stream, Conn}.

%% ---- what is no attack -----------------------------------------------------------------------

%% The peer is told why: GOAWAY, then the end of the connection in an orderly way.
calm_is_asked_for(Config) ->
    [begin
         {Stream, Conn} = attacker:open(attacker(Config), #{transport => Transport, auto => [settings]}),
         [ok] = raw_peer:run(Conn, [{raw, lists:duplicate(10200, h2_frames:raw(16#fa, 0, 0, <<>>))}]),
         ?assertEqual({error, ?CALM}, recv(Stream)),
         #{code := enhance_your_calm, last := 0} = raw_peer:expect(Conn, goaway),
         _ = raw_peer:expect(Conn, closed),
         gone(Stream)
     end || Transport <- [tcp, tls]].

%% A thousand at one time is more than any honest peer sends.
keepalives_are_no_flood(Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{}),
    [begin
         [ok, ok] = raw_peer:run(Conn, [{raw, lists:duplicate(200, h2_frames:ping(<<"ping-pon">>))}, barrier])
     end || _ <- lists:seq(1, 5)],
    respond(Conn),
    ?assertEqual({response, 200, []}, recv(Stream)),
    ok = hackney_native:h2_close(Stream).

%% A reader that takes 64 bytes at a time, and says so for stream and connection each time.
window_given_back_in_crumbs(Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}),
    Window = 65535,
    Crumbs = [[h2_frames:window_update(Sid, 64) || Sid <- [0, 1]] || _ <- lists:seq(1, Window div 64)]
        ++ [h2_frames:window_update(Sid, Window rem 64) || Sid <- [0, 1]],
    Rounds = 20,
    Data = binary:copy(<<"x">>, Window),
    [begin
         ok = hackney_native:h2_send(Stream, Data),
         Total = N * Window,
         [Total, ok] = raw_peer:run(Conn, [{expect_bytes, 1, Total}, {raw, Crumbs}])
     end || N <- lists:seq(1, Rounds)],
    ?assertEqual(ok, raw_peer:barrier(Conn)),
    ok = hackney_native:h2_close(Stream).

%% ---- helpers ---------------------------------------------------------------------------------

attacker(Config) -> proplists:get_value(attacker, Config).

mb() -> list_to_integer(os:getenv("HOSTILE_MB", "100")).

batch(Frame) ->
    binary:copy(iolist_to_binary(Frame), max(1, 65536 div iolist_size(Frame))).

flood(Frame, Config) -> flood(Frame, [], Config).

flood(Frame, Opts, Config) ->
    {Stream, Conn} = attacker:open(attacker(Config), #{transport => tcp}, Opts),
    flood(Frame, Stream, Conn, Config).

%% The peer sends the frame until it is cut off; returns what a reader gets who waits meanwhile. It takes all that comes.
flood(Frame, Stream, Conn, Config) ->
    Reader = concurrently(fun() -> read_to_the_end(Stream) end),
    harmless(fun() ->
        Storm = {storm, batch(Frame), #{ms => ?FLOOD_MS, bytes => mb() * ?MIB}},
        [Outcome] = raw_peer:run(Conn, [Storm], 3 * ?FLOOD_MS),
        ct:pal("~p", [Outcome]),
        ?assertMatch(#{ended := cut}, Outcome),
        Result = result(Reader),
        ok = hackney_native:h2_close(Stream),
        gone(Stream),
        Result
    end, Config).

read_to_the_end(Stream) ->
    case recv(Stream) of
        {error, _} = Error -> Error;
        _ -> read_to_the_end(Stream)
    end.

%% Runs it and looks at what it costs: this node's memory, its processor time, and the neighbour's round trips.
harmless(Fun, Config) ->
    Neighbour = proplists:get_value(neighbour, Config),
    Mark = h2_neighbour:mark(Neighbour),
    Before = {h2_case:rss(), erlang:memory(total)},
    Busy = cpu_ms(),
    Watcher = concurrently(fun() -> watch(Before) end),
    Result = Fun(),
    {Pid, _} = Watcher,
    Pid ! stop,
    {Rss, Vm} = result(Watcher),
    Cpu = cpu_ms() - Busy,
    #{worst_us := Worst, rounds := Rounds} = h2_neighbour:since(Neighbour, Mark),
    ct:pal("memory ~.1f MiB, of the VM ~.1f MiB; processor ~b ms; neighbour: ~b round trips, the longest ~b us",
           [grown(Rss, Before, 1), grown(Vm, Before, 2), Cpu, Rounds, Worst]),
    ?assert(Rss - element(1, Before) < ?MEMORY, {memory, grown(Rss, Before, 1)}),
    ?assert(Vm - element(2, Before) < ?MEMORY, {memory_of_the_vm, grown(Vm, Before, 2)}),
    ?assert(Cpu < ?CPU_MS, {processor_ms, Cpu}),
    ?assert(Worst < ?ROUND_TRIP_US, {round_trip_us, Worst}),
    Result.

grown(Now, Before, N) -> (Now - element(N, Before)) / ?MIB.

%% The most seen, looking every few milliseconds until it is stopped.
watch({Rss, Vm}) ->
    Most = {max(Rss, h2_case:rss()), max(Vm, erlang:memory(total))},
    receive stop -> Most
    after 5 -> watch(Most)
    end.

%% User and system time of this node's threads.
cpu_ms() ->
    {ok, Stat} = file:read_file("/proc/self/stat"),
    [_, Fields] = binary:split(Stat, <<") ">>),
    [User, System] = lists:sublist(binary:split(Fields, <<" ">>, [global]), 12, 2),
    %% In hundredths of a second, whatever the kernel itself counts in (USER_HZ).
    10 * (binary_to_integer(User) + binary_to_integer(System)).
