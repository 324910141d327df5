%%% @doc Clients that flood a server, or make it work for nothing: each is told to be calm, or cut off, within its deadline and for less than
%%% 32 MiB, and those who use the server beside it are answered meanwhile.
-module(hostile_client_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([rapid_reset/1, made_to_reset/1, ping_flood/1, settings_flood/1, priority_flood/1, window_update_flood/1, unknown_frame_flood/1,
         continuation_flood/1, empty_continuation_flood/1, header_bomb/1, empty_data_flood/1, refused_streams_flood/1, no_preface/1,
         tiny_data_unread/1]).

-define(DEADLINE, 20000).
-define(MIB, 1048576).
-define(GET, hpack_lite:encode([{<<":method">>, <<"GET">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}, {<<":path">>, <<"/">>}])).
-define(POST, hpack_lite:encode([{<<":method">>, <<"POST">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>},
                                 {<<":path">>, <<"/hang">>}])).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [rapid_reset, made_to_reset, ping_flood, settings_flood, priority_flood, window_update_flood, unknown_frame_flood, continuation_flood,
     empty_continuation_flood, header_bomb, empty_data_flood, refused_streams_flood, no_preface, tiny_data_unread].

init_per_suite(Config) ->
    h2_case:start(),
    {ok, _} = application:ensure_all_started(hackney_native),
    {ok, Server} = hackney_native_h2:start_server(0, #{transport => tcp, ip => {127, 0, 0, 1}, handler => fun answer/5}),
    [{server, Server} | Config].

end_per_suite(Config) ->
    hackney_native_h2:stop_server(proplists:get_value(server, Config), 0).

answer(Conn, StreamId, _Method, <<"/hang">>, _Headers) ->
    %% Nobody reads the body: the process waits for the stream's end.
    Monitor = erlang:monitor(process, Conn),
    receive {'DOWN', Monitor, process, Conn, _} -> StreamId end;
answer(Conn, StreamId, _Method, _Path, _Headers) ->
    hackney_native_h2:respond(Conn, StreamId, 200, [], <<"fine">>).

%% CVE-2023-44487: requests that are taken back at once.
rapid_reset(Config) ->
    Pair = fun(N) -> [h2_frames:headers(2 * N + 1, ?GET, fin), h2_frames:rst_stream(2 * N + 1, cancel)] end,
    cut_off(<<>>, Pair, [enhance_your_calm], Config).

%% CVE-2025-8671: the server is made to reset them itself, by a WINDOW_UPDATE of nothing.
made_to_reset(Config) ->
    Pair = fun(N) -> [h2_frames:headers(2 * N + 1, ?GET, nofin), h2_frames:window_update(2 * N + 1, 16#7fffffff)] end,
    cut_off(<<>>, Pair, [enhance_your_calm, flow_control_error, protocol_error], Config).

ping_flood(Config) -> flood(h2_frames:ping(<<"flooding">>), Config).

settings_flood(Config) -> flood(h2_frames:settings([]), Config).

priority_flood(Config) -> flood(h2_frames:raw(2, 0, 1, <<0:32, 0>>), Config).

window_update_flood(Config) -> flood(h2_frames:window_update(0, 1), Config).

unknown_frame_flood(Config) -> flood(h2_frames:raw(16#fa, 0, 0, <<>>), Config).

flood(Frame, Config) ->
    cut_off(<<>>, fun(_) -> Frame end, [enhance_your_calm], Config).

%% CVE-2024-27316 and its like.
continuation_flood(Config) ->
    cut_off(h2_frames:raw(1, 0, 1, ?GET), fun(_) -> h2_frames:continuation(1, field(1000), more) end,
            [enhance_your_calm, protocol_error], Config).

empty_continuation_flood(Config) ->
    cut_off(h2_frames:raw(1, 0, 1, ?GET), fun(_) -> h2_frames:continuation(1, <<>>, more) end,
            [enhance_your_calm, protocol_error], Config).

field(Size) -> hpack_lite:encode([{<<"x">>, binary:copy(<<"a">>, Size)}]).

%% One large field, entered in the table once and named ten thousand times with a byte each: 40 MB by the count of RFC 9113, 6.5.2.
header_bomb(Config) ->
    Length = 4000 - 127,
    Entry = [<<16#40, 1, "x", 16#7f, ((Length band 127) bor 128), (Length bsr 7)>>, binary:copy(<<"a">>, 4000)],
    Block = iolist_to_binary([?GET, Entry, binary:copy(<<(16#80 bor 62)>>, 10000)]),
    Wire = connect(Config),
    ok = gen_tcp:send(Wire, [h2_frames:headers(1, Block, fin), h2_frames:ping(<<"still ok">>)]),
    %% Turned away by status 431 or a reset, or the connection is ended.
    Frames = frames(Wire, <<>>, fun(#{type := Type} = Frame) ->
                                        Type =:= goaway orelse Type =:= rst_stream orelse Type =:= headers
                                            orelse (Type =:= ping andalso maps:get(flags, Frame) =/= [])
                                end),
    ?assert(Frames =/= []),
    ok = gen_tcp:close(Wire),
    honest(Config).

empty_data_flood(Config) ->
    cut_off(h2_frames:headers(1, ?POST, nofin), fun(_) -> h2_frames:data(1, <<>>, nofin) end, [enhance_your_calm], Config).

%% Streams beyond those that the server lets there be.
refused_streams_flood(Config) ->
    cut_off(<<>>, fun(N) -> h2_frames:headers(2 * N + 1, ?POST, nofin) end, [enhance_your_calm, protocol_error], Config).

no_preface(Config) ->
    {ok, Wire} = gen_tcp:connect({127, 0, 0, 1}, port(Config), [binary, {active, false}]),
    ok = gen_tcp:send(Wire, <<"GET / HTTP/1.1\r\nHost: a\r\n\r\n">>),
    _ = rest(Wire),
    honest(Config).

%% A window's worth of bytes, each in a frame with as much padding as there may be: what is kept is not much more than the bytes.
tiny_data_unread(Config) ->
    Before = h2_case:rss(),
    Wire = connect(Config),
    Frame = h2_frames:data(1, <<"x">>, nofin, 255),
    ok = gen_tcp:send(Wire, [h2_frames:headers(1, ?POST, nofin), lists:duplicate(1048576 div 257, Frame), h2_frames:ping(<<"have all">>)]),
    [_ | _] = frames(Wire, <<>>, fun(#{type := Type} = Frame1) -> Type =:= ping andalso maps:get(flags, Frame1) =/= [] end),
    ?assert(h2_case:rss() - Before < 32 * ?MIB),
    ok = gen_tcp:close(Wire),
    honest(Config).

%% ---- the attacker ------------------------------------------------------------------------------

port(Config) -> hackney_native_h2:server_port(proplists:get_value(server, Config)).

connect(Config) ->
    {ok, Wire} = gen_tcp:connect({127, 0, 0, 1}, port(Config), [binary, {active, false}, {nodelay, true}]),
    ok = gen_tcp:send(Wire, [h2_frames:preface(), h2_frames:settings([]), h2_frames:settings_ack()]),
    Wire.

%% Sends fifty thousand, and is cut off on the way, with one of these codes if it gets to hear one; meanwhile others are answered.
cut_off(First, Frame, Codes, Config) ->
    Before = h2_case:rss(),
    Wire = connect(Config),
    Honest = h2_case:concurrently(fun() -> honest(Config) end),
    Sender = h2_case:concurrently(fun() -> send(Wire, First, Frame, 0) end),
    Rest = rest(Wire),
    ok = h2_case:result(Honest),
    _ = h2_case:result(Sender),
    Heard = [maps:get(code, Heard) || #{type := goaway} = Heard <- Rest],
    ct:pal("heard ~p, resident ~b KiB more", [Heard, (h2_case:rss() - Before) div 1024]),
    ?assertEqual([], [Code || Code <- lists:usort(Heard), Code =/= no_error] -- Codes),
    ?assert(h2_case:rss() - Before < 32 * ?MIB),
    honest(Config).

send(_Wire, _First, _Frame, 50000) ->
    %% It was read to the end, and nothing came of it: the server does not hang up, and the attacker waits in vain.
    ok;
send(Wire, First, Frame, N) ->
    case gen_tcp:send(Wire, [First | [Frame(M) || M <- lists:seq(N, N + 499)]]) of
        ok -> send(Wire, <<>>, Frame, N + 500);
        {error, _} -> ok
    end.

%% What comes until the server hangs up.
rest(Wire) -> frames(Wire, <<>>, fun(_) -> false end).

frames(Wire, Buffer, IsLast) ->
    case h2_frames:decode(Buffer) of
        {Frame, Rest} ->
            case IsLast(Frame) of
                true -> [Frame];
                false -> [Frame | frames(Wire, Rest, IsLast)]
            end;
        more ->
            case gen_tcp:recv(Wire, 0, ?DEADLINE) of
                {ok, Bytes} -> frames(Wire, <<Buffer/binary, Bytes/binary>>, IsLast);
                {error, Reason} when Reason =/= timeout -> []
            end
    end.

%% Somebody else's requests, on a connection of their own.
honest(Config) ->
    {ok, Conn} = hackney_native_h2:connect("127.0.0.1", port(Config), #{transport => tcp}),
    [begin
         {ok, StreamId} = hackney_native_h2:request(Conn, <<"GET">>, <<"/">>, []),
         receive {h2, Conn, {response, StreamId, 200, _}} -> ok after ?DEADLINE -> error(no_response) end,
         receive {h2, Conn, {data, StreamId, <<"fine">>, true}} -> ok after ?DEADLINE -> error(no_body) end
     end || _ <- lists:seq(1, 20)],
    ok = hackney_native_h2:close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok end.
