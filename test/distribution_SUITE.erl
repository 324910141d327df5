%%% @doc A stream is a process: one that was opened on one node is used, owned and monitored from
%%% another. The raw peer and the test run on this node.
-module(distribution_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [respond/1, recv/1, drain/1, active/1, silent/1, gone/1, until/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [used_from_another_node, large_data_both_ways, active_to_another_node, active_n_to_another_node,
     error_to_another_node, recv_times_out_from_afar, send_blocks_from_afar,
     reader_killed_on_another_node, owner_dies_on_another_node, owners_node_goes_down,
     streams_node_goes_down, monitored_from_afar, closed_from_afar, dead_stream_from_afar,
     errors_are_the_same].

init_per_suite(Config) ->
    h2_case:start(),
    [{started_distribution, os_node:distributed()} | Config].

end_per_suite(Config) ->
    _ = proplists:get_value(started_distribution, Config, false) andalso net_kernel:stop(),
    ok.

init_per_testcase(_Case, Config) ->
    {ok, Peer, Node} = peer:start_link(#{name => peer:random_name(),
                                         args => ["-pa" | code:get_path()]}),
    ok = erpc:call(Node, h2_case, start, []),
    [{node, Node}, {peer, Peer} | Config].

end_per_testcase(_Case, Config) ->
    %% A test that owns a stream over there is linked to it.
    process_flag(trap_exit, true),
    _ = try peer:stop(proplists:get_value(peer, Config)) catch exit:_ -> stopped_already end,
    ok.

%% ---- the stream lives on the other node --------------------------------------------------------

used_from_another_node(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ?assertEqual(node_of(Config), node(Stream)),
    respond(Conn),
    ?assertEqual({response, 200, []}, recv(Stream)),
    ok = hackney_native:h2_send(Stream, <<"from afar">>),
    ok = hackney_native:h2_send(Stream, [<<" and">>, " more"], nofin),
    [18] = raw_peer:run(Conn, [{expect_bytes, 1, 18}]),
    {ok, #{state := connected}} = hackney_native:h2_info(Stream),
    ok = hackney_native:h2_consume(Stream, 0),
    ok = hackney_native:h2_send_trailers(Stream, [{<<"t">>, <<"1">>}]),
    #{headers := [{<<"t">>, <<"1">>}]} = raw_peer:expect(Conn, headers),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, {headers, 1, [{<<"u">>, <<"2">>}], fin}]),
    ?assertEqual([{data, <<"x">>}, {trailers, [{<<"u">>, <<"2">>}]}, done, {error, closed}],
                 drain(Stream)),
    ok = hackney_native:h2_close(Stream).

large_data_both_ways(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    Size = 1048576,
    Data = raw_peer_conn:content(0, Size),
    [ok] = raw_peer:run(Conn, [{window_update, 0, 2 * Size}]),
    [ok] = raw_peer:run(Conn, [{window_update, 1, 2 * Size}]),
    ok = hackney_native:h2_send(Stream, Data, fin),
    [Size] = raw_peer:run(Conn, [{expect_bytes, 1, Size}]),
    ?assert(Data =:= iolist_to_binary([D || #{type := data, data := D} <- raw_peer:transcript(Conn)])),
    respond(Conn),
    [#{bytes := Size}] = raw_peer:run(Conn, [{pump, 1, Size, 16384, fin}]),
    [{response, 200, []}, {data, Got}, done, {error, closed}] = drain(Stream),
    ?assert(Data =:= Got).

active_to_another_node(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ok = hackney_native:h2_controlling_process(Stream, self()),
    ok = hackney_native:h2_setopts(Stream, [{active, true}]),
    respond(Conn),
    _ = raw_peer:run(Conn, [{data, 1, <<N:32>>} || N <- lists:seq(1, 200)] ++ [{data, 1, <<>>, fin}]),
    ?assertEqual({response, 200, []}, active(Stream)),
    Got = collect(Stream),
    ?assertEqual(lists:seq(1, 200), [N || <<N:32>> <= Got]),
    silent(Stream).

collect(Stream) ->
    case active(Stream) of
        {data, Data} -> <<Data/binary, (collect(Stream))/binary>>;
        done -> <<>>
    end.

active_n_to_another_node(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ok = hackney_native:h2_controlling_process(Stream, self()),
    ok = hackney_native:h2_setopts(Stream, [{active, 2}]),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"x">>}, {data, 1, <<"y">>}]),
    [{response, 200, []}, {data, _}, passive] = [active(Stream) || _ <- [1, 2, 3]].

error_to_another_node(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ok = hackney_native:h2_controlling_process(Stream, self()),
    ok = hackney_native:h2_setopts(Stream, [{active, true}]),
    [ok] = raw_peer:run(Conn, [{rst, 1, cancel}]),
    ?assertEqual({error, {stream_error, cancel}}, active(Stream)),
    gone(Stream),
    silent(Stream).

recv_times_out_from_afar(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 30)),
    respond(Conn),
    ?assertEqual({ok, {response, 200, []}}, hackney_native:h2_recv(Stream, infinity)),
    silent(Stream).

send_blocks_from_afar(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, [{max_send_buffer, 10}]),
    [ok, ok] = raw_peer:run(Conn, [{settings, [{initial_window_size, 0}]}, barrier]),
    ok = hackney_native:h2_send(Stream, <<"0123456789">>),
    ?assertEqual({error, send_buffer_full}, hackney_native:h2_send(Stream, <<"x">>)),
    ?assertEqual({error, timeout}, hackney_native:h2_send(Stream, <<"x">>, nofin, #{block => 30})),
    Sender = h2_case:concurrently(fun() ->
        hackney_native:h2_send(Stream, <<"waits">>, fin, #{block => infinity})
    end),
    [ok, 15] = raw_peer:run(Conn, [{window_update, 1, 100}, {expect_bytes, 1, 15}]),
    ?assertEqual(ok, h2_case:result(Sender)).

%% The far node must not go on reading for a caller that is no more.
reader_killed_on_another_node(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    {Reader, Monitor} = h2_case:concurrently(fun() -> hackney_native:h2_recv(Stream) end),
    h2_case:reader_waits(Stream),
    exit(Reader, kill),
    receive {'DOWN', Monitor, process, Reader, killed} -> ok end,
    until(fun() -> {error, timeout} =:= hackney_native:h2_recv(Stream, 0) end),
    respond(Conn),
    ?assertEqual({response, 200, []}, recv(Stream)).

monitored_from_afar(Config) ->
    {Stream, _Conn, _Owner} = far_stream(Config, []),
    Monitor = monitor(process, Stream),
    ok = hackney_native:h2_close(Stream),
    receive {'DOWN', Monitor, process, Stream, normal} -> ok end.

closed_from_afar(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ok = hackney_native:h2_close(Stream),
    #{code := cancel} = raw_peer:expect(Conn, rst_stream),
    _ = raw_peer:expect(Conn, closed),
    gone(Stream).

dead_stream_from_afar(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    ok = hackney_native:h2_close(Stream),
    gone(Stream),
    _ = raw_peer:expect(Conn, closed),
    ?assertEqual({error, closed}, hackney_native:h2_recv(Stream, 1000)),
    ?assertEqual({error, closed}, hackney_native:h2_send(Stream, <<"x">>)),
    ?assertEqual(ok, hackney_native:h2_close(Stream)).

errors_are_the_same(Config) ->
    {Stream, _Conn, _Owner} = far_stream(Config, []),
    ?assertEqual({error, badarg}, hackney_native:h2_setopts(Stream, [{active, maybe_so}])),
    ?assert(h2_case:is_bad(fun() -> hackney_native:h2_send(Stream, atom) end)),
    ?assert(h2_case:is_bad(fun() -> hackney_native:h2_consume(Stream, -1) end)),
    ?assertEqual({error, {invalid_header, <<"t">>}},
                 hackney_native:h2_send_trailers(Stream, [{<<"t">>, <<"\n">>}])),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    ?assert(h2_case:is_closed(hackney_native:h2_send(Stream, <<"x">>))).

%% A call on a stream whose node is gone gives an error, and does not hang.
streams_node_goes_down(Config) ->
    {Stream, Conn, _Owner} = far_stream(Config, []),
    Monitor = monitor(process, Stream),
    Reader = h2_case:concurrently(fun() -> hackney_native:h2_recv(Stream) end),
    h2_case:reader_waits(Stream),
    ok = peer:stop(proplists:get_value(peer, Config)),
    receive {'DOWN', Monitor, process, Stream, noconnection} -> ok end,
    ?assertMatch({error, _}, h2_case:result(Reader)),
    ?assertMatch({error, _}, hackney_native:h2_recv(Stream, 1000)),
    ?assertMatch({error, _}, hackney_native:h2_send(Stream, <<"x">>)),
    ?assertEqual(ok, hackney_native:h2_close(Stream)),
    _ = raw_peer:expect(Conn, closed).

%% ---- the owner lives on the other node ---------------------------------------------------------

owner_dies_on_another_node(Config) ->
    {Stream, Conn} = h2_case:open(),
    Owner = spawn(node_of(Config), fun() -> receive stop -> ok end end),
    ok = hackney_native:h2_controlling_process(Stream, Owner),
    Owner ! stop,
    #{code := cancel} = raw_peer:expect(Conn, rst_stream),
    _ = raw_peer:expect(Conn, closed),
    gone(Stream).

owners_node_goes_down(Config) ->
    {Stream, Conn} = h2_case:open(),
    Owner = spawn(node_of(Config), fun() -> receive stop -> ok end end),
    ok = hackney_native:h2_controlling_process(Stream, Owner),
    ok = peer:stop(proplists:get_value(peer, Config)),
    #{code := cancel} = raw_peer:expect(Conn, rst_stream),
    _ = raw_peer:expect(Conn, closed),
    gone(Stream).

%% ---- helpers ---------------------------------------------------------------------------------

node_of(Config) -> proplists:get_value(node, Config).

%% A stream on the other node, opened and owned by a process there.
far_stream(Config, Opts) ->
    Peer = raw_peer:start(),
    Url = raw_peer:url(Peer),
    All = raw_peer:options(Peer, Opts),
    Test = self(),
    Owner = spawn(node_of(Config), fun() ->
        Test ! {self(), hackney_native:h2_open(Url, [], All)},
        Monitor = monitor(process, Test),
        receive {'DOWN', Monitor, process, Test, _} -> ok end
    end),
    {ok, Stream} = receive {Owner, Result} -> Result end,
    Conn = raw_peer:accept(Peer),
    _ = raw_peer:expect(Conn, headers),
    {Stream, Conn, Owner}.
