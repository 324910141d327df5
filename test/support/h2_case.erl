%%% @doc What the suites with a {@link raw_peer} share: a stream that stands, and waits with a
%%% deadline.
-module(h2_case).

-export([start/0, open/0, open/1, open/2, open_to/2, respond/1, respond/2, recv/1, drain/1,
         active/1, silent/1, gone/1, until/1, until/2, refused_port/0, is_bad/1, is_closed/1,
         concurrently/1, in_call/1, result/1, reader_waits/1, queued/2, ended/1, stream_options/1, reason/1, fds/0, rss/0]).

-export_type([task/0]).

%% Far above what anything takes: only a real hang meets it.
-define(DEADLINE, 10000).
-define(POLL, 10).

-type task() :: {pid(), reference()}.

%% @doc Starts what the suites need.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(ssl),
    {ok, _} = application:ensure_all_started(hackney_native),
    ok.

%% @doc A stream to a new TLS peer, and the peer's end of it.
-spec open() -> {pid(), pid()}.
open() -> open([]).

%% @doc The same with options for `h2_open'.
-spec open([{atom(), term()}]) -> {pid(), pid()}.
open(Opts) -> open(#{}, Opts).

%% @doc The same with options for the peer too.
-spec open(map(), [{atom(), term()}]) -> {pid(), pid()}.
open(PeerOpts, Opts) -> open_to(raw_peer:start(PeerOpts), Opts).

%% @doc The same to a peer that runs already.
-spec open_to(raw_peer:peer(), [{atom(), term()}]) -> {pid(), pid()}.
open_to(Peer, Opts) ->
    {ok, Stream} = hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer, Opts)),
    Conn = raw_peer:accept(Peer),
    #{stream := 1} = raw_peer:expect(Conn, headers),
    %% With this unread, a close of the peer would be a reset to the kernel.
    _ = raw_peer:expect(Conn, #{type => settings, flags => [ack]}),
    {Stream, Conn}.

%% @doc The peer answers 200.
-spec respond(pid()) -> ok.
respond(Conn) -> respond(Conn, []).

%% @doc The peer answers 200 with these fields.
-spec respond(pid(), [{binary(), binary()}]) -> ok.
respond(Conn, Headers) ->
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>} | Headers]}]),
    ok.

%% @doc The next message of a passive stream.
-spec recv(pid()) -> term().
recv(Stream) ->
    case hackney_native:h2_recv(Stream, ?DEADLINE) of
        {ok, Message} -> Message;
        Error -> Error
    end.

%% @doc All that is left on a passive stream, joined DATA, and the error at the end.
-spec drain(pid()) -> [term()].
drain(Stream) ->
    case recv(Stream) of
        {error, _} = Error -> [Error];
        {data, Data} ->
            case drain(Stream) of
                [{data, More} | Rest] -> [{data, <<Data/binary, More/binary>>} | Rest];
                Rest -> [{data, Data} | Rest]
            end;
        Message -> [Message | drain(Stream)]
    end.

%% @doc The next notice of an active stream: a message, `{error, Reason}' or `passive'.
-spec active(pid()) -> term().
active(Stream) ->
    receive
        {hackney_h2, Stream, Message} -> Message;
        {hackney_h2_error, Stream, Reason} -> {error, Reason};
        {hackney_h2_passive, Stream} -> passive
    after ?DEADLINE ->
        error({no_message_from, Stream, process_info(self(), messages)})
    end.

%% @doc Fails if a notice of the stream lies in the mailbox.
-spec silent(pid()) -> ok.
silent(Stream) ->
    receive
        Message when element(2, Message) =:= Stream -> error({unexpected, Message})
    after 0 ->
        ok
    end.

%% @doc Waits for a process to end and returns why it did.
-spec gone(pid()) -> term().
gone(Pid) ->
    Monitor = monitor(process, Pid),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> Reason
    after ?DEADLINE ->
        error({still_there, Pid, process_info(Pid)})
    end.

%% @doc Waits until something holds of which no message tells.
-spec until(fun(() -> boolean())) -> ok.
until(Fun) -> until(Fun, ?DEADLINE).

