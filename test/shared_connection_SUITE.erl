%%% @doc Many streams on one connection, against a scripted peer: `hackney_native:h2_connect/2', `h2_open' on what it returns, and
%%% `hackney_native_h2_connection'. How connections end, and lines on them: `shared_line_SUITE'; real servers: `shared_load_SUITE'.
%%% RFC numbers without a title are sections of RFC 9113.
-module(shared_connection_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(shared_case, [connect/0, connect/2, connect_to/2, owned/0, open/2, opened/2, opened/3, respond/2, goes_on/3,
                      read/2, streams/1, in_line/2]).
-import(h2_case, [recv/1, drain/1, active/1, silent/1, gone/1, until/1, concurrently/1, result/1]).

-define(MIB, 1048576).
-define(DEADLINE, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, options}, {group, wire}, {group, life}, {group, node}].

groups() ->
    [{options, [parallel],
      [options_reach_the_wire, wrong_values, stream_options_of_a_connection, connection_options_of_a_stream, targets,
       no_connection, errors_of_connecting]},
     {wire, [parallel],
      [authority_and_scheme, stream_ids, each_its_own_mode_and_owner, each_its_own_window, unread_streams_do_not_stop_others,
       windows_above_the_default_bound, overflow_of_one_stream, reset_of_one_stream, refused_stream, close_of_one_stream,
       owner_of_one_stream_dies, frames_that_come_too_late]},
     {life, [parallel],
      [close_tells_the_owner_first, h2_close_of_a_connection, closed_twice, owner_of_the_connection_dies, owner_ends_normally,
       owner_with_trap_exit, connection_killed, controlling_process, controlling_process_checks, info,
       process_of_its_own, connect_twice,
       close_while_connecting, close_among_busy_streams, stream_outlives_its_end]},
     {node, [], [opened_from_another_node, connections_node_goes_down, application_stop, nothing_left]}].

init_per_suite(Config) ->
    h2_case:start(),
    [{started_distribution, os_node:distributed()} | Config].

end_per_suite(Config) ->
    _ = proplists:get_value(started_distribution, Config, false) andalso net_kernel:stop(),
    ok.

%% ---- options -----------------------------------------------------------------------------------

