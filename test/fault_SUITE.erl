%%% @doc The network fails: every fault that {@link fault_proxy} knows, in every phase of a stream. The owner hears of it by a
%%% typed error within its deadline, every wait ends, data is never wrong, and nothing is left behind.
-module(fault_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(fault_case, [open/4, open/5, in_time/2, is_end/3]).
-import(h2_leak, [balanced/1]).

%% When nobody is to answer any more: short, but long enough for a TLS handshake on a busy machine that goes well.
-define(CONNECT_TIMEOUT, 1000).
%% Only a hang meets it.
-define(DEADLINE, 10000).
-define(DOWNLOAD, 2000000).
%% So many bytes into a transfer: far beyond what opening takes, and far before its end.
-define(MIDWAY, 300000).
-define(TRANSPORTS, [tls, h2c]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [tcp_connect, tls_handshake, tls_handshake_byte_by_byte, tls_handshake_corrupted_anywhere, before_settings,
     owner_dies_while_connecting, download, download_goes_on, corrupted_record_is_never_data, upload, upload_goes_on,
     waiting_reader, waiting_reader_goes_on, blocked_sender, blocked_sender_goes_on, manual_gets_no_more_than_its_window,
     owner_dies_while_nothing_moves, close_while_nothing_moves].

init_per_suite(Config) ->
    h2_case:start(),
    %% What is made once and kept is there before anything is counted.
    _ = raw_peer:identity(),
    Servers = fault_case:servers(#{window => 65535}),
    [ok = converse(Servers, Transport) || Transport <- ?TRANSPORTS],
    [{servers, Servers} | Config].

end_per_suite(Config) ->
    fault_case:stop(servers(Config)).

servers(Config) -> proplists:get_value(servers, Config).

%% ---- connecting ------------------------------------------------------------------------------

tcp_connect(Config) ->
    [balanced(fun() ->
        Options = fault_case:options(servers(Config), Transport, [{connect_timeout, ?CONNECT_TIMEOUT}]),
        Open = fun(Port) ->
            Url = iolist_to_binary([scheme(Transport), "://127.0.0.1:", integer_to_list(Port)]),
            in_time(?CONNECT_TIMEOUT, fun() -> hackney_native:h2_open(Url, [], Options) end)
        end,
        ?assertEqual({error, econnrefused}, Open(h2_case:refused_port())),
        ?assertEqual({error, connect_timeout}, Open(deaf_port()))
    end) || Transport <- ?TRANSPORTS].

%% A listener whose queue is full does not answer at all.
deaf_port() ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {backlog, 0}]),
    {ok, Port} = inet:port(Listen),
    fill(Port),
    Port.

fill(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [], 100) of
        {ok, _} -> fill(Port);
        {error, timeout} -> ok
    end.

%% Before, in the middle of and behind the hellos.
tls_handshake(Config) ->
    [balanced(fun() ->
        {error, Reason} = open_fails(Config, [{Direction, After, Fault}]),
        %% Reset at once, the connection may be over before the client has noticed that it stood: a failure of TCP's connect.
        ?assert(is_failure(Fault, Reason) orelse {Fault, After, Reason} =:= {reset, 0, econnreset},
                {Direction, After, Fault, Reason})
    end) || {Direction, After} <- [{up, 0}, {up, 4}, {up, 100}, {down, 0}, {down, 4}, {down, 60}, {down, 600}],
            Fault <- [cut, half_close, reset, stall]].

open_fails(Config, Plan) ->
    Proxy = fault_case:proxy(servers(Config), tls),
    ok = fault_proxy:plan(Proxy, Plan),
    Options = full_handshake(servers(Config), [{connect_timeout, ?CONNECT_TIMEOUT}]),
    in_time(?CONNECT_TIMEOUT, fun() -> hackney_native:h2_open(fault_case:url(tls, Proxy, "/echo"), [], Options) end).

%% A session that is resumed has a flight without certificates, too short for the places meant here.
full_handshake(Servers, More) ->
    [{ssl_options, Tls} | Options] = fault_case:options(Servers, tls, More),
    [{ssl_options, [{reuse_sessions, false} | Tls]} | Options].

is_failure(stall, Reason) -> Reason =:= connect_timeout;
is_failure(Fault, Reason) -> is_end(Fault, tls, Reason).

%% Segments of one byte, pieces that come late, and a pause: a handshake all the same.
tls_handshake_byte_by_byte(Config) ->
    [balanced(fun() ->
        {Stream, _} = open(servers(Config), tls, "/echo", [], Plan),
        converse(Stream)
    end) || Plan <- [[{Direction, 0, {trickle, 5000}} || Direction <- [up, down]],
                     [{Direction, 0, {delay, 20}} || Direction <- [up, down]]]],
    [balanced(fun() ->
        Proxy = fault_case:proxy(servers(Config), tls),
        ok = fault_proxy:plan(Proxy, [{Direction, After, stall}]),
        Opening = h2_case:concurrently(fun() ->
            {ok, Stream} = hackney_native:h2_open(fault_case:url(tls, Proxy, "/echo"), [],
                                                  full_handshake(servers(Config), [])),
            converse(Stream)
        end),
        Connection = fault_proxy:accept(Proxy),
        h2_case:until(fun() -> fault_proxy:forwarded(Connection, Direction) =:= After end),
        ok = fault_proxy:inject(Connection, Direction, resume),
        ok = h2_case:result(Opening)
    end) || {Direction, After} <- [{up, 0}, {up, 100}, {down, 0}, {down, 60}, {down, 600}]].

%% One byte inverted, anywhere in the two flights: never a stream. Where it made a length longer, the other side waits for the
%% rest, and the deadline ends it.
tls_handshake_corrupted_anywhere(Config) ->
    Positions = [{up, At} || At <- lists:seq(0, 230, 11)] ++ [{down, At} || At <- lists:seq(0, 800, 23)],
    [balanced(fun() ->
        {error, Reason} = open_fails(Config, [{Direction, At, corrupt}]),
        ?assert(Reason =:= connect_timeout orelse is_end(corrupt, tls, Reason), {Direction, At, Reason})
    end) || {Direction, At} <- Positions].

%% The peer has accepted, and says nothing yet.
before_settings(_Config) ->
    [balanced(fun() ->
        Peer = raw_peer:start(#{transport => case Transport of tls -> tls; h2c -> tcp end, script => [], when_closed => stop}),
        Proxy = fault_proxy:start(raw_peer:port(Peer)),
        Opening = h2_case:concurrently(fun() ->
            in_time(?CONNECT_TIMEOUT, fun() ->
                hackney_native:h2_open(fault_case:url(Transport, Proxy, "/"), [],
                                       raw_peer:options(Peer, [{connect_timeout, ?CONNECT_TIMEOUT}]))
            end)
        end),
        Connection = fault_proxy:accept(Proxy),
        Conn = raw_peer:accept(Peer),
        _ = raw_peer:expect(Conn, headers),
        ok = fault_proxy:inject(Connection, Direction, Fault),
        _ = Fault =:= corrupt andalso raw_peer:run(Conn, [{settings, []}]),
        {error, Reason} = h2_case:result(Opening),
        ?assert(Fault =:= stall andalso Reason =:= connect_timeout orelse is_end(Fault, Transport, Reason),
                {Transport, Direction, Fault, Reason}),
        ok = fault_proxy:stop(Proxy),
        ok = raw_peer:stop(Peer)
    end) || Transport <- ?TRANSPORTS,
            {Direction, Fault} <- [{down, cut}, {down, half_close}, {up, half_close}, {down, reset}, {down, stall}]
                                  ++ [{down, corrupt} || Transport =:= tls]].

%% In TCP there is no phase to be caught in: the proxy has accepted.
owner_dies_while_connecting(Config) ->
    [balanced(fun() ->
        Servers = servers(Config),
        Proxy = fault_case:proxy(Servers, Transport),
        ok = fault_proxy:plan(Proxy, [{down, After, stall}]),
        Forever = [{connect_timeout, infinity}],
        Options = case Transport of
                      tls -> full_handshake(Servers, Forever);
                      h2c -> fault_case:options(Servers, h2c, Forever)
                  end,
        {Owner, Monitor} = spawn_monitor(fun() ->
            exit(hackney_native:h2_open(fault_case:url(Transport, Proxy, "/echo"), [], Options))
        end),
        Connection = fault_proxy:accept(Proxy),
        h2_case:until(fun() -> fault_proxy:forwarded(Connection, down) =:= After end),
        exit(Owner, kill),
        receive {'DOWN', Monitor, process, Owner, Reason} -> ?assertEqual(killed, Reason) end,
        ok = fault_proxy:inject(Connection, down, resume),
        h2_case:until(fun() -> fault_proxy:is_over(Connection) end)
    end) || {Transport, After} <- [{tls, 0}, {tls, 60}, {tls, 600}, {h2c, 0}, {h2c, 8}]].

%% ---- receiving -------------------------------------------------------------------------------

download(Config) ->
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, source(), options(Mode), [{Direction, At, Fault}]),
        {Bytes, End} = read(Mode, Stream),
        ?assertMatch({error, _}, End),
        ?assert(is_end(Fault, Transport, element(2, End)), {Transport, Mode, Fault, End}),
        ?assert(Bytes < ?DOWNLOAD, Bytes),
        ?assert(fault_proxy:harmed(Connection)),
        ended(Stream, Mode)
    end) || Transport <- ?TRANSPORTS, Mode <- modes(),
            {Direction, At, Fault} <- [{down, ?MIDWAY, cut}, {down, ?MIDWAY, half_close}, {down, ?MIDWAY, reset}]
                                      ++ [{down, ?MIDWAY, corrupt} || Transport =:= tls]].

