%%% @doc Many streams on one connection to servers that were not written here, and to the embedded one: bodies checked byte by byte.
%%% Against a scripted peer: `shared_connection_SUITE'.
-module(shared_load_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(STREAMS, 1000).
-define(ROUNDS, 10).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [thousand_streams_to_the_embedded_server, thousand_streams_in_cleartext, thousand_streams_to_go, thousand_streams_to_node,
     thousand_streams_to_nghttpd, large_bodies_beside_small_ones, goaway_of_real_servers, server_killed, grpcio_calls,
     grpc_go_calls].

init_per_suite(Config) ->
    h2_case:start(),
    Directory = proplists:get_value(priv_dir, Config),
    ok = certificates:create(Directory),
    [{certificates, Directory} | Config].

end_per_suite(_Config) -> ok.

thousand_streams_to_the_embedded_server(_Config) ->
    embedded(#{}, fun(Conn) -> thousand(Conn, open_at_once, fun(_) -> ok end) end).

thousand_streams_in_cleartext(_Config) ->
    embedded(#{transport => h2c}, fun(Conn) -> thousand(Conn, open_at_once, fun(_) -> ok end) end).

%% These tell the hash of what they got. Go lets there be 250 at a time: the others wait in line.
thousand_streams_to_go(Config) ->
    server(go, tls, Config, fun(Conn) -> thousand(Conn, as_they_come, fun hashed/1) end).

thousand_streams_to_node(Config) ->
    server(node, tls, Config, fun(Conn) -> thousand(Conn, as_they_come, fun hashed/1) end).

hashed({Hash, Trailers}) -> ?assertEqual(Hash, proplists:get_value(<<"x-sha256">>, Trailers)).

%% It returns a body when it has all of it, and lets there be 100 at a time.
thousand_streams_to_nghttpd(Config) ->
    server(nghttpd, tls, Config, fun(Conn) ->
        _ = shared_load:whole(fun() -> {Conn, <<"/echo">>} end, ?STREAMS, 2000),
        at_rest(Conn)
    end).

thousand(Conn, How, Check) ->
    lists:foreach(Check, shared_load:ping_pong(fun() -> {Conn, <<"/echo">>} end, ?STREAMS, ?ROUNDS, How)),
    at_rest(Conn).

%% Nothing is left of them on the connection, which is as good as new.
at_rest(Conn) ->
    h2_case:until(fun() ->
        {ok, #{streams := Streams, recv_queue_bytes := Unread}} = hackney_native:h2_info(Conn),
        {Streams, Unread} =:= {0, 0}
    end),
    receive {h2, Conn, Event} -> error({unexpected, Event}) after 0 -> ok end.

%% Those that move much do not keep the others from moving.
large_bodies_beside_small_ones(Config) ->
    server(go, tls, Config, fun(Conn) ->
        Large = h2_case:concurrently(fun() -> shared_load:whole(fun() -> {Conn, <<"/echo">>} end, 10, 3000000) end),
        _ = shared_load:ping_pong(fun() -> {Conn, <<"/echo">>} end, 50, 50, as_they_come),
        wait(Large),
        at_rest(Conn)
    end).

wait({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {result, _}} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error(Reason)
    end.

%% Node and Go say GOAWAY when asked for `/goaway', and serve what they have.
goaway_of_real_servers(Config) ->
    [server(Kind, tls, Config, fun(Conn) ->
         Streams = [begin
                        {ok, S} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
                        {response, 200, _} = h2_case:recv(S),
                        S
                    end || _ <- lists:seq(1, 20)],
         {ok, Last} = hackney_native:h2_open(post, {Conn, <<"/goaway">>}, [], []),
         receive {h2, Conn, {goaway, _, no_error}} -> ok end,
         {error, unprocessed} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
         {response, 200, _} = h2_case:recv(Last),
         [begin
              ok = hackney_native:h2_send(S, <<"still here">>, fin),
              {data, <<"still here">>} = h2_case:recv(S),
              {trailers, _} = h2_case:recv(S),
              done = h2_case:recv(S),
              ok = hackney_native:h2_close(S)
          end || S <- [Last | Streams]],
         receive {h2, Conn, {closed, closed}} -> ok end
     end) || Kind <- [node, go]].

