%%% @doc Streams of all kinds at work in one node, each with an owner of its own, and what their owners
%%% hear at the end. The counterpart is `h2-server', and for `served' a server in the node itself.
-module(traffic).

-export([start/1, start/2, kinds/0, streams/1, living/1, moves/1, ends/1, exchange/1]).
-export_type([traffic/0, target/0, kind/0]).

-opaque traffic() :: pid().
-type target() :: #{url := string(), ca_file := file:filename()}.
-type kind() :: ping_pong | active | active_once | active_n | upload | upload_in_pieces | churn
              | blocked_sender | waiting_reader | opening | shared | events | served.

-define(READY_TIMEOUT, 30000).
-define(MOVE_TIMEOUT, 10000).
-define(END_TIMEOUT, 5000).
-define(POLL, 10).

%% @doc How many of each.
-spec kinds() -> [{kind(), pos_integer()}].
kinds() ->
    [{ping_pong, 8}, {active, 3}, {active_once, 3}, {active_n, 2}, {upload, 2}, {upload_in_pieces, 2}, {churn, 4},
     {blocked_sender, 6}, {waiting_reader, 6}, {opening, 4}, {shared, 3}, {events, 3}, {served, 3}].

%% @doc The streams, at most, that an owner of this kind has.
-spec streams(kind()) -> pos_integer().
streams(shared) -> 2;
%% Its server's too.
streams(served) -> 2;
streams(_) -> 1.

%% @doc Starts all kinds; returns when each owner is where its kind wants it.
-spec start(target()) -> traffic().
start(Target) ->
    start(Target, kinds()).

%% @doc The same with these kinds only.
-spec start(target(), [{kind(), pos_integer()}]) -> traffic().
start(Target, Kinds) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    Caller = self(),
    {Boss, Monitor} = spawn_monitor(fun() -> boss(Caller, Target, Kinds) end),
    receive
        {Boss, running} -> demonitor(Monitor, [flush]), Boss;
        {'DOWN', Monitor, process, Boss, Reason} -> error(Reason)
    end.

%% @doc The owners that live, by kind.
-spec living(traffic()) -> [{kind(), pid()}].
living(Boss) ->
    ask(Boss, living).

%% @doc Waits until every stream that can move has moved on: something was sent or received on it, or opened.
-spec moves(traffic()) -> ok.
moves(Boss) ->
    Before = ask(Boss, counts),
    moved(Boss, Before, erlang:monotonic_time(millisecond) + ?MOVE_TIMEOUT).

moved(Boss, Before, Deadline) ->
    Now = maps:from_list(ask(Boss, counts)),
    case [Who || {{_, Kind} = Who, Count} <- Before, is_moving(Kind), maps:get(Who, Now, gone) =:= Count] of
        [] ->
            ok;
        Stuck ->
            erlang:monotonic_time(millisecond) < Deadline
                orelse error({stuck, [{Who, process_info(Pid, current_stacktrace)} || {Pid, _} = Who <- Stuck]}),
            receive after ?POLL -> moved(Boss, Before, Deadline) end
    end.

%% The others stand still on purpose.
is_moving(Kind) ->
    not lists:member(Kind, [blocked_sender, waiting_reader, opening]).

%% @doc Waits until every owner has ended and tells by what: the term that the API gave, `{exit, Reason}' if it was
%% killed, `stopped' for one between two streams.
-spec ends(traffic()) -> [{kind(), term()}].
ends(Boss) ->
    ask(Boss, ends).

ask(Boss, Question) ->
    Monitor = monitor(process, Boss),
    Boss ! {Question, self(), Monitor},
    receive
        {Monitor, Answer} -> demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, Boss, Reason} -> error(Reason)
    end.

%% ---- the boss ----------------------------------------------------------------------------------

boss(Caller, Target, Kinds) ->
    Boss = self(),
    Owners = maps:from_list([owner(Boss, Target, Kind) || {Kind, N} <- Kinds, _ <- lists:seq(1, N)]),
    [receive
         {running, Pid} -> ok;
         {'DOWN', Monitor, process, Pid, Reason} -> exit({did_not_start, Kind, Reason})
     after ?READY_TIMEOUT ->
         exit({does_not_start, Kind, process_info(Pid, current_stacktrace)})
     end || {Monitor, {Pid, Kind, _}} <- maps:to_list(Owners)],
    Caller ! {Boss, running},
    boss(Owners, []).

owner(Boss, Target, Kind) ->
    Counter = counters:new(1, []),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({ended, run(Kind, Target, {Boss, self(), Counter})}) end),
    {Monitor, {Pid, Kind, Counter}}.

