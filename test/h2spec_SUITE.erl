%% @doc h2spec, a program that does to a server what RFC 9113 and RFC 7541 forbid and sees whether it is told so, against
%% {@link hackney_native_h2}'s server: with TLS and without, with the default windows and with ones that hold next to nothing.
-module(h2spec_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([generic/1, preface/1, frames/1, streams/1, frame_definitions/1, flow_control/1, messages/1, hpack/1]).

%% How long h2spec waits for what it awaits, in seconds. Each of its tests that fails takes as long.
-define(PATIENCE, "2").
-define(DEADLINE, 90000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, Group} || Group <- [h2c, tls, h2c_small_windows, tls_small_windows]].

groups() ->
    [{Group, [], [generic, preface, frames, streams, frame_definitions, flow_control, messages, hpack]}
     || {group, Group} <- all()].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    ok = certificates:create(proplists:get_value(priv_dir, Config)),
    Config.

end_per_suite(_Config) -> ok.

init_per_group(Group, Config) ->
    {Transport, Windows} = case Group of
                               h2c -> {tcp, default};
                               tls -> {ssl, default};
                               h2c_small_windows -> {tcp, small};
                               tls_small_windows -> {ssl, small}
                           end,
    Options = #{transport => Transport, ip => {127, 0, 0, 1}, handler => fun answer/5,
                settings => case Windows of default -> #{}; small -> #{initial_window_size => 10} end},
    {ok, Server} = hackney_native_h2:start_server(0, maps:merge(Options, identity(Transport, Config))),
    [{server, Server}, {transport, Transport}, {windows, Windows} | Config].

end_per_group(_Group, Config) ->
    hackney_native_h2:stop_server(proplists:get_value(server, Config), 0).

identity(tcp, _Config) ->
    #{};
identity(ssl, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    #{cert => certificates:file(Dir, "server.pem"), key => certificates:file(Dir, "server.key")}.

%% "/long" is longer than a client's window: such a response is under way until the client has made room. An answer that did not wait for
%% the request's end would be ahead of what is wrong with it.
answer(Conn, StreamId, _Method, Path, _Headers) ->
    ok = hackney_native_h2:set_stream_handler(Conn, StreamId, self()),
    true = ended(Conn, StreamId),
    Body = case Path of
               <<"/long">> -> binary:copy(<<"long ">>, 20000);
               _ -> <<"Hello, World!">>
           end,
    hackney_native_h2:respond(Conn, StreamId, 200, [{<<"content-type">>, <<"text/plain">>}], Body).

ended(Conn, StreamId) ->
    receive
        {h2, Conn, {data, StreamId, _, Fin}} -> Fin orelse ended(Conn, StreamId);
        {h2, Conn, {trailers, StreamId, _}} -> true;
        {h2, Conn, {stream_reset, StreamId, _}} -> exit(normal);
        {h2, Conn, {closed, _}} -> exit(normal)
    end.

generic(Config) -> conforms(["generic"], Config).

preface(Config) -> conforms(["http2/3"], Config).

%% The first test of section 4.2 sends 16,384 bytes of a request's body whatever the server's window: if that is smaller, the right answer
%% (FLOW_CONTROL_ERROR) is a wrong one to it.
frames(Config) ->
    conforms(["http2/4.1", "http2/4.2/2", "http2/4.2/3", "http2/4.3"]
             ++ ["http2/4.2/1" || proplists:get_value(windows, Config) =:= default], Config).

streams(Config) -> conforms(["http2/5"], Config).

frame_definitions(Config) ->
    conforms(["http2/6." ++ integer_to_list(N) || N <- [1, 2, 3, 4, 5, 7, 8, 10]]
             ++ ["http2/6.9/" ++ integer_to_list(N) || N <- [1, 2, 3]] ++ ["http2/6.9.2"], Config).

%% These act on a stream on which the response is under way, and would come too late if it were short.
flow_control(Config) -> conforms(["http2/6.9.1", "-P", "/long"], Config).

messages(Config) -> conforms(["http2/7", "http2/8"], Config).

hpack(Config) -> conforms(["hpack"], Config).

conforms(What, Config) ->
    Port = hackney_native_h2:server_port(proplists:get_value(server, Config)),
    Tls = case proplists:get_value(transport, Config) of ssl -> ["-t", "-k"]; tcp -> [] end,
    Arguments = ["--strict", "-h", "127.0.0.1", "-p", integer_to_list(Port), "-o", ?PATIENCE] ++ Tls ++ What,
    {Status, Text} = os_program:run(peer_server:built("h2spec"), Arguments, #{deadline => ?DEADLINE}),
    case re:run(Text, "([0-9]+) tests, ([0-9]+) passed, 0 skipped, 0 failed", [{capture, all_but_first, list}]) of
        {match, [Tests, Tests]} ->
            ?assertEqual(0, Status),
            ?assert(list_to_integer(Tests) > 0),
            {comment, Tests ++ " tests"};
        _ ->
            Failures = case binary:split(Text, <<"Failures:">>) of [_, After] -> After; _ -> Text end,
            ct:pal("~ts", [Failures]),
            ct:fail("h2spec is not content: see above")
    end.
