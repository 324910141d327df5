%%% @doc Pools of connections: `{pool, Name}' among the options of `h2_open', `h2_pool/2', `h2_pool_stop/1'. Each test has a pool
%%% of its own name.
-module(pool_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [recv/1, drain/1, active/1, until/1, concurrently/1, in_call/1, result/1]).

-define(DEADLINE, 10000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, parallel}, {group, alone}].

groups() ->
    [{parallel, [parallel],
      [option_checks, names, streams_share, owner_is_the_caller, origins_kept_apart, options_kept_apart, authorities_kept_apart,
       most_room, grows_to_the_maximum, a_crowd, cancelled_streams_make_room, maximum_changed, idle_ones_are_closed, used_ones_are_not,
       retired_while_opening, goaway_is_replaced, goaway_under_load, lost_is_replaced, server_restarts, stopped,
       stopped_while_connecting, helper_killed, killed, connect_errors, refused_growth, deadline, deadlines_apart, deadline_in_line,
       caller_dies, hangs_up_at_once, says_goaway_at_once, keepalive, calmer_after_complaint, in_cleartext]},
     {alone, [], [another_application_state, nothing_left]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

init_per_testcase(Case, Config) ->
    [{pool, Case} | Config].

end_per_testcase(Case, _Config) ->
    ok = hackney_native:h2_pool_stop(Case).

%% ---- options ------------------------------------------------------------------------------------

option_checks(_Config) ->
    ok = hackney_native:h2_pool(option_checks, [{max_connections, 1}, {idle_timeout, infinity}, {keepalive, 1000},
                                                {keepalive_timeout, 1}]),
    ok = hackney_native:h2_pool(option_checks, #{}),
    [?assertEqual({error, {badarg, Option}}, hackney_native:h2_pool(option_checks, [Option]))
     || Option <- [{max_connections, 0}, {max_connections, infinity}, {max_connections, 10001}, {idle_timeout, 0},
                   {idle_timeout, -1}, {keepalive, 0}, {keepalive, x}, {keepalive_timeout, infinity}, {keepalive_timeout, 0}]],
    [?assertEqual({error, {unsupported_option, Name}}, hackney_native:h2_pool(option_checks, [{Name, 1}]))
     || Name <- [max_conns, ssl_options, connect_timeout, pool, "x"]],
    ?assertEqual({error, {badarg, options}}, hackney_native:h2_pool(option_checks, 5)),
    %% Nothing is connected for a stream with wrong ones.
    Peer = raw_peer:start(),
    [?assertEqual({error, Reason}, open(option_checks, Peer, [Option]))
     || {Option, Reason} <- [{{active, maybe_so}, {badarg, {active, maybe_so}}},
                             {{max_recv_buffer, 1}, {unsupported_option, max_recv_buffer}},
                             {{keepalive, 1}, {unsupported_option, keepalive}}, {{colour, red}, {unsupported_option, colour}},
                             {{connect_timeout, -1}, {badarg, {connect_timeout, -1}}},
                             {{connect_timeout, x}, {badarg, {connect_timeout, x}}},
                             {{max_frame_size, 1}, {badarg, {max_frame_size, 1}}}]],
    ?assertEqual({error, {invalid_header, <<"a">>}},
                 hackney_native:h2_open(get, raw_peer:url(Peer), [{<<"a">>, <<"\n">>}],
                                        raw_peer:options(Peer, [{pool, option_checks}]))),
    ?assertEqual({error, {invalid_url, "https://"}}, hackney_native:h2_open("https://", [{pool, option_checks}])),
    ?assertEqual({error, {scheme_not_supported, http}}, hackney_native:h2_open("http://localhost", [{pool, option_checks}])),
    ?assertEqual(0, raw_peer:connections(Peer)).

names(_Config) ->
    [?assertEqual({error, {badarg, {pool, Name}}}, Call(Name))
     || Name <- ["api", <<"api">>, true, false, undefined, 1, self()],
        Call <- [fun(N) -> hackney_native:h2_open("https://localhost", [{pool, N}]) end,
                 fun(N) -> hackney_native:h2_pool(N, []) end, fun hackney_native:h2_pool_stop/1]],
    ?assertEqual({error, {badarg, {pool, true}}}, hackney_native:h2_open("https://localhost", [pool])),
    ok = hackney_native:h2_pool_stop(never_seen),
    %% Any other will do.
    Peer = raw_peer:start(),
    [begin {ok, _} = open(Name, Peer), ok = hackney_native:h2_pool_stop(Name) end
     || Name <- [pool, options, connections, 'two words']].

%% ---- sharing ------------------------------------------------------------------------------------

streams_share(_Config) ->
    Peer = raw_peer:start(),
    Streams = [begin {ok, S} = open(streams_share, Peer), S end || _ <- lists:seq(1, 10)],
    Wire = raw_peer:accept(Peer),
    ?assertEqual(lists:seq(1, 19, 2), [Id || #{stream := Id} <- [raw_peer:expect(Wire, headers) || _ <- Streams]]),
    ?assertEqual(1, raw_peer:connections(Peer)),
    %% Another pool shares nothing with it.
    {ok, _} = open(streams_share_2, Peer),
    ?assertEqual(2, raw_peer:connections(Peer)),
    ok = hackney_native:h2_pool_stop(streams_share_2).

owner_is_the_caller(_Config) ->
    Peer = raw_peer:start(),
    {ok, Mine} = open(owner_is_the_caller, Peer),
    {Wire, 1} = at_peer(Peer),
    ?assert(lists:member(Mine, element(2, process_info(self(), links)))),
    {Other, Monitor} = spawn_monitor(fun() ->
        {ok, S} = open(owner_is_the_caller, Peer, [{active, true}]),
        {response, 200, []} = active(S)
    end),
    #{stream := 3} = raw_peer:expect(Wire, headers),
    [ok] = raw_peer:run(Wire, [response(3)]),
    receive {'DOWN', Monitor, process, Other, normal} -> ok end,
    #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => 3}),
    [ok] = raw_peer:run(Wire, [response(1)]),
    {response, 200, []} = recv(Mine),
    ok = hackney_native:h2_close(Mine),
    #{code := cancel} = raw_peer:expect(Wire, #{type => rst_stream, stream => 1}),
    {ok, _} = open(owner_is_the_caller, Peer),
    #{stream := 5} = raw_peer:expect(Wire, headers).

origins_kept_apart(_Config) ->
    [One, Two] = [raw_peer:start() || _ <- [1, 2]],
    [{ok, _} = open(origins_kept_apart, Peer) || Peer <- [One, Two, One, Two]],
    [begin
         ?assertEqual(1, raw_peer:connections(Peer)),
         Wire = raw_peer:accept(Peer),
         [1, 3] = [Id || #{stream := Id} <- [raw_peer:expect(Wire, headers) || _ <- [1, 2]]]
     end || Peer <- [One, Two]].

%% Whoever trusts another authority must not come to a connection that his own would have refused.
options_kept_apart(_Config) ->
    Pool = options_kept_apart,
    Peer = raw_peer:start(),
    {ok, _} = open(Pool, Peer),
    [{ssl_options, Trusting}] = raw_peer:options(Peer),
    #{cacerts := Foreign} = raw_peer:identity(#{}),
    Url = raw_peer:url(Peer),
    Open = fun(Options) -> hackney_native:h2_open(get, Url, [], [{pool, Pool} | Options]) end,
    %% An authority of the same name, with another key.
    ?assertMatch({error, {tls_alert, {bad_certificate, _}}}, Open([{ssl_options, [{cacerts, Foreign}]}])),
    ?assertMatch({error, {tls_alert, {unknown_ca, _}}}, Open([])),
    {ok, _} = Open([{ssl_options, Trusting}]),
    Before = raw_peer:connections(Peer),
    Apart = [[{insecure, true}], [{ssl_options, [{verify, verify_none}]}], [{ssl_options, [{versions, ['tlsv1.2']} | Trusting]}],
             [{ssl_options, Trusting}, {initial_window_size, 70000}], [{ssl_options, Trusting}, {connect_options, [inet]}]],
    [{ok, _} = Open(Options) || Options <- Apart ++ Apart],
    ?assertEqual(Before + length(Apart), raw_peer:connections(Peer)),
    %% Those of streams do not part them.
    [{ok, _} = Open([{ssl_options, Trusting}, Option])
     || Option <- [{active, true}, {connect_timeout, 5000}, {recv_timeout, 1}, {send_timeout, 1}, {flow_control, manual},
                   {informational, true}, {max_send_buffer, 1}]],
    ?assertEqual(Before + length(Apart), raw_peer:connections(Peer)).

%% The same port under another name is another origin: what is asked of it may be another's.
authorities_kept_apart(_Config) ->
    Peer = raw_peer:start(),
    Port = integer_to_list(raw_peer:port(Peer)),
    [begin
         {ok, _} = hackney_native:h2_open(get, "https://" ++ Host ++ ":" ++ Port, [],
                                          raw_peer:options(Peer, [{pool, authorities_kept_apart}])),
         Wire = raw_peer:accept(Peer),
         #{headers := Fields} = raw_peer:expect(Wire, headers),
         ?assertEqual(list_to_binary([Host, ":", Port]), proplists:get_value(<<":authority">>, Fields))
     end || Host <- ["localhost", "127.0.0.1"]],
    ?assertEqual(2, raw_peer:connections(Peer)).

most_room(_Config) ->
    Pool = most_room,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 2}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 2}]}),
    [{ok, A1}, {ok, A2}, {ok, _}] = [open(Pool, Peer) || _ <- [1, 2, 3]],
    {First, 1} = at_peer(Peer),
    #{stream := 3} = raw_peer:expect(First, headers),
    {_Second, 1} = at_peer(Peer),
    %% The first has none now, the second one.
    [ok = hackney_native:h2_close(S) || S <- [A1, A2]],
    [raw_peer:expect(First, #{type => rst_stream, stream => Id}) || Id <- [1, 3]],
    {ok, _} = open(Pool, Peer),
    #{stream := 5} = raw_peer:expect(First, headers).

%% ---- how many -----------------------------------------------------------------------------------

grows_to_the_maximum(_Config) ->
    Pool = grows_to_the_maximum,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 3}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 2}]}),
    Streams = [begin
                   {ok, S} = open(Pool, Peer),
                   ?assertEqual((N + 1) div 2, raw_peer:connections(Peer)),
                   S
               end || N <- lists:seq(1, 6)],
    Seventh = concurrently(fun() -> {ok, S} = open(Pool, Peer), hackney_native:h2_info(S) end),
    ok = in_call(Seventh),
    [ok = hackney_native:h2_close(S) || S <- Streams],
    {ok, #{stream_id := 5}} = result(Seventh),
    ?assertEqual(3, raw_peer:connections(Peer)).

a_crowd(_Config) ->
    Pool = a_crowd,
    Server = raw_peer:start(#{settings => [{max_concurrent_streams, 50}]}),
    Test = self(),
    Tasks = [spawn_link(fun() -> Test ! {self(), open(Pool, Server, [{connect_timeout, ?DEADLINE}])}, receive stop -> ok end end)
             || _ <- lists:seq(1, 200)],
    [receive {Task, {ok, _}} -> ok after ?DEADLINE -> error({hangs, raw_peer:connections(Server)}) end || Task <- Tasks],
    ?assertEqual(4, raw_peer:connections(Server)),
    [Task ! stop || Task <- Tasks].

cancelled_streams_make_room(_Config) ->
    Pool = cancelled_streams_make_room,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 1}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 1}]}),
    [begin {ok, S} = open(Pool, Peer), ok = hackney_native:h2_close(S) end || _ <- lists:seq(1, 200)],
    ?assertEqual(1, raw_peer:connections(Peer)).

maximum_changed(_Config) ->
    Pool = maximum_changed,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 1}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 1}]}),
    {ok, _} = open(Pool, Peer),
    ?assertEqual({error, connect_timeout}, open(Pool, Peer, [{connect_timeout, 50}])),
    ok = hackney_native:h2_pool(Pool, [{max_connections, 2}]),
    {ok, _} = open(Pool, Peer),
    ?assertEqual(2, raw_peer:connections(Peer)).

%% ---- idle ---------------------------------------------------------------------------------------

idle_ones_are_closed(_Config) ->
    Pool = idle_ones_are_closed,
    ok = hackney_native:h2_pool(Pool, [{idle_timeout, 100}]),
    Peer = raw_peer:start(),
    {ok, Stream} = open(Pool, Peer),
    {Wire, 1} = at_peer(Peer),
    ok = hackney_native:h2_close(Stream),
    Closed = erlang:monotonic_time(millisecond),
    #{code := no_error} = raw_peer:expect(Wire, goaway),
    _ = raw_peer:expect(Wire, closed),
    ?assert(erlang:monotonic_time(millisecond) - Closed >= 100),
    {ok, _} = open(Pool, Peer),
    {_, 1} = at_peer(Peer).

used_ones_are_not(_Config) ->
    Pool = used_ones_are_not,
    ok = hackney_native:h2_pool(Pool, [{idle_timeout, 300}]),
    [Idle, Used] = [raw_peer:start() || _ <- [1, 2]],
    {ok, Stream} = open(Pool, Used),
    {Wire, 1} = at_peer(Used),
    {ok, Other} = open(Pool, Idle),
    {IdleWire, 1} = at_peer(Idle),
    ok = hackney_native:h2_close(Other),
    _ = raw_peer:expect(IdleWire, closed),
    [ok] = raw_peer:run(Wire, [response(1)]),
    {response, 200, []} = recv(Stream),
    ?assertEqual([], [E || #{type := Type} = E <- raw_peer:transcript(Wire), Type =:= goaway orelse Type =:= closed]).

%% However it falls: no stream is opened on a connection that is being given up.
retired_while_opening(_Config) ->
    Pool = retired_while_opening,
    ok = hackney_native:h2_pool(Pool, [{idle_timeout, 4}]),
    Server = embedded_server:start(#{transport => h2c}),
    Url = embedded_server:url(Server, "/echo"),
    [begin
         {ok, Stream} = hackney_native:h2_open(post, Url, [], [{pool, Pool}, {h2c, true}]),
         ok = hackney_native:h2_send(Stream, <<"x">>, fin),
         [{response, 200, _}, {data, <<"x">>} | _] = drain(Stream),
         ok = hackney_native:h2_close(Stream),
         receive after N rem 8 -> ok end
     end || N <- lists:seq(1, 500)],
    embedded_server:stop(Server).

%% ---- replaced -----------------------------------------------------------------------------------

goaway_is_replaced(_Config) ->
    Pool = goaway_is_replaced,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 1}]),
    Peer = raw_peer:start(),
    {ok, Served} = open(Pool, Peer),
    {Wire, 1} = at_peer(Peer),
    {ok, LeftOut} = open(Pool, Peer),
    #{stream := 3} = raw_peer:expect(Wire, headers),
    [ok] = raw_peer:run(Wire, [{goaway, 1, no_error}]),
    ?assertEqual({error, unprocessed}, recv(LeftOut)),
    {ok, _} = open(Pool, Peer),
    {_, 1} = at_peer(Peer),
    [ok] = raw_peer:run(Wire, [response(1)]),
    ?assertEqual({response, 200, []}, recv(Served)).

%% Go says GOAWAY whenever somebody asks for it, while others open streams all the time: none of them fails.
goaway_under_load(Config) ->
    Directory = proplists:get_value(priv_dir, Config),
    ok = certificates:create(Directory),
    Server = peer_server:start(go, #{certificates => Directory, root => Directory}),
    Options = [{pool, goaway_under_load}, {ssl_options, [{cacertfile, certificates:file(Directory, "ca.pem")}]}],
    Converse = fun(Path) ->
        {ok, S} = hackney_native:h2_open(post, peer_server:url(Server, tls, Path), [], Options),
        Answer = case hackney_native:h2_send(S, <<"hello">>, fin) of
                     ok -> drain(S);
                     {error, closed} -> drain(S)
                 end,
        ok = hackney_native:h2_close(S),
        case Answer of
            [{response, 200, _}, {data, <<"hello">>}, {trailers, _}, done, {error, closed}] -> ok;
            [{error, unprocessed}] -> ok
        end
    end,
    Workers = [concurrently(fun() -> [Converse("/echo") || _ <- lists:seq(1, 100)] end) || _ <- lists:seq(1, 20)],
    [ok = Converse("/goaway") || _ <- lists:seq(1, 30)],
    [result(Worker) || Worker <- Workers],
    peer_server:stop(Server).

lost_is_replaced(_Config) ->
    Peer = raw_peer:start(),
    [begin
         {ok, Stream} = open(lost_is_replaced, Peer),
         {Wire, 1} = at_peer(Peer),
         _ = raw_peer:run(Wire, [End]),
         {error, _} = recv(Stream)
     end || End <- [close, abort, {raw, <<7:24, 6, 0, 0:32, "1234567">>}, close]].

%% On the same port: refused while it is away, and as before afterwards.
server_restarts(_Config) ->
    Pool = server_restarts,
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {reuseaddr, true}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    Url = "http://127.0.0.1:" ++ integer_to_list(Port),
    Open = fun() -> hackney_native:h2_open(get, Url, [], [{pool, Pool}, {h2c, true}]) end,
    First = concurrently(Open),
    Socket = greeted(Listen),
    {ok, _} = result(First),
    ok = gen_tcp:close(Listen),
    ok = gen_tcp:close(Socket),
    until(fun() -> Open() =:= {error, econnrefused} end),
    {ok, Again} = gen_tcp:listen(Port, [binary, {active, false}, {reuseaddr, true}, {ip, {127, 0, 0, 1}}]),
    Second = concurrently(Open),
    _ = greeted(Again),
    {ok, _} = result(Second).

greeted(Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen, ?DEADLINE),
    ok = gen_tcp:send(Socket, h2_frames:settings([])),
    Socket.

%% ---- the end of a pool --------------------------------------------------------------------------

stopped(_Config) ->
    Pool = stopped,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 1}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 1}]}),
    {ok, Stream} = open(Pool, Peer, [{active, true}]),
    {Wire, 1} = at_peer(Peer),
    ok = hackney_native:h2_pool_stop(Pool),
    ?assertEqual({closed, closed}, active(Stream)),
    _ = raw_peer:expect(Wire, closed),
    %% A new one, with the defaults.
    {ok, _} = open(Pool, Peer),
    {ok, _} = open(Pool, Peer),
    ?assertEqual(3, raw_peer:connections(Peer)).

stopped_while_connecting(_Config) ->
    Pool = stopped_while_connecting,
    Peer = raw_peer:start(#{transport => tcp, script => []}),
    Task = concurrently(fun() -> open(Pool, Peer) end),
    Wire = raw_peer:accept(Peer),
    _ = raw_peer:expect(Wire, settings),
    ok = hackney_native:h2_pool_stop(Pool),
    ?assertEqual({error, {pool_not_running, Pool}}, result(Task)),
    _ = raw_peer:expect(Wire, closed).

%% The VM kills the process that waits for a connection when this library's code is replaced twice.
helper_killed(_Config) ->
    Pool = helper_killed,
    Peer = raw_peer:start(#{transport => tcp, script => [{wait, go}, {settings, []}]}),
    Task = concurrently(fun() -> open(Pool, Peer, [{connect_timeout, infinity}]) end),
    Wire = raw_peer:accept(Peer),
    {links, Links} = process_info(process(Pool), links),
    [Helper] = [Pid || Pid <- Links, process_info(Pid, initial_call) =:= {initial_call, {erlang, apply, 2}}],
    exit(Helper, kill),
    ?assertEqual({error, closed}, result(Task)),
    until(fun() -> lists:any(fun(#{type := Type}) -> Type =:= closed end, raw_peer:transcript(Wire)) end),
    Again = concurrently(fun() -> open(Pool, Peer) end),
    raw_peer:tell(raw_peer:accept(Peer), go),
    ?assertMatch({ok, _}, result(Again)).

killed(_Config) ->
    Pool = killed,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 1}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 1}]}),
    {ok, Stream} = open(Pool, Peer),
    {Wire, 1} = at_peer(Peer),
    exit(process(Pool), kill),
    ?assertEqual({error, closed}, recv(Stream)),
    _ = raw_peer:expect(Wire, closed),
    %% Its options were not lost.
    {ok, _} = open(Pool, Peer),
    ?assertEqual({error, connect_timeout}, open(Pool, Peer, [{connect_timeout, 50}])),
    ?assertEqual(2, raw_peer:connections(Peer)).

process(Pool) ->
    [Pid] = [Pid || {{pool, Name}, Pid, _, _} <- supervisor:which_children(hackney_native_sup), Name =:= Pool],
    Pid.

%% ---- what cannot be connected -------------------------------------------------------------------

connect_errors(_Config) ->
    process_flag(trap_exit, true),
    Pool = connect_errors,
    Refused = "https://127.0.0.1:" ++ integer_to_list(h2_case:refused_port()),
    Tasks = [concurrently(fun() -> hackney_native:h2_open(Refused, [{pool, Pool}, {insecure, true}]) end) || _ <- lists:seq(1, 20)],
    [?assertEqual({error, econnrefused}, result(Task)) || Task <- Tasks],
    Peer = raw_peer:start(#{alpn => none}),
    ?assertEqual({error, {protocol_not_negotiated, http1}}, open(Pool, Peer)),
    ?assertMatch({error, {options, {cacertfile, _}}},
                 hackney_native:h2_open(raw_peer:url(Peer), [{pool, Pool}, {ssl_options, [{cacertfile, "/no/such"}]}])),
    ?assertEqual({error, {unsupported_option, colour}},
                 hackney_native:h2_open(raw_peer:url(Peer), [{pool, Pool}, {ssl_options, [{colour, red}]}])),
    receive Message -> error({unexpected, Message}) after 0 -> ok end.

%% Who finds no further connection waits in line on the one there is.
refused_growth(_Config) ->
    Pool = refused_growth,
    {ok, Listen} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    Open = fun(Timeout) ->
        hackney_native:h2_open(get, "http://127.0.0.1:" ++ integer_to_list(Port), [],
                               [{pool, Pool}, {h2c, true}, {connect_timeout, Timeout}])
    end,
    First = concurrently(fun() -> Open(?DEADLINE) end),
    {ok, Socket} = gen_tcp:accept(Listen, ?DEADLINE),
    ok = gen_tcp:send(Socket, h2_frames:settings([{max_concurrent_streams, 1}])),
    {ok, _} = result(First),
    ok = gen_tcp:close(Listen),
    %% The stream of the first has ended with its owner.
    {ok, _} = Open(?DEADLINE),
    ?assertEqual({error, connect_timeout}, Open(100)),
    Waiting = concurrently(fun() -> {ok, S} = Open(?DEADLINE), hackney_native:h2_info(S) end),
    ok = in_call(Waiting),
    ok = gen_tcp:send(Socket, h2_frames:settings([{max_concurrent_streams, 2}])),
    ?assertMatch({ok, #{state := connected}}, result(Waiting)).

deadline(_Config) ->
    Peer = raw_peer:start(#{transport => tcp, script => []}),
    Begin = erlang:monotonic_time(millisecond),
    Task = concurrently(fun() -> open(deadline, Peer, [{connect_timeout, 1000}]) end),
    Wire = raw_peer:accept(Peer),
    ?assertEqual({error, connect_timeout}, result(Task)),
    ?assert(erlang:monotonic_time(millisecond) - Begin >= 1000),
    %% Nobody waits for it any more: it is given up.
    _ = raw_peer:expect(Wire, closed),
    ?assertEqual({error, connect_timeout}, open(deadline, Peer, [{connect_timeout, 0}])).

%% Each has his own, though they wait for the same connection.
deadlines_apart(_Config) ->
    Pool = deadlines_apart,
    Peer = raw_peer:start(#{transport => tcp, script => [{wait, go}, {settings, []}]}),
    Patient = concurrently(fun() -> open(Pool, Peer, [{connect_timeout, infinity}]) end),
    Wire = raw_peer:accept(Peer),
    ?assertEqual({error, connect_timeout}, open(Pool, Peer, [{connect_timeout, 30}])),
    raw_peer:tell(Wire, go),
    ?assertMatch({ok, _}, result(Patient)),
    ?assertEqual(1, raw_peer:connections(Peer)).

%% Getting a connection and a place on it together.
deadline_in_line(_Config) ->
    Pool = deadline_in_line,
    ok = hackney_native:h2_pool(Pool, [{max_connections, 1}]),
    Peer = raw_peer:start(#{settings => [{max_concurrent_streams, 0}]}),
    Begin = erlang:monotonic_time(millisecond),
    ?assertEqual({error, connect_timeout}, open(Pool, Peer, [{connect_timeout, 200}])),
    ?assert(erlang:monotonic_time(millisecond) - Begin < 5000),
    ?assertEqual(1, raw_peer:connections(Peer)).

caller_dies(_Config) ->
    Peer = raw_peer:start(#{transport => tcp, script => []}),
    {Caller, Monitor} = concurrently(fun() -> open(caller_dies, Peer, [{connect_timeout, infinity}]) end),
    Wire = raw_peer:accept(Peer),
    exit(Caller, kill),
    receive {'DOWN', Monitor, process, Caller, killed} -> ok end,
    _ = raw_peer:expect(Wire, closed).

%% Servers that greet and go: an error in the end, not for ever.
hangs_up_at_once(_Config) ->
    Peer = raw_peer:start(#{script => [{settings, []}, {expect, #{type => settings, flags => [ack]}}, close]}),
    case open(hangs_up_at_once, Peer) of
        {error, Reason} -> ?assert(lists:member(Reason, [closed, unprocessed]));
        {ok, Stream} -> ?assertEqual({error, closed}, recv(Stream))
    end,
    ?assert(raw_peer:connections(Peer) =< 20).

says_goaway_at_once(_Config) ->
    Peer = raw_peer:start(#{script => [{settings, []}, {goaway, 0, no_error}]}),
    ?assertMatch({error, Reason} when Reason =:= closed; Reason =:= unprocessed,
                 case open(says_goaway_at_once, Peer) of
                     {error, _} = Error -> Error;
                     {ok, Stream} -> recv(Stream)
                 end),
    ?assert(raw_peer:connections(Peer) =< 20).

%% ---- PINGs --------------------------------------------------------------------------------------

keepalive(_Config) ->
    Pool = keepalive,
    ok = hackney_native:h2_pool(Pool, [{keepalive, 20}, {keepalive_timeout, 50}]),
    Peer = raw_peer:start(#{auto => [settings]}),
    {ok, Stream} = open(Pool, Peer),
    ?assertEqual({error, {closed, keepalive_timeout}}, recv(Stream)),
    {ok, _} = open(Pool, Peer),
    ?assertEqual(2, raw_peer:connections(Peer)).

%% Half as often, then a quarter as often.
calmer_after_complaint(_Config) ->
    Pool = calmer_after_complaint,
    ok = hackney_native:h2_pool(Pool, [{keepalive, 100}]),
    Peer = raw_peer:start(),
    [begin
         Begin = erlang:monotonic_time(millisecond),
         {ok, Stream} = open(Pool, Peer),
         {Wire, 1} = at_peer(Peer),
         _ = raw_peer:expect(Wire, #{type => ping, flags => []}),
         ?assert(erlang:monotonic_time(millisecond) - Begin >= AtLeast),
         [ok] = raw_peer:run(Wire, [{goaway, 0, enhance_your_calm}]),
         ?assertEqual({error, unprocessed}, recv(Stream))
     end || AtLeast <- [100, 200, 400]].

in_cleartext(_Config) ->
    Peer = raw_peer:start(#{transport => tcp}),
    [{ok, _} = open(in_cleartext, Peer) || _ <- [1, 2]],
    {Wire, 1} = at_peer(Peer),
    #{stream := 3, headers := Fields} = raw_peer:expect(Wire, headers),
    ?assertEqual(<<"http">>, proplists:get_value(<<":scheme">>, Fields)).

%% ---- the node -----------------------------------------------------------------------------------

another_application_state(_Config) ->
    Pool = another_application_state,
    Peer = raw_peer:start(),
    {ok, Stream} = open(Pool, Peer),
    {Wire, 1} = at_peer(Peer),
    ok = application:stop(hackney_native),
    ?assertEqual({error, closed}, recv(Stream)),
    _ = raw_peer:expect(Wire, closed),
    ?assertEqual({error, {pool_not_running, Pool}}, open(Pool, Peer)),
    ?assertEqual({error, {pool_not_running, Pool}}, hackney_native:h2_pool(Pool, [])),
    ?assertEqual(ok, hackney_native:h2_pool_stop(Pool)),
    ok = application:start(hackney_native),
    {ok, _} = open(Pool, Peer).

nothing_left(_Config) ->
    Pool = nothing_left,
    ok = hackney_native:h2_pool(Pool, [{idle_timeout, 50}]),
    Peers = [raw_peer:start(#{settings => [{max_concurrent_streams, 20}], when_closed => stop}) || _ <- [1, 2]],
    Refused = "https://127.0.0.1:" ++ integer_to_list(h2_case:refused_port()),
    Round = fun() ->
        [result(T) || T <- [concurrently(fun() -> open(Pool, Peer, Options) end)
                            || Peer <- Peers, Options <- [[], [{connect_timeout, 0}]], _ <- lists:seq(1, 50)]],
        [{error, econnrefused} = hackney_native:h2_open(Refused, [{pool, Pool}, {insecure, true}]) || _ <- lists:seq(1, 10)]
    end,
    Round(),
    h2_leak:balanced(fun() ->
        [Round() || _ <- lists:seq(1, 5)],
        %% The pool forgets origins to which it has no connection.
        until(fun() -> {ok, #{connections := N}} = hackney_native:memory(), N =:= 0 end)
    end),
    until(fun() -> ets:match(hackney_native_h2_pools, {{connections, Pool, '_'}, '_'}) =:= [] end),
    ok = hackney_native:h2_pool_stop(Pool),
    ?assertEqual([], [Row || {Key, _} = Row <- ets:tab2list(hackney_native_h2_pools), lists:member(Pool, tuple_to_list(Key))]).

%% ---- helpers ------------------------------------------------------------------------------------

open(Pool, Peer) -> open(Pool, Peer, []).

open(Pool, Peer, Options) ->
    hackney_native:h2_open(post, raw_peer:url(Peer), [], raw_peer:options(Peer, [{pool, Pool} | Options])).

%% The next connection at the peer, and the first stream on it.
at_peer(Peer) ->
    Wire = raw_peer:accept(Peer),
    _ = raw_peer:expect(Wire, #{type => settings, flags => [ack]}),
    #{stream := Id} = raw_peer:expect(Wire, headers),
    {Wire, Id}.

response(Id) -> {headers, Id, [{<<":status">>, <<"200">>}]}.
