%% @doc gRPC's framing of messages: one byte that tells whether the message is compressed, its length
%% as 32 bits, the message. Frames and DATA frames know nothing of each other: one may hold many or
%% a part of the other.
-module(grpc_message).

-export([encode/1, decode/1]).

%% @doc A message, ready to be sent. Never compressed.
-spec encode(iodata()) -> iolist().
encode(Message) ->
    [<<0, (iolist_size(Message)):32>>, Message].

%% @doc The first message in what was received and what follows it, or `more' when it is incomplete.
-spec decode(binary()) -> {Message :: binary(), Rest :: binary()} | more.
decode(<<0, Length:32, Message:Length/binary, Rest/binary>>) ->
    {Message, Rest};
decode(Buffer) when is_binary(Buffer) ->
    more.
