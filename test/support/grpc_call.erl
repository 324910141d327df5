%% @doc One gRPC call over a full-duplex stream, as a gRPC client library would be built on it.
%%
%% Everything is passive and functional: each function takes the call and gives it back with what
%% has arrived but not been asked for yet.
-module(grpc_call).

-export([open/4, send/2, send/3, half_close/1, recv/1, finish/1, cancel/1, stream/1]).
-export_type([call/0, status/0]).

-type headers() :: [{binary(), binary()}].
-type status() :: #{headers := headers(), trailers := headers(), code := non_neg_integer(),
                    message := binary()}.
-record(call, {stream :: pid(),
               headers = undefined :: undefined | headers(),
               buffer = <<>> :: binary(),
               trailers = undefined :: undefined | headers()}).
-opaque call() :: #call{}.

-define(TIMEOUT, 20000).

%% @doc Starts a call of interop.Echo's `Method' at a server's URL, or on a connection to it, with more metadata and options.
-spec open(binary() | pid(), string(), headers(), list()) -> call().
open(Server, Method, Metadata, Options) ->
    Headers = [{<<"content-type">>, <<"application/grpc">>}, {<<"te">>, <<"trailers">>} | Metadata],
    Path = list_to_binary(["/interop.Echo/", Method]),
    Target = case Server of
                 Connection when is_pid(Connection) -> {Connection, Path};
                 BaseURL -> <<BaseURL/binary, Path/binary>>
             end,
    {ok, Stream} = hackney_native:h2_open(post, Target, Headers, Options),
    #call{stream = Stream}.

%% @doc The stream below.
-spec stream(call()) -> pid().
stream(#call{stream = Stream}) -> Stream.

-spec send(call(), iodata()) -> ok.
send(Call, Message) ->
    send(Call, Message, nofin).

%% @doc The same; `fin' for the last message. Half-closing after it may come too late: a server may
%% answer a unary call as soon as it has the message, and end the stream.
-spec send(call(), iodata(), fin | nofin) -> ok.
send(#call{stream = Stream}, Message, Fin) ->
    ok = hackney_native:h2_send(Stream, grpc_message:encode(Message), Fin, #{block => ?TIMEOUT}).

-spec half_close(call()) -> ok.
half_close(#call{stream = Stream}) ->
    ok = hackney_native:h2_send(Stream, <<>>, fin).

%% @doc The next message, or `done' when the server has ended the call.
-spec recv(call()) -> {ok, binary(), call()} | {done, call()}.
recv(#call{buffer = Buffer} = Call) ->
    case grpc_message:decode(Buffer) of
        {Message, Rest} ->
            {ok, Message, Call#call{buffer = Rest}};
        more ->
            more(Call, hackney_native:h2_recv(Call#call.stream, ?TIMEOUT))
    end.

more(#call{headers = undefined} = Call, {ok, {response, 200, Headers}}) ->
    recv(Call#call{headers = Headers});
more(#call{buffer = Buffer} = Call, {ok, {data, Data}}) ->
    recv(Call#call{buffer = <<Buffer/binary, Data/binary>>});
more(#call{trailers = undefined} = Call, {ok, {trailers, Trailers}}) ->
    recv(Call#call{trailers = Trailers});
more(#call{buffer = <<>>} = Call, {ok, done}) ->
    {done, Call}.

%% @doc How the call ended, to be asked after `done'. A call that fails before its first message may
%% carry its status in the response's own headers: a response of trailers only.
-spec finish(call()) -> status().
finish(#call{stream = Stream, headers = Headers, trailers = Trailers0}) ->
    {error, closed} = hackney_native:h2_recv(Stream, ?TIMEOUT),
    ok = hackney_native:h2_close(Stream),
    Trailers = case Trailers0 of undefined -> Headers; _ -> Trailers0 end,
    #{headers => Headers,
      trailers => Trailers,
      code => binary_to_integer(proplists:get_value(<<"grpc-status">>, Trailers)),
      message => proplists:get_value(<<"grpc-message">>, Trailers, <<>>)}.

-spec cancel(call()) -> ok.
cancel(#call{stream = Stream}) ->
    ok = hackney_native:h2_close(Stream).