boss(Owners, Ends) ->
    receive
        {'DOWN', Monitor, process, _, Reason} ->
            {{_, Kind, _}, Left} = maps:take(Monitor, Owners),
            boss(Left, [{Kind, ending(Reason)} | Ends]);
        {running, _} ->
            boss(Owners, Ends);
        {living, From, Ref} ->
            From ! {Ref, [{Kind, Pid} || {Pid, Kind, _} <- maps:values(Owners)]},
            boss(Owners, Ends);
        {counts, From, Ref} ->
            From ! {Ref, [{{Pid, Kind}, counters:get(Counter, 1)} || {Pid, Kind, Counter} <- maps:values(Owners)]},
            boss(Owners, Ends);
        {ends, From, Ref} ->
            [Pid ! stop || {Pid, churn, _} <- maps:values(Owners)],
            From ! {Ref, all_ends(Owners, Ends)}
    end.

all_ends(Owners, Ends) when map_size(Owners) =:= 0 ->
    Ends;
all_ends(Owners, Ends) ->
    receive
        {'DOWN', Monitor, process, _, Reason} ->
            {{_, Kind, _}, Left} = maps:take(Monitor, Owners),
            all_ends(Left, [{Kind, ending(Reason)} | Ends])
    after ?END_TIMEOUT ->
        exit({hanging, [{Kind, process_info(Pid, [current_stacktrace, messages])} || {Pid, Kind, _} <- maps:values(Owners)]})
    end.

ending({ended, Reason}) -> Reason;
ending(Reason) -> {exit, Reason}.

%% ---- the owners: each returns what ended it ----------------------------------------------------

run(ping_pong, Target, Self) ->
    Stream = open(Target, "/echo", []),
    ok = hackney_native:h2_send(Stream, <<"first">>),
    {ok, {response, 200, _}} = hackney_native:h2_recv(Stream),
    ping_pong(Stream, Self, <<"first">>);
run(active, Target, Self) ->
    active(download(Target, [{active, true}]), true, Self);
run(active_once, Target, Self) ->
    active(download(Target, [{active, once}]), once, Self);
run(active_n, Target, Self) ->
    active(download(Target, [{active, 10}]), 10, Self);
run(upload, Target, Self) ->
    upload(open(Target, "/sink", []), Self, binary:copy(<<"u">>, 262144));
run(upload_in_pieces, Target, Self) ->
    %% So many that a dirty scheduler takes them.
    upload(open(Target, "/sink", []), Self, lists:duplicate(200, binary:copy(<<"u">>, 2000)));
run(churn, Target, Self) ->
    churn(Target, Self);
run(blocked_sender, Target, Self) ->
    %% This peer reads when it has sent all.
    blocked_sender(download(Target, []), Self, binary:copy(<<"b">>, 262144));
run(waiting_reader, Target, Self) ->
    Stream = open(Target, "/hang", []),
    {ok, {response, 200, _}} = hackney_native:h2_recv(Stream),
    step(Self),
    {error, Reason} = hackney_native:h2_recv(Stream, infinity),
    Reason;
run(opening, _Target, Self) ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    _ = spawn_link(fun() ->
        {ok, _Silent} = gen_tcp:accept(Listener),
        step(Self),
        receive never -> ok end
    end),
    {error, Reason} = hackney_native:h2_open(lists:concat(["https://127.0.0.1:", Port]), [{connect_timeout, infinity}]),
    Reason;
%% Several streams on one connection, one of them waiting for ever.
run(shared, Target, Self) ->
    {ok, Conn} = hackney_native:h2_connect(maps:get(url, Target), tls(Target)),
    {ok, _Idle} = hackney_native:h2_open(post, {Conn, <<"/hang">>}, [], []),
    {ok, Stream} = hackney_native:h2_open(post, {Conn, <<"/echo">>}, [], []),
    ok = hackney_native:h2_send(Stream, <<"first">>),
    {ok, {response, 200, _}} = hackney_native:h2_recv(Stream),
    ping_pong(Stream, Self, <<"first">>);
