%%% @doc What the suites of `hackney_native_h2_connection' and `hackney_native_h2' share: a connection before a {@link raw_peer}, a server
%%% before a dialled one, and events with a deadline.
-module(h2_conn_case).

-export([connect/0, connect/1, connect/2, accept/2, asked/2, asked/3, event/1, event/2, events/2, silent/1, respond/2, headers/2,
         serve/1, serve/2, dial/1, dial/2, ask/2, ask/3, ask/4, answer/2, kinds/2, pair/0, ssl_pair/0, taken_over/2, server_files/0]).

-define(DEADLINE, 10000).
-define(GET, [{<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"http">>}, {<<":authority">>, <<"a">>}]).

%% ---- clients -----------------------------------------------------------------------------------

%% @doc A connection to a new peer in clear text, and the peer's end of it. Nothing lies in the mailbox.
-spec connect() -> {pid(), pid()}.
connect() -> connect(#{}).

%% @doc The same with options for the peer.
-spec connect(map()) -> {pid(), pid()}.
connect(PeerOptions) -> connect(PeerOptions, #{}).

%% @doc The same with options for the client too.
-spec connect(map(), map()) -> {pid(), pid()}.
connect(PeerOptions, Options) ->
    Peer = raw_peer:start(PeerOptions#{transport => tcp}),
    {ok, Conn} = hackney_native_h2:connect("localhost", raw_peer:port(Peer), Options#{transport => tcp}),
    connected = event(Conn),
    {Conn, accept(Peer, #{type => settings, flags => [ack]})}.

%% @doc The peer's end, once this has come.
-spec accept(raw_peer:peer(), raw_peer_conn:pattern()) -> pid().
accept(Peer, Pattern) ->
    Far = raw_peer:accept(Peer),
    _ = raw_peer:expect(Far, Pattern),
    Far.

%% @doc A GET that the peer has got.
-spec asked(pid(), pid()) -> pos_integer().
asked(Conn, Far) -> asked(Conn, Far, #{end_stream => true}).

%% @doc The same with options.
-spec asked(pid(), pid(), map()) -> pos_integer().
asked(Conn, Far, Options) ->
    {ok, Id} = hackney_native_h2:request(Conn, ?GET, Options),
    _ = raw_peer:expect(Far, #{type => headers, stream => Id}),
    Id.

%% @doc The peer answers with status 200.
-spec respond(pid(), pos_integer()) -> ok.
respond(Far, Id) ->
    [ok] = raw_peer:run(Far, [{headers, Id, [{<<":status">>, <<"200">>}]}]),
    ok.

%% @doc The header fields that the peer gets next on this stream, and their flags.
-spec headers(pid(), pos_integer()) -> {[{binary(), binary()}], [atom()]}.
headers(Far, Id) ->
    #{headers := Headers, flags := Flags} = raw_peer:expect(Far, #{type => headers, stream => Id}),
    {Headers, Flags}.

%% ---- events ------------------------------------------------------------------------------------

%% @doc The next event of a connection.
-spec event(pid()) -> term().
event(Conn) -> event(Conn, ?DEADLINE).

%% @doc The same with a deadline.
-spec event(pid(), timeout()) -> term().
event(Conn, Timeout) ->
    receive {h2, Conn, Event} -> Event
    after Timeout -> error({no_event_of, Conn, process_info(self(), messages)})
    end.

%% @doc So many of them.
-spec events(pid(), non_neg_integer()) -> [term()].
events(Conn, N) -> [event(Conn) || _ <- lists:seq(1, N)].

%% @doc Fails when an event of the connection lies in the mailbox.
-spec silent(pid()) -> ok.
silent(Conn) ->
    receive {h2, Conn, Event} -> error({unexpected, Event})
    after 0 -> ok
    end.

%% @doc The types of the frames of a stream that have come so far.
-spec kinds(pid(), non_neg_integer()) -> [atom()].
kinds(Far, Id) ->
    [Type || #{type := Type, stream := Stream} <- raw_peer:transcript(Far), Stream =:= Id].

%% ---- servers -----------------------------------------------------------------------------------

%% @doc A server in clear text.
-spec serve(term()) -> hackney_native_h2:server_ref().
serve(Handler) -> serve(Handler, #{}).

%% @doc The same with options.
-spec serve(term(), map()) -> hackney_native_h2:server_ref().
serve(Handler, Options) ->
    {ok, Server} = hackney_native_h2:start_server(0, maps:merge(#{transport => tcp, handler => Handler, ip => {127, 0, 0, 1}}, Options)),
    Server.

%% @doc A scripted client of it, after the exchange of SETTINGS.
-spec dial(hackney_native_h2:server_ref()) -> pid().
dial(Server) -> dial(Server, #{}).

%% @doc The same with options.
-spec dial(hackney_native_h2:server_ref(), map()) -> pid().
dial(Server, Options) ->
    Far = raw_peer:dial(hackney_native_h2:server_port(Server), Options),
    _ = raw_peer:expect(Far, #{type => settings, flags => [ack]}),
    Far.

%% @doc That client asks: GET.
-spec ask(pid(), pos_integer()) -> ok.
ask(Far, Id) -> ask(Far, Id, []).

%% @doc The same with more header fields.
-spec ask(pid(), pos_integer(), [{binary(), binary()}]) -> ok.
ask(Far, Id, Fields) -> ask(Far, Id, ?GET ++ Fields, fin).

%% @doc A request given as a whole.
-spec ask(pid(), pos_integer(), [{binary(), binary()}], fin | nofin) -> ok.
ask(Far, Id, Fields, Fin) ->
    [ok] = raw_peer:run(Far, [{headers, Id, Fields, Fin}]),
    ok.

%% @doc What it gets: status and body; `nofin' unless a frame of it had END_STREAM.
-spec answer(pid(), pos_integer()) -> {binary(), binary()}.
answer(Far, Id) ->
    _ = raw_peer:expect(Far, fun(#{stream := Stream, flags := Flags}) -> Stream =:= Id andalso lists:member(end_stream, Flags);
                                (_) -> false
                             end),
    Frames = [Frame || #{stream := Stream} = Frame <- raw_peer:transcript(Far), Stream =:= Id],
    [#{headers := [{<<":status">>, Status} | _]} | _] = [Frame || #{type := headers} = Frame <- Frames],
    {Status, << <<Data/binary>> || #{type := data, data := Data} <- Frames >>}.

%% ---- sockets of Erlang's -----------------------------------------------------------------------

%% @doc Both ends of a connection in clear text.
-spec pair() -> {gen_tcp:socket(), gen_tcp:socket()}.
pair() ->
    Options = [binary, {active, false}, {nodelay, true}],
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}} | Options]),
    {ok, Port} = inet:port(Listen),
    {ok, Near} = gen_tcp:connect({127, 0, 0, 1}, Port, Options),
    {ok, Far} = gen_tcp:accept(Listen),
    ok = gen_tcp:close(Listen),
    {Near, Far}.

%% @doc The same with TLS: the client's end, the server's.
-spec ssl_pair() -> {ssl:sslsocket(), ssl:sslsocket()}.
ssl_pair() ->
    {Near, Far} = pair(),
    #{server := Server, cacerts := CaCerts} = raw_peer:identity(),
    Test = self(),
    Accepting = spawn_link(fun() ->
        receive socket -> ok end,
        {ok, Accepted} = ssl:handshake(Far, [{alpn_preferred_protocols, [<<"h2">>]}, {active, false} | Server], ?DEADLINE),
        ok = ssl:controlling_process(Accepted, Test),
        Test ! {self(), Accepted}
    end),
    ok = gen_tcp:controlling_process(Far, Accepting),
    Accepting ! socket,
    {ok, Secure} = ssl:connect(Near, [{cacerts, CaCerts}, {verify, verify_peer}, {server_name_indication, "localhost"},
                                      {alpn_advertised_protocols, [<<"h2">>]}, {active, false}, {mode, binary}], ?DEADLINE),
    receive {Accepting, Accepted} -> {Secure, Accepted} end.

%% @doc Starts a connection on such a socket and has it speak.
-spec taken_over(client | server, gen_tcp:socket() | ssl:sslsocket()) -> pid().
taken_over(Mode, Socket) ->
    {ok, Conn} = hackney_native_h2_connection:start_link(Mode, Socket, self(), #{}),
    Module = case is_tuple(Socket) andalso element(1, Socket) =:= sslsocket of true -> ssl; false -> gen_tcp end,
    ok = Module:controlling_process(Socket, Conn),
    ok = hackney_native_h2_connection:activate(Conn),
    Conn.

%% @doc Options of a server with the certificate of {@link raw_peer:identity/0}, by files.
-spec server_files() -> #{cert := file:filename(), key := file:filename()}.
server_files() ->
    #{server := Server} = raw_peer:identity(),
    Dir = filename:join(filename:dirname(code:which(?MODULE)), "h2_conn_case_files"),
    ok = filelib:ensure_path(Dir),
    {Type, Der} = proplists:get_value(key, Server),
    #{cert => pem(Dir, "cert.pem", {'Certificate', proplists:get_value(cert, Server), not_encrypted}),
      key => pem(Dir, "key.pem", {Type, Der, not_encrypted})}.

%% At once: tests that run at the same time read it.
pem(Dir, Name, Entry) ->
    File = filename:join(Dir, Name),
    Part = lists:concat([File, erlang:unique_integer([positive])]),
    ok = file:write_file(Part, public_key:pem_encode([Entry])),
    ok = file:rename(Part, File),
    File.
