%%% @doc `hackney_native_h2_connection' as a client, by the contract of `h2_connection': its life and the sockets it lives on. Its streams
%%% are {@link h2_connection_streams_SUITE}, what the peer may do wrong is {@link h2_connection_errors_SUITE}, servers are
%%% {@link h2_server_SUITE}.
-module(h2_connection_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [gone/1, until/1, concurrently/1, in_call/1, result/1]).
-import(h2_conn_case, [connect/0, connect/2, accept/2, asked/2, asked/3, event/1, events/2, silent/1, respond/2, headers/2,
                       kinds/2, pair/0, ssl_pair/0, taken_over/2]).

-define(C, hackney_native_h2_connection).
-define(GET, [{<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}]).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, life}, {group, sockets}, {group, node}].

groups() ->
    [{life, [parallel],
      [connected_comes_first, waiters_are_told, wait_has_a_deadline, wait_hears_of_failure, close_tells_the_owner_first,
       close_before_activate, close_while_connecting, close_is_ok_twice, calls_before_activate, calls_before_settings, calls_after_the_end,
       the_end_is_no_crash, owners_death, owner_changes, owner_is_dead, settings_of_both, goaway_by_us, link_of_the_starter_moves]},
     {sockets, [parallel],
      [over_gen_tcp, over_ssl, over_inet_backend, activate_twice, activate_on_a_closed_socket, start_link_checks, nobody_answers,
       bridge_leaves_nothing, bridge_under_back_pressure, tls_with_options, connect_errors]},
     {node, [], [from_another_node, owner_on_another_node, quick_calls, nothing_is_left]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- life --------------------------------------------------------------------------------------

connected_comes_first(_Config) ->
    Peer = raw_peer:start(#{transport => tcp}),
    {ok, Conn} = hackney_native_h2:connect("localhost", raw_peer:port(Peer), #{transport => tcp}),
    receive {h2, Conn, connected} -> ok after 0 -> error(not_told) end,
    ok = hackney_native_h2:wait_connected(Conn),
    ok = hackney_native_h2:wait_connected(Conn, 0),
    silent(Conn).

waiters_are_told(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(client, Near),
    Waiters = [concurrently(fun() -> ?C:wait_connected(Conn) end) || _ <- [1, 2, 3]],
    [ok = in_call(Waiter) || Waiter <- Waiters],
    {error, timeout} = ?C:wait_connected(Conn, 0),
    Far = raw_peer:dialled(Socket, #{role => server, script => []}),
    _ = raw_peer:expect(Far, preface),
    _ = raw_peer:run(Far, [{settings, []}]),
    [ok, ok, ok] = [result(Waiter) || Waiter <- Waiters],
    connected = event(Conn),
    silent(Conn).

wait_has_a_deadline(_Config) ->
    {Near, _Socket} = pair(),
    Conn = taken_over(client, Near),
    {error, timeout} = ?C:wait_connected(Conn, 10),
    %% The connection goes on.
    {error, {not_ready, settings}} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    ok = ?C:close(Conn).

wait_hears_of_failure(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(client, Near),
    Wait = concurrently(fun() -> ?C:wait_connected(Conn) end),
    ok = in_call(Wait),
    {ok, _} = gen_tcp:recv(Socket, 24),
    ok = gen_tcp:send(Socket, <<"HTTP/1.1 400 Bad Request\r\n\r\n">>),
    {error, Why} = result(Wait),
    {closed, Why} = event(Conn),
    normal = h2_case:reason(gone(Conn)),
    {error, closed} = ?C:wait_connected(Conn).

close_tells_the_owner_first(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    ok = ?C:close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok after 0 -> error(not_told) end,
    #{last := 0, code := no_error} = raw_peer:expect(Far, goaway),
    ?assert(lists:member(rst_stream, kinds(Far, Id))),
    _ = raw_peer:expect(Far, closed),
    silent(Conn).

close_before_activate(_Config) ->
    {Near, _} = pair(),
    {ok, Conn} = ?C:start_link(client, Near, #{}),
    ok = ?C:close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok after 0 -> error(not_told) end,
    %% The socket is still the test's.
    {ok, _} = inet:peername(Near).

close_while_connecting(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(client, Near),
    Wait = concurrently(fun() -> ?C:wait_connected(Conn) end),
    ok = in_call(Wait),
    ok = ?C:close(Conn),
    receive {h2, Conn, {closed, normal}} -> ok after 0 -> error(not_told) end,
    {error, closed} = result(Wait),
    until(fun() -> gen_tcp:recv(Socket, 0) =:= {error, closed} end).

close_is_ok_twice(_Config) ->
    {Conn, _Far} = connect(),
    ok = ?C:close(Conn),
    ok = ?C:close(Conn),
    {closed, normal} = event(Conn),
    silent(Conn).

calls_before_activate(_Config) ->
    {Near, _} = pair(),
    {ok, Conn} = ?C:start_link(client, Near, #{}),
    [?assertEqual({error, {not_ready, preface}}, Call(), Call) || Call <- calls(Conn)],
    {error, timeout} = ?C:wait_connected(Conn, 0),
    ?assertEqual(inet:peername(Near), ?C:peername(Conn)),
    ?assertMatch(#{max_frame_size := 16384, enable_push := 1, max_concurrent_streams := unlimited}, ?C:get_peer_settings(Conn)),
    ?assertMatch(#{enable_push := 0}, ?C:get_settings(Conn)),
    ok = ?C:close(Conn).

calls_before_settings(_Config) ->
    {Near, _} = pair(),
    Conn = taken_over(client, Near),
    {error, {not_ready, settings}} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    {error, {not_ready, settings}} = ?C:send_goaway(Conn),
    {ok, _} = ?C:peername(Conn),
    ok = ?C:activate(Conn),
    ok = ?C:close(Conn).

calls_after_the_end(_Config) ->
    {Conn, _Far} = connect(),
    ok = ?C:close(Conn),
    [?assertEqual({error, closed}, Call(), Call)
     || Call <- calls(Conn) ++ [fun() -> ?C:peername(Conn) end, fun() -> ?C:get_settings(Conn) end, fun() -> ?C:activate(Conn) end,
                                fun() -> ?C:get_peer_settings(Conn) end, fun() -> ?C:wait_connected(Conn) end,
                                fun() -> ?C:controlling_process(Conn, self()) end]].

calls(Conn) ->
    [fun() -> ?C:send_request(Conn, <<"GET">>, <<"/">>, []) end,
     fun() -> ?C:send_request_headers(Conn, ?GET, true) end,
     fun() -> ?C:send_response(Conn, 1, 200, []) end,
     fun() -> ?C:respond(Conn, 1, 200, [], <<"x">>) end,
     fun() -> ?C:send_data(Conn, 1, <<"x">>) end,
     fun() -> ?C:send_data(Conn, 1, <<"x">>, true, #{block => 1000}) end,
     fun() -> ?C:send_trailers(Conn, 1, []) end,
     fun() -> ?C:consume(Conn, 1, 1) end,
     fun() -> ?C:cancel_stream(Conn, 1) end,
     fun() -> ?C:set_stream_handler(Conn, 1, self()) end,
     fun() -> ?C:unset_stream_handler(Conn, 1) end,
     fun() -> ?C:send_goaway(Conn) end].

%% The link is there to end the connection with its owner, not the other way round.
the_end_is_no_crash(_Config) ->
    Test = self(),
    {Owner, Monitor} = spawn_monitor(fun() ->
        {Conn, Far} = connect(),
        _ = raw_peer:run(Far, [abort]),
        Test ! {ended, event(Conn)},
        normal = h2_case:reason(gone(Conn)),
        receive {Test, done} -> ok end
    end),
    receive {ended, Event} -> ?assertEqual({closed, {closed, econnreset}}, Event) end,
    Owner ! {Test, done},
    receive {'DOWN', Monitor, process, Owner, Reason} -> ?assertEqual(normal, Reason) end.

owners_death(_Config) ->
    Test = self(),
    [begin
         Owner = spawn(fun() ->
             {Conn, Far} = connect(),
             Id = asked(Conn, Far, #{handler => Test}),
             Test ! {conn, Conn, Id},
             receive Any -> exit(Any) end
         end),
         Conn = receive {conn, Pid, _Id} -> Pid end,
         Monitor = monitor(process, Conn),
         Owner ! Reason,
         ?assertEqual({closed, {owner_exit, Reason}}, event(Conn)),
         receive {'DOWN', Monitor, process, Conn, End} -> ?assertEqual(normal, End) end
     end || Reason <- [normal, shutdown, crash]].

owner_changes(_Config) ->
    {Conn, Far} = connect(),
    First = asked(Conn, Far),
    Test = self(),
    Heir = spawn_link(fun Loop() -> receive {h2, Conn, Event} -> Test ! {heir, Event}, Loop(); stop -> ok end end),
    ok = ?C:controlling_process(Conn, Heir),
    respond(Far, First),
    receive {heir, {response, First, 200, []}} -> ok end,
    [ok] = raw_peer:run(Far, [{goaway, First, no_error}]),
    receive {heir, {goaway, First, no_error}} -> ok end,
    ok = ?C:close(Conn),
    receive {heir, {closed, normal}} -> ok after 1000 -> error(not_told) end,
    silent(Conn),
    Heir ! stop.

owner_is_dead(_Config) ->
    {Conn, Far} = connect(),
    Dead = spawn(fun() -> ok end),
    _ = gone(Dead),
    {error, noproc} = ?C:controlling_process(Conn, Dead),
    Id = asked(Conn, Far),
    respond(Far, Id),
    {response, Id, 200, []} = event(Conn).

settings_of_both(_Config) ->
    {Conn, Far} = connect(#{settings => [{max_concurrent_streams, 7}, {initial_window_size, 1000}, {max_frame_size, 20000},
                                         {max_header_list_size, 5000}, {header_table_size, 0}, {enable_connect_protocol, 1},
                                         {16#2b61, 10}, {16#face, 11}]},
                          #{settings => #{initial_window_size => 100000, max_frame_size => 32768, max_header_list_size => 40000}}),
    ?assertMatch(#{max_concurrent_streams := 7, initial_window_size := 1000, max_frame_size := 20000, max_header_list_size := 5000,
                   header_table_size := 0, enable_connect_protocol := 1, 16#2b61 := 10, 16#face := 11}, ?C:get_peer_settings(Conn)),
    ?assertMatch(#{enable_push := 0, initial_window_size := 100000, max_frame_size := 32768, max_header_list_size := 40000},
                 ?C:get_settings(Conn)),
    [#{settings := Sent}] = raw_peer:sequence(Far, [#{type => settings, flags => []}]),
    ?assertMatch(#{enable_push := 0, initial_window_size := 100000, max_frame_size := 32768, max_header_list_size := 40000},
                 maps:from_list(Sent)),
    [ok, _] = raw_peer:run(Far, [{settings, [{max_concurrent_streams, 16#ffffffff}, {max_frame_size, 16384}]},
                                 {expect, #{type => settings, flags => [ack]}}]),
    ?assertMatch(#{max_concurrent_streams := unlimited, max_frame_size := 16384}, ?C:get_peer_settings(Conn)).

%% Streams go on to their end, and then it is over.
goaway_by_us(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    ok = ?C:send_goaway(Conn, cancel),
    goaway_sent = event(Conn),
    {error, goaway_sent} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    ok = ?C:send_goaway(Conn),
    {error, {badarg, {code, nonsense}}} = ?C:send_goaway(Conn, nonsense),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"x">>, fin}]),
    [{response, Id, 200, []}, {data, Id, <<"x">>, true}, {closed, closed}] = events(Conn, 3),
    #{code := no_error} = raw_peer:expect(Far, goaway).

link_of_the_starter_moves(_Config) ->
    Test = self(),
    {Starter, Monitor} = spawn_monitor(fun() ->
        {Conn, _Far} = connect(),
        ok = ?C:controlling_process(Conn, Test),
        Test ! {conn, Conn},
        receive go -> exit(crash) end
    end),
    Conn = receive {conn, Pid} -> Pid end,
    Starter ! go,
    receive {'DOWN', Monitor, process, Starter, crash} -> ok end,
    {ok, _} = ?C:info(Conn),
    silent(Conn),
    unlink(Conn).

%% ---- sockets -----------------------------------------------------------------------------------

over_gen_tcp(_Config) ->
    {Near, Socket} = pair(),
    {ok, Peer} = inet:peername(Near),
    converse(taken_over(client, Near), raw_peer:dialled(Socket, #{role => server, script => [{settings, []}]}), Peer, <<"http">>).

over_ssl(_Config) ->
    {Near, Accepted} = ssl_pair(),
    {ok, Peer} = ssl:peername(Near),
    %% The other end is a server of ours.
    Server = taken_over(server, Accepted),
    Conn = taken_over(client, Near),
    connected = event(Conn),
    connected = event(Server),
    {ok, Peer} = ?C:peername(Conn),
    {ok, Id} = ?C:send_request(Conn, <<"POST">>, <<"/there?a=b">>, [{<<"x">>, <<"y">>}], false),
    {request, Id, <<"POST">>, <<"/there?a=b">>, Fields} = event(Server),
    ?assertEqual(<<"https">>, proplists:get_value(<<":scheme">>, Fields)),
    Body = binary:copy(<<"0123456789">>, 300000),
    ok = ?C:set_stream_handler(Server, Id, self()),
    ok = ?C:send_data(Conn, Id, Body, true, #{block => 10000}),
    ?assertEqual(Body, body(Server, Id)),
    ok = ?C:respond(Server, Id, 200, [], Body),
    {response, Id, 200, []} = event(Conn),
    ?assertEqual(Body, body(Conn, Id)),
    ok = ?C:close(Conn),
    {closed, normal} = event(Conn),
    {goaway, 0, no_error} = event(Server),
    {closed, closed} = event(Server).

body(Conn, Id) ->
    case event(Conn) of
        {data, Id, Data, true} -> Data;
        {data, Id, Data, false} -> <<Data/binary, (body(Conn, Id))/binary>>
    end.

%% The other implementation of gen_tcp.
over_inet_backend(_Config) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    {ok, Near} = gen_tcp:connect({127, 0, 0, 1}, Port, [{inet_backend, socket}, binary, {active, false}]),
    {ok, Socket} = gen_tcp:accept(Listen),
    {ok, Peer} = inet:peername(Near),
    converse(taken_over(client, Near), raw_peer:dialled(Socket, #{role => server, script => [{settings, []}]}), Peer, <<"http">>).

converse(Conn, Far, Peer, Scheme) ->
    connected = event(Conn),
    {ok, Peer} = ?C:peername(Conn),
    {ok, Id} = ?C:send_request(Conn, <<"POST">>, <<"/p">>, [], false),
    {Fields, [end_headers]} = headers(Far, Id),
    ?assertEqual(Scheme, proplists:get_value(<<":scheme">>, Fields)),
    ok = ?C:send_data(Conn, Id, <<"hello">>, true),
    _ = h2_case:ended(Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"world">>, fin}]),
    [{response, Id, 200, []}, {data, Id, <<"world">>, true}] = events(Conn, 2),
    ok = ?C:close(Conn),
    _ = raw_peer:expect(Far, goaway),
    _ = raw_peer:expect(Far, closed).

activate_twice(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(client, Near),
    ok = ?C:activate(Conn),
    Far = raw_peer:dialled(Socket, #{role => server, script => [{settings, []}]}),
    connected = event(Conn),
    ok = ?C:activate(Conn),
    ok = raw_peer:barrier(Far),
    ?assertEqual(1, length([preface || #{type := preface} <- raw_peer:transcript(Far)])),
    ok = ?C:close(Conn).

activate_on_a_closed_socket(_Config) ->
    {Near, _} = pair(),
    {ok, Conn} = ?C:start_link(client, Near, #{}),
    ok = gen_tcp:close(Near),
    {error, Posix} = ?C:activate(Conn),
    ?assert(is_atom(Posix)),
    {closed, {closed, Posix}} = event(Conn),
    normal = h2_case:reason(gone(Conn)),
    %% One that only the peer has closed is found out later.
    {Open, Far} = pair(),
    ok = gen_tcp:close(Far),
    Other = taken_over(client, Open),
    {closed, Why} = event(Other),
    ?assert(Why =:= closed orelse element(1, Why) =:= closed).

start_link_checks(_Config) ->
    {Near, _} = pair(),
    [?assertEqual({error, Why}, ?C:start_link(client, Near, Options), Options)
     || {Options, Why} <- [{#{nonsense => 1}, {unsupported_option, nonsense}},
                           {#{settings => #{nonsense => 1}}, {unsupported_option, {settings, nonsense}}},
                           {#{settings => [1]}, {badarg, {settings, [1]}}},
                           {#{settings => #{max_frame_size => 1}}, {badarg, {max_frame_size, 1}}},
                           {#{connection_window_size => 0}, {badarg, {connection_window_size, 0}}},
                           {#{enable_connect_protocol => 1}, {badarg, {enable_connect_protocol, 1}}},
                           {[], {badarg, options}}]],
    ?assertError(function_clause, ?C:start_link(server, Near, #{})),
    ?assertError(badarg, ?C:start_link(other, Near, self(), #{})),
    {ok, _} = inet:peername(Near).

%% The time for SETTINGS is 5 seconds.
nobody_answers(_Config) ->
    {Near, _Socket} = pair(),
    Conn = taken_over(client, Near),
    {error, settings_timeout} = ?C:wait_connected(Conn),
    {closed, settings_timeout} = event(Conn).

%% Neither processes nor sockets, whoever ends it.
bridge_leaves_nothing(_Config) ->
    [begin
         {Near, Accepted} = ssl_pair(),
         Server = taken_over(server, Accepted),
         Conn = taken_over(client, Near),
         connected = event(Conn),
         connected = event(Server),
         {links, Links} = process_info(Conn, links),
         Carriers = [Pid || Pid <- Links, is_pid(Pid), Pid =/= self()],
         ?assertEqual(2, length(Carriers)),
         End(Conn, Server),
         [gone(Pid) || Pid <- [Conn, Server | Carriers]],
         until(fun() -> ssl:connection_information(Near) =/= ok andalso element(1, ssl:connection_information(Near)) =:= error end)
     end || End <- [fun(Conn, _) -> ?C:close(Conn) end,
                    fun(_, Server) -> ?C:close(Server) end,
                    fun(Conn, _) -> unlink(Conn), exit(Conn, kill) end]].

%% A peer that does not read stops the engine, not the calls, and memory is bounded.
bridge_under_back_pressure(_Config) ->
    {Near, Accepted} = ssl_pair(),
    Conn = taken_over(client, Near),
    {ok, _} = ssl:recv(Accepted, 24),
    ok = ssl:send(Accepted, [h2_frames:settings([{initial_window_size, 16#7fffffff}]), h2_frames:settings_ack(),
                             h2_frames:window_update(0, 16#7fff0000)]),
    connected = event(Conn),
    {ok, Id} = ?C:send_request(Conn, <<"POST">>, <<"/">>, [], false),
    Total = 32 * 1024 * 1024,
    Sender = concurrently(fun() -> ?C:send_data(Conn, Id, binary:copy(<<"x">>, Total), true, #{block => infinity}) end),
    {links, Links} = process_info(Conn, links),
    Carriers = [Pid || Pid <- Links, is_pid(Pid), Pid =/= self()],
    %% The writer waits in ssl, with a pipe's worth to be written behind it.
    until(fun() -> [] =/= [Pid || Pid <- Carriers, process_info(Pid, current_function) =:= {current_function, {gen, do_call, 4}}] end),
    [?assert(element(2, process_info(Pid, message_queue_len)) < 64) || Pid <- Carriers],
    {ok, #{bytes_out := Out}} = ?C:info(Conn),
    ?assert(Out < Total),
    ok = ?C:wait_connected(Conn),
    ok = read_all(Accepted, Total),
    ok = result(Sender),
    ok = ?C:close(Conn).

read_all(_Socket, Left) when Left =< 0 -> ok;
read_all(Socket, Left) ->
    {ok, Data} = ssl:recv(Socket, 0, 10000),
    read_all(Socket, Left - byte_size(Data)).

tls_with_options(_Config) ->
    Peer = raw_peer:start(#{}),
    [{ssl_options, [{cacerts, CaCerts}]}] = raw_peer:options(Peer),
    Port = raw_peer:port(Peer),
    [begin
         {ok, Conn} = hackney_native_h2:connect(Host, Port, Options),
         connected = event(Conn),
         Far = accept(Peer, preface),
         {ok, Id} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
         {Fields, [end_headers, end_stream]} = sorted(headers(Far, Id)),
         ?assertEqual(<<"https">>, proplists:get_value(<<":scheme">>, Fields)),
         ok = ?C:close(Conn)
     end || {Host, Options} <- [{"localhost", #{cacerts => CaCerts}},
                                {<<"localhost">>, #{ssl_opts => [{cacerts, CaCerts}]}},
                                {{127, 0, 0, 1}, #{cacerts => CaCerts, verify => verify_peer}},
                                {"localhost", #{verify => verify_none, timeout => 5000}}]].

sorted({Fields, Flags}) -> {Fields, lists:sort(Flags)}.

connect_errors(_Config) ->
    process_flag(trap_exit, true),
    {error, econnrefused} = hackney_native_h2:connect("localhost", h2_case:refused_port(), #{transport => tcp}),
    Http1 = raw_peer:start(#{alpn => [<<"http/1.1">>]}),
    {error, {protocol_not_negotiated, http1}} = hackney_native_h2:connect("localhost", raw_peer:port(Http1), #{verify => verify_none}),
    {error, {tls_alert, {unknown_ca, _}}} = hackney_native_h2:connect("localhost", raw_peer:port(raw_peer:start(#{}))),
    Silent = raw_peer:start(#{transport => tcp, script => []}),
    {error, connect_timeout} = hackney_native_h2:connect("localhost", raw_peer:port(Silent), #{transport => tcp, timeout => 50}),
    [?assertEqual({error, Why}, hackney_native_h2:connect("localhost", 1, Options), Options)
     || {Options, Why} <- [{#{transport => quic}, {badarg, {transport, quic}}}, {#{sync => true}, {unsupported_option, sync}},
                           {#{settings => #{max_concurrent_streams => 1}}, {unsupported_option, {settings, max_concurrent_streams}}},
                           {#{ssl_opts => [inet6]}, {unsupported_option, inet6}}, {#{timeout => -1}, {badarg, {timeout, -1}}}]],
    receive {'EXIT', _, Reason} when Reason =/= normal -> error(Reason) after 0 -> ok end.

%% ---- the node ----------------------------------------------------------------------------------

with_node(Fun) ->
    Named = os_node:distributed(),
    {ok, Peer, Node} = peer:start_link(#{name => peer:random_name(), args => ["-pa" | code:get_path()]}),
    try Fun(Node) after
        peer:stop(Peer),
        _ = Named andalso net_kernel:stop()
    end.

%% Who asks may live elsewhere; who handles a stream may not.
from_another_node(_Config) ->
    with_node(fun(Node) ->
        {Conn, Far} = connect(),
        Elsewhere = fun(Function, Args) -> erpc:call(Node, ?C, Function, Args) end,
        {ok, 1} = Elsewhere(send_request, [Conn, <<"POST">>, <<"/">>, [], false]),
        ok = Elsewhere(send_data, [Conn, 1, <<"one">>]),
        ok = Elsewhere(send_data, [Conn, 1, <<"two">>, true, #{block => 5000}]),
        _ = h2_case:ended(Far),
        {ok, _} = Elsewhere(info, [Conn]),
        ok = Elsewhere(wait_connected, [Conn]),
        #{max_frame_size := 16384} = Elsewhere(get_peer_settings, [Conn]),
        Pid = spawn(Node, timer, sleep, [infinity]),
        {error, {badarg, {handler, Pid}}} = ?C:set_stream_handler(Conn, 1, Pid),
        {error, {badarg, {handler, Pid}}} = ?C:send_request_headers(Conn, ?GET, true, #{handler => Pid}),
        {error, {badarg, {handler, Pid}}} = Elsewhere(send_request_headers, [Conn, ?GET, true, #{handler => Pid}]),
        ok = Elsewhere(cancel_stream, [Conn, 1]),
        ok = Elsewhere(close, [Conn]),
        {error, closed} = Elsewhere(send_data, [Conn, 1, <<"x">>])
    end).

owner_on_another_node(_Config) ->
    with_node(fun(Node) ->
        {Conn, Far} = connect(),
        Id = asked(Conn, Far),
        Test = self(),
        Owner = erpc:call(Node, ?MODULE, forward_to, [Test]),
        ok = ?C:controlling_process(Conn, Owner),
        _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"x">>, fin}, {goaway, Id, no_error}]),
        Events = [receive {forwarded, Event} -> Event end || _ <- [1, 2, 3]],
        ?assertEqual([{response, Id, 200, []}, {data, Id, <<"x">>, true}], Events -- [{goaway, Id, no_error}]),
        receive {forwarded, {closed, closed}} -> ok end,
        {Other, _} = connect(),
        ok = ?C:controlling_process(Other, Owner),
        exit(Owner, kill),
        normal = h2_case:reason(gone(Other))
    end).

forward_to(Test) ->
    spawn(fun Loop() -> receive {h2, _, Event} -> Test ! {forwarded, Event}, Loop() end end).

%% No call holds a scheduler for a millisecond.
quick_calls(_Config) ->
    Fields = [{<<"name-", (integer_to_binary(N))/binary>>, binary:copy(<<"v">>, 20)} || N <- lists:seq(1, 5000)],
    Parts = lists:duplicate(50000, binary:copy(<<0>>, 100)),
    Settings = #{max_header_list_size => 16#ffffff},
    Handler = fun(C, Id, <<"POST">>, _, _) -> hackney_native_h2:respond(C, Id, 200, Fields, Parts);
                 (C, Id, _, _, _) -> hackney_native_h2:respond(C, Id, 200, [], binary:copy(<<0>>, 100000))
              end,
    call_times:least_of(fun() ->
        {ok, Server} = hackney_native_h2:start_server(0, #{transport => tcp, ip => {127, 0, 0, 1}, handler => Handler,
                                                           settings => Settings#{max_concurrent_streams => 2000}}),
        {ok, Conn} = hackney_native_h2:connect("127.0.0.1", hackney_native_h2:server_port(Server),
                                               #{transport => tcp, settings => Settings}),
        connected = event(Conn),
        Times = call_times:measured(fun() -> many_requests(Conn, Fields, Parts) end),
        ok = hackney_native_h2:stop_server(Server, 0),
        Times
    end).

many_requests(Conn, Fields, Parts) ->
    Sink = spawn_link(fun() -> receive never -> ok end end),
    {ok, Large} = hackney_native_h2:request(Conn, <<"POST">>, <<"/">>, Fields, Parts),
    {response, Large, 200, Got} = event(Conn),
    ?assertEqual(5000, length(Got)),
    Ids = [element(2, {ok, _} = hackney_native_h2:request(Conn, ?GET, #{handler => Sink})) || _ <- lists:seq(1, 1000)],
    [?C:set_stream_handler(Conn, Id, self()) || Id <- lists:sublist(Ids, 10)],
    [?C:cancel_stream(Conn, Id) || Id <- Ids],
    ok = ?C:close(Conn).

nothing_is_left(_Config) ->
    ok = h2_leak:balanced(fun() ->
        Sink = spawn_link(fun() -> receive never -> ok end end),
        [begin
             {Near, Socket} = pair(),
             Conn = taken_over(client, Near),
             Far = raw_peer:dialled(Socket, #{role => server, script => [{settings, []}], when_closed => stop}),
             connected = event(Conn),
             Ids = [asked(Conn, Far, Options) || Options <- [#{}, #{defer => true}, #{end_stream => false}, #{handler => Sink}]],
             [respond(Far, Id) || Id <- Ids],
             ok = ?C:send_data(Conn, lists:nth(3, Ids), binary:copy(<<"x">>, 100000)),
             _ = concurrently(fun() -> ?C:send_data(Conn, lists:nth(3, Ids), binary:copy(<<"x">>, 1000000), true, #{block => infinity}) end),
             case N rem 4 of
                 0 -> ok = ?C:close(Conn);
                 1 -> unlink(Conn), exit(Conn, kill);
                 2 -> _ = raw_peer:run(Far, [close]), {closed, _} = last_event(Conn);
                 3 -> ok
             end
         end || N <- lists:seq(1, 40)],
        unlink(Sink),
        exit(Sink, kill)
    end).

last_event(Conn) ->
    case event(Conn) of
        {closed, _} = Closed -> Closed;
        _ -> last_event(Conn)
    end.