run(events, #{url := Url, ca_file := CaFile}, Self) ->
    #{host := Host, port := Port} = uri_string:parse(Url),
    {ok, Conn} = hackney_native_h2:connect(Host, Port, #{ssl_opts => [{cacertfile, CaFile}]}),
    echoes(Conn, echo(Conn), Self);
%% Both ends of it are the library's.
run(served, _Target, Self) ->
    {ok, Server} = hackney_native_h2:start_server(0, #{transport => tcp, handler => fun echo_back/5}),
    {ok, Conn} = hackney_native_h2:connect("127.0.0.1", hackney_native_h2:server_port(Server), #{transport => tcp}),
    echoes(Conn, echo(Conn), Self).

%% A stream whose body comes back.
echo(Conn) ->
    {ok, Id} = hackney_native_h2:request(Conn, [{<<":method">>, <<"POST">>}, {<<":path">>, <<"/echo">>}, {<<":scheme">>, <<"https">>},
                                                {<<":authority">>, <<"localhost">>}], #{end_stream => false}),
    receive {h2, Conn, {response, Id, 200, _}} -> Id end.

echoes(Conn, Id, Self) ->
    Data = binary:copy(<<"e">>, 1 + rand:uniform(4000)),
    case hackney_native_h2:send_data(Conn, Id, Data, false) of
        ok -> echoed(Conn, Id, Self, byte_size(Data));
        {error, Reason} -> Reason
    end.

echoed(Conn, Id, Self, 0) ->
    step(Self),
    echoes(Conn, Id, Self);
echoed(Conn, Id, Self, Left) ->
    receive
        {h2, Conn, {data, Id, Data, false}} -> echoed(Conn, Id, Self, Left - byte_size(Data));
        {h2, Conn, {closed, Reason}} -> Reason
    end.

echo_back(Conn, Id, _Method, _Path, _Headers) ->
    ok = hackney_native_h2:send_response(Conn, Id, 200, []),
    Before = case hackney_native_h2:set_stream_handler(Conn, Id, self()) of
                 ok -> [];
                 {ok, Chunks} -> Chunks
             end,
    _ = [ok = hackney_native_h2:send_data(Conn, Id, Data, End) || {Data, End} <- Before],
    echo_back(Conn, Id).

echo_back(Conn, Id) ->
    receive
        {h2, Conn, {data, Id, Data, End}} ->
            case hackney_native_h2:send_data(Conn, Id, Data, End) of
                ok -> echo_back(Conn, Id);
                {error, _} -> ok
            end;
        {h2, Conn, _} ->
            ok
    end.

ping_pong(Stream, Self, Sent) ->
    case read(Stream, byte_size(Sent)) of
        ok ->
            step(Self),
            Next = binary:copy(<<"p">>, 1 + rand:uniform(4000)),
            case hackney_native:h2_send(Stream, Next) of
                ok -> ping_pong(Stream, Self, Next);
                {error, Reason} -> Reason
            end;
        {error, Reason} ->
            Reason
    end.

read(_Stream, 0) ->
    ok;
read(Stream, Left) ->
    case hackney_native:h2_recv(Stream) of
        {ok, {data, Data}} -> read(Stream, Left - byte_size(Data));
        {error, _} = Error -> Error
    end.

active(Stream, Mode, Self) ->
    receive
        {hackney_h2, Stream, {closed, closed}} -> closed;
        {hackney_h2_error, Stream, Reason} -> Reason;
        {hackney_h2, Stream, _} when Mode =:= once -> step(Self), active_again(Stream, Mode, Self);
        {hackney_h2, Stream, _} -> step(Self), active(Stream, Mode, Self);
        {hackney_h2_passive, Stream} -> active_again(Stream, Mode, Self)
    end.

active_again(Stream, Mode, Self) ->
    case hackney_native:h2_setopts(Stream, [{active, Mode}]) of
        ok -> active(Stream, Mode, Self);
        {error, Reason} -> Reason
    end.

upload(Stream, Self, Data) ->
    case hackney_native:h2_send(Stream, Data, nofin, #{block => infinity}) of
        ok -> step(Self), upload(Stream, Self, Data);
        {error, Reason} -> Reason
    end.

blocked_sender(Stream, Self, Data) ->
    case hackney_native:h2_send(Stream, Data) of
        ok ->
            blocked_sender(Stream, Self, Data);
        {error, send_buffer_full} ->
            step(Self),
            %% What is on its way may still make room.
            case hackney_native:h2_send(Stream, Data, nofin, #{block => infinity}) of
                ok -> blocked_sender(Stream, Self, Data);
                {error, Reason} -> Reason
            end
    end.

churn(Target, Self) ->
    case exchange(Target) of
        ok ->
            step(Self),
            receive stop -> stopped after 0 -> churn(Target, Self) end;
        {error, Reason} ->
            Reason
    end.

%% @doc Opens a stream, reads an answer from it to its end, and closes it.
-spec exchange(target()) -> ok | {error, term()}.
exchange(#{url := Url} = Target) ->
    case hackney_native:h2_open(Url ++ "/hello", tls(Target)) of
        {ok, Stream} ->
            Result = read_all(Stream),
            ok = hackney_native:h2_close(Stream),
            Result;
        {error, _} = Error ->
            Error
    end.

read_all(Stream) ->
    case hackney_native:h2_recv(Stream) of
        {ok, done} -> ok;
        {ok, _} -> read_all(Stream);
        {error, _} = Error -> Error
    end.

download(Target, Opts) ->
    open(Target, "/source?bytes=1000000000000", Opts).

open(#{url := Url} = Target, Path, Opts) ->
    {ok, Stream} = hackney_native:h2_open(Url ++ Path, tls(Target) ++ Opts),
    Stream.

tls(#{ca_file := CaFile}) -> [{ssl_options, [{cacertfile, CaFile}]}].

%% The first time tells the boss too.
step({Boss, Owner, Counter}) ->
    _ = counters:get(Counter, 1) =:= 0 andalso (Boss ! {running, Owner}),
    counters:add(Counter, 1, 1).