%% @doc The same with a deadline in milliseconds.
-spec until(fun(() -> boolean()), non_neg_integer()) -> ok.
until(Fun, Timeout) ->
    poll(Fun, erlang:monotonic_time(millisecond) + Timeout).

poll(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({never, Fun}),
            receive after ?POLL -> poll(Fun, Deadline) end
    end.

%% @doc A port of 127.0.0.1 on which nobody listens, nor will as long as the caller lives: it is bound. One that was merely free may be
%% somebody else's a moment later.
-spec refused_port() -> inet:port_number().
refused_port() ->
    {ok, Socket} = socket:open(inet, stream, tcp),
    ok = socket:bind(Socket, #{family => inet, addr => loopback, port => 0}),
    {ok, #{port := Port}} = socket:sockname(Socket),
    Port.

%% @doc Whether a call refuses its arguments in one of the two ways that are allowed.
-spec is_bad(fun(() -> term())) -> boolean().
is_bad(Fun) ->
    try Fun() of
        {error, badarg} -> true;
        {error, {badarg, _}} -> true;
        Other -> error({accepted, Other})
    catch
        error:badarg -> true;
        error:function_clause -> true
    end.

%% @doc Whether a send was refused because our side, or all of the stream, is over.
-spec is_closed(term()) -> boolean().
is_closed(Result) ->
    lists:member(Result, [{error, closed}, {error, stream_closed}]).

%% @doc Runs a call in a process of its own.
-spec concurrently(fun(() -> term())) -> task().
concurrently(Fun) -> spawn_monitor(fun() -> exit({result, Fun()}) end).

%% @doc Waits until it waits for the answer of a call, which has been sent then.
-spec in_call(task()) -> ok.
in_call({Pid, _}) ->
    until(fun() ->
        process_info(Pid, [current_function, status]) =:= [{current_function, {gen, do_call, 4}}, {status, waiting}]
    end).

%% @doc Waits until a process waits in `h2_recv'. Asked without calling it: that would be a reader too.
-spec reader_waits(pid()) -> ok.
reader_waits(Stream) ->
    until(fun() ->
        {ok, #{recv_waiting := Waiting}} = hackney_native:h2_info(Stream),
        Waiting
    end).

%% @doc Waits until so many body bytes, or more, lie unread in the stream.
-spec queued(pid(), non_neg_integer()) -> ok.
queued(Stream, Bytes) ->
    until(fun() ->
        {ok, #{recv_queue_bytes := N}} = hackney_native:h2_info(Stream),
        N >= Bytes
    end).

%% @doc Waits until the client has ended its side with DATA.
-spec ended(pid()) -> map().
ended(Conn) ->
    raw_peer:expect(Conn, fun(#{type := data, flags := Flags}) -> lists:member(end_stream, Flags);
                             (_) -> false
                          end).

%% @doc What `hackney_native_h2_stream:start_link/1' takes, for that peer.
-spec stream_options(raw_peer:peer()) -> map().
stream_options(Peer) ->
    [{ssl_options, Ssl}] = raw_peer:options(Peer),
    #{host => "localhost", port => raw_peer:port(Peer), transport => hackney_ssl,
      method => <<"GET">>, path => <<"/p">>, headers => [], ssl_options => Ssl}.

%% @doc The reason of a process that may have been gone before anybody looked.
-spec reason(term()) -> term().
reason(noproc) -> normal;
reason(Reason) -> Reason.

%% @doc Waits for the call and returns its result.
-spec result(task()) -> term().
result({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
        {'DOWN', Monitor, process, Pid, Reason} -> error({task_failed, Reason})
    after ?DEADLINE ->
        error({hangs, process_info(Pid, current_stacktrace)})
    end.

%% @doc Open file descriptors of this node.
-spec fds() -> non_neg_integer().
fds() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    length(Names).

%% @doc Resident memory of this node in bytes.
-spec rss() -> non_neg_integer().
rss() ->
    {ok, Text} = file:read_file("/proc/self/status"),
    {match, [Kilobytes]} = re:run(Text, "VmRSS:\\s+(\\d+) kB", [{capture, all_but_first, binary}]),
    binary_to_integer(Kilobytes) * 1024.
