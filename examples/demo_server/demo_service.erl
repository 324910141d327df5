%% @doc An HTTP/2 server to try with curl: `make demo-server', `make demo-server PORT=8443', until Ctrl-C.
%%
%% The program is an ordinary user of {@link hackney_native_h2}. It serves with a certificate made just now, says which command
%% works with it, and tells of each request in a line.
-module(demo_service).

-export([main/0]).

%% @doc Serves until the program is interrupted or its standard input ends; status 1 when it cannot.
%%
%% Environment: `PORT' (none: any that is free), `DIR' (where the certificate is put).
-spec main() -> no_return().
main() ->
    halt(case run() of
             ok ->
                 0;
             {error, Reason} ->
                 io:format("demo-server: failed: ~ts~n             {error, ~0tp}~n", [meaning(Reason), Reason]),
                 1
         end).

run() ->
    Dir = filename:absname(os:getenv("DIR", ".")),
    case port() of
        {ok, Port} ->
            case certificate(Dir) of
                ok -> serve(Port, Dir);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

port() ->
    Text = os:getenv("PORT", "0"),
    case string:to_integer(Text) of
        {Port, ""} when Port >= 0, Port =< 65535 -> {ok, Port};
        _ -> {error, {port, Text}}
    end.

%% One that signs itself is its own authority: a client that is told to trust it checks it as it would any other.
certificate(Dir) ->
    case os:find_executable("openssl") of
        false ->
            {error, no_openssl};
        Openssl ->
            ok = filelib:ensure_dir(filename:join(Dir, "x")),
            Args = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
                    "-subj", "/CN=hackney_native demo", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", "demo.key", "-out", "demo.pem"],
            Program = open_port({spawn_executable, Openssl}, [{args, Args}, {cd, Dir}, exit_status, stderr_to_stdout]),
            ended(Program, [])
    end.

ended(Program, Text) ->
    receive
        {Program, {data, Data}} -> ended(Program, [Text, Data]);
        {Program, {exit_status, 0}} -> ok;
        {Program, {exit_status, Status}} -> {error, {openssl, Status, lists:flatten(Text)}}
    end.

serve(Port, Dir) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    Certificate = filename:join(Dir, "demo.pem"),
    Options = #{ip => {127, 0, 0, 1}, cert => Certificate, key => filename:join(Dir, "demo.key"), handler => fun handle/5},
    case hackney_native_h2:start_server(Port, Options) of
        {ok, Server} ->
            URL = io_lib:format("https://localhost:~b", [hackney_native_h2:server_port(Server)]),
            Curl = ["curl --http2 --cacert ", Certificate],
            io:format("listening at ~ts, certificate made just now~n~n"
                      "  ~ts ~ts/~n"
                      "  ~ts ~ts/echo -d 'say it again'~n"
                      "  ~ts ~ts/clock~n~n"
                      "Ctrl-C ends it. Requests:~n", [URL, Curl, URL, Curl, URL, [Curl, " --no-buffer"], URL]),
            until_input_ends(),
            hackney_native_h2:stop_server(Server);
        {error, _} = Error ->
            Error
    end.

%% Whoever started this holds the other end of standard input: a terminal, a test.
until_input_ends() ->
    case io:get_line("") of
        Line when is_list(Line); is_binary(Line) -> until_input_ends();
        _ -> ok
    end.

%% Called in a process of its own for each request.
handle(Conn, StreamId, Method, Path, _Headers) ->
    io:format("  stream ~b of ~w: ~ts ~ts~n", [StreamId, Conn, Method, Path]),
    answer(Path, Conn, StreamId, Method).

answer(<<"/">>, Conn, StreamId, Method) ->
    Text = io_lib:format("Hello! This is stream ~b, a process of Erlang's own: ~w.~n", [StreamId, self()]),
    respond(Conn, StreamId, 200, case Method of <<"HEAD">> -> <<>>; _ -> Text end);
answer(<<"/echo">>, Conn, StreamId, _Method) ->
    ok = hackney_native_h2:send_response(Conn, StreamId, 200, [{<<"content-type">>, <<"application/octet-stream">>}]),
    ok = hackney_native_h2:set_stream_handler(Conn, StreamId, self()),
    echo(Conn, StreamId);
answer(<<"/clock">>, Conn, StreamId, _Method) ->
    ok = hackney_native_h2:send_response(Conn, StreamId, 200, [{<<"content-type">>, <<"text/plain">>}]),
    clock(Conn, StreamId, 3);
answer(_, Conn, StreamId, _Method) ->
    respond(Conn, StreamId, 404, "There are /, /echo and /clock.\n").

respond(Conn, StreamId, Status, Text) ->
    %% An error means that the client has gone.
    _ = hackney_native_h2:respond(Conn, StreamId, Status, [{<<"content-type">>, <<"text/plain">>}], Text),
    ok.

%% Each piece as it comes.
echo(Conn, StreamId) ->
    receive
        {h2, Conn, {data, StreamId, Data, true}} ->
            hackney_native_h2:send_data(Conn, StreamId, Data, true);
        {h2, Conn, {data, StreamId, Data, false}} ->
            case hackney_native_h2:send_data(Conn, StreamId, Data, false, #{block => infinity}) of
                ok -> echo(Conn, StreamId);
                {error, _} -> ok
            end;
        {h2, Conn, {trailers, StreamId, _}} ->
            hackney_native_h2:send_data(Conn, StreamId, <<>>, true);
        {h2, Conn, _} ->
            ok
    end.

%% The response goes on while the stream is open.
clock(Conn, StreamId, 0) ->
    hackney_native_h2:send_data(Conn, StreamId, <<"that is all\n">>, true);
clock(Conn, StreamId, Ticks) ->
    Now = calendar:system_time_to_rfc3339(erlang:system_time(second)),
    case hackney_native_h2:send_data(Conn, StreamId, [Now, "\n"]) of
        ok ->
            receive {h2, Conn, _} -> ok
            after 1000 -> clock(Conn, StreamId, Ticks - 1)
            end;
        {error, _} ->
            ok
    end.

meaning({port, _}) -> "PORT must be a number from 0 to 65535.";
meaning(no_openssl) -> "openssl, which makes the certificate, is not in the PATH.";
meaning({openssl, _, _}) -> "openssl made no certificate.";
meaning({listen_failed, eaddrinuse}) -> "another program listens at that port (PORT=... takes another one).";
meaning({listen_failed, eacces}) -> "this port is for root only (PORT=... takes another one).";
meaning({listen_failed, _}) -> "it is not possible to listen at that port.";
meaning({nif_not_loaded, _}) -> "the engine's library was not loaded; run `make compile' and see its messages.";
meaning({options, _}) -> "the certificate that was made just now could not be used.";
meaning(_) -> "the server did not start.".