options_reach_the_wire(_Config) ->
    {_Conn, Wire} = connect(#{transport => tls}, [{initial_window_size, 70000}, {connection_window_size, 200000},
                                                  {max_frame_size, 20000}, {max_header_list_size, 9000},
                                                  {connect_timeout, infinity},
                                                  {connect_options, [inet, {nodelay, true}]}, {keepalive, 100000},
                                                  {keepalive_timeout, 5}]),
    [#{settings := Settings}] = raw_peer:sequence(Wire, [settings]),
    ?assertEqual([70000, 20000, 9000], [proplists:get_value(Name, Settings)
                                        || Name <- [initial_window_size, max_frame_size, max_header_list_size]]),
    [#{increment := Increment}] = raw_peer:sequence(Wire, [#{type => window_update, stream => 0}]),
    ?assertEqual(200000, 65535 + Increment).

wrong_values(_Config) ->
    Wrong = [{keepalive, 0}, {keepalive, -1}, {keepalive, 1.5}, {keepalive, never}, {keepalive, 1 bsl 32}, {keepalive_timeout, 0},
             {keepalive_timeout, infinity}, {connect_timeout, -1}, {initial_window_size, 0}, {initial_window_size, 1 bsl 31},
             {connection_window_size, 65534}, {max_frame_size, 16383}, {max_frame_size, 1 bsl 24}, {max_header_list_size, 0},
             {insecure, 1}, {h2c, maybe_so}],
    [?assertEqual({error, {badarg, Option}}, hackney_native:h2_connect("https://localhost", [Option])) || Option <- Wrong],
    ?assertEqual({error, {badarg, options}}, hackney_native:h2_connect("https://localhost", not_a_list)),
    ?assertEqual({error, {badarg, {option, 5}}}, hackney_native:h2_connect("https://localhost", [5])),
    ?assertEqual({error, {scheme_not_supported, http}}, hackney_native:h2_connect("http://localhost", [])),
    ?assertEqual({error, {invalid_url, "https://"}}, hackney_native:h2_connect("https://")),
    ?assertEqual({error, {badarg, host}}, hackney_native_h2_connection:start_link(#{port => 1})),
    ?assertEqual({error, {badarg, options}}, hackney_native_h2_connection:start_link([])),
    {Conn, _Wire} = connect(),
    [?assertEqual({error, {badarg, Option}}, open(Conn, [Option]))
     || Option <- [{connect_timeout, -1}, {active, 0}, {flow_control, none}, {recv_timeout, x}, {send_timeout, x},
                   {max_send_buffer, 0}, {informational, 1}]].

%% What only streams have.
stream_options_of_a_connection(_Config) ->
    [?assertEqual({error, {unsupported_option, Name}}, hackney_native:h2_connect("https://localhost", [{Name, Value}]))
     || {Name, Value} <- [{active, true}, {flow_control, auto}, {recv_timeout, 1}, {send_timeout, 1}, {informational, true},
                          {max_recv_buffer, 1}, {max_send_buffer, 1}, {host, "h"}, {port, 1}, {path, "/"}, {method, get},
                          {headers, []}, {transport, hackney_ssl}, {connection, self()}, {pool, a}, {colour, red}]].

%% What only connections have.
connection_options_of_a_stream(_Config) ->
    {Conn, Wire} = connect(),
    [?assertEqual({error, {unsupported_option, Name}}, open(Conn, [{Name, Value}]))
     || {Name, Value} <- [{ssl_options, []}, {connect_options, []}, {insecure, true}, {h2c, true}, {initial_window_size, 1},
                          {connection_window_size, 100000}, {max_frame_size, 16384}, {max_header_list_size, 1},
                          {max_recv_buffer, 1}, {keepalive, 1}, {keepalive_timeout, 1}, {host, "h"}, {port, 1}, {path, "/"},
                          {method, get}, {headers, []}, {transport, hackney_ssl}, {authority, "a"}, {connection, self()},
                          {pool, a}, {colour, red}]],
    %% Nothing of it was sent, and the connection is none the worse for it.
    {_, 1} = opened(Conn, Wire).

targets(_Config) ->
    {Conn, Wire} = connect(),
    Open = fun(Path) -> hackney_native:h2_open(get, {Conn, Path}, [], []) end,
    [?assertEqual({error, {invalid_request_target, unicode:characters_to_binary(Path)}}, Open(Path))
     || Path <- [<<"/a\r\nx: y">>, <<"/a b">>, "/\n", <<"/\0">>, <<"a">>, <<>>]],
    [?assertEqual({error, {badarg, {path, Path}}}, Open(Path)) || Path <- [5, atom, [atom], <<"/", 255>>, [-1]]],
    ?assertEqual({error, {invalid_method, <<"a b">>}}, hackney_native:h2_open(<<"a b">>, Conn, [], [])),
    ?assertEqual({error, {invalid_header, <<"a">>}}, hackney_native:h2_open(get, Conn, [{<<"a">>, <<"\n">>}], [])),
    [begin
         {ok, _} = Open(Path),
         #{headers := Fields} = raw_peer:expect(Wire, headers),
         ?assertEqual(Expected, proplists:get_value(<<":path">>, Fields))
     end || {Path, Expected} <- [{<<"/a?b=c">>, <<"/a?b=c">>}, {"/d", <<"/d">>}]],
    {ok, _} = hackney_native:h2_open(Conn, [{<<"x">>, <<"y">>}], []),
    #{headers := Root} = raw_peer:expect(Wire, headers),
    ?assertEqual([<<"POST">>, <<"/">>, <<"y">>],
                 [proplists:get_value(Name, Root) || Name <- [<<":method">>, <<":path">>, <<"x">>]]).

no_connection(_Config) ->
    ?assertEqual({error, closed}, open(self(), [])),
    {Conn, Wire} = connect(),
    {Stream, 1} = opened(Conn, Wire),
    ?assertEqual({error, closed}, open(Stream, [])),
    ok = hackney_native_h2_connection:close(Conn),
    ?assertEqual({error, closed}, open(Conn, [])),
    ?assertEqual({error, {badarg, {url, {1, "/"}}}}, hackney_native:h2_open(get, {1, "/"}, [], [])),
    ?assertEqual({error, {badarg, {connection, 1}}}, hackney_native_h2_stream:start_link(#{connection => 1})),
    [?assertError(badarg, Call()) || Call <- [fun() -> hackney_native_h2_connection:close(1) end,
                                             fun() -> hackney_native_h2_connection:info(1) end,
                                             fun() -> hackney_native_h2_connection:connect(1) end,
                                             fun() -> hackney_native_h2_connection:connect(self(), -1) end,
                                             fun() -> hackney_native_h2_connection:controlling_process(Conn, 1) end]],
    %% One that is not connected takes none.
    {ok, Idle} = hackney_native_h2_connection:start_link(#{host => "localhost", port => 1}),
    ?assertEqual({error, closed}, open(Idle, [])),
    ?assertEqual({error, not_connected}, hackney_native_h2_connection:info(Idle)),
    ok = hackney_native:h2_close(Idle),
    gone(Idle).

errors_of_connecting(_Config) ->
    process_flag(trap_exit, true),
    Refused = integer_to_list(h2_case:refused_port()),
    ?assertEqual({error, econnrefused}, hackney_native:h2_connect("https://127.0.0.1:" ++ Refused)),
    Tls = raw_peer:start(),
    ?assertMatch({error, {tls_alert, {unknown_ca, _}}}, hackney_native:h2_connect(raw_peer:url(Tls))),
    Http1 = raw_peer:start(#{alpn => none}),
    ?assertEqual({error, {protocol_not_negotiated, http1}},
                 hackney_native:h2_connect(raw_peer:url(Http1), raw_peer:options(Http1))),
    Silent = raw_peer:start(#{transport => tcp, script => []}),
    ?assertEqual({error, connect_timeout},
                 hackney_native:h2_connect(raw_peer:url(Silent), raw_peer:options(Silent, [{connect_timeout, 30}]))),
    Closing = raw_peer:start(#{script => [{expect, settings}, close]}),
    ?assertEqual({error, closed}, hackney_native:h2_connect(raw_peer:url(Closing), raw_peer:options(Closing))),
    ?assertEqual({error, {options, {cacertfile, <<>>}}},
                 case hackney_native:h2_connect("https://localhost", [{ssl_options, [{cacertfile, "/no/such"}]}]) of
                     {error, {options, {Name, [_ | _]}}} -> {error, {options, {Name, <<>>}}}
                 end),
    %% No process is left, and its end told to nobody.
    receive Message -> error({unexpected, Message}) after 0 -> ok end.

%% ---- on the wire -------------------------------------------------------------------------------

authority_and_scheme(_Config) ->
    [begin
         Peer = raw_peer:start(#{transport => Transport}),
         {Conn, Wire} = connect_to(Peer, []),
         {ok, _} = hackney_native:h2_open(get, Conn, [{<<"host">>, <<"elsewhere">>}, {<<"B">>, 1}, {<<"a">>, "2"}], []),
         #{headers := Fields} = raw_peer:expect(Wire, headers),
         Authority = iolist_to_binary(["localhost:", integer_to_list(raw_peer:port(Peer))]),
         ?assertEqual([{<<":authority">>, Authority}, {<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, Scheme},
                       {<<"a">>, <<"2">>}, {<<"b">>, <<"1">>}], lists:sort(Fields))
     end || {Transport, Scheme} <- [{tls, <<"https">>}, {tcp, <<"http">>}]].

%% 5.1.1: odd and rising, in the order of the opens.
stream_ids(_Config) ->
    {Conn, Wire} = connect(),
    Streams = [begin {ok, S} = open(Conn, []), S end || _ <- lists:seq(1, 20)],
    Ids = [begin #{stream := Id} = raw_peer:expect(Wire, headers), Id end || _ <- Streams],
    ?assertEqual(lists:seq(1, 39, 2), Ids),
    ?assertEqual(Ids, [begin {ok, #{stream_id := Id}} = hackney_native:h2_info(S), Id end || S <- Streams]).

each_its_own_mode_and_owner(_Config) ->
    {Conn, Wire} = connect(),
    Test = self(),
    Other = spawn_link(fun() ->
        {ok, Stream} = open(Conn, [{active, true}]),
        Test ! {self(), Stream},
        Test ! {self(), [active(Stream) || _ <- [1, 2, 3]]},
        receive stop -> ok end
    end),
    Theirs = receive {Other, Stream0} -> Stream0 end,
    #{stream := 1} = raw_peer:expect(Wire, headers),
    {Passive, 3} = opened(Conn, Wire),
    {Once, 5} = opened(Conn, Wire, [{active, once}]),
    {Two, 7} = opened(Conn, Wire, [{active, 2}]),
    [respond(Wire, Id) || Id <- [1, 3, 5, 7]],
    [[ok] = raw_peer:run(Wire, [{data, Id, <<Id>>, fin}]) || Id <- [1, 3, 5, 7]],
    ok = raw_peer:barrier(Wire),
    ?assertEqual([{response, 200, []}, {data, <<1>>}, done], receive {Other, Got} -> Got end),
    ?assertEqual([{response, 200, []}, {data, <<3>>}, done, {error, closed}], drain(Passive)),
    ?assertEqual({response, 200, []}, active(Once)),
    ?assertEqual([{data, <<5>>}, done, {error, closed}], drain(Once)),
    ?assertEqual([{response, 200, []}, {data, <<7>>}, passive], [active(Two) || _ <- [1, 2, 3]]),
    ?assertEqual([done, {error, closed}], drain(Two)),
    [silent(S) || S <- [Theirs, Passive, Once, Two, Conn]],
    Other ! stop.

%% 6.9: manual and automatic beside each other.
each_its_own_window(_Config) ->
    {Conn, Wire} = connect(#{}, [{initial_window_size, 10000}, {connection_window_size, 100000}]),
    {Manual, 1} = opened(Conn, Wire, [{flow_control, manual}]),
    {Auto, 3} = opened(Conn, Wire, []),
    [respond(Wire, Id) || Id <- [1, 3]],
    [10000, 10000] = raw_peer:run(Wire, [{flood, 1, 1000}, {flood, 3, 1000}]),
    [{response, 200, []} = recv(S) || S <- [Manual, Auto]],
    [10000 = read(S, 10000) || S <- [Manual, Auto]],
    _ = raw_peer:expect(Wire, #{type => window_update, stream => 3}),
    ok = raw_peer:barrier(Wire),
    ?assertEqual([], [U || #{type := window_update, stream := 1} = U <- raw_peer:transcript(Wire)]),
    ?assertMatch({error, {badarg, {consume, 10000}}}, hackney_native:h2_consume(Manual, 10001)),
    ok = hackney_native:h2_consume(Manual, 10000),
    _ = raw_peer:expect(Wire, #{type => window_update, stream => 1}),
    [10000] = raw_peer:run(Wire, [{flood, 1, 1000}]).

%% Each holds all that its own window lets it, together eight times the connection's.
unread_streams_do_not_stop_others(_Config) ->
    Window = 65536,
    {Conn, Wire} = connect(#{}, [{initial_window_size, Window}, {connection_window_size, 2 * Window}]),
    Stalled = [opened(Conn, Wire) || _ <- lists:seq(1, 20)],
    {Stream, Last} = opened(Conn, Wire),
    [respond(Wire, Id) || Id <- lists:seq(1, Last, 2)],
    [begin
         [#{bytes := Window}] = raw_peer:run(Wire, [{pump, Id, Window, 8192, nofin}]),
         h2_case:queued(S, Window)
     end || {S, Id} <- Stalled],
    until(fun() -> {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Conn), N =:= 20 * Window end),
    {response, 200, []} = recv(Stream),
    [begin
         [#{bytes := 5000}] = raw_peer:run(Wire, [{pump, Last, 5000, 5000, nofin}]),
         5000 = read(Stream, 5000)
     end || _ <- lists:seq(1, 100)],
    %% What was unread is all there, and its windows come back.
    [begin {response, 200, []} = recv(S), Window = read(S, Window) end || {S, _} <- Stalled],
    until(fun() -> {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Conn), N < 20 * Window div 4 end),
    %% Half of them: the rest is not yet worth a WINDOW_UPDATE.
    Half = Window div 2,
    [[#{bytes := Half}] = raw_peer:run(Wire, [{pump, Id, Half, 8192, fin}]) || {_, Id} <- Stalled],
    [begin Half = read(S, Half), [done, {error, closed}] = drain(S) end || {S, _} <- Stalled],
    until(fun() -> {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Conn), N =:= 0 end).

%% A peer that keeps to its window breaks no bound, however large the window is.
windows_above_the_default_bound(_Config) ->
    Size = 66 * ?MIB,
    {Conn, Wire} = connect(#{}, [{initial_window_size, 70 * ?MIB}, {connection_window_size, 80 * ?MIB}, {max_frame_size, ?MIB}]),
    {Stream, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    Data = binary:copy(<<7>>, ?MIB),
    [[ok] = raw_peer:run(Wire, [{data, 1, Data}]) || _ <- lists:seq(1, Size div ?MIB)],
    h2_case:queued(Stream, Size),
    {response, 200, []} = recv(Stream),
    Size = read(Stream, Size).

overflow_of_one_stream(_Config) ->
    {Conn, Wire} = connect(#{}, [{initial_window_size, 1000}]),
    {Other, 1} = opened(Conn, Wire),
    {Flooded, 3} = opened(Conn, Wire),
    [respond(Wire, Id) || Id <- [1, 3]],
    [ok] = raw_peer:run(Wire, [{data, 3, binary:copy(<<0>>, 1001)}]),
    #{code := flow_control_error} = raw_peer:expect(Wire, #{type => rst_stream, stream => 3}),
    ?assertEqual([{response, 200, []}, {error, recv_buffer_overflow}], drain(Flooded)),
    goes_on(Other, 1, Wire),
    silent(Conn).

reset_of_one_stream(_Config) ->
    {Conn, Wire} = connect(),
    {Other, 1} = opened(Conn, Wire),
    {Reset, 3} = opened(Conn, Wire),
    respond(Wire, 1),
    [ok] = raw_peer:run(Wire, [{rst, 3, enhance_your_calm}]),
    ?assertEqual({error, {stream_error, enhance_your_calm}}, recv(Reset)),
    goes_on(Other, 1, Wire).

refused_stream(_Config) ->
    {Conn, Wire} = connect(),
    {Refused, 1} = opened(Conn, Wire),
    [ok] = raw_peer:run(Wire, [{rst, 1, refused_stream}]),
    ?assertEqual({error, {stream_error, refused_stream}}, recv(Refused)),
    {Next, 3} = opened(Conn, Wire),
    respond(Wire, 3),
    goes_on(Next, 3, Wire).

close_of_one_stream(_Config) ->
    {Conn, Wire} = connect(),
    {Other, 1} = opened(Conn, Wire),
    {Closed, 3} = opened(Conn, Wire, [{active, true}]),
    respond(Wire, 1),
    ok = hackney_native:h2_close(Closed),
    #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => 3}),
    gone(Closed),
    silent(Closed),
    goes_on(Other, 1, Wire),
    until(fun() -> streams(Conn) =:= 1 end).

owner_of_one_stream_dies(_Config) ->
    {Conn, Wire} = connect(),
    {Other, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    [begin
         {Owner, Monitor} = spawn_monitor(fun() -> {ok, _} = open(Conn, []), exit(Reason) end),
         receive {'DOWN', Monitor, process, Owner, _} -> ok end,
         #{stream := Id} = raw_peer:expect(Wire, headers),
         #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => Id})
     end || Reason <- [normal, crash, kill]],
    goes_on(Other, 1, Wire),
    ?assertEqual(1, streams(Conn)).

%% 5.4.2: what was on its way to a stream that was cancelled. More of it than h2 would take in the life of a connection.
frames_that_come_too_late(_Config) ->
    {Conn, Wire} = connect(),
    {Other, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    [begin
         {Stream, Id} = opened(Conn, Wire),
         ok = hackney_native:h2_close(Stream),
         #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => Id}),
         [ok, ok] = raw_peer:run(Wire, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"too late">>}])
     end || _ <- lists:seq(1, 1500)],
    goes_on(Other, 1, Wire),
    %% Nor was the peer told of any mistake.
    ?assertEqual([], [R || #{type := rst_stream, code := Code} = R <- raw_peer:transcript(Wire), Code =/= cancel]),
    silent(Conn).

%% ---- life of a connection ----------------------------------------------------------------------

close_tells_the_owner_first(_Config) ->
    {Conn, Wire} = connect(),
    {Passive, 1} = opened(Conn, Wire),
    {Active, 3} = opened(Conn, Wire, [{active, true}]),
    ok = hackney_native_h2_connection:close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok after 0 -> error(not_told) end,
    ?assertEqual({error, closed}, recv(Passive)),
    ?assertEqual({closed, closed}, active(Active)),
    [#{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => Id}) || Id <- [1, 3]],
    _ = raw_peer:expect(Wire, closed),
    [gone(Pid) || Pid <- [Conn, Active]],
    [silent(Pid) || Pid <- [Conn, Active]].

h2_close_of_a_connection(_Config) ->
    {Conn, Wire} = connect(),
    {Stream, 1} = opened(Conn, Wire),
    ok = hackney_native:h2_close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok after ?DEADLINE -> error(not_told) end,
    ?assertEqual({error, closed}, recv(Stream)),
    ?assertMatch({error, Closed} when Closed =:= closed; Closed =:= stream_closed, hackney_native:h2_send(Stream, <<"x">>)),
    _ = raw_peer:expect(Wire, closed),
    ?assertEqual(normal, h2_case:reason(gone(Conn))).

closed_twice(_Config) ->
    {Conn, _Wire} = connect(),
    [ok, ok] = [hackney_native_h2_connection:close(Conn) || _ <- [1, 2]],
    ok = hackney_native:h2_close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok after 0 -> error(not_told) end,
    silent(Conn),
    ?assertEqual({error, closed}, hackney_native:h2_info(Conn)),
    ?assertEqual({error, closed}, hackney_native_h2_connection:connect(Conn)),
    ?assertEqual({error, closed}, hackney_native:h2_controlling_process(Conn, self())).

%% Whoever owns the streams.
owner_of_the_connection_dies(_Config) ->
    {Owner, Conn, Wire} = owned(),
    {Passive, 1} = opened(Conn, Wire),
    {Active, 3} = opened(Conn, Wire, [{active, true}]),
    exit(Owner, kill),
    ?assertEqual({error, closed}, recv(Passive)),
    ?assertEqual({closed, closed}, active(Active)),
    _ = raw_peer:expect(Wire, closed),
    [gone(Pid) || Pid <- [Conn, Passive, Active]].

owner_ends_normally(_Config) ->
    {Owner, Conn, Wire} = owned(),
    {Stream, 1} = opened(Conn, Wire),
    Owner ! stop,
    ?assertEqual({error, closed}, recv(Stream)),
    _ = raw_peer:expect(Wire, closed),
    gone(Conn).

%% The connection's end takes nobody with it, and is told like any process's.
owner_with_trap_exit(_Config) ->
    process_flag(trap_exit, true),
    {Conn, Wire} = connect(),
    [ok] = raw_peer:run(Wire, [close]),
    receive {h2, Conn, {closed, closed}} -> ok after ?DEADLINE -> error(not_told) end,
    receive {'EXIT', Conn, normal} -> ok after ?DEADLINE -> error(not_told) end.

connection_killed(_Config) ->
    {Conn, Wire} = connect(),
    unlink(Conn),
    {Passive, 1} = opened(Conn, Wire),
    {Active, 3} = opened(Conn, Wire, [{active, true}]),
    exit(Conn, kill),
    ?assertEqual({error, closed}, recv(Passive)),
    ?assertEqual({closed, closed}, active(Active)),
    _ = raw_peer:expect(Wire, closed),
    ?assertEqual({error, closed}, open(Conn, [])).

controlling_process(_Config) ->
    {Owner, Conn, Wire} = owned(),
    {Stream, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    ok = hackney_native:h2_controlling_process(Conn, self()),
    %% The old owner is nothing to it any more.
    Owner ! stop,
    gone(Owner),
    goes_on(Stream, 1, Wire),
    [ok] = raw_peer:run(Wire, [{goaway, 1, no_error}]),
    receive {h2, Conn, {goaway, 1, no_error}} -> ok after ?DEADLINE -> error(not_told) end,
    Heir = spawn(fun() -> receive stop -> ok end end),
    ok = hackney_native_h2_connection:controlling_process(Conn, Heir),
    ?assert(lists:member(Conn, element(2, process_info(Heir, links)))),
    exit(Heir, kill),
    ?assertEqual(normal, h2_case:reason(gone(Conn))),
    _ = raw_peer:expect(Wire, closed),
    silent(Conn).

controlling_process_checks(_Config) ->
    {Conn, _Wire} = connect(),
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, _} -> ok end,
    ?assertEqual({error, noproc}, hackney_native_h2_connection:controlling_process(Conn, Dead)),
    ok = hackney_native_h2_connection:controlling_process(Conn, self()),
    ?assertEqual({error, already_connected}, hackney_native_h2_connection:connect(Conn)),
    ?assertEqual({error, badrequest}, gen_statem:call(Conn, something_else)).

info(_Config) ->
    Peer = raw_peer:start(#{transport => tls, settings => [{max_concurrent_streams, 7}]}),
    {Conn, Wire} = connect_to(Peer, []),
    {_, 1} = opened(Conn, Wire),
    {_, 3} = opened(Conn, Wire),
    respond(Wire, 1),
    [ok] = raw_peer:run(Wire, [{data, 1, <<"12345">>}]),
    until(fun() -> streams(Conn) =:= 2 end),
    until(fun() -> {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Conn), N =:= 5 end),
    Port = raw_peer:port(Peer),
    {ok, Info} = hackney_native_h2_connection:info(Conn),
    ?assertMatch(#{peer := {_, Port}, local := {_, _}, alpn := <<"h2">>, tls_version := 'tlsv1.3', tls_cipher := <<_/binary>>,
                   tls_resumed := false, peer_certificate := <<_/binary>>, send_window := 65535, goaway := undefined,
                   recv_queue_bytes := 5}, Info),
    #{bytes_in := In, bytes_out := Out} = Info,
    ?assert(In > 0 andalso Out > 0),
    until(fun() -> {ok, #{rtt_us := Rtt, max_streams := 7}} = hackney_native:h2_info(Conn), is_integer(Rtt) end),
    [ok] = raw_peer:run(Wire, [{goaway, 3, internal_error}]),
    until(fun() -> {ok, #{goaway := GoAway}} = hackney_native:h2_info(Conn), GoAway =:= {3, internal_error} end),
    {Unlimited, _} = connect(),
    until(fun() -> {ok, #{max_streams := Max}} = hackney_native:h2_info(Unlimited), Max =:= infinity end).

process_of_its_own(_Config) ->
    Peer = raw_peer:start(#{transport => tcp}),
    {ok, Conn} = hackney_native_h2_connection:start_link(#{host => "localhost", port => raw_peer:port(Peer),
                                                           transport => hackney_tcp, h2c => true}),
    ?assert(lists:member(Conn, element(2, process_info(self(), links)))),
    ok = hackney_native_h2_connection:connect(Conn, 5000),
    Wire = raw_peer:accept(Peer),
    {ok, Stream} = hackney_native_h2_stream:start_link(#{connection => Conn, path => <<"/x">>, method => get}),
    ok = hackney_native_h2_stream:connect(Stream),
    #{headers := Fields} = raw_peer:expect(Wire, headers),
    ?assertEqual([<<"GET">>, <<"/x">>], [proplists:get_value(Name, Fields) || Name <- [<<":method">>, <<":path">>]]).

connect_twice(_Config) ->
    Peer = raw_peer:start(#{transport => tcp, script => [{wait, go}, {settings, []}]}),
    {ok, Conn} = hackney_native_h2_connection:start_link(#{host => "localhost", port => raw_peer:port(Peer), h2c => true}),
    First = concurrently(fun() -> hackney_native_h2_connection:connect(Conn) end),
    Wire = raw_peer:accept(Peer),
    ?assertEqual({error, already_connected}, hackney_native_h2_connection:connect(Conn)),
    raw_peer:tell(Wire, go),
    ?assertEqual(ok, result(First)).

close_while_connecting(_Config) ->
    Peer = raw_peer:start(#{transport => tcp, script => []}),
    {ok, Conn} = hackney_native_h2_connection:start_link(#{host => "localhost", port => raw_peer:port(Peer), h2c => true}),
    Connecting = concurrently(fun() -> hackney_native_h2_connection:connect(Conn, infinity) end),
    Wire = raw_peer:accept(Peer),
    _ = raw_peer:expect(Wire, settings),
    ok = hackney_native_h2_connection:close(Conn),
    ?assertEqual({error, closed}, result(Connecting)),
    _ = raw_peer:expect(Wire, closed),
    silent(Conn).

%% Threads of callers drive the connection in the moment in which it is closed: each owner hears of it all the same.
close_among_busy_streams(_Config) ->
    Server = embedded_server:start(#{transport => h2c}),
    [begin
         {ok, Conn} = hackney_native:h2_connect(embedded_server:url(Server, "/"), [{h2c, true}]),
         Players = [concurrently(fun() -> play(Conn) end) || _ <- lists:seq(1, 20)],
         until(fun() -> {ok, #{bytes_in := N}} = hackney_native:h2_info(Conn), N > 20000 end),
         ok = hackney_native_h2_connection:close(Conn),
         [?assertEqual(closed, result(Player)) || Player <- Players]
     end || _ <- lists:seq(1, 20)],
    embedded_server:stop(Server).

play(Conn) ->
    {ok, Stream} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], [{active, true}]),
    ok = hackney_native:h2_send(Stream, <<"ping">>),
    Closed = play_on(Stream),
    gone(Stream),
    silent(Stream),
    Closed.

play_on(Stream) ->
    case active(Stream) of
        {data, _} -> _ = hackney_native:h2_send(Stream, <<"ping">>), play_on(Stream);
        {response, 200, _} -> play_on(Stream);
        {closed, closed} -> closed
    end.

%% What was received stays readable, whatever becomes of the connection.
stream_outlives_its_end(_Config) ->
    {Conn, Wire} = connect(),
    {Stream, 1} = opened(Conn, Wire),
    respond(Wire, 1),
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    _ = h2_case:ended(Wire),
    [ok] = raw_peer:run(Wire, [{data, 1, <<"kept">>, fin}]),
    until(fun() -> streams(Conn) =:= 0 end),
    ok = hackney_native_h2_connection:close(Conn),
    ?assertEqual([{response, 200, []}, {data, <<"kept">>}, done, {error, closed}], drain(Stream)).

%% ---- the node -----------------------------------------------------------------------------------

opened_from_another_node(_Config) ->
    {Peer, Node} = another_node(),
    {Conn, Wire} = connect(),
    Test = self(),
    Far = spawn_link(Node, fun() ->
        {ok, Stream} = hackney_native:h2_open(post, {Conn, <<"/far">>}, [], [{active, true}]),
        {ok, Info} = hackney_native:h2_info(Conn),
        {error, {unsupported_option, ssl_options}} = hackney_native:h2_open(post, Conn, [], [{ssl_options, []}]),
        Test ! {self(), Stream, Info},
        ok = hackney_native:h2_send(Stream, <<"from afar">>),
        Test ! {self(), [active(Stream) || _ <- [1, 2]]},
        receive stop -> ok end
    end),
    {Stream, #{streams := _}} = receive {Far, S, I} -> {S, I} end,
    ?assertEqual(node(), node(Stream)),
    #{stream := 1} = raw_peer:expect(Wire, headers),
    [9] = raw_peer:run(Wire, [{expect_bytes, 1, 9}]),
    respond(Wire, 1),
    [ok] = raw_peer:run(Wire, [{data, 1, <<"x">>}]),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}], receive {Far, Got} -> Got end),
    %% Its end is the stream's, not the connection's.
    Far ! stop,
    #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => 1}),
    {Next, 3} = opened(Conn, Wire),
    respond(Wire, 3),
    goes_on(Next, 3, Wire),
    peer:stop(Peer).

connections_node_goes_down(_Config) ->
    {Peer, Node} = another_node(),
    Raw = raw_peer:start(#{transport => tcp}),
    Test = self(),
    spawn(Node, fun() ->
        Test ! {connected, hackney_native:h2_connect(raw_peer:url(Raw), raw_peer:options(Raw))},
        receive stop -> ok end
    end),
    {ok, Conn} = receive {connected, Result} -> Result end,
    Wire = raw_peer:accept(Raw),
    process_flag(trap_exit, true),
    {ok, Stream} = open(Conn, []),
    ?assertEqual(Node, node(Stream)),
    #{stream := 1} = raw_peer:expect(Wire, headers),
    {ok, #{streams := 1}} = hackney_native_h2_connection:info(Conn),
    peer:stop(Peer),
    receive {'EXIT', Stream, noconnection} -> ok after ?DEADLINE -> error(not_told) end,
    ?assertMatch({error, {nodedown, _}}, open(Conn, [])),
    ?assertMatch({error, {nodedown, _}}, hackney_native_h2_connection:info(Conn)),
    ok = hackney_native_h2_connection:close(Conn),
    _ = raw_peer:expect(Wire, closed).

another_node() ->
    {ok, Peer, Node} = peer:start(#{name => peer:random_name(), args => ["-pa" | code:get_path()]}),
    ok = erpc:call(Node, h2_case, start, []),
    {Peer, Node}.

application_stop(_Config) ->
    h2_leak:balanced(fun() ->
        {Conn, Wire} = connect(),
        Passive = [element(1, opened(Conn, Wire)) || _ <- lists:seq(1, 20)],
        {Active, _} = opened(Conn, Wire, [{active, true}]),
        {Small, SmallWire} = connect(#{settings => [{max_concurrent_streams, 0}]}, []),
        Waiting = concurrently(fun() -> open(Small, []) end),
        in_line(Small, 1),
        ok = application:stop(hackney_native),
        [?assertEqual({error, closed}, recv(S)) || S <- Passive],
        ?assertEqual({closed, closed}, active(Active)),
        ?assertEqual({error, closed}, result(Waiting)),
        [receive {h2, C, {closed, closed}} -> ok after ?DEADLINE -> error(not_told) end || C <- [Conn, Small]],
        [raw_peer:expect(W, closed) || W <- [Wire, SmallWire]],
        ?assertEqual({error, closed}, open(Conn, [])),
        [gone(S) || S <- [Conn, Small, Active | Passive]],
        ok = application:start(hackney_native),
        {Again, AgainWire} = connect(),
        {Stream, 1} = opened(Again, AgainWire),
        respond(AgainWire, 1),
        goes_on(Stream, 1, AgainWire)
    end).

nothing_left(_Config) ->
    {Conn, Wire} = connect(#{settings => [{max_concurrent_streams, 50}], when_closed => stop}, []),
    Several = fun(Fun) -> [result(T) || T <- [concurrently(Fun) || _ <- lists:seq(1, 200)]] end,
    Round = fun() ->
        Several(fun() -> {ok, S} = open(Conn, []), ok = hackney_native:h2_close(S), gone(S) end),
        Several(fun() -> {ok, _} = open(Conn, []) end),
        Several(fun() -> open(Conn, [{connect_timeout, 0}]) end)
    end,
    Round(),
    until(fun() -> streams(Conn) =:= 0 end),
    h2_leak:balanced(fun() -> [Round() || _ <- lists:seq(1, 5)] end),
    ?assertEqual(0, streams(Conn)),
    ok = raw_peer:barrier(Wire),
    h2_leak:balanced(fun() ->
        [begin
             {C, W} = connect(#{when_closed => stop}, []),
             {_, 1} = opened(C, W),
             case N rem 3 of
                 0 -> ok = hackney_native_h2_connection:close(C);
                 1 -> raw_peer:run(W, [abort]);
                 2 -> ok
             end
         end || N <- lists:seq(1, 60)]
    end).
