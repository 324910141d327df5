%%% @doc What a peer does wrong, what it says of ends, and what we make of it, as a client and as a server: sections 5.2, 5.3 and 5.6 of the
%%% contract of `h2_connection', row by row. Where we do something else than it, `docs/h2_connection.md' says what and why.
-module(h2_connection_errors_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [gone/1, until/1, concurrently/1, in_call/1, result/1]).
-import(h2_conn_case, [connect/0, connect/2, asked/2, asked/3, event/1, events/2, silent/1, respond/2, pair/0, ask/4,
                       taken_over/2]).

-define(C, hackney_native_h2_connection).
-define(GET, [{<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, connection}, {group, streams}, {group, ends}].

groups() ->
    [{connection, [parallel],
      [client_ends_the_connection, server_ends_the_connection, wrong_preface, settings_are_never_acknowledged, goaway_tells_the_code,
       ignored_by_both, stricter_than_the_contract, push_is_not_asked_for]},
     {streams, [parallel],
      [client_resets_the_stream, server_resets_the_stream, bad_requests, large_requests, authorities_are_handed_on, window_of_a_stream_is_kept, refused_request_is_decoded,
       late_frames_are_harmless]},
     {ends, [parallel],
      [goaway_leaves_some_out, goaway_in_two_steps, goaway_with_an_error, ends_of_the_socket, the_process_hears_last, tunnel_trailers, many_resets, many_pings]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

raw(Type, Flags, Stream, Payload) -> {raw, h2_frames:raw(Type, Flags, Stream, Payload)}.

block(Fields) -> iolist_to_binary(hpack_lite:encode(Fields)).

%% Section 5.2, those that hold for both. What is sent, and the code of the GOAWAY: where it stands as `h2', the contract has the one beside
%% it, and the engine's parser knows `protocol_error' only.
wrong_frames() ->
    [{raw(0, 0, 1, binary:copy(<<0>>, 16385)), frame_size_error},
     {raw(4, 0, 0, <<1, 2, 3>>), {h2, frame_size_error}},
     {raw(4, 1, 0, <<0:48>>), {h2, frame_size_error}},
     {raw(6, 0, 0, <<1, 2, 3>>), {h2, frame_size_error}},
     {raw(3, 0, 1, <<1>>), {h2, frame_size_error}},
     {raw(8, 0, 0, <<1>>), {h2, frame_size_error}},
     {raw(7, 0, 0, <<1>>), {h2, frame_size_error}},
     {raw(0, 0, 0, <<"x">>), protocol_error},
     {raw(1, 4, 0, block([{<<":status">>, <<"200">>}])), protocol_error},
     {raw(3, 0, 0, <<0:32>>), protocol_error},
     {raw(9, 4, 0, <<>>), protocol_error},
     {raw(4, 0, 1, <<>>), protocol_error},
     {raw(6, 0, 1, <<0:64>>), protocol_error},
     {raw(7, 0, 1, <<0:64>>), protocol_error},
     {raw(0, 8, 1, <<5, "x">>), protocol_error},
     {raw(8, 0, 0, <<0:32>>), protocol_error},
     {raw(9, 4, 1, <<>>), protocol_error},
     {raw(5, 4, 1, <<0:32>>), protocol_error},
     {raw(4, 0, 0, <<2:16, 2:32>>), protocol_error},
     {raw(4, 0, 0, <<8:16, 2:32>>), protocol_error},
     {raw(4, 0, 0, <<5:16, 100:32>>), protocol_error},
     {raw(4, 0, 0, <<5:16, 16777216:32>>), protocol_error},
     {raw(4, 0, 0, <<4:16, 16#80000000:32>>), {h2, flow_control_error}},
     {{window_update, 0, 16#7fffffff}, flow_control_error},
     {{data, 101, <<"x">>}, protocol_error},
     {{window_update, 101, 1}, protocol_error},
     {{rst, 101, cancel}, protocol_error},
     {raw(1, 4, 1, <<16#ff, 16#ff, 16#ff>>), {h2, compression_error}},
     {raw(1, 0, 1, <<>>), protocol_error, {data, 1, <<"x">>}}].

code({h2, _}) -> protocol_error;
code(Code) -> Code.

client_ends_the_connection(_Config) ->
    [begin
         {Conn, Far} = connect(),
         1 = asked(Conn, Far, #{end_stream => false}),
         ended_by(Conn, Far, Wrong)
     end || Wrong <- wrong_frames()].

server_ends_the_connection(_Config) ->
    [begin
         {Conn, Far} = served(),
         ask(Far, 1, ?GET, nofin),
         {request, 1, _, _, _} = event(Conn),
         ended_by(Conn, Far, Wrong)
     end || Wrong <- wrong_frames() ++ [{{headers, 2, ?GET}, protocol_error}]].

served() ->
    {Near, Socket} = pair(),
    Conn = taken_over(server, Near),
    Far = raw_peer:dialled(Socket, #{}),
    connected = event(Conn),
    {Conn, Far}.

ended_by(Conn, Far, Wrong) ->
    [Frame, Expected | More] = tuple_to_list(Wrong),
    _ = raw_peer:run(Far, [Frame | More]),
    #{code := Code} = try raw_peer:expect(Far, goaway) catch error:Reason -> error({Wrong, Reason}) end,
    Code =:= code(Expected) orelse error({Wrong, Code}),
    case closing(Conn) of
        {closed, {closed, {connection_error, Code}}} -> ok;
        Other -> error({Wrong, Other})
    end,
    normal = h2_case:reason(gone(Conn)),
    {error, closed} = ?C:send_data(Conn, 1, <<"x">>).

%% Of the stream nothing else is told.
closing(Conn) ->
    case event(Conn) of
        {goaway, _, _} -> closing(Conn);
        Event -> Event
    end.

wrong_preface(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(server, Near),
    Wait = concurrently(fun() -> ?C:wait_connected(Conn) end),
    ok = in_call(Wait),
    ok = gen_tcp:send(Socket, <<"GET / HTTP/1.1\r\nhost: a\r\n\r\n">>),
    ?assertEqual({closed, {closed, invalid_preface}}, event(Conn)),
    ?assertEqual({error, {closed, invalid_preface}}, result(Wait)).

settings_are_never_acknowledged(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(server, Near),
    Far = raw_peer:dialled(Socket, #{auto => []}),
    ?assertEqual({error, {closed, {connection_error, settings_timeout}}}, ?C:wait_connected(Conn)),
    {closed, {closed, {connection_error, settings_timeout}}} = event(Conn),
    _ = raw_peer:expect(Far, closed).

goaway_tells_the_code(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, [{goaway, Id, 16#face, <<"debug">>}]),
    {goaway, Id, 16#face} = event(Conn),
    {ok, #{goaway := {Id, 16#face}}} = ?C:info(Conn).

%% Unknown frames and settings, PRIORITY, an ACK of a PING that was not sent.
ignored_by_both(_Config) ->
    Noise = [raw(16#fa, 16#ff, 1, <<"whatever">>), raw(16#fb, 0, 0, <<>>), raw(2, 0, 1, <<0:32, 10>>), raw(2, 0, 99, <<0:32, 10>>),
             {settings, [{16#face, 1}]}, raw(6, 1, 0, <<1:64>>)],
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, Noise ++ [{headers, Id, [{<<":status">>, <<"200">>}], fin}]),
    [{response, Id, 200, []}, {data, Id, <<>>, true}] = events(Conn, 2),
    {Server, Client} = served(),
    _ = raw_peer:run(Client, [{headers, 1, ?GET, fin} | Noise]),
    {request, 1, _, _, _} = event(Server),
    ok = ?C:respond(Server, 1, 200, [], <<>>),
    _ = raw_peer:expect(Client, #{type => headers, stream => 1}).

%% The engine's decoder takes these for an attack on the connection.
stricter_than_the_contract(_Config) ->
    [begin
         {Conn, Far} = served(),
         ask(Far, 1, Fields, fin),
         #{code := protocol_error} = raw_peer:expect(Far, goaway),
         {closed, {closed, {connection_error, protocol_error}}} = closing(Conn)
     end || Fields <- [?GET ++ [{<<"Upper">>, <<"x">>}], ?GET ++ [{<<"x">>, <<"a", 0>>}], [{<<":other">>, <<"x">>} | ?GET],
                       lists:keystore(<<":method">>, 1, ?GET, {<<":method">>, <<"G T">>})]].

push_is_not_asked_for(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, [{settings, [{enable_push, 1}]}, barrier]),
    respond(Far, Id),
    {response, Id, 200, []} = event(Conn).

%% ---- streams -----------------------------------------------------------------------------------

%% Section 5.3: the application hears of it, and the connection lives.
client_resets_the_stream(_Config) ->
    {Conn, Far} = connect(),
    Status = {<<":status">>, <<"200">>},
    [begin
         Id = asked(Conn, Far, #{end_stream => false}),
         _ = raw_peer:run(Far, Steps(Id)),
         #{code := Code} = raw_peer:expect(Far, #{type => rst_stream, stream => Id}),
         {stream_reset, Id, Code} = reset(Conn, Id),
         Code =:= Expected orelse error({Id, Code, Expected})
     end || {Steps, Expected} <-
                [{fun(Id) -> [{headers, Id, [{<<"x">>, <<"y">>}], nofin}] end, protocol_error},
                 {fun(Id) -> [{headers, Id, [Status, {<<"connection">>, <<"close">>}], nofin}] end, protocol_error},
                 {fun(Id) -> [{headers, Id, [Status, {<<"content-length">>, <<"x">>}], nofin}] end, protocol_error},
                 {fun(Id) -> [{headers, Id, [Status, {<<"content-length">>, <<"1">>}]}, {data, Id, <<"xy">>}] end, protocol_error},
                 {fun(Id) -> [{headers, Id, [Status, {<<"content-length">>, <<"2">>}]}, {data, Id, <<"x">>, fin}] end, protocol_error},
                 {fun(Id) -> [{headers, Id, [Status, {<<"content-length">>, <<"2">>}], fin}] end, protocol_error},
                 {fun(Id) -> [{window_update, Id, 16#7fffffff}] end, flow_control_error}]],
    Last = asked(Conn, Far),
    respond(Far, Last),
    {response, Last, 200, []} = event(Conn).

%% After what came ahead of it.
reset(Conn, Id) ->
    case event(Conn) of
        {stream_reset, Id, _} = Reset -> Reset;
        {Kind, Id, _, _} when Kind =:= response; Kind =:= data -> reset(Conn, Id)
    end.

server_resets_the_stream(_Config) ->
    {Conn, Far} = served(),
    [begin
         ask(Far, Id, ?GET ++ Fields, nofin),
         {request, Id, _, _, _} = event(Conn),
         ok = ?C:set_stream_handler(Conn, Id, self()),
         _ = raw_peer:run(Far, Steps(Id)),
         #{code := Code} = raw_peer:expect(Far, #{type => rst_stream, stream => Id}),
         {stream_reset, Id, Code} = reset(Conn, Id),
         Code =:= Expected orelse error({Id, Code, Expected}),
         until(fun() -> ?C:respond(Conn, Id, 200, [], <<>>) =:= {error, stream_closed} end)
     end || {Id, Fields, Steps, Expected} <-
                [{1, [{<<"content-length">>, <<"1">>}], fun(Id) -> [{data, Id, <<"xy">>}] end, protocol_error},
                 {3, [{<<"content-length">>, <<"2">>}], fun(Id) -> [{data, Id, <<"x">>, fin}] end, protocol_error},
                 {5, [], fun(Id) -> [{window_update, Id, 16#7fffffff}] end, flow_control_error}]],
    ask(Far, 7, ?GET, fin),
    {request, 7, _, _, _} = event(Conn).

%% Of a request that is none the application does not hear.
bad_requests(_Config) ->
    {Conn, Far} = served(),
    Bad = [tl(?GET), lists:keydelete(<<":path">>, 1, ?GET), lists:keydelete(<<":scheme">>, 1, ?GET),
           lists:keystore(<<":path">>, 1, ?GET, {<<":path">>, <<>>}),
           ?GET ++ [{<<"connection">>, <<"close">>}], ?GET ++ [{<<"te">>, <<"gzip">>}], ?GET ++ [{<<":path">>, <<"/">>}],
           ?GET ++ [{<<"x">>, <<"y">>}, {<<":authority">>, <<"a">>}], ?GET ++ [{<<"content-length">>, <<"x">>}],
           [{<<":protocol">>, <<"websocket">>} | lists:keystore(<<":method">>, 1, ?GET, {<<":method">>, <<"CONNECT">>})]],
    [begin
         ask(Far, Id, Fields, fin),
         ?assertMatch({_, #{code := protocol_error}}, {Fields, raw_peer:expect(Far, #{type => rst_stream, stream => Id})})
     end || {Id, Fields} <- lists:zip(lists:seq(1, 2 * length(Bad) - 1, 2), Bad)],
    ask(Far, 101, ?GET, fin),
    {request, 101, _, _, _} = event(Conn).

large_requests(_Config) ->
    {Near, Socket} = pair(),
    {ok, Conn} = ?C:start_link(server, Near, self(), #{settings => #{max_header_list_size => 1000}}),
    ok = gen_tcp:controlling_process(Near, Conn),
    ok = ?C:activate(Conn),
    Far = raw_peer:dialled(Socket, #{}),
    connected = event(Conn),
    ask(Far, 1, ?GET ++ [{<<"x">>, binary:copy(<<"x">>, 2000)}], fin),
    #{headers := [{<<":status">>, <<"431">>} | _]} = raw_peer:expect(Far, #{type => headers, stream => 1}),
    ask(Far, 3, ?GET, fin),
    {request, 3, _, _, _} = event(Conn),
    ask(Far, 5, ?GET ++ [{<<"x">>, binary:copy(<<"x">>, 9000)}], fin),
    {closed, {closed, {connection_error, enhance_your_calm}}} = closing(Conn).

authorities_are_handed_on(_Config) ->
    {Conn, Far} = served(),
    [begin
         ask(Far, Id, Fields, fin),
         {request, Id, <<"GET">>, <<"/">>, [{<<":scheme">>, <<"http">>} | Rest]} = event(Conn),
         ?assertEqual(lists:nthtail(3, Fields), Rest)
     end || {Id, Fields} <- [{1, lists:keystore(<<":authority">>, 1, ?GET, {<<":authority">>, <<"me@a">>})},
                             {3, ?GET ++ [{<<"host">>, <<"other">>}]}]].

window_of_a_stream_is_kept(_Config) ->
    {Conn, Far} = connect(#{}, #{settings => #{initial_window_size => 1000}}),
    Id = asked(Conn, Far, #{flow_control => manual}),
    respond(Far, Id),
    [1000] = raw_peer:run(Far, [{flood, Id, 1000}]),
    _ = raw_peer:run(Far, [{data, Id, <<"too much">>}]),
    #{code := flow_control_error} = raw_peer:expect(Far, #{type => rst_stream, stream => Id}),
    {stream_reset, Id, flow_control_error} = reset(Conn, Id).

%% Its header block counts for the table that both sides keep.
refused_request_is_decoded(_Config) ->
    {Near, Socket} = pair(),
    {ok, Conn} = ?C:start_link(server, Near, self(), #{settings => #{max_concurrent_streams => 1}}),
    ok = gen_tcp:controlling_process(Near, Conn),
    ok = ?C:activate(Conn),
    Far = raw_peer:dialled(Socket, #{}),
    connected = event(Conn),
    _ = raw_peer:expect(Far, #{type => settings, flags => [ack]}),
    ask(Far, 1, ?GET, fin),
    {request, 1, _, _, _} = event(Conn),
    %% `x: y' with incremental indexing, then by its place in the table.
    Indexed = [block(?GET), <<16#40, 1, "x", 1, "y">>],
    _ = raw_peer:run(Far, [raw(1, 5, 3, Indexed)]),
    #{code := refused_stream} = raw_peer:expect(Far, #{type => rst_stream, stream => 3}),
    ok = ?C:respond(Conn, 1, 200, [], <<>>),
    _ = raw_peer:expect(Far, #{type => headers, stream => 1}),
    _ = raw_peer:run(Far, [barrier, raw(1, 5, 5, [block(?GET), <<16#be>>])]),
    {request, 5, <<"GET">>, <<"/">>, Fields} = event(Conn),
    ?assertEqual(<<"y">>, proplists:get_value(<<"x">>, Fields)).

%% A response that was under way when the request was cancelled.
late_frames_are_harmless(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    ok = ?C:cancel_stream(Conn, Id),
    _ = raw_peer:expect(Far, #{type => rst_stream, stream => Id}),
    _ = raw_peer:run(Far, [raw(1, 4, Id, [block([{<<":status">>, <<"200">>}]), <<16#40, 1, "x", 1, "y">>]), {data, Id, <<"late">>},
                           {window_update, Id, 1}, {rst, Id, cancel}, barrier]),
    Other = asked(Conn, Far),
    _ = raw_peer:run(Far, [raw(1, 5, Other, [block([{<<":status">>, <<"200">>}]), <<16#be>>])]),
    [{response, Other, 200, [{<<"x">>, <<"y">>}]}, {data, Other, <<>>, true}] = events(Conn, 2).

%% ---- ends --------------------------------------------------------------------------------------

goaway_leaves_some_out(_Config) ->
    {Conn, Far} = connect(),
    [A, B, C] = [asked(Conn, Far, #{end_stream => false}) || _ <- [1, 2, 3]],
    _ = raw_peer:run(Far, [{goaway, A, no_error}]),
    ?assertEqual([{goaway, A, no_error}, {stream_reset, B, refused_stream}, {stream_reset, C, refused_stream}], lists:sort(events(Conn, 3))),
    {error, unprocessed} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    {error, invalid_stream_state} = ?C:send_data(Conn, B, <<"x">>),
    ok = ?C:send_data(Conn, A, <<"x">>, true),
    _ = raw_peer:run(Far, [{headers, A, [{<<":status">>, <<"200">>}], fin}]),
    [{response, A, 200, []}, {data, A, <<>>, true}, {closed, closed}] = events(Conn, 3).

goaway_in_two_steps(_Config) ->
    {Conn, Far} = connect(),
    [A, B] = [asked(Conn, Far) || _ <- [1, 2]],
    _ = raw_peer:run(Far, [{goaway, 16#7fffffff, no_error}]),
    {goaway, 16#7fffffff, no_error} = event(Conn),
    _ = raw_peer:run(Far, [{goaway, A, no_error}]),
    ?assertEqual([{goaway, A, no_error}, {stream_reset, B, refused_stream}], lists:sort(events(Conn, 2))).

%% Those that it serves go on, if it lets them.
goaway_with_an_error(_Config) ->
    {Conn, Far} = connect(),
    [A, B] = [asked(Conn, Far) || _ <- [1, 2]],
    _ = raw_peer:run(Far, [{goaway, A, internal_error}, close]),
    Events = events(Conn, 3),
    {closed, Why} = lists:last(Events),
    ?assert(Why =:= closed orelse element(1, Why) =:= closed orelse element(1, Why) =:= goaway),
    ?assertEqual([{goaway, A, internal_error}, {stream_reset, B, refused_stream}], lists:sort(lists:droplast(Events))),
    silent(Conn).

%% The streams are gone with the connection, which its process does not know yet: that is no mistake in the use of a stream.
the_process_hears_last(_Config) ->
    {Conn, Far} = connect(),
    1 = asked(Conn, Far, #{end_stream => false}),
    ok = sys:suspend(Conn),
    [ok] = raw_peer:run(Far, [close]),
    until(fun() -> {ok, #{streams := Streams}} = hackney_native:h2_info(Conn), Streams =:= 0 end),
    Calls = [concurrently(Call) || Call <- [fun() -> ?C:send_data(Conn, 1, <<"x">>) end,
                                            fun() -> ?C:send_trailers(Conn, 1, []) end,
                                            fun() -> ?C:cancel_stream(Conn, 1) end]],
    %% The engine has answered: they ask the process.
    until(fun() -> lists:all(fun({Pid, _}) -> lists:member(process_info(Pid, status), [undefined, {status, waiting}]) end, Calls) end),
    ok = sys:resume(Conn),
    [?assertEqual({error, closed}, result(Call)) || Call <- Calls],
    gone(Conn).

ends_of_the_socket(_Config) ->
    [begin
         {Conn, Far} = connect(),
         Id = asked(Conn, Far, #{handler => self()}),
         respond(Far, Id),
         {response, Id, 200, []} = event(Conn),
         _ = raw_peer:run(Far, Steps(Id)),
         ?assertEqual({closed, Reason}, event(Conn)),
         normal = h2_case:reason(gone(Conn)),
         silent(Conn)
     end || {Steps, Reason} <- [{fun(_) -> [close] end, closed}, {fun(_) -> [shutdown] end, closed},
                                {fun(_) -> [abort] end, {closed, econnreset}},
                                {fun(Id) -> [raw_part(Id), close] end, {closed, truncated_frame}}]].

raw_part(Id) -> {raw, binary:part(iolist_to_binary(h2_frames:data(Id, <<"0123456789">>, nofin)), 0, 12)}.

%% A tunnel has none (RFC 9113, 8.5): h2 hands them on, and so do we.
tunnel_trailers(_Config) ->
    {Conn, Far} = connect(),
    {ok, Id} = hackney_native_h2:request(Conn, [{<<":method">>, <<"CONNECT">>}, {<<":authority">>, <<"a:1">>}]),
    _ = raw_peer:expect(Far, #{type => headers, stream => Id}),
    respond(Far, Id),
    _ = raw_peer:run(Far, [{headers, Id, [{<<"t">>, <<"1">>}], fin}]),
    [{response, Id, 200, []}, {trailers, Id, [{<<"t">>, <<"1">>}]}] = events(Conn, 2).

%% CVE-2023-44487: requests that are taken back at once.
many_resets(_Config) ->
    {Conn, Far} = served(),
    catch raw_peer:run(Far, lists:append([[{headers, Id, ?GET, fin}, {rst, Id, cancel}] || Id <- lists:seq(1, 60001, 2)])),
    until(fun() ->
        receive {h2, Conn, {closed, {closed, {connection_error, enhance_your_calm}}}} -> true;
                {h2, Conn, {request, _, _, _, _}} -> false
        after 0 -> false
        end
    end).

many_pings(_Config) ->
    {Conn, Far} = served(),
    %% As many as probes of the bandwidth send.
    _ = raw_peer:run(Far, [{ping, <<N:64>>} || N <- lists:seq(1, 100)] ++ [barrier]),
    silent(Conn),
    catch raw_peer:run(Far, [{raw, lists:duplicate(30000, h2_frames:ping(<<0:64>>))}]),
    {closed, {closed, {connection_error, enhance_your_calm}}} = closing(Conn).