%% Nothing is lost where the network is only slow.
download_goes_on(Config) ->
    [balanced(fun() ->
        {Stream, _} = open(servers(Config), Transport, source(), options(Mode), [{down, ?MIDWAY, Fault}]),
        ?assertEqual({?DOWNLOAD, done}, read(Mode, Stream)),
        hackney_native:h2_close(Stream)
    end) || Transport <- ?TRANSPORTS, Mode <- modes(), Fault <- [{trickle, 3000}, {delay, 1}]],
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, source(), options(Mode), [{down, ?MIDWAY, stall}]),
        Resume = h2_case:concurrently(fun() ->
            h2_case:until(fun() -> fault_proxy:forwarded(Connection, down) =:= ?MIDWAY end),
            fault_proxy:inject(Connection, down, resume)
        end),
        ?assertEqual({?DOWNLOAD, done}, read(Mode, Stream)),
        ok = h2_case:result(Resume),
        hackney_native:h2_close(Stream)
    end) || Transport <- ?TRANSPORTS, Mode <- modes()].

%% One byte of a record inverted, its header included: what comes before is delivered, and then the error.
corrupted_record_is_never_data(Config) ->
    [balanced(fun() ->
        {Stream, _} = open(servers(Config), tls, source(), options(passive), [{down, 40000 + At, corrupt}]),
        {Bytes, {error, Reason}} = read(passive, Stream),
        ?assert(Bytes =< 40000 + At),
        ?assert(is_end(corrupt, tls, Reason), {At, Reason}),
        ended(Stream, passive)
    end) || At <- lists:seq(0, 17000, 331) ++ record_header()].

