%%% @doc Servers: `hackney_native_h2:start_server', `serve_socket' and `hackney_native_h2_connection:start_link(server, ...)', by the
%%% contract of `h2', before scripted clients.
-module(h2_server_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [gone/1, until/1, concurrently/1, result/1]).
-import(h2_conn_case, [serve/1, serve/2, dial/1, dial/2, ask/2, ask/4, answer/2, event/1, events/2, silent/1, headers/2, kinds/2,
                       pair/0, ssl_pair/0, taken_over/2, server_files/0]).

-define(H, hackney_native_h2).
-define(C, hackney_native_h2_connection).
-define(MIB, 1048576).
-define(POST, [{<<":method">>, <<"POST">>}, {<<":path">>, <<"/p?q">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}]).
-define(TUNNEL, [{<<":method">>, <<"CONNECT">>}, {<<":authority">>, <<"a:1">>}]).

suite() -> [{timetrap, {minutes, 1}}].

%% The last group starts and stops the application.
all() -> [{group, answers}, {group, failures}, {group, life}, {group, tls}, {group, options}, {group, application}].

groups() ->
    [{answers, [parallel],
      [handler_is_a_fun, handler_is_a_module, request_event, head_and_empty_statuses, informational, body_is_read, body_in_parts_and_trailers,
       large_bodies, response_errors, tunnel, extended_connect, answered_by_others, owner_without_a_handler_fun, server_events_wait]},
     {failures, [parallel],
      [crash_is_500, crash_after_the_response, kill_is_500, nobody_answers, unread_body_is_bounded, unread_body_after_the_answer,
       too_many_requests, request_is_reset, connection_process_is_killed]},
     {life, [parallel],
      [stop_lets_requests_end, stop_has_a_deadline, stop_cuts_idle_connections, stop_while_greeting, name_is_forgotten, port_is_told,
       port_is_taken, server_is_supervised, goaway_by_the_server, goaway_by_the_client, socket_is_served, socket_served_with_ssl,
       idle_connections_are_closed, busy_connections_are_not_idle, slow_readers_are_not_idle,
       idle_client_of_ours, vanished_client_is_found, serve_socket_checks, server_of_a_caller_that_dies, settings_are_told, not_a_client]},
     {tls, [parallel], [over_tls, certificate_is_asked_for, alpn_is_needed, wrong_files, certificate_is_renewed]},
     {options, [parallel], [options_are_checked]},
     {application, [], [not_started, stopped_with_servers, code_is_replaced, nothing_is_left]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

hello(Conn, Id, _Method, _Path, _Headers) -> ?H:respond(Conn, Id, 200, [{<<"x">>, <<"y">>}], <<"hello">>).

%% As a module.
handle_request(Conn, Id, Method, Path, _Headers) -> ?H:respond(Conn, Id, 200, [], [Method, " ", Path]).

%% ---- answers -----------------------------------------------------------------------------------

handler_is_a_fun(_Config) ->
    Far = dial(serve(fun hello/5)),
    [begin
         ask(Far, Id),
         ?assertEqual({<<"200">>, <<"hello">>}, answer(Far, Id)),
         ?assertEqual([headers, data], kinds(Far, Id))
     end || Id <- [1, 3, 77]].

handler_is_a_module(_Config) ->
    Far = dial(serve(?MODULE)),
    ask(Far, 1, ?POST, fin),
    ?assertEqual({<<"200">>, <<"POST /p?q">>}, answer(Far, 1)).

%% A server whose requests come to the test.
told() -> told(#{}).

told(Options) ->
    Test = self(),
    serve(fun(Conn, Id, Method, Path, Headers) ->
              ok = ?H:set_stream_handler(Conn, Id, Test),
              Test ! {asked, Conn, Id, Method, Path, Headers}
          end, Options).

told_request() ->
    receive {asked, Conn, Id, Method, Path, Headers} -> {Conn, Id, Method, Path, Headers}
    after 20000 -> error({no_request, process_info(self(), messages)})
    end.

request_event(_Config) ->
    Far = dial(told()),
    Fields = [{<<"b">>, <<"1">>}, {<<"a">>, <<"2">>}, {<<"b2">>, <<200>>}, {<<"host">>, <<"a">>}],
    ask(Far, 1, ?POST ++ Fields, fin),
    ?assertMatch({_, 1, <<"POST">>, <<"/p?q">>, [{<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>} | Fields]}, told_request()),
    ask(Far, 3, [{<<":method">>, <<"OPTIONS">>}, {<<":path">>, <<"*">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}], fin),
    ?assertMatch({_, 3, <<"OPTIONS">>, <<"*">>, _}, told_request()).

head_and_empty_statuses(_Config) ->
    Far = dial(serve(fun(Conn, Id, _, <<"/", Path/binary>>, _) ->
                         Status = binary_to_integer(Path),
                         case Id rem 4 of
                             1 -> ok = ?H:respond(Conn, Id, Status, [{<<"content-length">>, <<"4">>}], <<"body">>);
                             3 -> ok = ?H:send_response(Conn, Id, Status, [{<<"content-length">>, <<"4">>}]),
                                  {error, invalid_stream_state} = ?H:send_data(Conn, Id, <<"body">>, true)
                         end
                     end)),
    [begin
         ask(Far, Id, [{<<":method">>, Method}, {<<":path">>, <<"/", Status/binary>>}, {<<":scheme">>, <<"http">>}], fin),
         ?assertEqual({Status, <<>>}, answer(Far, Id)),
         ?assertEqual([headers], kinds(Far, Id))
     end || {Id, Method, Status} <- [{1, <<"HEAD">>, <<"200">>}, {3, <<"HEAD">>, <<"404">>}, {5, <<"GET">>, <<"204">>},
                                     {7, <<"GET">>, <<"304">>}]].

informational(_Config) ->
    Far = dial(serve(fun(Conn, Id, _, _, _) ->
                         {error, status_101_forbidden} = ?H:send_response(Conn, Id, 101, []),
                         ok = ?H:send_response(Conn, Id, 100, []),
                         ok = ?H:send_response(Conn, Id, 103, [{<<"link">>, <<"x">>}]),
                         ok = ?H:respond(Conn, Id, 200, [], <<"x">>),
                         {error, invalid_stream_state} = ?H:send_response(Conn, Id, 103, [])
                     end)),
    ask(Far, 1, [{<<":method">>, <<"HEAD">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"http">>}], fin),
    {[{<<":status">>, <<"100">>}], [end_headers]} = headers(Far, 1),
    {[{<<":status">>, <<"103">>}, {<<"link">>, <<"x">>}], [end_headers]} = headers(Far, 1),
    {[{<<":status">>, <<"200">>}], [_, _]} = headers(Far, 1).

body_is_read(_Config) ->
    Far = dial(serve(fun echo/5)),
    ask(Far, 1, ?POST, nofin),
    _ = raw_peer:run(Far, [{data, 1, <<"one ">>}, barrier, {data, 1, <<"two">>, fin}]),
    ?assertEqual({<<"200">>, <<"one two">>}, answer(Far, 1)),
    ask(Far, 3, ?POST, fin),
    ?assertEqual({<<"200">>, <<>>}, answer(Far, 3)).

echo(Conn, Id, _Method, _Path, _Headers) ->
    ok = ?H:set_stream_handler(Conn, Id, self()),
    ?H:respond(Conn, Id, 200, [], body(Conn, Id)).

body(Conn, Id) ->
    case event(Conn) of
        {data, Id, Data, true} -> Data;
        {data, Id, Data, false} -> <<Data/binary, (body(Conn, Id))/binary>>
    end.

body_in_parts_and_trailers(_Config) ->
    Far = dial(told()),
    ask(Far, 1, ?POST, nofin),
    {Conn, 1, _, _, _} = told_request(),
    _ = raw_peer:run(Far, [{data, 1, <<"up">>}, {headers, 1, [{<<"t">>, <<"1">>}], fin}]),
    [{data, 1, <<"up">>, false}, {trailers, 1, [{<<"t">>, <<"1">>}]}] = events(Conn, 2),
    {error, invalid_stream_state} = ?H:send_data(Conn, 1, <<"too early">>),
    {error, invalid_stream_state} = ?H:send_trailers(Conn, 1, []),
    ok = ?H:send_response(Conn, 1, 200, []),
    ok = ?H:send_data(Conn, 1, [<<"a">>, "b"]),
    ok = ?H:send_data(Conn, 1, <<"c">>, false, #{block => 10000}),
    ok = ?H:send_trailers(Conn, 1, [{<<"t">>, <<"2">>}]),
    ?assertEqual({<<"200">>, <<"abc">>}, answer(Far, 1)),
    ?assertEqual(headers, lists:last(kinds(Far, 1))).

large_bodies(_Config) ->
    Far = dial(serve(fun(Conn, Id, _, _, _) ->
                         ok = ?H:set_stream_handler(Conn, Id, self()),
                         Body = body(Conn, Id),
                         ok = ?H:respond(Conn, Id, 200, [], [<<C>> || <<C>> <= binary:part(Body, 0, 1000)] ++ [Body])
                     end)),
    ask(Far, 1, ?POST, nofin),
    [#{bytes := 5000000}] = raw_peer:run(Far, [{pump, 1, 5000000, 16384, fin}]),
    _ = raw_peer:run(Far, [{window_update, 0, 10000000}, {window_update, 1, 10000000}]),
    {<<"200">>, Body} = answer(Far, 1),
    ?assertEqual(5001000, byte_size(Body)),
    ?assert(binary:part(Body, 1000, 5000000) =:= raw_peer_conn:content(0, 5000000)).

response_errors(_Config) ->
    Far = dial(told(), #{settings => [{max_header_list_size, 200}]}),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    {data, 1, <<>>, true} = event(Conn),
    Large = [{<<"x">>, binary:copy(<<"x">>, 200)}],
    [?assertEqual({error, Why}, Call(), Call)
     || {Call, Why} <- [{fun() -> ?H:send_response(Conn, 2, 200, []) end, unknown_stream},
                        {fun() -> ?H:send_response(Conn, 99, 200, []) end, unknown_stream},
                        {fun() -> ?H:respond(Conn, 99, 200, [], <<"x">>) end, unknown_stream},
                        {fun() -> ?H:send_response(Conn, 1, 200, [{<<"Upper">>, <<"x">>}]) end, protocol_error},
                        {fun() -> ?H:send_response(Conn, 1, 200, [{<<":status">>, <<"200">>}]) end, protocol_error},
                        {fun() -> ?H:respond(Conn, 1, 200, [{<<"connection">>, <<"x">>}], <<>>) end, protocol_error},
                        {fun() -> ?H:send_response(Conn, 1, 200, Large) end, header_list_too_large},
                        {fun() -> ?H:respond(Conn, 1, 200, Large, <<"x">>) end, header_list_too_large},
                        {fun() -> ?H:respond(Conn, 1, 200, Large, <<>>) end, header_list_too_large}]],
    [?assertError(badarg, ?H:send_response(Conn, 1, Status, [])) || Status <- [99, 1000, ok]],
    ok = ?H:send_response(Conn, 1, 200, []),
    {error, invalid_stream_state} = ?H:send_response(Conn, 1, 200, []),
    {error, invalid_stream_state} = ?H:respond(Conn, 1, 200, [], <<"x">>),
    {error, header_list_too_large} = ?H:send_trailers(Conn, 1, Large),
    ok = ?H:send_data(Conn, 1, <<"x">>, true),
    {<<"200">>, <<"x">>} = answer(Far, 1),
    until(fun() -> ?H:respond(Conn, 1, 200, [], <<"x">>) =:= {error, stream_closed} end),
    {error, invalid_stream_state} = ?H:send_data(Conn, 1, <<"x">>).

tunnel(_Config) ->
    Far = dial(told()),
    ask(Far, 1, ?TUNNEL, nofin),
    {Conn, 1, <<"CONNECT">>, <<"/">>, [{<<":authority">>, <<"a:1">>}]} = told_request(),
    {error, banned_header_in_tunnel_response} = ?H:send_response(Conn, 1, 200, [{<<"content-length">>, <<"1">>}]),
    {error, banned_header_in_tunnel_response} = ?H:respond(Conn, 1, 200, [{<<"content-length">>, <<"1">>}], <<"x">>),
    ok = ?H:send_response(Conn, 1, 200, []),
    {error, tunnel_no_trailers} = ?H:send_trailers(Conn, 1, []),
    _ = raw_peer:run(Far, [{data, 1, <<"ping">>}]),
    {data, 1, <<"ping">>, false} = event(Conn),
    ok = ?H:send_data(Conn, 1, <<"pong">>, true),
    {<<"200">>, <<"pong">>} = answer(Far, 1),
    _ = raw_peer:run(Far, [{data, 1, <<"half">>, fin}]),
    {data, 1, <<"half">>, true} = event(Conn),
    %% With another status it is a stream like others.
    ask(Far, 3, ?TUNNEL, nofin),
    {Conn, 3, _, _, _} = told_request(),
    ok = ?H:send_response(Conn, 3, 403, [{<<"content-length">>, <<"0">>}]),
    ok = ?H:send_trailers(Conn, 3, [{<<"t">>, <<"1">>}]).

extended_connect(_Config) ->
    Websocket = [{<<":method">>, <<"CONNECT">>}, {<<":protocol">>, <<"websocket">>}, {<<":scheme">>, <<"http">>}, {<<":path">>, <<"/chat">>},
                 {<<":authority">>, <<"a">>}],
    Far = dial(told(#{enable_connect_protocol => true})),
    [#{settings := Settings} | _] = raw_peer:sequence(Far, [settings]),
    ?assertEqual(1, proplists:get_value(enable_connect_protocol, Settings)),
    ask(Far, 1, Websocket, nofin),
    {Conn, 1, <<"CONNECT">>, <<"/chat">>, Headers} = told_request(),
    ?assertEqual(<<"websocket">>, proplists:get_value(<<":protocol">>, Headers)),
    ok = ?H:send_response(Conn, 1, 200, []),
    {error, tunnel_no_trailers} = ?H:send_trailers(Conn, 1, []),
    %% Not where it was not told.
    Other = dial(told()),
    ask(Other, 1, Websocket, nofin),
    #{code := protocol_error} = raw_peer:expect(Other, #{type => rst_stream, stream => 1}).

answered_by_others(_Config) ->
    Test = self(),
    Far = dial(serve(fun(Conn, Id, _, _, _) -> ok = ?H:set_stream_handler(Conn, Id, Test), Test ! {conn, Conn, Id} end)),
    ask(Far, 1),
    Conn = receive {conn, Pid, 1} -> Pid end,
    {data, 1, <<>>, true} = event(Conn),
    ok = raw_peer:barrier(Far),
    ok = ?H:respond(Conn, 1, 200, [], <<"later">>),
    ?assertEqual({<<"200">>, <<"later">>}, answer(Far, 1)).

owner_without_a_handler_fun(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(server, Near),
    Far = raw_peer:dialled(Socket, #{}),
    connected = event(Conn),
    ask(Far, 1),
    {request, 1, <<"GET">>, <<"/">>, _} = event(Conn),
    ok = ?H:respond(Conn, 1, 200, [], <<"x">>),
    ?assertEqual({<<"200">>, <<"x">>}, answer(Far, 1)),
    %% Who else owns it gets what comes.
    Test = self(),
    Heir = spawn_link(fun Loop() -> receive {h2, Conn, Event} -> Test ! {heir, Event}, Loop() end end),
    ok = ?C:controlling_process(Conn, Heir),
    ask(Far, 3),
    receive {heir, {request, 3, <<"GET">>, <<"/">>, _}} -> ok end,
    unlink(Heir),
    exit(Heir, kill),
    _ = raw_peer:expect(Far, closed).

%% Requests are answered before the client has acknowledged our SETTINGS.
server_events_wait(_Config) ->
    {Near, Socket} = pair(),
    Conn = taken_over(server, Near),
    Far = raw_peer:dialled(Socket, #{auto => []}),
    ask(Far, 1, ?POST, nofin),
    [ok] = raw_peer:run(Far, [{data, 1, <<"x">>, fin}]),
    {request, 1, <<"POST">>, _, _} = event(Conn),
    silent(Conn),
    {ok, [{<<"x">>, true}]} = drained(Conn, 1, []),
    ok = ?H:respond(Conn, 1, 200, [], <<"y">>),
    ?assertEqual({<<"200">>, <<"y">>}, answer(Far, 1)),
    {error, timeout} = ?C:wait_connected(Conn, 0),
    [ok] = raw_peer:run(Far, [ack]),
    connected = event(Conn).

drained(Conn, Id, Before) ->
    case ?H:set_stream_handler(Conn, Id, self(), #{drain_buffer => true}) of
        {ok, More} ->
            case lists:last(More) of
                {_, true} -> {ok, Before ++ More};
                _ -> ok = ?H:unset_stream_handler(Conn, Id), drained(Conn, Id, Before ++ More)
            end;
        ok ->
            ok = ?H:unset_stream_handler(Conn, Id),
            receive {h2, Conn, {data, Id, Data, Fin}} -> {ok, Before ++ [{Data, Fin}]} after 10 -> drained(Conn, Id, Before) end
    end.

%% ---- failures ----------------------------------------------------------------------------------

crash_is_500(_Config) ->
    Far = dial(serve(fun(_, 1, _, _, _) -> error(on_purpose); (_, _, _, _, _) -> exit(on_purpose) end)),
    [begin ask(Far, Id), ?assertEqual({<<"500">>, <<"Internal Server Error">>}, answer(Far, Id)) end || Id <- [1, 3]],
    ask(Far, 5, [{<<":method">>, <<"HEAD">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"http">>}], fin),
    ?assertEqual({<<"500">>, <<>>}, answer(Far, 5)).

crash_after_the_response(_Config) ->
    Far = dial(serve(fun(Conn, Id, _, _, _) -> ok = ?H:send_response(Conn, Id, 200, []), error(on_purpose) end)),
    ask(Far, 1),
    #{code := internal_error} = raw_peer:expect(Far, #{type => rst_stream, stream => 1}).

kill_is_500(_Config) ->
    Far = dial(serve(fun(_, _, _, _, _) -> exit(self(), kill), receive never -> ok end end)),
    ask(Far, 1),
    ?assertEqual({<<"500">>, <<"Internal Server Error">>}, answer(Far, 1)).

nobody_answers(_Config) ->
    Far = dial(serve(fun(_, _, _, _, _) -> ok end)),
    ask(Far, 1),
    #{code := internal_error} = raw_peer:expect(Far, #{type => rst_stream, stream => 1}),
    ask(Far, 3),
    #{code := internal_error} = raw_peer:expect(Far, #{type => rst_stream, stream => 3}).

unread_body_is_bounded(_Config) ->
    Test = self(),
    Far = dial(serve(fun(Conn, Id, _, _, _) -> Test ! {conn, Conn, Id, self()}, receive answer -> ?H:respond(Conn, Id, 200, [], <<>>) end end,
                     #{settings => #{initial_window_size => 100000}})),
    ask(Far, 1, ?POST, nofin),
    {Conn, Handler} = receive {conn, Pid, 1, By} -> {Pid, By} end,
    ?assertEqual([100000], raw_peer:run(Far, [{flood, 1, 1000}])),
    ok = raw_peer:barrier(Far),
    ?assertEqual([], [N || #{type := window_update, stream := 1, increment := N} <- raw_peer:transcript(Far)]),
    %% The PING was answered as it was read, which is a moment before what came ahead of it lies in the queue.
    until(fun() -> {ok, #{recv_queue_bytes := N}} = ?C:info(Conn), N =:= 100000 end),
    %% Others are not held up by it.
    ask(Far, 3, ?POST, nofin),
    receive {conn, Conn, 3, _} -> ok end,
    ?assertEqual([100000], raw_peer:run(Far, [{flood, 3, 1000}])),
    Handler ! answer,
    {<<"200">>, <<>>} = answer(Far, 1),
    until(fun() -> {ok, #{recv_queue_bytes := N}} = ?C:info(Conn), N =:= 100000 end).

%% The client is told not to send the rest (RFC 9113, 8.1).
unread_body_after_the_answer(_Config) ->
    Far = dial(serve(fun hello/5, #{settings => #{initial_window_size => 1000}})),
    ask(Far, 1, ?POST, nofin),
    {<<"200">>, <<"hello">>} = answer(Far, 1),
    #{code := no_error} = raw_peer:expect(Far, #{type => rst_stream, stream => 1}).

too_many_requests(_Config) ->
    Far = dial(told(#{settings => #{max_concurrent_streams => 2}})),
    [ask(Far, Id) || Id <- [1, 3, 5]],
    #{code := refused_stream} = raw_peer:expect(Far, #{type => rst_stream, stream => 5}),
    {Conn, 1, _, _, _} = told_request(),
    {Conn, 3, _, _, _} = told_request(),
    ok = ?H:respond(Conn, 1, 200, [], <<"x">>),
    {<<"200">>, <<"x">>} = answer(Far, 1),
    ok = raw_peer:barrier(Far),
    ask(Far, 7),
    {Conn, 7, _, _, _} = told_request().

request_is_reset(_Config) ->
    Far = dial(told()),
    ask(Far, 1, ?POST, nofin),
    {Conn, 1, _, _, _} = told_request(),
    [ok] = raw_peer:run(Far, [{rst, 1, cancel}]),
    {stream_reset, 1, cancel} = event(Conn),
    until(fun() -> ?H:respond(Conn, 1, 200, [], <<"x">>) =:= {error, stream_closed} end),
    {error, invalid_stream_state} = ?H:send_data(Conn, 1, <<"x">>),
    %% While the response waits for the window.
    _ = raw_peer:run(Far, [{settings, [{initial_window_size, 0}]}, barrier]),
    ask(Far, 3),
    {Conn, 3, _, _, _} = told_request(),
    {data, 3, <<>>, true} = event(Conn),
    ok = ?H:send_response(Conn, 3, 200, []),
    Task = {Pid, _} = concurrently(fun() -> ?H:send_data(Conn, 3, <<"x">>, true, #{block => infinity}) end),
    until(fun() -> process_info(Pid, current_function) =:= {current_function, {hackney_native_h2_exchange, send_and_wait, 5}} end),
    [ok] = raw_peer:run(Far, [{rst, 3, cancel}]),
    {error, stream_reset} = result(Task),
    {stream_reset, 3, cancel} = event(Conn).

connection_process_is_killed(_Config) ->
    Server = told(),
    Far = dial(Server),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    exit(Conn, kill),
    _ = raw_peer:expect(Far, closed),
    until(fun() -> ?H:respond(Conn, 1, 200, [], <<"x">>) =:= {error, closed} end),
    Other = dial(Server),
    ask(Other, 1),
    {_, 1, _, _, _} = told_request().

%% ---- life --------------------------------------------------------------------------------------

stop_lets_requests_end(_Config) ->
    Server = told(),
    Far = dial(Server),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    ok = ?H:stop_server(Server),
    #{code := no_error} = raw_peer:expect(Far, goaway),
    until(fun() -> gen_tcp:connect({127, 0, 0, 1}, ?H:server_port(Server), []) =:= {error, econnrefused} end),
    ok = ?H:respond(Conn, 1, 200, [], <<"still">>),
    {<<"200">>, <<"still">>} = answer(Far, 1),
    _ = raw_peer:expect(Far, closed),
    _ = gone(element(1, Server)),
    ok = ?H:stop_server(Server).

stop_has_a_deadline(_Config) ->
    Server = told(),
    Far = dial(Server),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    {data, 1, <<>>, true} = event(Conn),
    ok = ?H:stop_server(Server, 50),
    {goaway, _, _} = try event(Conn, 0) catch _:_ -> {goaway, 0, 0} end,
    {closed, closed} = event(Conn),
    _ = raw_peer:expect(Far, closed).

event(Conn, Timeout) -> h2_conn_case:event(Conn, Timeout).

stop_cuts_idle_connections(_Config) ->
    Server = told(),
    Far = dial(Server),
    ok = ?H:stop_server(Server, infinity),
    _ = raw_peer:expect(Far, goaway),
    _ = raw_peer:expect(Far, closed),
    _ = gone(element(1, Server)).

%% In two steps (RFC 9113, 6.8): one that answers is gone when it has heard of it, one that does not, two seconds later. Not while a response
%% is under way that it takes slowly.
idle_connections_are_closed(_Config) ->
    [begin
         Server = told(#{idle_timeout => 1000}),
         Far = dial(Server, #{auto => Auto}),
         ask(Far, 1),
         {Conn, 1, _, _, _} = told_request(),
         ok = ?H:respond(Conn, 1, 200, [], <<"late">>),
         {<<"200">>, <<"late">>} = answer(Far, 1),
         _ = raw_peer:expect(Far, closed),
         [_, #{last := 1, code := no_error}] = raw_peer:sequence(Far, [goaway, goaway]),
         _ = gone(Conn)
     end || Auto <- [[settings, ping], [settings]]].

%% However long a request takes; and those that come one after another.
busy_connections_are_not_idle(_Config) ->
    Server = told(#{idle_timeout => 1000}),
    [Slow, Steady] = [dial(Server), dial(Server)],
    ask(Slow, 1),
    {Conn, 1, _, _, _} = told_request(),
    Until = erlang:monotonic_time(millisecond) + 2500,
    (fun Ask(Id) ->
         ask(Steady, Id),
         {Other, Id, _, _, _} = told_request(),
         ok = ?H:respond(Other, Id, 200, [], <<>>),
         {<<"200">>, <<>>} = answer(Steady, Id),
         %% Seldom enough that it is idle in between.
         receive after 300 -> ok end,
         erlang:monotonic_time(millisecond) < Until andalso Ask(Id + 2)
     end)(1),
    ?assertEqual([], [Frame || Far <- [Slow, Steady], #{type := goaway} = Frame <- raw_peer:transcript(Far)]),
    ok = ?H:respond(Conn, 1, 200, [], <<>>),
    _ = raw_peer:expect(Slow, goaway).

%% What it has yet to get is no stream any more. It takes longer for it than a peer is given that is asked to go.
slow_readers_are_not_idle(_Config) ->
    Server = told(#{idle_timeout => 200}),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?H:server_port(Server), [binary, {active, false}, {recbuf, 16384}]),
    ok = gen_tcp:send(Socket, [h2_frames:preface(), h2_frames:settings([{initial_window_size, 16#7fffffff}]),
                               h2_frames:window_update(0, 16#7fff0000), h2_frames:settings_ack(),
                               h2_frames:headers(1, hpack_lite:encode(?POST), fin)]),
    {Conn, 1, _, _, _} = told_request(),
    ok = ?H:respond(Conn, 1, 200, [], binary:copy(<<"b">>, ?MIB)),
    Read = fun Read(Sum) ->
               receive after 50 -> ok end,
               case gen_tcp:recv(Socket, 16384) of
                   {ok, Data} -> Read(Sum + byte_size(Data));
                   {error, closed} -> Sum
               end
           end,
    ?assert(Read(0) > ?MIB - 16384).

idle_client_of_ours(_Config) ->
    Server = serve(fun hello/5),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?H:server_port(Server), [binary, {active, false}]),
    {ok, Conn} = ?C:start_link(client, Socket, self(), #{idle_timeout => 50}),
    ok = gen_tcp:controlling_process(Socket, Conn),
    ok = ?C:activate(Conn),
    [connected, {closed, closed}] = events(Conn, 2),
    _ = gone(Conn).

vanished_client_is_found(_Config) ->
    Far = dial(told(#{keepalive => 500, keepalive_timeout => 1000}), #{auto => [settings]}),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    [{data, 1, <<>>, true}, {closed, {closed, keepalive_timeout}}] = events(Conn, 2),
    _ = raw_peer:expect(Far, closed),
    {error, closed} = ?H:respond(Conn, 1, 200, [], <<>>).

%% A client that has not said a word does not hold it up.
stop_while_greeting(_Config) ->
    Server = told(),
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, ?H:server_port(Server), [binary, {active, false}]),
    until(fun() -> hackney_native_h2_listener:connections(element(1, Server)) =/= [] end),
    ok = ?H:stop_server(Server, infinity),
    _ = gone(element(1, Server)),
    until(fun() -> element(1, gen_tcp:recv(Socket, 0)) =:= error end).

name_is_forgotten(_Config) ->
    Name = make_ref(),
    Start = fun() -> {ok, Ref} = ?H:start_server(Name, 0, #{transport => tcp, handler => fun hello/5}), Ref end,
    First = Start(),
    First = persistent_term:get({h2, server, Name}),
    ok = ?H:stop_server(First),
    _ = gone(element(1, First)),
    ?assertEqual(undefined, persistent_term:get({h2, server, Name}, undefined)),
    %% A later server of that name keeps it.
    Second = Start(),
    Third = Start(),
    ok = ?H:stop_server(Second),
    _ = gone(element(1, Second)),
    Third = persistent_term:get({h2, server, Name}),
    ok = ?H:stop_server(Third),
    _ = gone(element(1, Third)),
    ?assertEqual(undefined, persistent_term:get({h2, server, Name}, undefined)).

port_is_told(_Config) ->
    {ok, {Pid, Ref, Port} = Server} = ?H:start_server(0, #{transport => tcp, handler => fun hello/5}),
    ?assert(is_pid(Pid) andalso is_reference(Ref) andalso Port > 0),
    ?assertEqual(Port, ?H:server_port(Server)),
    ok = ?H:stop_server(Server).

port_is_taken(_Config) ->
    Server = serve(fun hello/5),
    ?assertEqual({error, {listen_failed, eaddrinuse}},
                 ?H:start_server(?H:server_port(Server), #{transport => tcp, handler => fun hello/5, ip => {127, 0, 0, 1}})).

%% Not with who started it.
server_is_supervised(_Config) ->
    Test = self(),
    {Starter, Monitor} = spawn_monitor(fun() -> Test ! {server, serve(fun hello/5)} end),
    Server = receive {server, Ref} -> Ref end,
    receive {'DOWN', Monitor, process, Starter, normal} -> ok end,
    ?assert(lists:keymember(element(1, Server), 2, supervisor:which_children(hackney_native_h2_server_sup))),
    Far = dial(Server),
    ask(Far, 1),
    {<<"200">>, <<"hello">>} = answer(Far, 1),
    ok = ?H:stop_server(Server),
    _ = gone(element(1, Server)),
    ?assertNot(lists:keymember(element(1, Server), 2, supervisor:which_children(hackney_native_h2_server_sup))).

goaway_by_the_server(_Config) ->
    Far = dial(told()),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    ok = ?H:goaway(Conn),
    #{code := no_error} = raw_peer:expect(Far, goaway),
    ok = ?H:respond(Conn, 1, 200, [], <<"still">>),
    {<<"200">>, <<"still">>} = answer(Far, 1),
    _ = raw_peer:expect(Far, closed),
    _ = gone(Conn).

%% It asks for no more, and wants its answers.
goaway_by_the_client(_Config) ->
    Far = dial(told()),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    {data, 1, <<>>, true} = event(Conn),
    [ok] = raw_peer:run(Far, [{goaway, 0, no_error}]),
    {goaway, 0, no_error} = event(Conn),
    ok = ?H:respond(Conn, 1, 200, [], <<"still">>),
    {<<"200">>, <<"still">>} = answer(Far, 1).

socket_is_served(_Config) ->
    {Near, Socket} = pair(),
    {ok, Conn} = ?H:serve_socket(Near, #{handler => fun echo/5, settings => #{max_concurrent_streams => 3}}),
    Far = raw_peer:dialled(Socket, #{}),
    ask(Far, 1, ?POST, nofin),
    [ok] = raw_peer:run(Far, [{data, 1, <<"x">>, fin}]),
    {<<"200">>, <<"x">>} = answer(Far, 1),
    ?assertMatch(#{max_concurrent_streams := 3}, ?H:get_settings(Conn)),
    [ok] = raw_peer:run(Far, [close]),
    normal = h2_case:reason(gone(Conn)).

socket_served_with_ssl(_Config) ->
    {Near, Accepted} = ssl_pair(),
    {ok, _} = ?H:serve_socket(Accepted, #{handler => fun echo/5}),
    Conn = taken_over(client, Near),
    ok = ?C:wait_connected(Conn),
    {ok, 1} = ?H:request(Conn, <<"POST">>, <<"/">>, [], binary:copy(<<"x">>, 3 * ?MIB)),
    connected = event(Conn),
    {response, 1, 200, []} = event(Conn),
    ?assertEqual(3 * ?MIB, byte_size(body(Conn, 1))),
    ok = ?C:close(Conn).

serve_socket_checks(_Config) ->
    {Near, _} = pair(),
    {error, {missing_required_option, [handler]}} = ?H:serve_socket(Near, #{}),
    {error, {badarg, {handler, 1}}} = ?H:serve_socket(Near, #{handler => 1}),
    {error, {unsupported_option, {settings, x}}} = ?H:serve_socket(Near, #{handler => ?MODULE, settings => #{x => 1}}),
    {error, {controlling_process_failed, not_owner}} = result(concurrently(fun() -> ?H:serve_socket(Near, #{handler => ?MODULE}) end)),
    {ok, _} = inet:peername(Near).

server_of_a_caller_that_dies(_Config) ->
    {Near, Socket} = pair(),
    Test = self(),
    Caller = spawn(fun() ->
        receive socket -> ok end,
        Test ! ?H:serve_socket(Near, #{handler => fun hello/5}),
        receive stop -> ok end
    end),
    ok = gen_tcp:controlling_process(Near, Caller),
    Caller ! socket,
    Conn = receive {ok, Pid} -> Pid end,
    Far = raw_peer:dialled(Socket, #{}),
    ask(Far, 1),
    {<<"200">>, <<"hello">>} = answer(Far, 1),
    {error, not_owner} = ?C:controlling_process(Conn, self()),
    Caller ! stop,
    _ = gone(Conn),
    _ = raw_peer:expect(Far, closed).

settings_are_told(_Config) ->
    Far = dial(told(#{settings => #{max_concurrent_streams => 7, initial_window_size => 70000, max_frame_size => 20000,
                                    max_header_list_size => 30000, header_table_size => 100, enable_push => 0}})),
    [#{settings := Settings}] = raw_peer:sequence(Far, [#{type => settings, flags => []}]),
    ?assertMatch(#{max_concurrent_streams := 7, initial_window_size := 70000, max_frame_size := 20000, max_header_list_size := 30000,
                   header_table_size := 100}, maps:from_list(Settings)),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    ?assertMatch(#{max_concurrent_streams := 7, initial_window_size := 70000, enable_push := 0, enable_connect_protocol := 0},
                 ?H:get_settings(Conn)).

not_a_client(_Config) ->
    Far = dial(told()),
    ask(Far, 1),
    {Conn, 1, _, _, _} = told_request(),
    {error, not_client} = ?H:request(Conn, <<"GET">>, <<"/">>, []),
    {error, not_client} = ?C:send_request_headers(Conn, ?POST, true),
    {ok, {{127, 0, 0, 1}, _}} = ?H:peername(Conn).

%% ---- TLS ---------------------------------------------------------------------------------------

tls_client() ->
    [{ssl_options, [{cacerts, CaCerts}]}] = raw_peer:options(raw_peer:start(#{})),
    #{cacerts => CaCerts}.

over_tls(_Config) ->
    [begin
         {ok, Server} = ?H:start_server(0, maps:merge(Identity, #{handler => fun hello/5})),
         {ok, Conn} = ?H:connect("localhost", ?H:server_port(Server), tls_client()),
         {ok, 1} = ?H:request(Conn, <<"GET">>, <<"/">>, []),
         [connected, {response, 1, 200, [{<<"x">>, <<"y">>}]}, {data, 1, <<"hello">>, true}] = events(Conn, 3),
         ok = ?H:stop_server(Server),
         {goaway, _, no_error} = event(Conn),
         {closed, closed} = event(Conn)
     end || Identity <- [server_files(), #{ssl_opts => [Pair || {Name, _} = Pair <- maps:get(server, raw_peer:identity()),
                                                                Name =:= cert orelse Name =:= key]}]].

certificate_is_asked_for(_Config) ->
    #{server := Server, client := Client} = raw_peer:identity(),
    Roots = proplists:get_value(cacerts, Server),
    {ok, Strict} = ?H:start_server(0, maps:merge(server_files(), #{handler => fun hello/5, verify => verify_peer, cacerts => Roots})),
    Mine = [Pair || {Name, _} = Pair <- Client, Name =:= cert orelse Name =:= key],
    {ok, Conn} = ?H:connect("localhost", ?H:server_port(Strict), (tls_client())#{ssl_opts => Mine}),
    {ok, 1} = ?H:request(Conn, <<"GET">>, <<"/">>, []),
    [connected, {response, 1, 200, _}, {data, 1, <<"hello">>, true}] = events(Conn, 3),
    process_flag(trap_exit, true),
    {error, {tls_alert, {certificate_required, _}}} = ?H:connect("localhost", ?H:server_port(Strict), tls_client()).

alpn_is_needed(_Config) ->
    {ok, Server} = ?H:start_server(0, maps:merge(server_files(), #{handler => fun hello/5})),
    Port = ?H:server_port(Server),
    Options = [{verify, verify_none}, {log_level, none}, {active, false}],
    {error, {tls_alert, {no_application_protocol, _}}} =
        ssl:connect("localhost", Port, [{alpn_advertised_protocols, [<<"http/1.1">>]} | Options]),
    case ssl:connect("localhost", Port, Options) of
        {ok, Socket} -> {error, _} = ssl:recv(Socket, 0, 5000);
        {error, _} -> ok
    end.

wrong_files(_Config) ->
    #{cert := Cert, key := Key} = server_files(),
    [?assertMatch({error, {options, {Name, [_ | _]}}}, ?H:start_server(0, #{cert => C, key => K, handler => fun hello/5}), {C, K})
     || {C, K, Name} <- [{"/no/such/file", Key, certfile}, {Cert, "/no/such/file", keyfile}, {Key, Key, certfile}, {Cert, Cert, keyfile}]].

%% Between the two files of a renewal the certificate that was there is shown, and it is said why.
certificate_is_renewed(Config) ->
    Folder = filename:join(proplists:get_value(priv_dir, Config), "renewed"),
    [Cert, Key] = Files = [filename:join(Folder, Name) || Name <- ["server.pem", "server.key"]],
    Made = fun() -> ok = certificates:create(Folder), [{ok, Pem1}, {ok, Pem2}] = [file:read_file(File) || File <- Files], {Pem1, Pem2} end,
    {FirstCert, FirstKey} = Made(),
    {ok, Server} = ?H:start_server(0, #{cert => Cert, key => Key, handler => fun hello/5}),
    Port = ?H:server_port(Server),
    Shows = fun(Pem) -> [{_, Der, _}] = public_key:pem_decode(Pem), shown(Port) =:= Der end,
    ?assert(Shows(FirstCert)),
    ok = logger:add_handler(?FUNCTION_NAME, ?MODULE, #{level => warning, config => {self(), Port}}),
    ok = file:del_dir_r(Folder),
    {SecondCert, SecondKey} = Made(),
    ok = file:write_file(Key, FirstKey),
    try
        until(fun() -> ?assert(Shows(FirstCert)), is_warned(keyfile) end),
        ok = file:write_file(Key, SecondKey),
        until(fun() -> Shows(SecondCert) end),
        ?assertNot(is_warned(keyfile))
    after
        ok = logger:remove_handler(?FUNCTION_NAME)
    end,
    ok = ?H:stop_server(Server).

%% What a client that asks for nothing is shown.
shown(Port) ->
    {ok, Socket} = ssl:connect("localhost", Port, [{verify, verify_none}, {alpn_advertised_protocols, [<<"h2">>]}]),
    {ok, Der} = ssl:peercert(Socket),
    ok = ssl:close(Socket),
    Der.

is_warned(Option) ->
    receive
        {warned, Option, Text} -> is_list(Text) andalso Text =/= ""
    after 0 -> false
    end.

%% As a handler of `logger'.
log(#{msg := {_Format, [Port, Option, Text]}}, #{config := {Pid, Port}}) -> Pid ! {warned, Option, Text};
log(_Other, _Config) -> ok.

%% ---- options -----------------------------------------------------------------------------------

options_are_checked(_Config) ->
    Given = #{transport => tcp, handler => fun hello/5},
    [?assertEqual({error, Why}, ?H:start_server(0, Options), Options)
     || {Options, Why} <-
            [{#{}, {missing_required_option, [cert, key, handler]}}, {#{transport => tcp}, {missing_required_option, [handler]}},
             {Given#{transport => udp}, {badarg, {transport, udp}}}, {Given#{handler => fun() -> ok end}, '_'},
             {Given#{nonsense => 1}, {unsupported_option, nonsense}}, {Given#{backlog => 0}, {badarg, {backlog, 0}}},
             {Given#{idle_timeout => 0}, {badarg, {idle_timeout, 0}}}, {Given#{keepalive => x}, {badarg, {keepalive, x}}},
             {Given#{keepalive_timeout => infinity}, {badarg, {keepalive_timeout, infinity}}},
             {Given#{ip => "localhost"}, {badarg, {ip, "localhost"}}}, {Given#{acceptors => 0}, {badarg, {acceptors, 0}}},
             {Given#{ssl_opts => [{nonsense, 1}]}, {unsupported_option, {ssl_opts, nonsense}}},
             {Given#{settings => #{enable_push => 1}}, {unsupported_option, {settings, enable_push}}},
             {Given#{settings => #{max_concurrent_streams => -1}}, {badarg, {max_concurrent_streams, -1}}},
             {maps:merge(server_files(), #{handler => fun hello/5, verify => verify_peer}), verify_peer_requires_cacerts}],
        Why =/= '_'],
    {error, {badarg, {handler, _}}} = ?H:start_server(0, Given#{handler => fun() -> ok end}),
    {error, {badarg, {port, 65536}}} = ?H:start_server(65536, Given),
    {error, {badarg, options}} = ?H:start_server(0, []),
    {ok, Server} = ?H:start_server(0, Given#{acceptors => 4, backlog => 10, nodelay => false, inet6 => true}),
    {ok, Conn} = ?H:connect({0, 0, 0, 0, 0, 0, 0, 1}, ?H:server_port(Server), #{transport => tcp}),
    ok = ?H:close(Conn),
    ok = ?H:stop_server(Server).

%% ---- the application ---------------------------------------------------------------------------

not_started(_Config) ->
    ok = application:stop(hackney_native),
    ?assertEqual({error, {not_started, hackney_native}}, ?H:start_server(0, #{transport => tcp, handler => fun hello/5})),
    {ok, _} = application:ensure_all_started(hackney_native).

stopped_with_servers(_Config) ->
    Name = make_ref(),
    {ok, Server} = ?H:start_server(Name, 0, #{transport => tcp, handler => fun hello/5, ip => {127, 0, 0, 1}}),
    Far = dial(Server),
    {Near, Accepted} = ssl_pair(),
    Bridged = taken_over(client, Near),
    Served = taken_over(server, Accepted),
    [connected = event(Conn) || Conn <- [Bridged, Served]],
    ok = application:stop(hackney_native),
    _ = raw_peer:expect(Far, closed),
    _ = gone(element(1, Server)),
    ?assertEqual(undefined, persistent_term:get({h2, server, Name}, undefined)),
    {error, econnrefused} = gen_tcp:connect({127, 0, 0, 1}, ?H:server_port(Server), []),
    [?assertMatch({closed, _}, closing(Conn)) || Conn <- [Bridged, Served]],
    {ok, _} = application:ensure_all_started(hackney_native),
    Next = serve(fun hello/5),
    Again = dial(Next),
    ask(Again, 1),
    {<<"200">>, <<"hello">>} = answer(Again, 1),
    ok = ?H:stop_server(Next).

closing(Conn) ->
    case event(Conn) of
        {goaway, _, _} -> closing(Conn);
        Event -> Event
    end.

%% Twice: whoever still ran the code of the first time would be killed.
code_is_replaced(_Config) ->
    Server = serve(fun echo/5),
    {ok, Plain} = ?H:connect("127.0.0.1", ?H:server_port(Server), #{transport => tcp}),
    {Near, Accepted} = ssl_pair(),
    {ok, _} = ?H:serve_socket(Accepted, #{handler => fun echo/5}),
    Bridged = taken_over(client, Near),
    [connected = event(Conn) || Conn <- [Plain, Bridged]],
    [begin
         [begin
              {ok, Id} = ?H:request(Conn, <<"POST">>, <<"/">>, [], Body),
              {response, Id, 200, []} = event(Conn),
              Body = body(Conn, Id)
          end || Conn <- [Plain, Bridged], Body <- [<<"small">>, binary:copy(<<"large">>, 100000)]],
         [begin
              true = code:soft_purge(Module),
              {module, Module} = code:load_file(Module)
          end || Module <- [hackney_native_h2, hackney_native_h2_connection, hackney_native_h2_bridge, hackney_native_h2_listener,
                            hackney_native_h2_requests, hackney_native_h2_fields, hackney_native_h2_settings, hackney_native_h2_socket]]
     end || _ <- [1, 2, 3]],
    [ok = ?H:close(Conn) || Conn <- [Plain, Bridged]],
    ok = ?H:stop_server(Server, 0).

%% Many connections and requests, ended in every way.
nothing_is_left(_Config) ->
    %% Without a report of each handler that crashes.
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    ok = h2_leak:balanced(fun() ->
        Server = serve(fun(Conn, Id, _, Path, _) -> leave(Conn, Id, Path) end),
        [begin
             {ok, Conn} = ?H:connect("127.0.0.1", ?H:server_port(Server), #{transport => tcp}),
             connected = event(Conn),
             Ids = [begin {ok, Id} = ?H:request(Conn, <<"GET">>, Path, []), Id end
                    || _ <- lists:seq(1, 10), Path <- [<<"/answer">>, <<"/crash">>, <<"/nothing">>, <<"/open">>, <<"/half">>]],
             [ended(Conn, Id) || {Id, Path} <- lists:zip(Ids, lists:append(lists:duplicate(10, [answer, crash, nothing, open, half]))),
                                 Path =/= open, Path =/= half],
             case N rem 3 of
                 0 -> ok = ?H:close(Conn);
                 1 -> unlink(Conn), exit(Conn, kill);
                 2 -> ok = ?H:goaway(Conn), ok = ?H:close(Conn)
             end
         end || N <- lists:seq(1, 30)],
        ok = ?H:stop_server(Server, 0),
        _ = gone(element(1, Server))
    end),
    ok = logger:set_primary_config(level, Level).

leave(Conn, Id, <<"/answer">>) -> ?H:respond(Conn, Id, 200, [], <<"answer">>);
leave(_, _, <<"/crash">>) -> exit(on_purpose);
leave(_, _, <<"/nothing">>) -> ok;
leave(Conn, Id, <<"/half">>) -> ok = ?H:send_response(Conn, Id, 200, []);
leave(Conn, _, <<"/open">>) ->
    Monitor = monitor(process, Conn),
    receive {'DOWN', Monitor, process, Conn, _} -> ok end.

ended(Conn, Id) ->
    receive
        {h2, Conn, {data, Id, _, true}} -> ok;
        {h2, Conn, {stream_reset, Id, internal_error}} -> ok
    end.
