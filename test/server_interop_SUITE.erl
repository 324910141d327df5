%% @doc Clients that were not written here, at {@link hackney_native_h2}'s server, over TLS and in cleartext: curl, nghttp, h2load, Go's
%% net/http, Node's http2, grpcio, grpc-go and grpcurl. And the other way round: a thousand streams of {@link hackney_native_h2}'s client on
%% one connection, at Go's server, nghttpd and our own. What the paths are for is said in interop_service.
-module(server_interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([curl_hello/1, curl_head/1, curl_no_content/1, curl_upload/1, curl_echo/1, curl_download/1, curl_parallel/1, curl_breaks_off/1,
         nghttp/1, h2load/1, h2load_in_flight/1, h2load_leaves_nothing/1, go/1, node/1, grpcio/1,
         grpcurl_unary/1, grpcurl_server_stream/1, grpcurl_client_stream/1, grpcurl_bidi/1, grpcurl_failure/1,
         grpcurl_unimplemented/1, grpcurl_metadata/1,
         megabyte_of_fields/1, client_resets/1, client_goes_away/1]).
-export([thousand_streams_go/1, thousand_streams_nghttpd/1, thousand_streams_own/1, thousand_at_a_time/1]).

-define(BLOB_SIZE, 32 * 1024 * 1024).
-define(STREAMS, 1000).
-define(TIMEOUT, 30000).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, tls}, {group, h2c}, {group, client}].

