%% @doc gRPC calls, framed by the test itself, against servers that were not written here: grpcio
%% (Python, on the C core) and grpc-go. The service is interop.Echo of test/servers.
-module(grpc_interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([unary/1, cleartext/1, server_streaming/1, client_streaming/1, bidi_ping_pong/1,
         bidi_pipelined/1, large_messages/1, metadata/1, failure/1, unknown_method/1, deadline/1,
         cancellation/1, two_messages_in_one_send/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, grpcio}, {group, go}].

groups() ->
    [{Server, [], cases()} || Server <- [grpcio, go]].

cases() ->
    [unary, cleartext, server_streaming, client_streaming, bidi_ping_pong, bidi_pipelined,
     large_messages, metadata, failure, unknown_method, deadline, cancellation,
     two_messages_in_one_send].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    Directory = proplists:get_value(priv_dir, Config),
    ok = certificates:create(Directory),
    Config.

end_per_suite(_Config) -> ok.

init_per_group(Kind, Config) ->
    Directory = proplists:get_value(priv_dir, Config),
    [{server, peer_server:start(Kind, #{certificates => Directory, root => Directory})} | Config].

end_per_group(_Kind, Config) ->
    peer_server:stop(proplists:get_value(server, Config)).

unary(Config) ->
    {[Reply], Status} = exchange(open(Config, "Unary"), [<<"hello">>]),
    ?assertEqual(<<"hello">>, Reply),
    ?assertMatch(#{code := 0}, Status).

cleartext(Config) ->
    URL = peer_server:url(proplists:get_value(server, Config), grpc_h2c, ""),
    Call = grpc_call:open(URL, "Unary", [], [{h2c, true}]),
    ?assertMatch({[<<"hello">>], #{code := 0}}, exchange(Call, [<<"hello">>])).

%% The shortest message that can hold its index, and more of them than a window holds of frames.
server_streaming(Config) ->
    {Replies, Status} = exchange(open(Config, "ServerStream"), [<<5000:32, 4:32>>]),
    ?assertEqual([<<I:32>> || I <- lists:seq(0, 4999)], Replies),
    ?assertMatch(#{code := 0}, Status).

client_streaming(Config) ->
    Messages = [binary:copy(<<"x">>, Size) || Size <- lists:seq(0, 999)],
    {[Reply], Status} = exchange(open(Config, "ClientStream"), Messages),
    ?assertEqual(<<1000:32, (iolist_size(Messages)):64>>, Reply),
    ?assertMatch(#{code := 0}, Status).

%% Every message needs the answer to the one before: nothing may wait for the stream's end.
bidi_ping_pong(Config) ->
    Played = lists:foldl(fun ping_pong/2, open(Config, "Bidi"), lists:seq(1, 1000)),
    ok = grpc_call:half_close(Played),
    ?assertMatch({[], #{code := 0}}, drain(Played, [])).

ping_pong(Number, Call) ->
    Message = <<"message ", (integer_to_binary(Number))/binary>>,
    ok = grpc_call:send(Call, Message),
    {ok, Message, Next} = grpc_call:recv(Call),
    Next.

%% All requests first, the answers after them.
bidi_pipelined(Config) ->
    Messages = [integer_to_binary(N) || N <- lists:seq(1, 1000)],
    ?assertMatch({Messages, #{code := 0}}, exchange(open(Config, "Bidi"), Messages)).

large_messages(Config) ->
    Message = crypto:strong_rand_bytes(3 * 1024 * 1024),
    Call = open(Config, "Bidi"),
    Next = lists:foldl(fun(_, C) ->
                               ok = grpc_call:send(C, Message),
                               {ok, Reply, Rest} = grpc_call:recv(C),
                               ?assert(Reply =:= Message),
                               Rest
                       end, Call, lists:seq(1, 3)),
    ok = grpc_call:half_close(Next),
    ?assertMatch({[], #{code := 0}}, drain(Next, [])).

%% Binary metadata travels as base64, which a server may send back without padding.
metadata(Config) ->
    Binary = <<0, 1, 2, 255>>,
    Metadata = [{<<"x-echo">>, <<"one">>}, {<<"x-echo-bin">>, base64:encode(Binary)}],
    {[<<>>], #{code := 0, headers := Headers, trailers := Trailers}} =
        exchange(open(Config, "Unary", Metadata), [<<>>]),
    ?assertEqual(<<"one">>, proplists:get_value(<<"x-echo">>, Headers)),
    Echoed = proplists:get_value(<<"x-echo-bin">>, Trailers),
    ?assertEqual(binary:part(base64:encode(Binary), 0, 6), binary:part(Echoed, 0, 6)).

%% NOT_FOUND is 5; the text travels percent-encoded in grpc-message.
failure(Config) ->
    {[], Status} = exchange(open(Config, "FailWith"), [<<5:32, "no such thing: 100%">>]),
    ?assertMatch(#{code := 5, message := <<"no such thing: 100%25">>}, Status).

%% UNIMPLEMENTED, given before the request has ended: the client's side is still open.
unknown_method(Config) ->
    {[], Status} = drain(open(Config, "NoSuchMethod"), []),
    ?assertMatch(#{code := 12}, Status).

%% DEADLINE_EXCEEDED: the server keeps it and says so, whoever notices first.
deadline(Config) ->
    Key = key(),
    Call = open(Config, "Wait", [{<<"grpc-timeout">>, <<"200m">>}]),
    ok = grpc_call:send(Call, Key, fin),
    {[], Status} = drain(Call, []),
    ?assertMatch(#{code := 4}, Status),
    ?assertEqual(deadline, fate(Config, Key)).

%% The server's handler learns that the client has closed the stream.
cancellation(Config) ->
    Key = key(),
    Call = open(Config, "Wait"),
    ok = grpc_call:send(Call, Key, fin),
    {ok, {response, 200, _}} = hackney_native:h2_recv(grpc_call:stream(Call), 20000),
    ok = grpc_call:cancel(Call),
    ?assertEqual(cancelled, fate(Config, Key)).

%% Message boundaries are not those of DATA frames, whichever way one cuts.
two_messages_in_one_send(Config) ->
    Call = open(Config, "Bidi"),
    Stream = grpc_call:stream(Call),
    Bytes = iolist_to_binary([grpc_message:encode(M) || M <- [<<"one">>, <<"two">>, <<"three">>]]),
    <<Head:11/binary, Tail/binary>> = Bytes,
    ok = hackney_native:h2_send(Stream, Head),
    ok = hackney_native:h2_send(Stream, Tail, fin),
    ?assertMatch({[<<"one">>, <<"two">>, <<"three">>], #{code := 0}}, drain(Call, [])).

%% Helpers.

open(Config, Method) -> open(Config, Method, []).

open(Config, Method, Metadata) ->
    CA = certificates:file(proplists:get_value(priv_dir, Config), "ca.pem"),
    URL = peer_server:url(proplists:get_value(server, Config), grpc, ""),
    grpc_call:open(URL, Method, Metadata,
                   [{ssl_options, [{cacertfile, CA}]}, {connect_timeout, 10000}]).

%% Sends all messages, our side's end with the last, and takes everything that comes.
exchange(Call, Messages) ->
    {Others, [Last]} = lists:split(length(Messages) - 1, Messages),
    [ok = grpc_call:send(Call, Message) || Message <- Others],
    ok = grpc_call:send(Call, Last, fin),
    drain(Call, []).

drain(Call, Messages) ->
    case grpc_call:recv(Call) of
        {ok, Message, Next} -> drain(Next, [Message | Messages]);
        {done, Ended} -> {lists:reverse(Messages), grpc_call:finish(Ended)}
    end.

%% How the call `Wait' with this key ended, as its server saw it: asking waits until it has.
fate(Config, Key) ->
    {[Fate], #{code := 0}} = exchange(open(Config, "Fate"), [Key]),
    case Fate of
        <<"canceled">> -> cancelled;
        <<"context canceled">> -> cancelled;
        <<"deadline">> -> deadline;
        <<"context deadline exceeded">> -> deadline
    end.

key() -> integer_to_binary(erlang:unique_integer([positive])).
