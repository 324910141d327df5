%%% @doc What the suites about connections that streams share have in common: a connection to a {@link raw_peer}, and streams on it.
-module(shared_case).

-export([connect/0, connect/2, connect_to/2, owned/0, open/2, opened/2, opened/3, respond/2, goes_on/3, read/2, streams/1,
         in_line/2]).

%% @doc A connection in cleartext, and the peer's end of it.
-spec connect() -> {pid(), pid()}.
connect() -> connect(#{}, []).

%% @doc The same with options for the peer and for `h2_connect'.
-spec connect(map(), [{atom(), term()}]) -> {pid(), pid()}.
connect(PeerOpts, Opts) -> connect_to(raw_peer:start(maps:merge(#{transport => tcp}, PeerOpts)), Opts).

%% @doc The same to a peer that runs already.
-spec connect_to(raw_peer:peer(), [{atom(), term()}]) -> {pid(), pid()}.
connect_to(Peer, Opts) ->
    {ok, Conn} = hackney_native:h2_connect(raw_peer:url(Peer), raw_peer:options(Peer, Opts)),
    Wire = raw_peer:accept(Peer),
    %% With this unread, a close of the peer would be a reset to the kernel.
    _ = raw_peer:expect(Wire, #{type => settings, flags => [ack]}),
    {Conn, Wire}.

%% @doc A connection that belongs to a process of its own, which `stop' ends.
-spec owned() -> {pid(), pid(), pid()}.
owned() ->
    Peer = raw_peer:start(#{transport => tcp}),
    Test = self(),
    Owner = spawn(fun() ->
        Test ! {self(), hackney_native:h2_connect(raw_peer:url(Peer), raw_peer:options(Peer))},
        receive stop -> ok end
    end),
    {ok, Conn} = receive {Owner, Result} -> Result end,
    Wire = raw_peer:accept(Peer),
    _ = raw_peer:expect(Wire, #{type => settings, flags => [ack]}),
    {Owner, Conn, Wire}.

%% @doc Opens a stream.
-spec open(pid(), [{atom(), term()}]) -> {ok, pid()} | {error, term()}.
open(Conn, Opts) -> hackney_native:h2_open(post, {Conn, <<"/p">>}, [], Opts).

%% @doc A stream, and its number at the peer.
-spec opened(pid(), pid()) -> {pid(), pos_integer()}.
opened(Conn, Wire) -> opened(Conn, Wire, []).

%% @doc The same with options for `h2_open'.
-spec opened(pid(), pid(), [{atom(), term()}]) -> {pid(), pos_integer()}.
opened(Conn, Wire, Opts) ->
    {ok, Stream} = open(Conn, Opts),
    #{stream := Id} = raw_peer:expect(Wire, headers),
    {Stream, Id}.

%% @doc The peer answers 200.
-spec respond(pid(), pos_integer()) -> ok.
respond(Wire, Id) ->
    [ok] = raw_peer:run(Wire, [{headers, Id, [{<<":status">>, <<"200">>}]}]),
    ok.

%% @doc The stream, which has its response, is alive in both directions.
-spec goes_on(pid(), pos_integer(), pid()) -> ok.
goes_on(Stream, Id, Wire) ->
    {ok, #{state := connected}} = hackney_native:h2_info(Stream),
    ok = hackney_native:h2_send(Stream, <<"hello">>),
    #{data := <<"hello">>} = raw_peer:expect(Wire, #{type => data, stream => Id}),
    [ok] = raw_peer:run(Wire, [{data, Id, <<"there">>}]),
    case h2_case:recv(Stream) of
        {response, 200, []} -> {data, <<"there">>} = h2_case:recv(Stream);
        {data, <<"there">>} -> ok
    end,
    ok.

%% @doc Reads so many bytes of a passive stream.
-spec read(pid(), non_neg_integer()) -> non_neg_integer().
read(_Stream, 0) -> 0;
read(Stream, Bytes) ->
    {data, Data} = h2_case:recv(Stream),
    byte_size(Data) + read(Stream, Bytes - byte_size(Data)).

%% @doc How many streams the connection has.
-spec streams(pid()) -> non_neg_integer().
streams(Conn) ->
    {ok, #{streams := N}} = hackney_native:h2_info(Conn),
    N.

%% @doc Waits until so many streams are in line for a place on the connection.
-spec in_line(pid(), non_neg_integer()) -> ok.
in_line(Conn, N) ->
    h2_case:until(fun() ->
        {ok, #{waiting := Waiting}} = hackney_native:h2_info(Conn),
        Waiting =:= N
    end).
