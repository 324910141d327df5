%%% @doc Section 1 of the contract: the facade, the stream module and the messages. Section 2 is
%%% {@link contract_delivery_SUITE}, 3 {@link contract_errors_SUITE}, 4
%%% {@link contract_better_SUITE}. `README.md' beside this file has the table that says which test
%%% holds which row.
-module(contract_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [open/0, open/1, open/2, respond/1, recv/1, drain/1, gone/1, until/1,
                  is_closed/1, concurrently/1, result/1, queued/2, ended/1, stream_options/1, reason/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, facade}, {group, requests}, {group, stream_module}, {group, messages}].

groups() ->
    [{facade, [parallel],
      [open_2_posts_to_the_root, open_3_sends_headers, open_4_takes_a_method,
       open_returns_before_the_response, open_waits_for_settings, send_2_leaves_our_side_open,
       send_3_half_closes, send_takes_iodata, send_of_nothing_half_closes, trailers_half_close,
       trailers_queue_behind_data, recv_1_and_2, recv_timeout_option, consume_returns_ok,
       setopts_checks_its_list, close_returns_ok, whole_conversation]},
     {requests, [parallel],
      [methods, urls, authority_of_the_default_port, header_names_and_values, header_order]},
     {stream_module, [parallel],
      [states_of_the_gen_statem, idle_refuses_calls, start_link_links, defaults_of_the_map,
       connect_2, failed_open_leaves_no_process, second_recv_is_busy, connect_twice]},
     {messages, [parallel],
      [data_is_never_empty, headers_as_received, repeated_names_are_kept, done_then_closed,
       headers_only_response, drained_after_done, drained_after_an_error, drained_after_close,
       calls_after_the_end]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- facade -------------------------------------------------------------------------------

open_2_posts_to_the_root(_Config) ->
    #{headers := Headers, flags := Flags} = request(fun(Url, Opts) ->
        hackney_native:h2_open(Url, Opts)
    end),
    ?assertEqual([end_headers], Flags),
    ?assertMatch([{<<":method">>, <<"POST">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"https">>}],
                 pseudo(Headers, [<<":method">>, <<":path">>, <<":scheme">>])).

open_3_sends_headers(_Config) ->
    #{headers := Headers} = request(fun(Url, Opts) ->
        hackney_native:h2_open(Url, [{<<"te">>, <<"trailers">>}], Opts)
    end),
    ?assertEqual(<<"POST">>, proplists:get_value(<<":method">>, Headers)),
    ?assertEqual(<<"trailers">>, proplists:get_value(<<"te">>, Headers)).

open_4_takes_a_method(_Config) ->
    #{headers := Headers, flags := Flags} = request(fun(Url, Opts) ->
        hackney_native:h2_open(get, Url, [{<<"x">>, <<"y">>}], Opts)
    end),
    ?assertEqual(<<"GET">>, proplists:get_value(<<":method">>, Headers)),
    ?assertEqual(<<"y">>, proplists:get_value(<<"x">>, Headers)),
    ?assertNot(lists:member(end_stream, Flags)).

open_returns_before_the_response(_Config) ->
    {Stream, Conn} = open(),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 0)),
    respond(Conn),
    ?assertEqual({response, 200, []}, recv(Stream)).

open_waits_for_settings(_Config) ->
    Peer = raw_peer:start(#{script => [{expect, headers}, {wait, go}, {settings, []}]}),
    Test = self(),
    Open = concurrently(fun() ->
        Test ! opening,
        Result = h2_open(Peer),
        Test ! opened,
        Result
    end),
    Conn = raw_peer:accept(Peer),
    %% The request is there before the peer has said anything.
    receive opening -> ok end,
    until(fun() -> [] =/= [H || #{type := headers} = H <- raw_peer:transcript(Conn)] end),
    receive opened -> error(open_did_not_wait) after 0 -> ok end,
    raw_peer:tell(Conn, go),
    ?assertMatch({ok, _}, result(Open)).

send_2_leaves_our_side_open(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"one">>),
    ok = hackney_native:h2_send(Stream, <<"two">>, nofin),
    [6] = raw_peer:run(Conn, [{expect_bytes, 1, 6}]),
    ?assertEqual({<<"onetwo">>, nofin}, body(Conn)).

send_3_half_closes(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"last">>, fin),
    ended(Conn),
    ?assertEqual({<<"last">>, fin}, body(Conn)),
    %% Half-closed: the other half still works.
    respond(Conn),
    ?assertEqual({response, 200, []}, recv(Stream)).

send_takes_iodata(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, ["a", [<<"b">>, $c], [], [[<<"d">> | <<"e">>]]], fin),
    ended(Conn),
    ?assertEqual({<<"abcde">>, fin}, body(Conn)).

send_of_nothing_half_closes(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<>>),
    ok = hackney_native:h2_send(Stream, [], fin),
    ended(Conn),
    ?assertEqual({<<>>, fin}, body(Conn)).

trailers_half_close(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"body">>),
    ok = hackney_native:h2_send_trailers(Stream, [{<<"Grpc-Status">>, 0}, {"a", "b"}]),
    #{flags := Flags, headers := Trailers} = raw_peer:expect(Conn, headers),
    ?assert(lists:member(end_stream, Flags)),
    ?assertEqual([{<<"grpc-status">>, <<"0">>}, {<<"a">>, <<"b">>}], Trailers),
    ?assertEqual({<<"body">>, nofin}, body(Conn)).

%% With no window the data must wait, and the trailers behind it.
trailers_queue_behind_data(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 0}]}, []),
    ok = hackney_native:h2_send(Stream, <<"before the trailers">>),
    ok = hackney_native:h2_send_trailers(Stream, [{<<"t">>, <<"1">>}]),
    ok = raw_peer:barrier(Conn),
    ?assertEqual({<<>>, nofin}, body(Conn)),
    [ok, _] = raw_peer:run(Conn, [{window_update, 1, 100}, {expect, headers}]),
    [#{type := data, data := <<"before the trailers">>}, #{headers := [{<<"t">>, <<"1">>}]}] =
        raw_peer:sequence(Conn, [data, #{type => headers, flags => [end_stream, end_headers]}]).

recv_1_and_2(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    ?assertEqual({ok, {response, 200, []}}, hackney_native:h2_recv(Stream)),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}]),
    ?assertEqual({ok, {data, <<"x">>}}, hackney_native:h2_recv(Stream, 5000)),
    ?assertEqual({ok, done}, hackney_native:h2_recv(Stream, infinity)).

recv_timeout_option(_Config) ->
    {Stream, _Conn} = open([{recv_timeout, 20}]),
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream)).

consume_returns_ok(_Config) ->
    {Stream, Conn} = open([{flow_control, manual}]),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"12345">>}]),
    {response, 200, []} = recv(Stream),
    {data, <<"12345">>} = recv(Stream),
    ?assertEqual(ok, hackney_native:h2_consume(Stream, 5)),
    ?assertEqual(ok, hackney_native:h2_consume(Stream, 0)).

setopts_checks_its_list(_Config) ->
    {Stream, _Conn} = open(),
    [?assertEqual(ok, hackney_native:h2_setopts(Stream, [{active, Mode}]))
     || Mode <- [true, once, false]],
    ?assertEqual(ok, hackney_native:h2_setopts(Stream, [])),
    ?assertEqual({error, badarg}, hackney_native:h2_setopts(Stream, [{active, sometimes}])),
    ?assertEqual({error, badarg}, hackney_native:h2_setopts(Stream, [{active, 1.5}])),
    %% A refused call has changed nothing.
    ?assertEqual({error, timeout}, hackney_native:h2_recv(Stream, 0)).

close_returns_ok(_Config) ->
    {Stream, Conn} = open(),
    ?assertEqual(ok, hackney_native:h2_close(Stream)),
    ?assertEqual(ok, hackney_native:h2_close(Stream)),
    _ = raw_peer:expect(Conn, closed),
    ?assertEqual(normal, reason(gone(Stream))),
    ?assertEqual(ok, hackney_native:h2_close(Stream)).

whole_conversation(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    {response, 200, []} = recv(Stream),
    [begin
         Ask = <<"ask ", (integer_to_binary(N))/binary>>,
         ok = hackney_native:h2_send(Stream, Ask),
         #{data := Ask} = raw_peer:expect(Conn, data),
         [ok] = raw_peer:run(Conn, [{data, 1, [<<"re: ">>, Ask]}]),
         ?assertEqual({data, <<"re: ", Ask/binary>>}, recv(Stream))
     end || N <- lists:seq(1, 20)],
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    ended(Conn),
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<"grpc-status">>, <<"0">>}], fin}]),
    ?assertEqual([{trailers, [{<<"grpc-status">>, <<"0">>}]}, done, {error, closed}],
                 drain(Stream)),
    ok = hackney_native:h2_close(Stream).

%% ---- what a request looks like ------------------------------------------------------------

methods(_Config) ->
    [?assertEqual({Given, Sent},
                  begin
                      #{headers := Headers} = request(fun(Url, Opts) ->
                          hackney_native:h2_open(Given, Url, [], Opts)
                      end),
                      {Given, proplists:get_value(<<":method">>, Headers)}
                  end)
     || {Given, Sent} <- [{get, <<"GET">>}, {'Put', <<"PUT">>}, {"patch", <<"PATCH">>},
                          {<<"DELETE">>, <<"DELETE">>}, {<<"miXed">>, <<"miXed">>}]].

urls(_Config) ->
    [?assertEqual({Form, Tail, Sent}, {Form, Tail, path_sent(Form, Tail)})
     || {Tail, Sent} <- [{"", <<"/">>}, {"/", <<"/">>}, {"/a/b", <<"/a/b">>},
                         {"/a?q=1&r=%20", <<"/a?q=1&r=%20">>}, {"?q", <<"/?q">>},
                         {"/a#part", <<"/a">>}, {"/a?q#part", <<"/a?q">>}, {"#part", <<"/">>}],
        Form <- [binary, string]].

path_sent(Form, Tail) ->
    #{headers := Headers} = request(fun(Url, Opts) ->
        Root = binary:part(Url, 0, byte_size(Url) - 1),
        Full = <<Root/binary, (list_to_binary(Tail))/binary>>,
        hackney_native:h2_open(case Form of binary -> Full; string -> binary_to_list(Full) end,
                               Opts)
    end),
    proplists:get_value(<<":path">>, Headers).

%% No test may listen on port 443, so what the port does to the authority is asked for here.
authority_of_the_default_port(_Config) ->
    ?assertEqual(<<"h.test">>, hackney_native_url:authority(https, <<"h.test">>, 443)),
    ?assertEqual(<<"h.test:80">>, hackney_native_url:authority(https, <<"h.test">>, 80)),
    ?assertEqual(<<"h.test">>, hackney_native_url:authority(http, <<"h.test">>, 80)),
    ?assertEqual(<<"h.test:443">>, hackney_native_url:authority(http, <<"h.test">>, 443)),
    ?assertEqual(<<"[::1]:8443">>, hackney_native_url:authority(https, <<"::1">>, 8443)),
    Peer = raw_peer:start(),
    {ok, _} = h2_open(Peer),
    #{headers := Headers} = raw_peer:expect(raw_peer:accept(Peer), headers),
    Port = integer_to_binary(raw_peer:port(Peer)),
    ?assertEqual(<<"localhost:", Port/binary>>, proplists:get_value(<<":authority">>, Headers)).

header_names_and_values(_Config) ->
    Given = [{<<"X-Binary">>, <<"b">>}, {'X-Atom', "string"}, {"X-String", 42},
             {<<"Host">>, <<"elsewhere.test">>}, {host, "elsewhere.test"},
             {<<"x-empty">>, <<>>}, {<<"x-negative">>, -1}],
    #{headers := Headers} = request(fun(Url, Opts) ->
        hackney_native:h2_open(Url, Given, Opts)
    end),
    ?assertMatch(<<"localhost:", _/binary>>, proplists:get_value(<<":authority">>, Headers)),
    ?assertEqual([{<<"x-binary">>, <<"b">>}, {<<"x-atom">>, <<"string">>},
                  {<<"x-string">>, <<"42">>}, {<<"x-empty">>, <<>>},
                  {<<"x-negative">>, <<"-1">>}],
                 [H || {<<C, _/binary>>, _} = H <- Headers, C =/= $:]).

header_order(_Config) ->
    Given = [{iolist_to_binary(["h", integer_to_list(N * 7 rem 31)]), integer_to_binary(N)}
             || N <- lists:seq(1, 30)],
    #{headers := Headers} = request(fun(Url, Opts) ->
        hackney_native:h2_open(Url, Given, Opts)
    end),
    {Pseudo, Regular} = lists:splitwith(fun({<<C, _/binary>>, _}) -> C =:= $: end, Headers),
    ?assertEqual([<<":authority">>, <<":method">>, <<":path">>, <<":scheme">>],
                 lists:sort([Name || {Name, _} <- Pseudo])),
    ?assertEqual(Given, Regular).

%% ---- hackney_native_h2_stream ---------------------------------------------------------------

states_of_the_gen_statem(_Config) ->
    Peer = raw_peer:start(),
    {ok, Stream} = hackney_native_h2_stream:start_link(stream_options(Peer)),
    ?assertMatch({idle, _}, sys:get_state(Stream)),
    ok = hackney_native_h2_stream:connect(Stream),
    ?assertMatch({connected, _}, sys:get_state(Stream)),
    Conn = raw_peer:accept(Peer),
    #{stream := 1} = raw_peer:expect(Conn, headers),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{rst, 1, cancel}]),
    %% Unread messages keep the closed stream there to be asked.
    until(fun() -> closed =:= element(1, sys:get_state(Stream)) end),
    {ok, {response, 200, []}} = hackney_native_h2_stream:recv(Stream),
    ?assertEqual({error, {stream_error, cancel}}, hackney_native_h2_stream:recv(Stream)),
    ?assertEqual(normal, reason(gone(Stream))).

idle_refuses_calls(_Config) ->
    {ok, Stream} = hackney_native_h2_stream:start_link(stream_options(raw_peer:start())),
    Calls = [fun() -> hackney_native_h2_stream:send(Stream, <<"x">>) end,
             fun() -> hackney_native_h2_stream:send(Stream, <<"x">>, fin) end,
             fun() -> hackney_native_h2_stream:send_trailers(Stream, []) end,
             fun() -> hackney_native_h2_stream:recv(Stream) end,
             fun() -> hackney_native_h2_stream:recv(Stream, 10) end,
             fun() -> hackney_native_h2_stream:consume(Stream, 1) end,
             fun() -> hackney_native_h2_stream:setopts(Stream, [{active, true}]) end,
             fun() -> hackney_native_h2_stream:controlling_process(Stream, self()) end],
    [?assertEqual({error, not_connected}, Call()) || Call <- Calls],
    ok = hackney_native_h2_stream:connect(Stream).

start_link_links(_Config) ->
    {ok, Stream} = hackney_native_h2_stream:start_link(stream_options(raw_peer:start())),
    {links, Links} = process_info(self(), links),
    ?assert(lists:member(Stream, Links)),
    ok = hackney_native_h2_stream:close(Stream),
    ?assertEqual(normal, reason(gone(Stream))).

defaults_of_the_map(_Config) ->
    Peer = raw_peer:start(),
    Map = maps:with([host, port, transport, ssl_options], stream_options(Peer)),
    {ok, Stream} = hackney_native_h2_stream:start_link(Map),
    ok = hackney_native_h2_stream:connect(Stream),
    Conn = raw_peer:accept(Peer),
    #{headers := Headers} = raw_peer:expect(Conn, headers),
    ?assertEqual([<<"POST">>, <<"/">>, <<"https">>],
                 [proplists:get_value(Name, Headers)
                  || Name <- [<<":method">>, <<":path">>, <<":scheme">>]]),
    %% Passive and auto.
    ?assertEqual({error, timeout}, hackney_native_h2_stream:recv(Stream, 0)).

connect_2(_Config) ->
    Silent = raw_peer:start(#{script => []}),
    {ok, Stream} = hackney_native_h2_stream:start_link((stream_options(Silent))#{connect_timeout => 60000}),
    ?assertEqual({error, connect_timeout}, hackney_native_h2_stream:connect(Stream, 50)),
    ?assertEqual(normal, reason(gone(Stream))).

failed_open_leaves_no_process(_Config) ->
    Url = iolist_to_binary(io_lib:format("https://localhost:~b", [h2_case:refused_port()])),
    Before = links(),
    Tracked = tracked_opens(Url),
    ?assertEqual([], [Pid || Pid <- Tracked, is_process_alive(Pid)]),
    ?assertEqual(Before, links()).

%% The VM tells them in no order.
links() ->
    {links, Links} = process_info(self(), links),
    lists:sort(Links).

%% Every process that one failing open makes.
tracked_opens(Url) ->
    1 = erlang:trace(self(), true, [procs, set_on_spawn]),
    {error, econnrefused} = hackney_native:h2_open(Url, [{ssl_options, [insecure]}]),
    1 = erlang:trace(self(), false, [procs, set_on_spawn]),
    Self = self(),
    Self ! traced,
    spawned().

spawned() ->
    receive
        {trace, _, spawn, Pid, _} -> [Pid | spawned()];
        traced -> []
    end.

second_recv_is_busy(_Config) ->
    {Stream, Conn} = open(),
    First = concurrently(fun() -> hackney_native:h2_recv(Stream) end),
    h2_case:reader_waits(Stream),
    ?assertEqual({error, recv_busy}, hackney_native:h2_recv(Stream, 1000)),
    respond(Conn),
    ?assertEqual({ok, {response, 200, []}}, result(First)).

connect_twice(_Config) ->
    {Stream, _Conn} = open(),
    ?assertMatch({error, _}, hackney_native_h2_stream:connect(Stream)),
    ok = hackney_native:h2_send(Stream, <<"still there">>).

%% ---- messages -----------------------------------------------------------------------------

data_is_never_empty(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    Padding = h2_frames:data(1, <<>>, nofin, 40),
    [_ | _] = raw_peer:run(Conn, [{data, 1, <<>>}, {data, 1, <<"a">>}, {data, 1, <<>>},
                                  {raw, Padding}, {data, 1, <<"b">>}, {data, 1, <<>>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"ab">>}, done, {error, closed}], drain(Stream)).

headers_as_received(_Config) ->
    {Stream, Conn} = open(),
    Names = [<<"z">>, <<"a">>, <<"server">>, <<"x-9">>, <<"date">>, <<"content-type">>, <<"b">>],
    Headers = [{Name, <<"value of ", Name/binary>>} || Name <- Names],
    h2_case:respond(Conn, Headers),
    ?assertEqual({response, 200, Headers}, recv(Stream)),
    [ok] = raw_peer:run(Conn, [{headers, 1, lists:reverse(Headers), fin}]),
    ?assertEqual({trailers, lists:reverse(Headers)}, recv(Stream)).

repeated_names_are_kept(_Config) ->
    {Stream, Conn} = open(),
    h2_case:respond(Conn, [{<<"set-cookie">>, <<"b=1">>}, {<<"set-cookie">>, <<"a=2">>},
                           {<<"x">>, <<>>}, {<<"set-cookie">>, <<"b=1">>}]),
    {response, 200, Headers} = recv(Stream),
    ?assertEqual([<<"b=1">>, <<"a=2">>, <<"b=1">>], proplists:get_all_values(<<"set-cookie">>, Headers)),
    ?assertEqual([<<>>], proplists:get_all_values(<<"x">>, Headers)),
    ?assertEqual(4, length(Headers)).

done_then_closed(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [{data, 1, <<"x">>, fin}]),
    ?assertEqual([{response, 200, []}, {data, <<"x">>}, done, {error, closed}], drain(Stream)),
    ?assertEqual({error, closed}, hackney_native:h2_recv(Stream, 0)).

headers_only_response(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"404">>}], fin}]),
    ?assertEqual([{response, 404, []}, done, {error, closed}], drain(Stream)).

drained_after_done(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [_ | _] = raw_peer:run(Conn, [{data, 1, <<"abc">>}, {headers, 1, [{<<"t">>, <<"1">>}], fin},
                                  barrier, close]),
    ?assertEqual([{response, 200, []}, {data, <<"abc">>}, {trailers, [{<<"t">>, <<"1">>}]}, done,
                  {error, closed}], drain(Stream)).

drained_after_an_error(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok, ok, _] = raw_peer:run(Conn, [{data, 1, <<"abc">>}, {rst, 1, internal_error}, {expect, closed}]),
    ?assertEqual([{response, 200, []}, {data, <<"abc">>},
                  {error, {stream_error, internal_error}}], drain(Stream)).

%% What was delivered to the stream before h2_close stays there to be read.
drained_after_close(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, <<"abc">>}, barrier]),
    {response, 200, []} = recv(Stream),
    queued(Stream, 3),
    ok = hackney_native:h2_close(Stream),
    _ = raw_peer:expect(Conn, closed),
    ?assertEqual([{data, <<"abc">>}, {error, closed}], drain(Stream)),
    ?assertEqual(normal, reason(gone(Stream))).

calls_after_the_end(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>}], fin}]),
    [{response, 200, []}, done, {error, closed}] = drain(Stream),
    Check = fun() ->
        ?assertEqual({error, closed}, hackney_native:h2_recv(Stream, 0)),
        ?assert(is_closed(hackney_native:h2_send(Stream, <<"x">>))),
        ?assert(is_closed(hackney_native:h2_send_trailers(Stream, []))),
        ?assertEqual(ok, hackney_native:h2_consume(Stream, 10)),
        ?assertEqual(ok, hackney_native:h2_close(Stream))
    end,
    Check(),
    %% The same once its process is no more.
    gone(Stream),
    Check().

%% ---- helpers ---------------------------------------------------------------------------------

h2_open(Peer) ->
    hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer)).

%% The HEADERS frame that an open sends.
request(Open) ->
    Peer = raw_peer:start(),
    {ok, _Stream} = Open(raw_peer:url(Peer), raw_peer:options(Peer)),
    raw_peer:expect(raw_peer:accept(Peer), headers).

pseudo(Headers, Names) -> [{Name, proplists:get_value(Name, Headers)} || Name <- Names].

%% The client's DATA so far, and whether it has ended its side.
body(Conn) ->
    Data = [F || #{type := data} = F <- raw_peer:transcript(Conn)],
    Fin = lists:any(fun(#{flags := Flags}) -> lists:member(end_stream, Flags) end, Data),
    {iolist_to_binary([D || #{data := D} <- Data]), case Fin of true -> fin; false -> nofin end}.