%% Records of one DATA frame of 16,384 bytes each are so long: wherever they begin, every byte of a header is met.
record_header() -> [5000 + At || At <- lists:seq(0, 40)].

modes() -> [passive, active, once, manual].

options(passive) -> [{initial_window_size, 65535}];
options(active) -> [{initial_window_size, 65535}, {active, true}];
options(once) -> [{initial_window_size, 65535}, {active, once}];
options(manual) -> [{initial_window_size, 65535}, {flow_control, manual}].

source() -> ["/source?bytes=", integer_to_list(?DOWNLOAD)].

%% Reads to the end; the body's size, and the last message. The server sends one letter only.
read(Mode, Stream) -> read(Mode, Stream, 0).

read(Mode, Stream, Bytes) ->
    case next(Mode, Stream) of
        {response, 200, _} -> read(Mode, Stream, Bytes);
        {data, Data} ->
            ?assertEqual(binary:copy(<<"h">>, byte_size(Data)), Data),
            read(Mode, Stream, Bytes + byte_size(Data));
        End -> {Bytes, End}
    end.

next(passive, Stream) ->
    h2_case:recv(Stream);
next(manual, Stream) ->
    case h2_case:recv(Stream) of
        {data, Data} = Message -> ok = hackney_native:h2_consume(Stream, byte_size(Data)), Message;
        Message -> Message
    end;
