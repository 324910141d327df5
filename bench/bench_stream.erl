%% @doc What all scenarios do with a stream, in terms of hackney's API. Anything unexpected is thrown as `{fails, Reason}'.
-module(bench_stream).

-export([open/3, response/2, send/3, send/4, receive_bytes/3, body/2, close/2]).
-export_type([context/0]).

-type context() :: #{api := module(), open := fun((string(), [{atom(), term()}]) -> {ok, pid()} | {error, term()})}.

%% A sender that was refused asks again at once a few times, since room comes within microseconds, then each millisecond.
-define(EAGER_TRIES, 100).
%% Refused for so long, a piece never gets in.
-define(REFUSED_FOR, 2000).

%% @doc Opens a stream.
-spec open(context(), string(), [{atom(), term()}]) -> pid().
open(#{open := Open}, Path, Options) ->
    case Open(Path, Options) of
        {ok, Stream} -> Stream;
        {error, Reason} -> throw({fails, {h2_open, Reason}})
    end.

%% @doc Waits for the head of the response, which has to be a 200.
-spec response(context(), pid()) -> ok.
response(Context, Stream) ->
    case next(Context, Stream) of
        {response, 200, _} -> ok;
        Other -> throw({fails, {no_response, Other}})
    end.

%% @doc As `send(Context, Stream, Data, nofin)'.
-spec send(context(), pid(), iodata()) -> ok.
send(Context, Stream, Data) ->
    send(Context, Stream, Data, nofin).

%% @doc Sends, and tries again while the stream's send buffer is full.
-spec send(context(), pid(), iodata(), fin | nofin) -> ok.
send(#{api := Api} = Context, Stream, Data, Fin) ->
    case Api:h2_send(Stream, Data, Fin) of
        ok -> ok;
        {error, send_buffer_full} -> send_again(Context, Stream, Data, Fin);
        {error, Reason} -> throw({fails, {h2_send, Reason}})
    end.

send_again(Context, Stream, Data, Fin) ->
    send_again(Context, Stream, Data, Fin, 1, erlang:monotonic_time(millisecond) + ?REFUSED_FOR).

send_again(#{api := Api} = Context, Stream, Data, Fin, Try, Deadline) ->
    case Try =< ?EAGER_TRIES of
        true -> erlang:yield();
        false -> receive after 1 -> ok end
    end,
    case Api:h2_send(Stream, Data, Fin) of
        ok ->
            ok;
        {error, send_buffer_full} ->
            erlang:monotonic_time(millisecond) < Deadline orelse throw({fails, send_buffer_full}),
            send_again(Context, Stream, Data, Fin, Try + 1, Deadline);
        {error, Reason} ->
            throw({fails, {h2_send, Reason}})
    end.

%% @doc Receives DATA of that many bytes altogether.
-spec receive_bytes(context(), pid(), non_neg_integer()) -> ok.
receive_bytes(_Context, _Stream, 0) ->
    ok;
receive_bytes(Context, Stream, Missing) ->
    case next(Context, Stream) of
        {data, Data} when byte_size(Data) =< Missing -> receive_bytes(Context, Stream, Missing - byte_size(Data));
        Other -> throw({fails, {unexpected, Other}})
    end.

%% @doc Receives the rest of the body, up to the end of the stream.
-spec body(context(), pid()) -> [binary()].
body(Context, Stream) ->
    case next(Context, Stream) of
        {data, Data} -> [Data | body(Context, Stream)];
        {trailers, _} -> body(Context, Stream);
        done -> [];
        Other -> throw({fails, {unexpected, Other}})
    end.

%% @doc Closes the stream.
-spec close(context(), pid()) -> ok.
close(#{api := Api}, Stream) ->
    _ = Api:h2_close(Stream),
    ok.

next(#{api := Api}, Stream) ->
    case Api:h2_recv(Stream) of
        {ok, Message} -> Message;
        {error, Reason} -> throw({fails, {h2_recv, Reason}})
    end.
