%%% @doc Many streams on one connection at a time, to a server that returns what it gets, piece by piece or at the end.
-module(shared_load).

-export([ping_pong/4, whole/3, all/2]).

-define(TIMEOUT, 60000).

%% @doc Opens so many streams, has them all open at a time if the server allows it, plays ping-pong on each for so many rounds,
%% and returns what each ended with: the SHA-256 of its body and the server's trailers.
-spec ping_pong(fun(() -> {pid(), binary()}), pos_integer(), pos_integer(), open_at_once | as_they_come) ->
          [{binary(), [{binary(), binary()}]}].
ping_pong(Target, Count, Rounds, How) ->
    all(Count, fun(N) ->
        {ok, Stream} = hackney_native:h2_open(post, Target(), [], [{connect_timeout, ?TIMEOUT}]),
        {response, 200, _} = recv(Stream),
        How =:= open_at_once andalso meet(Count),
        Pieces = [iolist_to_binary(io_lib:format("~b of stream ~b ", [Round, N])) || Round <- lists:seq(1, Rounds)],
        [begin
             ok = hackney_native:h2_send(Stream, Piece),
             Piece = take(Stream, byte_size(Piece), <<>>)
         end || Piece <- Pieces],
        ok = hackney_native:h2_send(Stream, <<>>, fin),
        {trailers, Trailers} = recv(Stream),
        done = recv(Stream),
        {error, closed} = hackney_native:h2_recv(Stream),
        ok = hackney_native:h2_close(Stream),
        {hash(Pieces), Trailers}
    end).

%% @doc The same for a server that answers when it has all: each sends its own so many bytes and gets them back.
-spec whole(fun(() -> {pid(), binary()}), pos_integer(), pos_integer()) -> [ok].
whole(Target, Count, Size) ->
    all(Count, fun(N) ->
        {ok, Stream} = hackney_native:h2_open(post, Target(), [], [{connect_timeout, ?TIMEOUT}]),
        Body = raw_peer_conn:content(N * 1000003, Size),
        ok = hackney_native:h2_send(Stream, Body, fin, #{block => ?TIMEOUT}),
        {response, 200, _} = recv(Stream),
        Body = take(Stream, Size, <<>>),
        ok = to_the_end(Stream),
        ok = hackney_native:h2_close(Stream)
    end).

%% @doc Runs it for 1 to `Count' in processes of their own and returns the results in order.
-spec all(pos_integer(), fun((pos_integer()) -> Result)) -> [Result].
all(Count, Fun) ->
    Counter = atomics:new(1, []),
    Tasks = [spawn_monitor(fun() -> put(counter, Counter), exit({result, Fun(N)}) end) || N <- lists:seq(1, Count)],
    [receive
         {'DOWN', Monitor, process, Pid, {result, Result}} -> Result;
         {'DOWN', Monitor, process, Pid, Reason} -> error({task_failed, Reason})
     end || {Pid, Monitor} <- Tasks].

%% Waits until all are here.
meet(Count) ->
    Counter = get(counter),
    ok = atomics:add(Counter, 1, 1),
    h2_case:until(fun() -> atomics:get(Counter, 1) >= Count end, ?TIMEOUT).

take(_Stream, 0, Got) ->
    Got;
take(Stream, Left, Got) ->
    {data, Data} = recv(Stream),
    take(Stream, Left - byte_size(Data), <<Got/binary, Data/binary>>).

to_the_end(Stream) ->
    case recv(Stream) of
        done -> ok;
        {trailers, _} -> to_the_end(Stream)
    end.

recv(Stream) ->
    case hackney_native:h2_recv(Stream, ?TIMEOUT) of
        {ok, Message} -> Message;
        Error -> Error
    end.

hash(Data) -> string:lowercase(binary:encode_hex(crypto:hash(sha256, Data))).