next(active, Stream) ->
    case h2_case:active(Stream) of
        {closed, closed} -> {error, closed};
        Message -> Message
    end;
next(once, Stream) ->
    Message = next(active, Stream),
    _ = is_tuple(Message) andalso element(1, Message) =/= error andalso hackney_native:h2_setopts(Stream, [{active, once}]),
    Message.

%% The end is told once to an owner and again to every reader, and the process goes.
ended(Stream, Mode) ->
    Monitor = monitor(process, Stream),
    {error, _} = hackney_native:h2_recv(Stream, 0),
    {error, closed} = hackney_native:h2_send(Stream, <<"too late">>),
    ok = hackney_native:h2_close(Stream),
    receive {'DOWN', Monitor, process, Stream, Reason} -> ?assert(lists:member(Reason, [normal, noproc]), Mode) end,
    h2_case:silent(Stream).

%% With `manual', a stalled connection that is resumed brings what the window allows and no more.
manual_gets_no_more_than_its_window(Config) ->
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, source(), options(manual), [{down, 30000, stall}]),
        h2_case:until(fun() -> fault_proxy:forwarded(Connection, down) =:= 30000 end),
        ok = fault_proxy:inject(Connection, down, resume),
        h2_case:until(fun() ->
            {ok, #{recv_queue_bytes := Queued}} = hackney_native:h2_info(Stream),
            Queued =:= 65535
        end),
        {ok, #{recv_window := 0}} = hackney_native:h2_info(Stream),
        ?assertEqual({?DOWNLOAD, done}, read(manual, Stream)),
        hackney_native:h2_close(Stream)
    end) || Transport <- ?TRANSPORTS].

%% ---- sending ---------------------------------------------------------------------------------

upload(Config) ->
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, "/sink", [], [{up, ?MIDWAY, Fault}]),
        ?assertEqual({error, closed}, upload(Stream, ?DOWNLOAD)),
        {error, Reason} = h2_case:recv(Stream),
        %% A server that has told us of a wrong byte hangs up on what we go on sending, and that reset may overtake its alert.
        Causes = [Fault | [reset || Fault =:= corrupt]],
        ?assert(lists:any(fun(Cause) -> is_end(Cause, Transport, Reason) end, Causes), {Transport, Fault, Reason}),
        ?assert(fault_proxy:harmed(Connection)),
        ended(Stream, passive)
    end) || Transport <- ?TRANSPORTS, Fault <- [cut, half_close, reset] ++ [corrupt || Transport =:= tls]].

upload_goes_on(Config) ->
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, "/sink", [], [{up, ?MIDWAY, Fault}]),
        Resume = h2_case:concurrently(fun() ->
            h2_case:until(fun() -> fault_proxy:forwarded(Connection, up) >= ?MIDWAY end),
            fault_proxy:inject(Connection, up, resume)
        end),
        ok = upload(Stream, ?DOWNLOAD),
        {response, 200, _} = h2_case:recv(Stream),
        ?assertEqual({data, integer_to_binary(?DOWNLOAD)}, h2_case:recv(Stream)),
        done = h2_case:recv(Stream),
        ok = h2_case:result(Resume),
        hackney_native:h2_close(Stream)
    end) || Transport <- ?TRANSPORTS, Fault <- [{trickle, 3000}, {delay, 1}, stall]].

%% All of it, or up to the first that is refused.
upload(Stream, Left) when Left =< 10000 ->
    hackney_native:h2_send(Stream, binary:copy(<<"u">>, Left), fin, #{block => ?DEADLINE});
upload(Stream, Left) ->
    case hackney_native:h2_send(Stream, binary:copy(<<"u">>, 10000), nofin, #{block => ?DEADLINE}) of
        ok -> upload(Stream, Left - 10000);
        Error -> Error
    end.

%% ---- waiting ---------------------------------------------------------------------------------

waiting_reader(Config) ->
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, "/hang", []),
        {response, 200, _} = h2_case:recv(Stream),
        Reader = h2_case:concurrently(fun() -> hackney_native:h2_recv(Stream, infinity) end),
        h2_case:reader_waits(Stream),
        ok = fault_proxy:inject(Connection, Direction, Fault),
        {error, Reason} = h2_case:result(Reader),
        ?assert(is_end(Fault, Transport, Reason), {Transport, Direction, Fault, Reason}),
        ended(Stream, passive)
    end) || Transport <- ?TRANSPORTS,
            {Direction, Fault} <- [{down, cut}, {down, half_close}, {up, half_close}, {down, reset}]].

%% A stall is no event: the reader waits until its own deadline, and what was held back comes later.
waiting_reader_goes_on(Config) ->
    [balanced(fun() ->
        {Stream, Connection} = open(servers(Config), Transport, "/echo", []),
        {response, 200, _} = h2_case:recv(Stream),
        ok = fault_proxy:inject(Connection, Direction, stall),
        ok = hackney_native:h2_send(Stream, <<"late">>),
        {error, timeout} = in_time(100, fun() -> hackney_native:h2_recv(Stream, 100) end),
        Reader = h2_case:concurrently(fun() -> hackney_native:h2_recv(Stream, infinity) end),
        h2_case:reader_waits(Stream),
        ok = fault_proxy:inject(Connection, Direction, resume),
        ?assertEqual({ok, {data, <<"late">>}}, h2_case:result(Reader)),
        hackney_native:h2_close(Stream)
    end) || Transport <- ?TRANSPORTS, Direction <- [up, down]].

blocked_sender(Config) ->
    [balanced(fun() ->
        {Stream, Connection, Sender} = blocked(Config, Transport),
        ok = fault_proxy:inject(Connection, Direction, Fault),
        ?assertEqual({error, closed}, h2_case:result(Sender)),
        {error, Reason} = lists:last(h2_case:drain(Stream)),
        ?assert(is_end(Fault, Transport, Reason), {Transport, Direction, Fault, Reason}),
        ended(Stream, passive)
    end) || Transport <- ?TRANSPORTS,
            {Direction, Fault} <- [{down, cut}, {down, half_close}, {up, half_close}, {down, reset}]].

blocked_sender_goes_on(Config) ->
    [balanced(fun() ->
        {Stream, Connection, Sender} = blocked(Config, Transport),
        ok = fault_proxy:inject(Connection, Direction, stall),
        {error, timeout} = in_time(50, fun() ->
            hackney_native:h2_send(Stream, binary:copy(<<"z">>, 100000), nofin, #{block => 50})
        end),
        ok = fault_proxy:inject(Connection, Direction, resume),
        %% Reading makes room.
        [{response, 200, _}, {data, _} | _] = drain_with(Stream, Sender),
        ok
    end) || Transport <- ?TRANSPORTS, Direction <- [up, down]].

%% A stream whose sender waits: the server echoes, nobody reads, and every window and buffer is full.
blocked(Config, Transport) ->
    Options = [{initial_window_size, 65535}, {max_send_buffer, 100000}],
    {Stream, Connection} = open(servers(Config), Transport, "/echo", Options),
    fill_up(Stream),
    Piece = binary:copy(<<"y">>, 100000),
    Sender = h2_case:concurrently(fun() -> hackney_native:h2_send(Stream, Piece, fin, #{block => infinity}) end),
    {Pid, _} = Sender,
    h2_case:until(fun() -> process_info(Pid, status) =:= {status, waiting} end),
    {Stream, Connection, Sender}.

fill_up(Stream) ->
    case hackney_native:h2_send(Stream, binary:copy(<<"x">>, 50000), nofin, #{block => 300}) of
        ok -> fill_up(Stream);
        {error, timeout} -> ok
    end.

drain_with(Stream, Sender) ->
    Messages = h2_case:drain(Stream),
    ok = h2_case:result(Sender),
    [{trailers, [{<<"x-echoed-bytes">>, Echoed}]}, done, {error, closed}] = lists:nthtail(2, Messages),
    {data, Data} = lists:nth(2, Messages),
    ?assertEqual(binary_to_integer(Echoed), byte_size(Data)),
    Sent = byte_size(Data) - 100000,
    ?assertEqual(<<(binary:copy(<<"x">>, Sent))/binary, (binary:copy(<<"y">>, 100000))/binary>>, Data),
    Messages.

%% ---- nothing moves ---------------------------------------------------------------------------

%% The peer cannot be told goodbye, and everything goes all the same.
owner_dies_while_nothing_moves(Config) ->
    [balanced(fun() ->
        Self = self(),
        {Owner, Monitor} = spawn_monitor(fun() ->
            {Stream, Connection, _Sender} = blocked(Config, Transport),
            [ok = fault_proxy:inject(Connection, Direction, stall) || Direction <- [up, down]],
            Self ! {stream, Stream, Connection},
            receive never -> ok end
        end),
        Stream = receive {stream, Pid, _Connection} -> Pid end,
        exit(Owner, How),
        receive {'DOWN', Monitor, process, Owner, _} -> ok end,
        _ = h2_case:gone(Stream),
        ?assertEqual({error, closed}, hackney_native:h2_recv(Stream)),
        ?assertEqual({error, closed}, hackney_native:h2_send(Stream, <<"x">>))
    end) || Transport <- ?TRANSPORTS, How <- [kill, shutdown]].

close_while_nothing_moves(Config) ->
    [balanced(fun() ->
        {Stream, Connection, Sender} = blocked(Config, Transport),
        [ok = fault_proxy:inject(Connection, Direction, stall) || Direction <- [up, down]],
        ok = in_time(0, fun() -> hackney_native:h2_close(Stream) end),
        ?assertEqual({error, closed}, h2_case:result(Sender)),
        %% What was received stays readable.
        [{response, 200, _} | _] = Messages = h2_case:drain(Stream),
        ?assertEqual({error, closed}, lists:last(Messages)),
        _ = h2_case:gone(Stream)
    end) || Transport <- ?TRANSPORTS].

%% ---- a stream that works ---------------------------------------------------------------------

converse(Servers, Transport) ->
    {Stream, _} = open(Servers, Transport, "/echo", []),
    converse(Stream).

converse(Stream) ->
    ok = hackney_native:h2_send(Stream, <<"hello">>, fin),
    [{response, 200, _}, {data, <<"hello">>}, {trailers, _}, done, {error, closed}] = h2_case:drain(Stream),
    hackney_native:h2_close(Stream).

scheme(tls) -> "https";
scheme(h2c) -> "http".