server_killed(Config) ->
    Server = start(go, Config),
    {ok, Conn} = hackney_native:h2_connect(peer_server:url(Server, tls, "/"), trust(Config)),
    Streams = [begin
                   {ok, S} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
                   {response, 200, _} = h2_case:recv(S),
                   S
               end || _ <- lists:seq(1, 100)],
    ok = peer_server:stop(Server),
    {closed, Reason} = receive {h2, Conn, {closed, _} = Closed} -> Closed end,
    [?assertEqual({error, Reason}, h2_case:recv(S)) || S <- Streams].

%% ---- gRPC ----------------------------------------------------------------------------------------

grpcio_calls(Config) -> calls(grpcio, Config).
grpc_go_calls(Config) -> calls(go, Config).

%% Calls of each kind at once, one of them cancelled, one past its deadline.
calls(Kind, Config) ->
    server(Kind, grpc, Config, fun(Conn) ->
        _ = shared_load:all(100, fun(N) -> bidi(Conn, N) end),
        Key = integer_to_binary(erlang:unique_integer([positive])),
        Cancelled = grpc_call:open(Conn, "Wait", [], []),
        ok = grpc_call:send(Cancelled, Key, fin),
        {response, 200, _} = h2_case:recv(grpc_call:stream(Cancelled)),
        ok = grpc_call:cancel(Cancelled),
        {[Fate], #{code := 0}} = unary(Conn, "Fate", Key),
        ?assert(lists:member(Fate, [<<"canceled">>, <<"context canceled">>])),
        Late = grpc_call:open(Conn, "Wait", [{<<"grpc-timeout">>, <<"100m">>}], []),
        ok = grpc_call:send(Late, <<Key/binary, "late">>, fin),
        ?assertMatch({[], #{code := 4}}, drain(Late, [])),
        ?assertMatch({[<<"hello">>], #{code := 0}}, unary(Conn, "Unary", <<"hello">>)),
        at_rest(Conn)
    end).

bidi(Conn, N) ->
    Played = lists:foldl(fun(Round, Call) ->
        Message = iolist_to_binary(io_lib:format("message ~b of call ~b", [Round, N])),
        ok = grpc_call:send(Call, Message),
        {ok, Message, Next} = grpc_call:recv(Call),
        Next
    end, grpc_call:open(Conn, "Bidi", [], [{connect_timeout, 60000}]), lists:seq(1, 20)),
    ok = grpc_call:half_close(Played),
    {[], #{code := 0}} = drain(Played, []).

unary(Conn, Method, Message) ->
    Call = grpc_call:open(Conn, Method, [], []),
    ok = grpc_call:send(Call, Message, fin),
    drain(Call, []).

drain(Call, Messages) ->
    case grpc_call:recv(Call) of
        {ok, Message, Next} -> drain(Next, [Message | Messages]);
        {done, Ended} -> {lists:reverse(Messages), grpc_call:finish(Ended)}
    end.

%% ---- servers -------------------------------------------------------------------------------------

embedded(Options, Fun) ->
    Server = embedded_server:start(Options),
    Trust = case Options of
                #{transport := h2c} -> [{h2c, true}];
                _ -> [{ssl_options, [{cacertfile, embedded_server:ca_file(Server)}]}]
            end,
    try connected(embedded_server:url(Server, "/"), Trust, Fun)
    after embedded_server:stop(Server)
    end.

server(Kind, Listener, Config, Fun) ->
    Server = start(Kind, Config),
    try connected(peer_server:url(Server, Listener, "/"), trust(Config), Fun)
    after peer_server:stop(Server)
    end.

connected(URL, Options, Fun) ->
    {ok, Conn} = hackney_native:h2_connect(URL, Options),
    Fun(Conn),
    ok = hackney_native_h2_connection:close(Conn).

start(Kind, Config) ->
    Directory = proplists:get_value(certificates, Config),
    peer_server:start(Kind, #{certificates => Directory, root => Directory}).

trust(Config) ->
    [{ssl_options, [{cacertfile, certificates:file(proplists:get_value(certificates, Config), "ca.pem")}]}].