groups() ->
    Clients = [curl_hello, curl_head, curl_no_content, curl_upload, curl_echo, curl_download, curl_parallel, curl_breaks_off,
               nghttp, h2load, h2load_in_flight, h2load_leaves_nothing, go, node, grpcio,
               grpcurl_unary, grpcurl_server_stream, grpcurl_client_stream, grpcurl_bidi, grpcurl_failure,
               grpcurl_unimplemented, grpcurl_metadata,
               megabyte_of_fields, client_resets, client_goes_away],
    [{tls, [], Clients},
     {h2c, [], Clients},
     {client, [], [thousand_streams_go, thousand_streams_nghttpd, thousand_streams_own, thousand_at_a_time]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    {ok, _} = application:ensure_all_started(ssl),
    Dir = proplists:get_value(priv_dir, Config),
    ok = certificates:create(Dir),
    Blob = crypto:strong_rand_bytes(?BLOB_SIZE),
    File = filename:join(Dir, "blob"),
    ok = file:write_file(File, Blob),
    [{ca, certificates:file(Dir, "ca.pem")}, {blob, File}, {summary, summary(Blob)} | Config].

end_per_suite(_Config) -> ok.

init_per_group(Transport, Config) ->
    [{transport, Transport} | Config].

end_per_group(_Transport, _Config) ->
    ok.

%% Each case has a server of its own, whose watcher it is.
with_service(Config, Fun) ->
    with_service(#{max_concurrent_streams => ?STREAMS}, Config, Fun).

with_service(Settings, Config, Fun) ->
    Transport = case proplists:get_value(transport, Config) of
                    h2c -> h2c;
                    _ -> {tls, proplists:get_value(priv_dir, Config)}
                end,
    Service = interop_service:start(Transport, #{settings => Settings}),
    try
        Fun(Service)
    after
        ok = interop_service:stop(Service)
    end.

summary(Data) ->
    iolist_to_binary([integer_to_binary(byte_size(Data)), " ", hash(Data)]).

hash(Data) -> string:lowercase(binary:encode_hex(crypto:hash(sha256, Data))).

%% curl

curl(Service, Path, More, Config) ->
    os_program:succeed("curl", curl_arguments(Config) ++ More ++ [interop_service:url(Service, Path)]).

curl_arguments(Config) ->
    ["--silent", "--show-error", "--fail", "--max-time", "60"]
        ++ case proplists:get_value(transport, Config) of
               tls -> ["--http2", "--cacert", proplists:get_value(ca, Config)];
               h2c -> ["--http2-prior-knowledge"]
           end.

curl_hello(Config) ->
    with_service(Config, fun(Service) ->
        ?assertEqual(<<"Hello, World! 2 200">>, curl(Service, "/hello", ["-w", " %{http_version} %{http_code}"], Config))
    end).

curl_head(Config) ->
    with_service(Config, fun(Service) ->
        ?assertEqual(<<"HTTP/2 200 \r\ncontent-length: 13\r\n\r\n">>, curl(Service, "/hello", ["--head"], Config))
    end).

curl_no_content(Config) ->
    with_service(Config, fun(Service) ->
        ?assertEqual(<<"204 0">>, curl(Service, "/empty", ["-w", "%{http_code} %{size_download}"], Config))
    end).

curl_upload(Config) ->
    with_service(Config, fun(Service) ->
        Blob = proplists:get_value(blob, Config),
        ?assertEqual(proplists:get_value(summary, Config), curl(Service, "/upload", ["--upload-file", Blob], Config))
    end).

%% Up and down at once. The trailers come where curl shows header fields.
curl_echo(Config) ->
    with_service(Config, fun(Service) ->
        Dir = proplists:get_value(priv_dir, Config),
        [Back, Fields] = [filename:join(Dir, Name) || Name <- ["back", "fields"]],
        _ = curl(Service, "/echo", ["--upload-file", proplists:get_value(blob, Config), "-o", Back, "-D", Fields], Config),
        {ok, Data} = file:read_file(Back),
        ?assertEqual(proplists:get_value(summary, Config), summary(Data)),
        {ok, Text} = file:read_file(Fields),
        ?assertMatch({_, _}, binary:match(Text, <<"x-sha256: ", (hash(Data))/binary>>))
    end).

curl_download(Config) ->
    with_service(Config, fun(Service) ->
        Data = curl(Service, "/download?bytes=10000000", [], Config),
        ?assert(Data =:= binary:copy(<<"d">>, 10000000))
    end).

%% With prior knowledge, this and other versions of curl fail to send a second request on a connection in parallel, whatever the server:
%% there, as many curls as requests.
curl_parallel(Config) ->
    with_service(Config, fun(Service) ->
        case proplists:get_value(transport, Config) of
            tls ->
                Text = curl(Service, "/download?bytes=[1000-1199]",
                            ["--parallel", "--parallel-max", "50", "-o", "/dev/null", "-w", "%{http_code} %{size_download}\n"], Config),
                Lines = binary:split(Text, <<"\n">>, [global, trim]),
                ?assertEqual([iolist_to_binary(["200 ", integer_to_binary(N)]) || N <- lists:seq(1000, 1199)],
                             [Line || <<"200 ", _/binary>> = Line <- lists:sort(Lines)]);
            h2c ->
                Tasks = [h2_case:concurrently(fun() -> curl(Service, "/hello", [], Config) end) || _ <- lists:seq(1, 20)],
                [?assertEqual(<<"Hello, World!">>, h2_case:result(Task)) || Task <- Tasks]
        end
    end).

%% It has had enough in the middle of a response.
curl_breaks_off(Config) ->
    with_service(Config, fun(Service) ->
        {63, _} = os_program:run("curl", curl_arguments(Config)
                                     ++ ["--max-filesize", "1000000", "-o", "/dev/null",
                                         interop_service:url(Service, "/download?bytes=100000000")]),
        ?assertEqual(<<"Hello, World!">>, curl(Service, "/hello", [], Config))
    end).

%% nghttp and h2load

nghttp(Config) ->
    with_service(Config, fun(Service) ->
        Blob = proplists:get_value(blob, Config),
        %% Ten times the same, one after the other's request, on one connection; what comes back is not shown.
        Text = os_program:succeed("nghttp", ["--stat", "--null-out", "--no-verify-peer", "--multiply=3", "--data=" ++ Blob,
                                             interop_service:url(Service, "/echo")]),
        ?assertMatch({match, [_, _, _]}, re:run(Text, "\\b200 +32M", [global]))
    end).

h2load(Config) ->
    with_service(Config, fun(Service) -> load(Service, "/hello", 10000, 16, 16) end).

%% Nobody is answered before all are there.
h2load_in_flight(Config) ->
    with_service(Config, fun(Service) ->
        load(Service, lists:concat(["/together?n=", ?STREAMS]), ?STREAMS, 1, ?STREAMS)
    end).

%% Not a process, nor a stream's record or byte in the engine.
h2load_leaves_nothing(Config) ->
    with_service(Config, fun(Service) ->
        load(Service, "/hello", 1000, 16, 16),
        h2_leak:balanced(fun() -> load(Service, "/hello", 100000, 16, 16) end),
        {ok, Memory} = hackney_native:memory(),
        ?assertMatch(#{streams := 0, connections := 0, recv_queue_bytes := 0, send_queue_bytes := 0}, Memory)
    end).

load(Service, Path, Requests, Clients, Streams) ->
    Text = os_program:succeed("h2load", ["-n", integer_to_list(Requests), "-c", integer_to_list(Clients),
                                         "-m", integer_to_list(Streams), interop_service:url(Service, Path)]),
    Expected = io_lib:format("status codes: ~b 2xx, 0 3xx, 0 4xx, 0 5xx", [Requests]),
    case binary:match(Text, iolist_to_binary(Expected)) of
        nomatch -> error({h2load, Text});
        _ -> ok
    end.

%% Programs of test/clients: each prints what it has found to hold, and fails at the first that does not.

go(Config) ->
    with_service(Config, fun(Service) ->
        Authority = case proplists:get_value(transport, Config) of tls -> ["-ca", proplists:get_value(ca, Config)]; h2c -> [] end,
        Text = os_program:succeed(peer_server:built("interop_server"), ["-client", interop_service:url(Service, "") | Authority]),
        ?assertEqual(16, length(binary:split(Text, <<"\n">>, [global, trim])), Text),
        was_reset()
    end).

node(Config) ->
    with_service(Config, fun(Service) ->
        Authority = [proplists:get_value(ca, Config) || proplists:get_value(transport, Config) =:= tls],
        Text = os_program:succeed("node", [peer_server:source("../clients/node_client.js"), interop_service:url(Service, "")
                                           | Authority]),
        ?assertEqual(10, length(binary:split(Text, <<"\n">>, [global, trim])), Text),
        was_reset()
    end).

was_reset() ->
    receive {endless, _, Code} -> ?assertEqual(cancel, Code) after ?TIMEOUT -> error(not_reset) end.

grpcio(Config) ->
    with_service(Config, fun(Service) ->
        Authority = [proplists:get_value(ca, Config) || proplists:get_value(transport, Config) =:= tls],
        %% Debian's own Python, whatever comes first in the path: it has Debian's grpcio.
        Text = os_program:succeed("/usr/bin/python3", [peer_server:source("../clients/grpcio_client.py"),
                                                       integer_to_list(interop_service:port(Service)) | Authority]),
        ?assertEqual(10, length(binary:split(Text, <<"\n">>, [global, trim])), Text)
    end).

%% grpcurl, which knows the messages from interop.proto. When a call fails, its exit status is 64 more than gRPC's.

%% Their sizes are written in one byte, in two and in three; the last message does not fit into a window.
grpcurl_unary(Config) ->
    with_service(Config, fun(Service) ->
        [begin
             Data = crypto:strong_rand_bytes(Size),
             Text = os_program:succeed(grpcurl(), grpcurl_arguments(["-d", bytes(Data)], Service, "interop.Wrapped/Unary", Config)),
             ?assertEqual([Data], answers(Text))
         end || Size <- [1, 127, 128, 70000]]
    end).

grpcurl_server_stream(Config) ->
    with_service(Config, fun(Service) ->
        Arguments = ["-v", "-d", bytes(<<500:32, 1000:32>>)],
        Text = os_program:succeed(grpcurl(), grpcurl_arguments(Arguments, Service, "interop.Wrapped/ServerStream", Config)),
        ?assertEqual([<<N:32, 0:996/unit:8>> || N <- lists:seq(0, 499)], answers(Text)),
        ?assertMatch({_, _}, binary:match(Text, <<"\nSent 1 request and received 500 responses\n">>))
    end).

grpcurl_client_stream(Config) ->
    with_service(Config, fun(Service) ->
        Call = grpcurl_call(["-v"], Service, "interop.Wrapped/ClientStream", Config),
        [say(Call, binary:copy(<<"c">>, Size)) || Size <- lists:seq(1, 300)],
        Text = no_more(Call, <<>>),
        ?assertEqual([<<300:32, (300 * 301 div 2):64>>], answers(Text)),
        ?assertMatch({_, _}, binary:match(Text, <<"\nSent 300 requests and received 1 response\n">>))
    end).

%% Nothing is said before the answer to the last is there.
grpcurl_bidi(Config) ->
    with_service(Config, fun(Service) ->
        Call = grpcurl_call(["-v", "-H", "x-echo: one"], Service, "interop.Wrapped/Bidi", Config),
        Said = [<<"round ", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 5)],
        Heard = lists:foldl(fun(Data, Before) -> say(Call, Data), hear(Call, Data, Before) end, <<>>, Said),
        ?assertEqual(Said, answers(Heard)),
        Text = no_more(Call, Heard),
        ?assertEqual(Said, answers(Text)),
        ?assertEqual([<<"content-type: application/grpc">>, <<"x-echo: one">>], fields("headers", Text)),
        ?assertEqual([<<"(empty)">>], fields("trailers", Text)),
        ?assertMatch({_, _}, binary:match(Text, <<"\nSent 5 requests and received 5 responses\n">>))
    end).

%% The text holds what would be an A if the server did not escape it.
grpcurl_failure(Config) ->
    with_service(Config, fun(Service) ->
        Arguments = ["-d", bytes(<<5:32, "no such thing: %41">>)],
        ?assertEqual({64 + 5, <<"ERROR:\n  Code: NotFound\n  Message: no such thing: %41\n">>},
                     os_program:run(grpcurl(), grpcurl_arguments(Arguments, Service, "interop.Wrapped/FailWith", Config)))
    end).

%% One that gRPC says, and one that the client has to make of status 404.
grpcurl_unimplemented(Config) ->
    with_service(Config, fun(Service) ->
        ?assertEqual({64 + 12, <<"ERROR:\n  Code: Unimplemented\n  Message: \n">>},
                     os_program:run(grpcurl(), grpcurl_arguments([], Service, "interop.Wrapped/Missing", Config))),
        {Status, Text} = os_program:run(grpcurl(), grpcurl_arguments([], Service, "interop.Absent/Unary", Config)),
        ?assertEqual(64 + 12, Status),
        ?assertMatch({match, _}, re:run(Text, "^ERROR:\n  Code: Unimplemented\n  Message: .*404"))
    end).

%% The handler returns what it sees: text in the headers, bytes in the trailers.
grpcurl_metadata(Config) ->
    with_service(Config, fun(Service) ->
        Arguments = ["-v", "-d", bytes(<<"x">>), "-H", "x-echo: one", "-H", "x-echo: two", "-H", "x-echo-bin: AAEC/w=="],
        Text = os_program:succeed(grpcurl(), grpcurl_arguments(Arguments, Service, "interop.Wrapped/Unary", Config)),
        ?assertEqual([<<"content-type: application/grpc">>, <<"x-echo: one">>, <<"x-echo: two">>], fields("headers", Text)),
        ?assertEqual([<<"x-echo-bin: AAEC/w==">>], fields("trailers", Text)),
        ?assertEqual([<<"x">>], answers(Text))
    end).

grpcurl() -> peer_server:built("grpcurl").

grpcurl_arguments(More, Service, Method, Config) ->
    ["-max-time", "60", "-import-path", peer_server:source("../clients"), "-proto", "interop.proto"]
        ++ case proplists:get_value(transport, Config) of
               tls -> ["-cacert", proplists:get_value(ca, Config)];
               h2c -> ["-plaintext"]
           end
        ++ More ++ [lists:concat(["localhost:", interop_service:port(Service)]), Method].

%% A call whose messages are given one by one. A port cannot close a program's input alone: an empty line has sed do it.
grpcurl_call(More, Service, Method, Config) ->
    open_port({spawn_executable, "/bin/sh"},
              [{args, ["-c", "sed -u '/^$/q' | \"$0\" \"$@\"", grpcurl()
                       | grpcurl_arguments(["-d", "@" | More], Service, Method, Config)]},
               exit_status, stderr_to_stdout, binary]).

say(Call, Data) -> port_command(Call, [bytes(Data), "\n"]).

%% All that grpcurl has written once it shows this answer.
hear(Call, Data, Before) ->
    case binary:match(Before, bytes_shown(Data)) of
        nomatch ->
            receive
                {Call, {data, More}} -> hear(Call, Data, <<Before/binary, More/binary>>);
                {Call, {exit_status, Status}} -> error({ended, Status, Before})
            after ?TIMEOUT ->
                error({unanswered, Data, Before})
            end;
        _ ->
            Before
    end.

%% The rest, to the end.
no_more(Call, Before) ->
    port_command(Call, "\n"),
    ended(Call, Before).

ended(Call, Before) ->
    receive
        {Call, {data, More}} -> ended(Call, <<Before/binary, More/binary>>);
        {Call, {exit_status, Status}} -> ?assertEqual({0, Before}, {Status, Before}), Before
    after ?TIMEOUT ->
        error({endless, Before})
    end.

%% A message as grpcurl takes it, and as it shows it.
bytes(Data) -> <<"{", (bytes_shown(Data))/binary, "}">>.

bytes_shown(Data) -> <<"\"bytes\": \"", (base64:encode(Data))/binary, "\"">>.

answers(Text) ->
    case re:run(Text, "\"bytes\": \"(.*)\"", [global, {capture, all_but_first, binary}]) of
        {match, Answers} -> [base64:decode(Answer) || [Answer] <- Answers];
        nomatch -> []
    end.

%% The lines below "Response headers received:" or "Response trailers received:", or "(empty)" for none.
fields(What, Text) ->
    {match, [Lines]} = re:run(Text, ["\nResponse ", What, " received:\n((?:[a-z(].*\n)*)"], [{capture, all_but_first, binary}]),
    binary:split(Lines, <<"\n">>, [global, trim]).

%% Clients that no program of others' would be.

%% A megabyte of header fields is refused, and the server is as well as before.
megabyte_of_fields(Config) ->
    with_service(Config, fun(Service) ->
        h2_leak:balanced(fun() ->
            Socket = connect(Service, Config),
            Block = iolist_to_binary(hpack_lite:encode(request("/hello") ++ [{<<"x-large">>, binary:copy(<<"x">>, 1024 * 1024)}])),
            <<First:16384/binary, Rest/binary>> = Block,
            %% The server need not take all of it.
            _ = write(Socket, [h2_frames:raw(1, 1, 1, First), continuations(Rest)]),
            ?assertEqual(refused, refusal(Socket, <<>>)),
            close(Socket)
        end),
        ?assertEqual(<<"Hello, World!">>, curl(Service, "/hello", [], Config))
    end).

continuations(<<Part:16384/binary, Rest/binary>>) when Rest =/= <<>> -> [h2_frames:continuation(1, Part, more) | continuations(Rest)];
continuations(Last) -> [h2_frames:continuation(1, Last, last)].

%% Status 431, or the stream or the connection is ended.
refusal(Socket, Bytes) ->
    case h2_frames:decode(Bytes) of
        {#{type := Type, stream := 1, block := Block}, _} when Type =:= headers ->
            {Fields, _} = hpack_lite:decode(Block, hpack_lite:new()),
            ?assertEqual(<<"431">>, proplists:get_value(<<":status">>, Fields)),
            refused;
        {#{type := rst_stream}, _} ->
            refused;
        {#{type := goaway, code := Code}, _} ->
            ?assertEqual(enhance_your_calm, Code),
            refused;
        {_, Rest} ->
            refusal(Socket, Rest);
        more ->
            case read(Socket) of
                {ok, Data} -> refusal(Socket, <<Bytes/binary, Data/binary>>);
                {error, closed} -> refused
            end
    end.

client_resets(Config) ->
    with_service(Config, fun(Service) ->
        Socket = endless(Service, Config),
        ok = write(Socket, h2_frames:rst_stream(1, cancel)),
        receive {endless, Sent, Code} -> ?assertEqual({cancel, true}, {Code, Sent > 0}) after ?TIMEOUT -> error(not_told) end,
        close(Socket)
    end).

client_goes_away(Config) ->
    with_service(Config, fun(Service) ->
        Before = h2_leak:figures(),
        close(endless(Service, Config)),
        receive {endless, _, Reason} -> ?assertEqual(closed, Reason) after ?TIMEOUT -> error(not_told) end,
        h2_leak:settled(Before)
    end).

%% In the middle of a response: the client's window is used up.
endless(Service, Config) ->
    Socket = connect(Service, Config),
    ok = write(Socket, h2_frames:headers(1, hpack_lite:encode(request("/endless")), fin)),
    ok = used_up(Socket, <<>>, 65535),
    Socket.

used_up(_Socket, _Bytes, 0) ->
    ok;
used_up(Socket, Bytes, Left) ->
    case h2_frames:decode(Bytes) of
        {#{type := data, length := Length}, Rest} -> used_up(Socket, Rest, Left - Length);
        {_, Rest} -> used_up(Socket, Rest, Left);
        more ->
            {ok, Data} = read(Socket),
            used_up(Socket, <<Bytes/binary, Data/binary>>, Left)
    end.

request(Path) ->
    [{<<":method">>, <<"GET">>}, {<<":scheme">>, <<"https">>}, {<<":authority">>, <<"localhost">>}, {<<":path">>, Path}].

connect(Service, Config) ->
    Port = interop_service:port(Service),
    {ok, Socket} = case proplists:get_value(transport, Config) of
                       h2c ->
                           gen_tcp:connect("localhost", Port, [binary, {active, false}]);
                       tls ->
                           ssl:connect("localhost", Port, [binary, {active, false}, {alpn_advertised_protocols, [<<"h2">>]},
                                                           {cacertfile, proplists:get_value(ca, Config)}, {verify, verify_peer}])
                   end,
    ok = write(Socket, [h2_frames:preface(), h2_frames:settings([])]),
    Socket.

write(Socket, Data) when is_port(Socket) -> gen_tcp:send(Socket, Data);
write(Socket, Data) -> ssl:send(Socket, Data).

read(Socket) ->
    case case is_port(Socket) of true -> gen_tcp:recv(Socket, 0, ?TIMEOUT); false -> ssl:recv(Socket, 0, ?TIMEOUT) end of
        {error, econnreset} -> {error, closed};
        Other -> Other
    end.

close(Socket) when is_port(Socket) -> gen_tcp:close(Socket);
close(Socket) -> ok = ssl:close(Socket).

%% Our client.

thousand_streams_go(Config) -> thousand_streams(go, "/echo", Config).

thousand_streams_nghttpd(Config) -> thousand_streams(nghttpd, "/echo", Config).

thousand_streams(Kind, Path, Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Server = peer_server:start(Kind, #{certificates => Dir, root => Dir}),
    try
        thousand_streams_at(peer_server:url(Server, tls, ""), Path, Config)
    after
        peer_server:stop(Server)
    end.

thousand_streams_own(Config) ->
    with_service(#{}, Config, fun(Service) -> thousand_streams_at(interop_service:url(Service, ""), "/echo", Config) end).

%% As many at a time as the server wants.
thousand_streams_at(URL, Path, Config) ->
    #{host := Host, port := Port} = uri_string:parse(unicode:characters_to_list(URL)),
    Conn = client(Host, Port, Config),
    Bodies = maps:from_list([{N, <<"body ", (integer_to_binary(N))/binary>>} || N <- lists:seq(1, ?STREAMS)]),
    Answers = ask_all(Conn, list_to_binary(Path), maps:to_list(Bodies), #{}, []),
    ?assertEqual(?STREAMS, length(Answers)),
    ?assertEqual(Bodies, maps:from_list(Answers)),
    ?assertMatch({ok, #{streams := 0}}, hackney_native_h2_connection:info(Conn)),
    ok = hackney_native_h2:close(Conn).

ask_all(_Conn, _Path, [], Running, Answers) when map_size(Running) =:= 0 ->
    Answers;
ask_all(Conn, Path, [{N, Body} | Rest] = All, Running, Answers) ->
    case hackney_native_h2:request(Conn, <<"POST">>, Path, [], Body) of
        {ok, Id} -> ask_all(Conn, Path, Rest, Running#{Id => {N, []}}, Answers);
        {error, max_streams_exceeded} -> heard(Conn, Path, All, Running, Answers)
    end;
ask_all(Conn, Path, [], Running, Answers) ->
    heard(Conn, Path, [], Running, Answers).

heard(Conn, Path, All, Running, Answers) ->
    receive
        {h2, Conn, {response, Id, 200, _}} when is_map_key(Id, Running) ->
            heard(Conn, Path, All, Running, Answers);
        {h2, Conn, {data, Id, Data, false}} ->
            heard(Conn, Path, All, maps:update_with(Id, fun({N, Parts}) -> {N, [Parts, Data]} end, Running), Answers);
        {h2, Conn, {data, Id, Data, true}} ->
            answered(Conn, Path, All, Id, Data, Running, Answers);
        {h2, Conn, {trailers, Id, _}} ->
            answered(Conn, Path, All, Id, <<>>, Running, Answers)
    after ?TIMEOUT ->
        error({nothing_comes, length(All), Running})
    end.

answered(Conn, Path, All, Id, Data, Running0, Answers) ->
    {{N, Parts}, Running} = maps:take(Id, Running0),
    ask_all(Conn, Path, All, Running, [{N, iolist_to_binary([Parts, Data])} | Answers]).

%% All of them, and every one a conversation: nobody ends before all have begun.
thousand_at_a_time(Config) ->
    with_service(Config, fun(Service) ->
        Conn = client("localhost", interop_service:port(Service), Config),
        Ids = [begin
                   {ok, Id} = hackney_native_h2:request(Conn, [{<<":method">>, <<"POST">>}, {<<":path">>, <<"/echo">>},
                                                               {<<":scheme">>, <<"https">>}, {<<":authority">>, <<"localhost">>}],
                                                        #{end_stream => false}),
                   Id
               end || _ <- lists:seq(1, ?STREAMS)],
        ?assertEqual({error, max_streams_exceeded}, hackney_native_h2:request(Conn, <<"GET">>, <<"/hello">>, [])),
        [receive {h2, Conn, {response, Id, 200, _}} -> ok after ?TIMEOUT -> error({silent, Id}) end || Id <- Ids],
        [begin
             Said = <<"round ", (integer_to_binary(Round))/binary, " of ", (integer_to_binary(Id))/binary>>,
             ok = hackney_native_h2:send_data(Conn, Id, Said),
             receive {h2, Conn, {data, Id, Said, false}} -> ok after ?TIMEOUT -> error({silent, Id}) end
         end || Round <- lists:seq(1, 3), Id <- Ids],
        [ok = hackney_native_h2:send_data(Conn, Id, <<>>, true) || Id <- Ids],
        [receive {h2, Conn, {trailers, Id, _}} -> ok after ?TIMEOUT -> error({silent, Id}) end || Id <- Ids],
        ok = hackney_native_h2:close(Conn)
    end).

client(Host, Port, Config) ->
    Ssl = [{cacertfile, proplists:get_value(ca, Config)}],
    {ok, Conn} = hackney_native_h2:connect(Host, Port, #{ssl_opts => Ssl}),
    receive {h2, Conn, connected} -> Conn end.
