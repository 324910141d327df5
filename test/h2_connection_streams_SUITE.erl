%%% @doc The streams of `hackney_native_h2_connection' as a client, by the contract of `h2_connection': requests, events, sending, windows.
-module(h2_connection_streams_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [gone/1, until/1, concurrently/1, result/1]).
-import(h2_conn_case, [connect/0, connect/1, connect/2, asked/2, asked/3, event/1, events/2, silent/1, respond/2, headers/2, kinds/2]).

-define(C, hackney_native_h2_connection).
-define(MIB, 1048576).
-define(GET, [{<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}]).
-define(TUNNEL, [{<<":method">>, <<"CONNECT">>}, {<<":authority">>, <<"a:1">>}]).
-define(WEBSOCKET, [{<<":method">>, <<"CONNECT">>}, {<<":path">>, <<"/chat">>}, {<<":scheme">>, <<"http">>},
                    {<<":authority">>, <<"a">>}]).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, requests}, {group, events}, {group, sending}, {group, windows}].

groups() ->
    [{requests, [parallel],
      [request_arities, host_becomes_authority, default_authority, fields_keep_their_order, connect_is_a_tunnel, extended_connect,
       refused_before_sending, too_many_streams, too_many_at_once, too_large_for_the_peer, not_a_server, request_with_a_body, identifiers_are_not_used_up]},
     {events, [parallel],
      [response_and_body, end_with_headers, trailers_end, informational, responses_without_body, tunnel, owner_and_handler, deferred,
       drained, unset, handlers_death, goaway_and_closed_once, resets, reset_after_the_end]},
     {sending, [parallel],
      [iodata, buffer_is_bounded, block_waits, block_waits_for_the_end, block_expires, block_and_reset, block_and_cancel,
       block_and_early_response, block_and_loss, block_checks, trailers_after_data, sends_in_wrong_states, cancel_codes,
       bad_arguments]},
     {windows, [parallel], [manual_waits_for_consume, auto_gives_back, mode_changes, stalled_streams_stop_nobody]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- requests ----------------------------------------------------------------------------------

request_arities(_Config) ->
    {Conn, Far} = connect(),
    Requests = [{fun() -> ?C:send_request(Conn, <<"GET">>, <<"/a">>, []) end, [end_headers, end_stream], <<"/a">>},
                {fun() -> ?C:send_request(Conn, <<"PUT">>, <<"/b">>, [], false) end, [end_headers], <<"/b">>},
                {fun() -> ?C:send_request_headers(Conn, ?GET, false) end, [end_headers], <<"/">>},
                {fun() -> ?C:send_request_headers(Conn, ?GET, true, #{}) end, [end_headers, end_stream], <<"/">>},
                {fun() -> hackney_native_h2:request(Conn, ?GET) end, [end_headers, end_stream], <<"/">>},
                {fun() -> hackney_native_h2:request(Conn, ?GET, #{end_stream => false}) end, [end_headers], <<"/">>},
                {fun() -> hackney_native_h2:request(Conn, <<"GET">>, <<"/c">>, []) end, [end_headers, end_stream], <<"/c">>}],
    lists:foldl(fun({Request, Flags, Path}, Id) ->
                    ?assertEqual({ok, Id}, Request()),
                    {Fields, Got} = headers(Far, Id),
                    ?assertEqual({Flags, Path}, {lists:sort(Got), proplists:get_value(<<":path">>, Fields)}),
                    Id + 2
                end, 1, Requests),
    silent(Conn).

host_becomes_authority(_Config) ->
    {Conn, Far} = connect(),
    {ok, 1} = ?C:send_request(Conn, <<"GET">>, <<"/">>, [{<<"x">>, <<"1">>}, {<<"host">>, <<"h.example:81">>}, {<<"host">>, <<"h.example:81">>}]),
    {Fields, _} = headers(Far, 1),
    ?assertEqual(<<"h.example:81">>, proplists:get_value(<<":authority">>, Fields)),
    ?assertNot(lists:keymember(<<"host">>, 1, Fields)),
    ?assertEqual(<<"http">>, proplists:get_value(<<":scheme">>, Fields)).

default_authority(_Config) ->
    {Conn, Far} = connect(),
    {ok, {_, Port}} = ?C:peername(Conn),
    {ok, 1} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    {Fields, _} = headers(Far, 1),
    ?assertEqual(iolist_to_binary(["localhost:", integer_to_list(Port)]), proplists:get_value(<<":authority">>, Fields)).

fields_keep_their_order(_Config) ->
    {Conn, Far} = connect(),
    Fields = [{<<"b">>, <<"1">>}, {<<"a">>, <<"2">>}, {<<"cookie">>, <<"x=1">>}, {<<"cookie">>, <<"y=2">>}, {<<"z">>, <<>>}, {<<"c">>, <<200>>}],
    {ok, 1} = ?C:send_request(Conn, <<"GET">>, <<"/">>, Fields),
    {Got, _} = headers(Far, 1),
    ?assertEqual(Fields, [Field || {<<C, _/binary>>, _} = Field <- Got, C =/= $:]),
    _ = raw_peer:run(Far, [{headers, 1, [{<<":status">>, <<"200">>} | Fields], fin}]),
    {response, 1, 200, Fields} = event(Conn).

connect_is_a_tunnel(_Config) ->
    {Conn, Far} = connect(),
    {ok, 1} = hackney_native_h2:request(Conn, ?TUNNEL),
    ?assertEqual({[{<<":method">>, <<"CONNECT">>}, {<<":authority">>, <<"a:1">>}], [end_headers]}, headers(Far, 1)),
    {ok, 3} = hackney_native_h2:request(Conn, <<"CONNECT">>, <<>>, [{<<"host">>, <<"a:1">>}]),
    ?assertMatch({_, [end_headers]}, headers(Far, 3)),
    {error, missing_authority} = hackney_native_h2:request(Conn, <<"CONNECT">>, <<>>, []),
    {error, missing_authority} = hackney_native_h2:request(Conn, [{<<":method">>, <<"CONNECT">>}]).

extended_connect(_Config) ->
    {Conn, Far} = connect(#{settings => [{enable_connect_protocol, 1}]}),
    {ok, 1} = hackney_native_h2:request(Conn, ?WEBSOCKET, #{protocol => <<"websocket">>}),
    {Fields, [end_headers]} = headers(Far, 1),
    ?assertEqual(<<"websocket">>, proplists:get_value(<<":protocol">>, Fields)),
    ?assertEqual(<<"/chat">>, proplists:get_value(<<":path">>, Fields)),
    {ok, 3} = hackney_native_h2:request(Conn, [{<<":protocol">>, <<"x">>} | ?WEBSOCKET], #{protocol => <<"websocket">>}),
    {More, _} = headers(Far, 3),
    ?assertEqual(<<"x">>, proplists:get_value(<<":protocol">>, More)),
    {error, extended_connect_method} = hackney_native_h2:request(Conn, ?GET, #{protocol => <<"websocket">>}),
    {Other, _} = connect(),
    {error, extended_connect_disabled} = hackney_native_h2:request(Other, ?WEBSOCKET, #{protocol => <<"websocket">>}).

refused_before_sending(_Config) ->
    {Conn, Far} = connect(),
    [?assertEqual({error, protocol_error}, ?C:send_request_headers(Conn, Fields, true), Fields)
     || Fields <- [[], tl(?GET), ?GET ++ [{<<"Upper">>, <<"x">>}], ?GET ++ [{<<"connection">>, <<"close">>}],
                   lists:keystore(<<":path">>, 1, ?GET, {<<":path">>, <<"no slash">>}),
                   lists:keystore(<<":path">>, 1, ?GET, {<<":path">>, <<"/", 255>>}),
                   lists:keystore(<<":authority">>, 1, ?GET, {<<":authority">>, <<"a b">>}),
                   lists:keystore(<<":authority">>, 1, ?GET, {<<":authority">>, <<"[">>})]],
    {error, badarg} = ?C:send_request_headers(Conn, [{<<"x">>, 1} | ?GET], true),
    1 = asked(Conn, Far),
    ?assertEqual(1, length([H || #{type := headers} = H <- raw_peer:transcript(Far)])).

identifiers_are_not_used_up(_Config) ->
    {Conn, Far} = connect(#{settings => [{max_concurrent_streams, 1}]}),
    1 = asked(Conn, Far),
    {error, max_streams_exceeded} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    _ = raw_peer:run(Far, [{headers, 1, [{<<":status">>, <<"200">>}], fin}]),
    [{response, 1, _, _}, {data, 1, <<>>, true}] = events(Conn, 2),
    until(fun() -> ?C:send_request(Conn, <<"GET">>, <<"/">>, []) =:= {ok, 3} end).

too_many_streams(_Config) ->
    {Conn, Far} = connect(#{settings => [{max_concurrent_streams, 2}]}),
    First = asked(Conn, Far),
    _ = asked(Conn, Far),
    {error, max_streams_exceeded} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    ok = ?C:cancel_stream(Conn, First),
    until(fun() -> element(1, ?C:send_request(Conn, <<"GET">>, <<"/">>, [])) =:= ok end).

%% Nobody waits in line, also not those who ask in the same moment.
too_many_at_once(_Config) ->
    [begin
         {Conn, Far} = connect(#{settings => [{max_concurrent_streams, 5}]}),
         Tasks = [concurrently(fun() -> ?C:send_request(Conn, <<"GET">>, <<"/">>, []) end) || _ <- lists:seq(1, 50)],
         Results = [result(Task) || Task <- Tasks],
         ?assertEqual([{ok, Id} || Id <- [1, 3, 5, 7, 9]], lists:sort([Ok || {ok, _} = Ok <- Results])),
         ?assertEqual([{error, max_streams_exceeded}], lists:usort(Results -- [{ok, Id} || Id <- [1, 3, 5, 7, 9]])),
         ok = raw_peer:barrier(Far),
         ?assertEqual(5, length([H || #{type := headers} = H <- raw_peer:transcript(Far)])),
         ok = ?C:close(Conn)
     end || _ <- lists:seq(1, 20)].

too_large_for_the_peer(_Config) ->
    {Conn, Far} = connect(#{settings => [{max_header_list_size, 200}]}),
    Large = [{<<"x">>, binary:copy(<<"x">>, 200)}],
    {error, header_list_too_large} = ?C:send_request(Conn, <<"GET">>, <<"/">>, Large),
    {ok, 1} = ?C:send_request(Conn, <<"GET">>, <<"/">>, [{<<"host">>, <<"a">>}], false),
    {error, header_list_too_large} = ?C:send_trailers(Conn, 1, Large),
    ok = ?C:send_trailers(Conn, 1, [{<<"x">>, <<"y">>}]),
    [_, #{headers := [{<<"x">>, <<"y">>}]}] = raw_peer:run(Far, [{expect, headers}, {expect, headers}]).

not_a_server(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    {error, not_server} = ?C:send_response(Conn, Id, 200, []),
    {error, not_server} = ?C:respond(Conn, Id, 200, [], <<"x">>),
    {error, not_server} = ?C:respond(Conn, 77, 200, [], <<>>).

request_with_a_body(_Config) ->
    {Conn, Far} = connect(),
    Body = binary:copy(<<"b">>, 2 * ?MIB),
    {ok, 1} = hackney_native_h2:request(Conn, <<"POST">>, <<"/">>, [], [Body, "tail"]),
    _ = raw_peer:run(Far, [{window_update, 0, 4 * ?MIB}, {window_update, 1, 4 * ?MIB}]),
    [_] = raw_peer:run(Far, [{expect_bytes, 1, 2 * ?MIB + 4}]),
    _ = h2_case:ended(Far).

%% ---- events ------------------------------------------------------------------------------------

response_and_body(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"201">>}, {<<"a">>, <<"1">>}, {<<"a">>, <<"2">>}]},
                           {data, Id, <<"one">>}, barrier, {data, Id, <<"two">>, fin}]),
    [{response, Id, 201, [{<<"a">>, <<"1">>}, {<<"a">>, <<"2">>}]}, {data, Id, <<"one">>, false}, {data, Id, <<"two">>, true}] = events(Conn, 3),
    silent(Conn).

end_with_headers(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}], fin}]),
    [{response, Id, 200, []}, {data, Id, <<>>, true}] = events(Conn, 2).

trailers_end(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"x">>}, {headers, Id, [{<<"t">>, <<"1">>}], fin}]),
    [{response, Id, 200, []}, {data, Id, <<"x">>, false}, {trailers, Id, [{<<"t">>, <<"1">>}]}] = events(Conn, 3),
    ok = raw_peer:barrier(Far),
    silent(Conn).

informational(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"100">>}]}, {headers, Id, [{<<":status">>, <<"103">>}, {<<"link">>, <<"x">>}]},
                           {headers, Id, [{<<":status">>, <<"204">>}], fin}]),
    [{informational, Id, 100, []}, {informational, Id, 103, [{<<"link">>, <<"x">>}]}, {response, Id, 204, []}, {data, Id, <<>>, true}] =
        events(Conn, 4).

responses_without_body(_Config) ->
    {Conn, Far} = connect(),
    [begin
         {ok, Id} = ?C:send_request(Conn, Method, <<"/">>, []),
         _ = headers(Far, Id),
         _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, Status}, {<<"content-length">>, <<"5">>}], fin}]),
         N = binary_to_integer(Status),
         [{response, Id, N, [{<<"content-length">>, <<"5">>}]}, {data, Id, <<>>, true}] = events(Conn, 2)
     end || {Method, Status} <- [{<<"HEAD">>, <<"200">>}, {<<"GET">>, <<"304">>}]].

tunnel(_Config) ->
    {Conn, Far} = connect(),
    {ok, Id} = hackney_native_h2:request(Conn, ?TUNNEL),
    _ = headers(Far, Id),
    ok = ?C:send_data(Conn, Id, <<"early">>),
    respond(Far, Id),
    {response, Id, 200, []} = event(Conn),
    {error, tunnel_no_trailers} = ?C:send_trailers(Conn, Id, []),
    ok = ?C:send_data(Conn, Id, <<"late">>, true),
    [9] = raw_peer:run(Far, [{expect_bytes, Id, 9}]),
    _ = raw_peer:run(Far, [{data, Id, <<"back">>, fin}]),
    {data, Id, <<"back">>, true} = event(Conn),
    %% With another status it is none.
    {ok, Refused} = hackney_native_h2:request(Conn, ?TUNNEL),
    _ = headers(Far, Refused),
    _ = raw_peer:run(Far, [{headers, Refused, [{<<":status">>, <<"403">>}]}]),
    {response, Refused, 403, []} = event(Conn),
    ok = ?C:send_trailers(Conn, Refused, []).

owner_and_handler(_Config) ->
    {Conn, Far} = connect(),
    Test = self(),
    Handler = spawn_link(fun Loop() -> receive {h2, Conn, Event} -> Test ! {handler, Event}, Loop() end end),
    %% The owner, also of what somebody else asked for.
    Owned = result(concurrently(fun() -> asked(Conn, Far) end)),
    Handled = asked(Conn, Far, #{handler => Handler}),
    Later = asked(Conn, Far),
    respond(Far, Owned),
    respond(Far, Handled),
    respond(Far, Later),
    {response, Owned, 200, []} = event(Conn),
    {response, Later, 200, []} = event(Conn),
    receive {handler, {response, Handled, 200, []}} -> ok end,
    ok = ?C:set_stream_handler(Conn, Later, Handler),
    _ = raw_peer:run(Far, [{data, Later, <<"x">>}]),
    receive {handler, {data, Later, <<"x">>, false}} -> ok end,
    silent(Conn),
    unlink(Handler),
    exit(Handler, kill).

deferred(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far, #{defer => true}),
    Mark = asked(Conn, Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"x">>, fin}, {headers, Mark, [{<<":status">>, <<"200">>}]}]),
    {response, Mark, 200, []} = event(Conn),
    silent(Conn),
    ok = ?C:set_stream_handler(Conn, Id, self()),
    [{response, Id, 200, []}, {data, Id, <<"x">>, true}] = events(Conn, 2).

drained(_Config) ->
    {Conn, Far} = connect(),
    [Id, Empty, None] = [asked(Conn, Far, #{defer => true}) || _ <- [1, 2, 3]],
    Mark = asked(Conn, Far),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}, {data, Id, <<"x">>}, {data, Id, <<"y">>, fin},
                           {headers, Empty, [{<<":status">>, <<"200">>}], fin},
                           {headers, Mark, [{<<":status">>, <<"200">>}]}]),
    {response, Mark, 200, []} = event(Conn),
    {ok, [{<<"x">>, false}, {<<"y">>, true}]} = ?C:set_stream_handler(Conn, Id, self(), #{drain_buffer => true}),
    %% What is no data is not lost.
    {response, Id, 200, []} = event(Conn),
    {ok, [{<<>>, true}]} = ?C:set_stream_handler(Conn, Empty, self(), #{drain_buffer => true}),
    {response, Empty, 200, []} = event(Conn),
    ok = ?C:set_stream_handler(Conn, None, self(), #{drain_buffer => true}),
    silent(Conn).

unset(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far, #{handler => spawn_link(fun() -> receive never -> ok end end)}),
    ok = ?C:unset_stream_handler(Conn, Id),
    ok = ?C:unset_stream_handler(Conn, 777),
    respond(Far, Id),
    {response, Id, 200, []} = event(Conn).

%% Nothing happens to the stream, nor to others.
handlers_death(_Config) ->
    {Conn, Far} = connect(),
    Handler = spawn(fun() -> receive stop -> ok end end),
    Id = asked(Conn, Far, #{handler => Handler}),
    Mark = asked(Conn, Far),
    Handler ! stop,
    _ = gone(Handler),
    respond(Far, Id),
    respond(Far, Mark),
    {response, Mark, 200, []} = event(Conn),
    ok = ?C:set_stream_handler(Conn, Id, self()),
    _ = raw_peer:run(Far, [{data, Id, <<"x">>, fin}]),
    {data, Id, <<"x">>, true} = event(Conn).

goaway_and_closed_once(_Config) ->
    {Conn, Far} = connect(),
    Test = self(),
    Handler = spawn_link(fun Loop() -> receive {h2, Conn, Event} -> Test ! {handler, Event}, Loop() end end),
    [A, B, C] = [asked(Conn, Far, Options) || Options <- [#{handler => Handler}, #{handler => Handler}, #{}]],
    [ok] = raw_peer:run(Far, [{goaway, B, 11}]),
    %% The one that is left out may be asked again.
    ?assertEqual([{goaway, B, enhance_your_calm}, {stream_reset, C, refused_stream}], lists:sort(events(Conn, 2))),
    receive {handler, {goaway, B, enhance_your_calm}} -> ok end,
    {error, unprocessed} = ?C:send_request(Conn, <<"GET">>, <<"/">>, []),
    _ = raw_peer:run(Far, [{headers, A, [{<<":status">>, <<"200">>}]}, abort]),
    {closed, {closed, econnreset}} = event(Conn),
    receive {handler, {response, A, 200, []}} -> ok end,
    receive {handler, {closed, {closed, econnreset}}} -> ok end,
    receive {handler, _} = More -> error(More) after 0 -> ok end,
    silent(Conn).

resets(_Config) ->
    {Conn, Far} = connect(),
    Codes = [{0, no_error}, {1, protocol_error}, {7, refused_stream}, {8, cancel}, {13, http_1_1_required}, {16#face, 16#face}],
    [begin
         Id = asked(Conn, Far),
         [ok] = raw_peer:run(Far, [{rst, Id, Number}]),
         ?assertEqual({stream_reset, Id, Code}, event(Conn)),
         ?assertEqual({error, stream_closed}, ?C:cancel_stream(Conn, Id)),
         ?assertEqual({error, invalid_stream_state}, ?C:send_data(Conn, Id, <<"x">>))
     end || {Number, Code} <- Codes].

%% RST_STREAM(NO_ERROR) behind a whole response: the rest of the upload is not wanted.
reset_after_the_end(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far, #{end_stream => false}),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}], fin}, {rst, Id, no_error}]),
    [{response, Id, 200, []}, {data, Id, <<>>, true}] = events(Conn, 2),
    until(fun() -> ?C:send_data(Conn, Id, <<"x">>) =:= {error, invalid_stream_state} end),
    silent(Conn).

%% ---- sending -----------------------------------------------------------------------------------

iodata(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far, #{end_stream => false}),
    ok = ?C:send_data(Conn, Id, ["a", [<<"b">>, $c]]),
    ok = ?C:send_data(Conn, Id, []),
    ok = ?C:send_data(Conn, Id, [<<>> | lists:duplicate(1000, <<"d">>)], false),
    ok = ?C:send_data(Conn, Id, <<>>, true),
    _ = h2_case:ended(Far),
    ?assertEqual(<<"abc", (binary:copy(<<"d">>, 1000))/binary>>, << <<D/binary>> || #{type := data, data := D} <- raw_peer:transcript(Far) >>).

buffer_is_bounded(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    ok = ?C:send_data(Conn, Id, binary:copy(<<"x">>, ?MIB - 1)),
    ok = ?C:send_data(Conn, Id, <<"x">>),
    {error, send_buffer_full} = ?C:send_data(Conn, Id, <<"x">>),
    {error, send_buffer_full} = ?C:send_data(Conn, Id, <<"x">>, true, #{}),
    {error, send_buffer_full} = ?C:send_data(Conn, Id, <<"x">>, true, #{block => undefined}),
    _ = raw_peer:run(Far, [{window_update, Id, 10}, {expect_bytes, Id, 10}]),
    ok = ?C:send_data(Conn, Id, <<"1234567890">>, true),
    _ = raw_peer:run(Far, [{window_update, Id, 2 * ?MIB}, {window_update, 0, 2 * ?MIB}, {expect_bytes, Id, ?MIB + 10}]),
    _ = h2_case:ended(Far),
    %% More than that at once is taken when nothing is queued.
    Other = asked(Conn, Far, #{end_stream => false}),
    ok = ?C:send_data(Conn, Other, binary:copy(<<"x">>, 3 * ?MIB)).

blocked(Conn, Id, Data, Fin, Timeout) ->
    Task = {Pid, _} = concurrently(fun() -> ?C:send_data(Conn, Id, Data, Fin, #{block => Timeout}) end),
    until(fun() -> process_info(Pid, current_function) =:= {current_function, {hackney_native_h2_exchange, send_and_wait, 5}} end),
    Task.

block_waits(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    ok = ?C:send_data(Conn, Id, <<"before">>),
    First = blocked(Conn, Id, binary:copy(<<"x">>, 2 * ?MIB), false, infinity),
    Second = blocked(Conn, Id, <<"y">>, false, 10000),
    _ = raw_peer:run(Far, [{window_update, Id, ?MIB}, {window_update, 0, 4 * ?MIB}, {expect_bytes, Id, ?MIB}]),
    [{current_function, {hackney_native_h2_exchange, send_and_wait, 5}} = process_info(Pid, current_function) || {Pid, _} <- [First, Second]],
    _ = raw_peer:run(Far, [{window_update, Id, 2 * ?MIB}]),
    [ok, ok] = [result(First), result(Second)],
    _ = raw_peer:run(Far, [{expect_bytes, Id, 2 * ?MIB + 7}]).

%% END_STREAM is to have left, too.
block_waits_for_the_end(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    Task = blocked(Conn, Id, <<"last">>, true, 10000),
    [ok] = raw_peer:run(Far, [{window_update, Id, 4}]),
    ok = result(Task),
    _ = h2_case:ended(Far),
    %% Without data there is nothing to wait for.
    Other = asked(Conn, Far, #{end_stream => false}),
    ok = ?C:send_data(Conn, Other, <<>>, true, #{block => 10000}).

block_expires(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    {error, timeout} = ?C:send_data(Conn, Id, <<"kept">>, true, #{block => 10}),
    {error, invalid_stream_state} = ?C:send_data(Conn, Id, <<"more">>),
    _ = raw_peer:run(Far, [{window_update, Id, 10}, {expect_bytes, Id, 4}]),
    _ = h2_case:ended(Far),
    Other = asked(Conn, Far, #{end_stream => false}),
    {error, timeout} = ?C:send_data(Conn, Other, <<"kept">>, false, #{block => 0}).

block_and_reset(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    Task = blocked(Conn, Id, <<"x">>, false, infinity),
    [ok] = raw_peer:run(Far, [{rst, Id, cancel}]),
    {error, stream_reset} = result(Task),
    {stream_reset, Id, cancel} = event(Conn),
    %% Left out by GOAWAY is the same.
    Other = asked(Conn, Far, #{end_stream => false}),
    Left = blocked(Conn, Other, <<"x">>, true, infinity),
    [ok] = raw_peer:run(Far, [{goaway, Id, no_error}]),
    {error, stream_reset} = result(Left).

block_and_cancel(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    Task = blocked(Conn, Id, <<"x">>, true, infinity),
    ok = ?C:cancel_stream(Conn, Id),
    {error, stream_reset} = result(Task),
    silent(Conn).

block_and_early_response(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    Task = blocked(Conn, Id, <<"x">>, true, infinity),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"413">>}], fin}, {rst, Id, no_error}]),
    {error, stream_closed} = result(Task),
    [{response, Id, 413, []}, {data, Id, <<>>, true}] = events(Conn, 2).

block_and_loss(_Config) ->
    [begin
         {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
         Id = asked(Conn, Far, #{end_stream => false}),
         Task = blocked(Conn, Id, <<"x">>, true, infinity),
         End(Conn, Far),
         ?assertEqual({error, closed}, result(Task))
     end || End <- [fun(_, Far) -> raw_peer:run(Far, [abort]) end,
                    fun(_, Far) -> raw_peer:run(Far, [close]) end,
                    fun(_, Far) -> raw_peer:run(Far, [{goaway, 1, 1}, close]) end,
                    fun(Conn, _) -> ?C:close(Conn) end,
                    fun(Conn, _) -> unlink(Conn), exit(Conn, kill) end]].

block_checks(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far, #{end_stream => false}),
    [?assertEqual({error, {badarg, {block, Value}}}, ?C:send_data(Conn, Id, <<"x">>, false, #{block => Value})) || Value <- [-1, 1.5, soon]],
    ?assertError(badarg, ?C:send_data(Conn, Id, <<"x">>, false, [])),
    ok = ?C:send_data(Conn, Id, <<"x">>, false, #{block => 1000}),
    {error, unknown_stream} = ?C:send_data(Conn, 99, <<"x">>, false, #{block => 1000}),
    ok = ?C:send_data(Conn, Id, <<>>, true),
    {error, invalid_stream_state} = ?C:send_data(Conn, Id, <<"x">>, false, #{block => 1000}).

trailers_after_data(_Config) ->
    {Conn, Far} = connect(#{settings => [{initial_window_size, 0}]}),
    Id = asked(Conn, Far, #{end_stream => false}),
    ok = ?C:send_data(Conn, Id, <<"x">>),
    ok = ?C:send_trailers(Conn, Id, [{<<"t">>, <<"1">>}]),
    {error, invalid_stream_state} = ?C:send_trailers(Conn, Id, []),
    {error, invalid_stream_state} = ?C:send_data(Conn, Id, <<"y">>),
    [ok, #{headers := [{<<"t">>, <<"1">>}], flags := Flags}] = raw_peer:run(Far, [{window_update, Id, 1}, {expect, headers}]),
    ?assert(lists:member(end_stream, Flags)),
    ?assertEqual([headers, data, headers], kinds(Far, Id)).

sends_in_wrong_states(_Config) ->
    {Conn, Far} = connect(),
    {error, unknown_stream} = ?C:send_data(Conn, 1, <<"x">>),
    {error, unknown_stream} = ?C:send_data(Conn, 2, <<"x">>),
    {error, unknown_stream} = ?C:send_trailers(Conn, 1, []),
    {error, unknown_stream} = ?C:cancel_stream(Conn, 1),
    {error, unknown_stream} = ?C:consume(Conn, 1, 1),
    {error, unknown_stream} = ?C:set_stream_handler(Conn, 1, self()),
    Id = asked(Conn, Far),
    {error, invalid_stream_state} = ?C:send_data(Conn, Id, <<"x">>),
    {error, invalid_stream_state} = ?C:send_trailers(Conn, Id, []),
    {error, protocol_error} = ?C:send_trailers(Conn, Id, [{<<":status">>, <<"200">>}]),
    _ = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}], fin}]),
    _ = events(Conn, 2),
    {error, invalid_stream_state} = ?C:send_data(Conn, Id, <<"x">>),
    {error, stream_closed} = ?C:cancel_stream(Conn, Id),
    ok = ?C:consume(Conn, Id, 1),
    ok = ?C:unset_stream_handler(Conn, Id).

cancel_codes(_Config) ->
    {Conn, Far} = connect(),
    [begin
         Id = asked(Conn, Far),
         ok = Cancel(Id),
         ?assertMatch(#{code := Code}, raw_peer:expect(Far, #{type => rst_stream, stream => Id})),
         {error, stream_closed} = ?C:cancel_stream(Conn, Id)
     end || {Cancel, Code} <- [{fun(Id) -> ?C:cancel_stream(Conn, Id) end, cancel},
                               {fun(Id) -> hackney_native_h2:cancel(Conn, Id) end, cancel},
                               {fun(Id) -> hackney_native_h2:cancel(Conn, Id, refused_stream) end, refused_stream},
                               {fun(Id) -> hackney_native_h2:cancel_stream(Conn, Id, 5) end, stream_closed},
                               {fun(Id) -> ?C:cancel_stream(Conn, Id, {unknown, 16#face}) end, 16#face}]],
    Id = asked(Conn, Far),
    {error, {badarg, {code, nonsense}}} = ?C:cancel_stream(Conn, Id, nonsense),
    silent(Conn).

%% Of calls that make no sense the connection does not even hear.
bad_arguments(_Config) ->
    {Conn, Far} = connect(),
    Id = asked(Conn, Far, #{end_stream => false}),
    [?assertError(badarg, Call(), Call)
     || Call <- [fun() -> ?C:send_data(Conn, Id, atom) end, fun() -> ?C:send_data(Conn, one, <<"x">>) end,
                 fun() -> ?C:send_data(Conn, Id, <<"x">>, perhaps) end, fun() -> ?C:send_data(not_a_pid, Id, <<"x">>) end,
                 fun() -> ?C:consume(Conn, Id, -1) end, fun() -> ?C:set_stream_handler(Conn, Id, name) end,
                 fun() -> ?C:send_request(Conn, <<"GET">>, <<"/">>, not_a_list) end,
                 fun() -> ?C:send_request_headers(Conn, ?GET, perhaps) end,
                 fun() -> ?C:controlling_process(Conn, name) end, fun() -> ?C:wait_connected(Conn, -1) end]],
    {error, badarg} = ?C:send_trailers(Conn, Id, not_a_list),
    ok = ?C:send_data(Conn, Id, <<"x">>).

%% ---- windows -----------------------------------------------------------------------------------

manual_waits_for_consume(_Config) ->
    {Conn, Far} = connect(#{}, #{settings => #{initial_window_size => 1000}}),
    Id = asked(Conn, Far, #{flow_control => manual}),
    respond(Far, Id),
    [1000] = raw_peer:run(Far, [{flood, Id, 1000}]),
    [{response, Id, 200, []}, {data, Id, _, false}] = events(Conn, 2),
    ok = raw_peer:barrier(Far),
    ?assertEqual([], updates(Far, Id)),
    ok = ?C:consume(Conn, Id, 600),
    ok = ?C:consume(Conn, Id, 100000),
    _ = raw_peer:expect(Far, #{type => window_update, stream => Id}),
    until(fun() -> lists:sum(updates(Far, Id)) =:= 1000 end),
    [1000] = raw_peer:run(Far, [{flood, Id, 1000}]).

auto_gives_back(_Config) ->
    {Conn, Far} = connect(#{}, #{settings => #{initial_window_size => 1000}}),
    Id = asked(Conn, Far),
    respond(Far, Id),
    [#{bytes := 100000}] = raw_peer:run(Far, [{pump, Id, 100000, 500, fin}]),
    ok = ?C:consume(Conn, Id, 17),
    {response, Id, 200, []} = event(Conn),
    ?assertEqual(raw_peer_conn:content(0, 100000), body(Conn, Id)).

body(Conn, Id) ->
    case event(Conn) of
        {data, Id, Data, true} -> Data;
        {data, Id, Data, false} -> <<Data/binary, (body(Conn, Id))/binary>>
    end.

mode_changes(_Config) ->
    {Conn, Far} = connect(#{}, #{settings => #{initial_window_size => 1000}}),
    Id = asked(Conn, Far),
    ok = ?C:set_stream_handler(Conn, Id, self(), #{flow_control => manual}),
    respond(Far, Id),
    [1000] = raw_peer:run(Far, [{flood, Id, 1000}]),
    [{response, Id, 200, []}, {data, Id, _, false}] = events(Conn, 2),
    ok = raw_peer:barrier(Far),
    ?assertEqual([], updates(Far, Id)),
    ok = ?C:set_stream_handler(Conn, Id, self(), #{flow_control => auto}),
    ok = ?C:consume(Conn, Id, 1000),
    [#{bytes := 5000}] = raw_peer:run(Far, [{pump, Id, 5000, 500, fin}]).

%% The connection's window is kept open beside what lies unread.
stalled_streams_stop_nobody(_Config) ->
    {Conn, Far} = connect(#{}, #{settings => #{initial_window_size => 65535}, connection_window_size => 65535}),
    Stalled = [asked(Conn, Far, #{defer => true}) || _ <- lists:seq(1, 5)],
    Id = asked(Conn, Far),
    [begin respond(Far, S), [#{bytes := 65535}] = raw_peer:run(Far, [{pump, S, 65535, 16384, nofin}]) end || S <- Stalled],
    respond(Far, Id),
    [#{bytes := 300000}] = raw_peer:run(Far, [{pump, Id, 300000, 16384, fin}]),
    {response, Id, 200, []} = event(Conn),
    ?assertEqual(300000, byte_size(body(Conn, Id))).

updates(Far, Id) ->
    [N || #{type := window_update, stream := Stream, increment := N} <- raw_peer:transcript(Far), Stream =:= Id].
