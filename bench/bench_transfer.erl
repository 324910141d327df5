%% @doc Data in one direction: small messages, large uploads, downloads in each delivery mode.
-module(bench_transfer).

-export([one_way/2, upload/2, download/2]).
-export_type([mode/0]).

-type mode() :: passive | active | manual.

%% Messages between two looks at the clock.
-define(BATCH, 64).
%% Nothing for so long in active mode: it will not come any more.
-define(SILENCE, 10000).

%% @doc Megabytes per second of small messages, up to the answer that tells that all have arrived.
-spec one_way(bench_stream:context(), bench_scenario:parameters()) -> float().
one_way(Context, #{seconds := Seconds, size := Size}) ->
    Message = binary:copy(<<"m">>, Size),
    Stream = bench_stream:open(Context, "/sink", []),
    Clock = bench_clock:start(),
    Sent = until(Clock, Seconds, Context, Stream, Message, 0),
    finish(Context, Stream, Sent),
    bench_clock:megabytes(Clock, Sent).

until(Clock, Seconds, Context, Stream, Message, Sent) ->
    case bench_clock:passed(Clock, Seconds) of
        true ->
            Sent;
        false ->
            repeat(?BATCH, Context, Stream, Message),
            until(Clock, Seconds, Context, Stream, Message, Sent + ?BATCH * byte_size(Message))
    end.

%% @doc Megabytes per second of one large request, up to the answer that tells that all has arrived.
-spec upload(bench_stream:context(), bench_scenario:parameters()) -> float().
upload(Context, #{bytes := Bytes, piece := Size}) ->
    Piece = binary:copy(<<"u">>, Size),
    Stream = bench_stream:open(Context, "/sink", []),
    Clock = bench_clock:start(),
    repeat(Bytes div Size, Context, Stream, Piece),
    bench_stream:send(Context, Stream, binary:part(Piece, 0, Bytes rem Size)),
    finish(Context, Stream, Bytes),
    bench_clock:megabytes(Clock, Bytes).

repeat(0, _Context, _Stream, _Data) ->
    ok;
repeat(Times, Context, Stream, Data) ->
    bench_stream:send(Context, Stream, Data),
    repeat(Times - 1, Context, Stream, Data).

%% `/sink' answers with the number of bytes that it got.
finish(Context, Stream, Sent) ->
    bench_stream:send(Context, Stream, <<>>, fin),
    bench_stream:response(Context, Stream),
    Arrived = binary_to_integer(iolist_to_binary(bench_stream:body(Context, Stream))),
    Arrived =:= Sent orelse throw({fails, {arrived, Arrived, 'of', Sent}}),
    bench_stream:close(Context, Stream).

%% @doc Megabytes per second of one large response.
-spec download(bench_stream:context(), bench_scenario:parameters()) -> float().
download(#{api := Api} = Context, #{bytes := Bytes, mode := Mode}) ->
    Clock = bench_clock:start(),
    Stream = bench_stream:open(Context, "/source?bytes=" ++ integer_to_list(Bytes), options(Mode)),
    bench_stream:send(Context, Stream, <<>>, fin),
    Received = case Mode of
                   passive -> passive(Api, Stream, 0);
                   active -> active(Stream, 0);
                   manual -> manual(Api, Stream, 0)
               end,
    Rate = bench_clock:megabytes(Clock, Received),
    Received =:= Bytes orelse throw({fails, {received, Received, 'of', Bytes}}),
    bench_stream:close(Context, Stream),
    Rate.

options(passive) -> [{active, false}];
options(active) -> [{active, true}];
options(manual) -> [{active, false}, {flow_control, manual}].

passive(Api, Stream, Received) ->
    case Api:h2_recv(Stream) of
        {ok, {data, Data}} -> passive(Api, Stream, Received + byte_size(Data));
        {ok, {response, 200, _}} -> passive(Api, Stream, Received);
        {ok, done} -> Received;
        Other -> throw({fails, {h2_recv, Other, 'after', Received}})
    end.

active(Stream, Received) ->
    receive
        {hackney_h2, Stream, {data, Data}} -> active(Stream, Received + byte_size(Data));
        {hackney_h2, Stream, {response, 200, _}} -> active(Stream, Received);
        {hackney_h2, Stream, done} -> Received;
        {hackney_h2, Stream, Other} -> throw({fails, {Other, 'after', Received}});
        {hackney_h2_error, Stream, Reason} -> throw({fails, {Reason, 'after', Received}})
    after ?SILENCE -> throw({fails, {silence, 'after', Received}})
    end.

manual(Api, Stream, Received) ->
    case Api:h2_recv(Stream) of
        {ok, {data, Data}} ->
            case Api:h2_consume(Stream, byte_size(Data)) of
                ok -> manual(Api, Stream, Received + byte_size(Data));
                {error, Reason} -> throw({fails, {h2_consume, Reason, 'after', Received}})
            end;
        {ok, {response, 200, _}} -> manual(Api, Stream, Received);
        {ok, done} -> Received;
        Other -> throw({fails, {h2_recv, Other, 'after', Received}})
    end.
