%%% @doc The same bytes again and again, as fast as the client takes them: the step `storm' of
%%% {@link raw_peer_conn}.
%%%
%%% Apart from the connection's own loop, because that keeps a transcript of all that comes back: a
%%% client that answers each PING answers with megabytes.
-module(raw_peer_storm).

-export([run/4]).

-export_type([options/0, outcome/0]).

%% `bytes' and `ms': how much, and how long, at most. `read': whether the client's answers are read
%% meanwhile (default), or left to fill its socket.
-type options() :: #{bytes => pos_integer(), ms => pos_integer(), read => boolean()}.
%% What went out, how it ended (`cut' by the client, `stalled' because it reads no more), how many
%% frames of each type came back, and the code of a GOAWAY among them.
-type outcome() :: #{sent := non_neg_integer(), ended := done | cut | stalled, took_ms := non_neg_integer(),
                     answers := #{atom() | tuple() => pos_integer()}, goaway => h2_frames:code()}.

-type transport() :: {gen_tcp, gen_tcp:socket()} | {ssl, ssl:sslsocket()}.

-define(POLL, 20).

%% @doc Sends on a passive socket. `Buffer' is what was read of a frame not yet whole; the new rest is
%% returned with the outcome.
-spec run(transport(), iodata(), binary(), options()) -> {outcome(), binary()}.
run({Module, _} = Socket, Bytes, Buffer, Opts) ->
    Batch = iolist_to_binary(Bytes),
    Start = now_ms(),
    Until = Start + maps:get(ms, Opts, 5000),
    _ = setopts(Socket, [{send_timeout, maps:get(ms, Opts, 5000)}]),
    Storm = self(),
    Reader = case maps:get(read, Opts, true) of
                 true -> spawn_link(fun() -> Storm ! {self(), read(Socket, Buffer, #{})} end);
                 false -> none
             end,
    {Sent, Ended} = send(Module, Socket, Batch, 0, maps:get(bytes, Opts, infinity), Until),
    {Seen, Rest} = finish(Reader, Buffer),
    {Goaway, Answers} = case maps:take(goaway, Seen) of
                            {Code, Others} -> {#{goaway => Code}, Others};
                            error -> {#{}, Seen}
                        end,
    {Goaway#{sent => Sent, ended => Ended, took_ms => now_ms() - Start, answers => Answers}, Rest}.

send(Module, {_, Socket} = Tagged, Batch, Sent, Most, Until) ->
    case Sent >= Most orelse now_ms() >= Until of
        true ->
            {Sent, done};
        false ->
            case Module:send(Socket, Batch) of
                ok -> send(Module, Tagged, Batch, Sent + byte_size(Batch), Most, Until);
                {error, timeout} -> {Sent, stalled};
                {error, _} -> {Sent, cut}
            end
    end.

finish(none, Buffer) ->
    {#{}, Buffer};
finish(Reader, _Buffer) ->
    Reader ! stop,
    receive {Reader, Result} -> Result end.

%% Until it is told to stop and nothing more is there.
read({Module, Socket} = Tagged, Buffer, Seen) ->
    case Module:recv(Socket, 0, ?POLL) of
        {ok, Bytes} ->
            {Seen1, Rest} = count(<<Buffer/binary, Bytes/binary>>, Seen),
            read(Tagged, Rest, Seen1);
        {error, timeout} ->
            receive stop -> {Seen, Buffer}
            after 0 -> read(Tagged, Buffer, Seen)
            end;
        {error, _} ->
            receive stop -> {Seen, Buffer} end
    end.

count(Bytes, Seen) ->
    case h2_frames:decode(Bytes) of
        {#{type := goaway, code := Code}, Rest} -> count(Rest, Seen#{goaway => Code});
        {#{type := Type}, Rest} -> count(Rest, maps:update_with(Type, fun(N) -> N + 1 end, 1, Seen));
        more -> {Seen, Bytes}
    end.

setopts({gen_tcp, Socket}, Opts) -> inet:setopts(Socket, Opts);
setopts({ssl, Socket}, Opts) -> ssl:setopts(Socket, Opts).

now_ms() -> erlang:monotonic_time(millisecond).
