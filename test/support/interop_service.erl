%% @doc What {@link hackney_native_h2}'s server serves to clients that were not written here: the counterpart of `test/servers'.
%%
%% <ul>
%% <li>`/hello'; `/empty' (status 204); `/download?bytes=N'</li>
%% <li>`/echo': answers at once, returns every piece as it comes, then the trailers `x-bytes', `x-sha256' and the request's own trailer
%%     `x-client'; `/upload': `"Bytes Sha256"' once all was read</li>
%% <li>`/informational': a 103, then as `/hello'; `/crash': the handler fails</li>
%% <li>`/endless': sends until the client does not want it any more, and tells the watcher why it stopped</li>
%% <li>`/together?n=N': answers once N requests are there</li>
%% <li>`/interop.Echo/Method': gRPC, as in `test/servers'; `/interop.Wrapped/Method': the same, its messages within those of
%%     `test/clients/interop.proto', for clients that know no others</li>
%% </ul>
-module(interop_service).

-export([start/2, stop/1, port/1, url/2]).
-export_type([service/0]).

-opaque service() :: {hackney_native_h2:server_ref(), tls | h2c, Gate :: pid()}.

%% A client that does not read for so long is a failure.
-define(BLOCK, #{block => 30000}).
-define(PIECE, 65536).

%% @doc Serves, with a certificate of that directory (`tls') or in cleartext. The caller is the watcher: it is sent
%% `{endless, Bytes, Reason}'. Options are added to the server's.
-spec start({tls, file:filename()} | h2c, map()) -> service().
start(Transport, Options) ->
    Watcher = self(),
    Gate = spawn(fun() -> gate([]) end),
    Handler = fun(Conn, Id, Method, Path, Headers) -> handle(Conn, Id, Method, Path, Headers, {Watcher, Gate}) end,
    {ok, Server} = hackney_native_h2:start_server(0, maps:merge((transport(Transport))#{ip => {127, 0, 0, 1}, handler => Handler},
                                                                Options)),
    {Server, case Transport of h2c -> h2c; {tls, _} -> tls end, Gate}.

transport(h2c) ->
    #{transport => tcp};
transport({tls, Dir}) ->
    #{cert => certificates:file(Dir, "server.pem"), key => certificates:file(Dir, "server.key")}.

%% @doc Stops it, whatever is under way.
-spec stop(service()) -> ok.
stop({Server, _, Gate}) ->
    exit(Gate, kill),
    hackney_native_h2:stop_server(Server, 0).

%% @doc Its port.
-spec port(service()) -> inet:port_number().
port({Server, _, _}) ->
    hackney_native_h2:server_port(Server).

%% @doc The URL of a path.
-spec url(service(), string()) -> string().
url({_, Transport, _} = Service, Path) ->
    Scheme = case Transport of tls -> "https"; h2c -> "http" end,
    lists:concat([Scheme, "://localhost:", port(Service), Path]).

%% Lets those who come go on when so many are there.
gate(Waiting) ->
    receive
        {pass, N, Pid} when length(Waiting) + 1 >= N ->
            [Waiter ! {self(), pass} || Waiter <- [Pid | Waiting]],
            gate([]);
        {pass, _, Pid} ->
            gate([Pid | Waiting])
    end.

handle(Conn, Id, Method, Target, Headers, Others) ->
    #{path := Path} = Parsed = uri_string:parse(Target),
    Query = maps:from_list(uri_string:dissect_query(maps:get(query, Parsed, <<>>))),
    serve(Path, {Conn, Id}, Method, Query, Headers, Others).

serve(<<"/hello">>, {Conn, Id}, <<"HEAD">>, _, _, _) ->
    ok = hackney_native_h2:respond(Conn, Id, 200, [{<<"content-length">>, <<"13">>}], <<>>);
serve(<<"/hello">>, {Conn, Id}, _, _, _, _) ->
    respond(Conn, Id, <<"Hello, World!">>);
serve(<<"/empty">>, {Conn, Id}, _, _, _, _) ->
    ok = hackney_native_h2:send_response(Conn, Id, 204, []);
serve(<<"/download">>, {Conn, Id}, _, #{<<"bytes">> := Bytes}, _, _) ->
    ok = hackney_native_h2:send_response(Conn, Id, 200, [{<<"content-length">>, Bytes}]),
    download(Conn, Id, binary:copy(<<"d">>, ?PIECE), binary_to_integer(Bytes));
serve(<<"/echo">>, {Conn, Id} = Stream, _, _, _, _) ->
    ok = hackney_native_h2:send_response(Conn, Id, 200, [{<<"content-type">>, <<"application/octet-stream">>},
                                                         {<<"trailer">>, <<"x-bytes, x-sha256, x-client">>}]),
    Back = fun(Data) -> ok = hackney_native_h2:send_data(Conn, Id, Data, false, ?BLOCK) end,
    {Bytes, Hash, Trailers} = read(Stream, Back),
    ok = hackney_native_h2:send_trailers(Conn, Id, [{<<"x-bytes">>, Bytes}, {<<"x-sha256">>, Hash}
                                                    | [Field || {<<"x-client">>, _} = Field <- Trailers]]);
serve(<<"/upload">>, {Conn, Id} = Stream, _, _, _, _) ->
    {Bytes, Hash, _} = read(Stream, fun(_) -> ok end),
    respond(Conn, Id, [Bytes, " ", Hash]);
serve(<<"/informational">>, {Conn, Id}, _, _, _, _) ->
    ok = hackney_native_h2:send_response(Conn, Id, 103, [{<<"link">>, <<"</style.css>; rel=preload">>}]),
    respond(Conn, Id, <<"Hello, World!">>);
serve(<<"/crash">>, _, _, _, _, _) ->
    exit(shutdown);
serve(<<"/endless">>, {Conn, Id}, _, _, _, {Watcher, _}) ->
    ok = hackney_native_h2:set_stream_handler(Conn, Id, self()),
    ok = hackney_native_h2:send_response(Conn, Id, 200, []),
    Watcher ! endless(Conn, Id, binary:copy(<<"e">>, ?PIECE div 4), 0);
serve(<<"/together">>, {Conn, Id}, _, #{<<"n">> := N}, _, {_, Gate}) ->
    Gate ! {pass, binary_to_integer(N), self()},
    receive {Gate, pass} -> respond(Conn, Id, <<"all here">>) end;
serve(<<"/interop.Echo/", Method/binary>>, Stream, _, _, Headers, _) ->
    grpc(Method, Stream, Headers, bare);
serve(<<"/interop.Wrapped/", Method/binary>>, Stream, _, _, Headers, _) ->
    grpc(Method, Stream, Headers, wrapped);
serve(_, {Conn, Id}, _, _, _, _) ->
    ok = hackney_native_h2:respond(Conn, Id, 404, [], <<"there is no such thing">>).

respond(Conn, Id, Body) ->
    ok = hackney_native_h2:respond(Conn, Id, 200, [{<<"content-type">>, <<"text/plain">>}], Body).

download(Conn, Id, Piece, Left) when Left > byte_size(Piece) ->
    ok = hackney_native_h2:send_data(Conn, Id, Piece, false, ?BLOCK),
    download(Conn, Id, Piece, Left - byte_size(Piece));
download(Conn, Id, Piece, Left) ->
    ok = hackney_native_h2:send_data(Conn, Id, binary:part(Piece, 0, Left), true, ?BLOCK).

endless(Conn, Id, Piece, Sent) ->
    case hackney_native_h2:send_data(Conn, Id, Piece, false, ?BLOCK) of
        ok -> endless(Conn, Id, Piece, Sent + byte_size(Piece));
        {error, timeout} -> {endless, Sent, timeout};
        {error, _} -> {endless, Sent, end_of(Conn, Id)}
    end.

end_of(Conn, Id) ->
    receive
        {h2, Conn, {stream_reset, Id, Code}} -> Code;
        {h2, Conn, {closed, _}} -> closed;
        {h2, Conn, _} -> end_of(Conn, Id)
    end.

%% Reads the request's body: its size and hash as text, and its trailers.
read({Conn, Id} = Stream, Each) ->
    ok = hackney_native_h2:set_stream_handler(Conn, Id, self()),
    read(Stream, Each, 0, crypto:hash_init(sha256)).

read({Conn, Id} = Stream, Each, Bytes0, Hash0) ->
    receive
        {h2, Conn, {data, Id, Data, Fin}} ->
            _ = Data =:= <<>> orelse Each(Data),
            {Bytes, Hash} = {Bytes0 + byte_size(Data), crypto:hash_update(Hash0, Data)},
            case Fin of
                false -> read(Stream, Each, Bytes, Hash);
                true -> summary(Bytes, Hash, [])
            end;
        {h2, Conn, {trailers, Id, Trailers}} ->
            summary(Bytes0, Hash0, Trailers);
        {h2, Conn, {stream_reset, Id, _}} ->
            exit(normal);
        {h2, Conn, {closed, _}} ->
            exit(normal)
    end.

summary(Bytes, Hash, Trailers) ->
    {integer_to_binary(Bytes), string:lowercase(binary:encode_hex(crypto:hash_final(Hash))), Trailers}.

%% gRPC. A message is taken as soon as it is whole.

grpc(Method, {Conn, Id}, Headers, Form) ->
    Stream = {Conn, Id, Form},
    ok = hackney_native_h2:set_stream_handler(Conn, Id, self()),
    Echo = [Field || {<<"x-echo">>, _} = Field <- Headers],
    Binary = [Field || {<<"x-echo-bin">>, _} = Field <- Headers],
    Head = [{<<"content-type">>, <<"application/grpc">>} | Echo],
    case Method of
        <<"Unary">> ->
            {Message, _} = message(Stream, <<>>),
            answer(Stream, Head, [Message], 0, Binary);
        <<"FailWith">> ->
            {<<Code:32, Text/binary>>, _} = message(Stream, <<>>),
            answer(Stream, Head, [], Code, [{<<"grpc-message">>, uri_string:quote(Text)}]);
        <<"ServerStream">> ->
            {<<Count:32, Size:32>>, _} = message(Stream, <<>>),
            answer(Stream, Head, [<<N:32, 0:(Size - 4)/unit:8>> || N <- lists:seq(0, Count - 1)], 0, []);
        <<"ClientStream">> ->
            answer(Stream, Head, [count(Stream, <<>>, 0, 0)], 0, []);
        <<"Bidi">> ->
            ok = hackney_native_h2:send_response(Conn, Id, 200, Head),
            bidi(Stream, <<>>);
        <<"Wait">> ->
            ok = hackney_native_h2:send_response(Conn, Id, 200, Head),
            _ = message(Stream, <<>>),
            _ = end_of(Conn, Id);
        _ ->
            %% UNIMPLEMENTED, with the headers alone.
            ok = hackney_native_h2:respond(Conn, Id, 200, [{<<"grpc-status">>, <<"12">>} | Head], <<>>)
    end.

answer({Conn, Id, _} = Stream, Head, Messages, Code, Trailers) ->
    ok = hackney_native_h2:send_response(Conn, Id, 200, Head),
    [ok = say(Stream, Message) || Message <- Messages],
    status(Stream, Code, Trailers).

say({Conn, Id, Form}, Message) ->
    hackney_native_h2:send_data(Conn, Id, grpc_message:encode(wrap(Form, Message)), false, ?BLOCK).

status({Conn, Id, _}, Code, Trailers) ->
    hackney_native_h2:send_trailers(Conn, Id, [{<<"grpc-status">>, integer_to_binary(Code)} | Trailers]).

count(Stream, Buffer, Number, Bytes) ->
    case message(Stream, Buffer) of
        {Message, Rest} -> count(Stream, Rest, Number + 1, Bytes + byte_size(Message));
        done -> <<Number:32, Bytes:64>>
    end.

bidi(Stream, Buffer) ->
    case message(Stream, Buffer) of
        {Message, Rest} ->
            ok = say(Stream, Message),
            bidi(Stream, Rest);
        done ->
            ok = status(Stream, 0, [])
    end.

%% The next message and what has come behind it, or `done'.
message({Conn, Id, Form} = Stream, Buffer) ->
    case grpc_message:decode(Buffer) of
        more ->
            receive
                {h2, Conn, {data, Id, Data, Fin}} ->
                    %% So that it is found again.
                    _ = Fin andalso (self() ! {h2, Conn, {half_closed, Id}}),
                    message(Stream, <<Buffer/binary, Data/binary>>);
                {h2, Conn, {half_closed, Id}} when Buffer =:= <<>> ->
                    done;
                {h2, Conn, {stream_reset, Id, _}} ->
                    exit(normal);
                {h2, Conn, {closed, _}} ->
                    exit(normal)
            end;
        {Message, Rest} ->
            {unwrap(Form, Message), Rest}
    end.

%% Protocol buffers, as far as `Bytes' of interop.proto needs them: field 1, whose type is 2 (a length and as many bytes). An empty
%% one is left out.
wrap(bare, Message) -> Message;
wrap(wrapped, Message) -> [<<1:5, 2:3>>, varint(byte_size(Message)), Message].

unwrap(bare, Message) ->
    Message;
unwrap(wrapped, <<>>) ->
    <<>>;
unwrap(wrapped, <<1:5, 2:3, Rest/binary>>) ->
    {Size, Bytes} = varint_of(Rest),
    Size = byte_size(Bytes),
    Bytes.

%% Seven bits a byte, the lowest first; the eighth says that there are more.
varint(N) when N < 128 -> <<N>>;
varint(N) -> <<1:1, N:7, (varint(N bsr 7))/binary>>.

varint_of(<<0:1, N:7, Rest/binary>>) ->
    {N, Rest};
varint_of(<<1:1, Low:7, More/binary>>) ->
    {High, Rest} = varint_of(More),
    {High bsl 7 + Low, Rest}.
