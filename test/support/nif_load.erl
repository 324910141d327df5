%%% @doc Every function of the library at once, on many streams to an {@link embedded_server}.
-module(nif_load).

-export([run/2]).

-define(PING_PONGS, 100).
-define(MB, 1024 * 1024).
-define(TIMEOUT, 20000).

%% @doc Runs the load for so many seconds. Fails when anything goes wrong.
-spec run(embedded_server:server(), pos_integer()) -> ok.
run(Server, Seconds) ->
    Until = erlang:monotonic_time(millisecond) + Seconds * 1000,
    Large = #{10 => binary:copy(<<0>>, 10 * ?MB), 100 => binary:copy(<<0>>, 100 * ?MB)},
    Works = lists:duplicate(?PING_PONGS, fun ping_pong/2) ++
        [fun download/2, fun active_download/2, fun manual_download/2,
         fun(S, U) -> upload(S, U, maps:get(10, Large)) end,
         fun(S, U) -> upload(S, U, maps:get(100, Large)) end,
         %% So many parts that it is just not yet the dirty scheduler's.
         fun(S, U) -> upload(S, U, lists:duplicate(64, binary:copy(<<0>>, 4096))) end,
         fun(S, U) -> upload(S, U, lists:duplicate(64, binary:copy(<<0>>, 2000))) end,
         fun(S, U) -> upload(S, U, lists:duplicate(20000, binary:copy(<<0>>, 100))) end,
         fun one_way/2, fun opens/2, fun owners_that_die/2, fun readers_that_give_up/2, fun memory/2],
    Tasks = [h2_case:concurrently(fun() -> Work(Server, Until) end) || Work <- Works],
    lists:foreach(fun wait/1, Tasks).

wait({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {result, ok}} -> ok;
        {'DOWN', Monitor, process, Pid, Reason} -> error({load, Reason})
    end.

%% Until the time has come.
repeat(Until, Fun) ->
    case erlang:monotonic_time(millisecond) < Until of
        true -> Fun(), repeat(Until, Fun);
        false -> ok
    end.

ping_pong(Server, Until) ->
    Stream = open(Server, "/echo", []),
    {response, 200, _} = recv(Stream),
    repeat(Until, fun() ->
        ok = hackney_native:h2_send(Stream, binary:copy(<<"p">>, 64)),
        {data, _} = recv(Stream),
        {ok, _} = hackney_native:h2_info(Stream)
    end),
    ok = hackney_native:h2_send_trailers(Stream, [{<<"x-end">>, <<"1">>}]),
    ok = to_the_end(Stream).

download(Server, Until) ->
    repeat(Until, fun() -> ok = to_the_end(source(Server, [])) end).

active_download(Server, Until) ->
    repeat(Until, fun() ->
        Stream = source(Server, [{active, 10}]),
        ok = active_to_the_end(Stream)
    end).

manual_download(Server, Until) ->
    repeat(Until, fun() ->
        Stream = source(Server, [{flow_control, manual}]),
        ok = to_the_end(Stream)
    end).

source(Server, Options) ->
    Stream = open(Server, "/source?bytes=20000000", Options),
    %% Refused when the response has ended already.
    _ = hackney_native:h2_send(Stream, <<>>, fin),
    Stream.

to_the_end(Stream) ->
    case recv(Stream) of
        done -> ok;
        {data, Data} ->
            %% Does nothing unless flow control is manual.
            ok = hackney_native:h2_consume(Stream, byte_size(Data)),
            to_the_end(Stream);
        _ -> to_the_end(Stream)
    end.

active_to_the_end(Stream) ->
    case h2_case:active(Stream) of
        done -> ok;
        passive -> ok = hackney_native:h2_setopts(Stream, [{active, 10}]), active_to_the_end(Stream);
        _ -> active_to_the_end(Stream)
    end.

upload(Server, Until, Data) ->
    Stream = open(Server, "/sink", []),
    repeat(Until, fun() ->
        ok = hackney_native:h2_send(Stream, Data, nofin, #{block => ?TIMEOUT})
    end),
    ok = hackney_native:h2_close(Stream).

one_way(Server, Until) ->
    Stream = open(Server, "/sink", []),
    repeat(Until, fun() ->
        [ok = hackney_native:h2_send(Stream, <<"a small message">>, nofin, #{block => ?TIMEOUT}) || _ <- lists:seq(1, 100)]
    end),
    ok = hackney_native:h2_close(Stream).

%% With every TLS option there is.
opens(Server, Until) ->
    #{client := Client} = raw_peer:identity(),
    {ok, Pem} = file:read_file(embedded_server:ca_file(Server)),
    Authorities = [Der || {'Certificate', Der, _} <- public_key:pem_decode(Pem)] ++ proplists:get_value(cacerts, Client),
    Tls = [{verify, verify_peer}, {cacerts, Authorities}, {cert, proplists:get_value(cert, Client)},
           {key, proplists:get_value(key, Client)}, {server_name_indication, "localhost"},
           {versions, ['tlsv1.3', 'tlsv1.2']}, {alpn_advertised_protocols, [<<"h2">>]},
           {session_tickets, auto}, {reuse_sessions, true}],
    Headers = [{<<"x-", (integer_to_binary(N))/binary>>, <<"value">>} || N <- lists:seq(1, 50)],
    repeat(Until, fun() ->
        {ok, Stream} = hackney_native:h2_open(post, embedded_server:url(Server, "/echo"), Headers,
                                              [{ssl_options, Tls}, {connect_timeout, ?TIMEOUT}]),
        ok = hackney_native:h2_close(Stream)
    end).

owners_that_die(Server, Until) ->
    repeat(Until, fun() ->
        {Owner, Monitor} = spawn_monitor(fun() ->
            Stream = open(Server, "/echo", []),
            ok = hackney_native:h2_send(Stream, binary:copy(<<0>>, 1 * ?MB)),
            exit(kill)
        end),
        receive {'DOWN', Monitor, process, Owner, killed} -> ok;
                {'DOWN', Monitor, process, Owner, kill} -> ok
        end
    end).

readers_that_give_up(Server, Until) ->
    Stream = open(Server, "/echo", []),
    {response, 200, _} = recv(Stream),
    repeat(Until, fun() -> {error, timeout} = hackney_native:h2_recv(Stream, 1) end),
    Heir = spawn_link(fun() -> receive stop -> ok end end),
    ok = hackney_native:h2_controlling_process(Stream, Heir),
    ok = hackney_native:h2_close(Stream),
    Heir ! stop,
    ok.

memory(_Server, Until) ->
    repeat(Until, fun() ->
        {ok, _} = hackney_native:memory(),
        receive after 10 -> ok end
    end).

open(Server, Path, Options) ->
    Tls = [{ssl_options, [{cacertfile, embedded_server:ca_file(Server)}]}, {connect_timeout, ?TIMEOUT}],
    {ok, Stream} = hackney_native:h2_open(post, embedded_server:url(Server, Path), [], Tls ++ Options),
    Stream.

recv(Stream) ->
    case hackney_native:h2_recv(Stream, ?TIMEOUT) of
        {ok, Message} -> Message;
        Error -> Error
    end.
