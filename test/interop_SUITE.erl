%% @doc The same conversations with HTTP/2 servers that were not written here: nghttpd, nginx, Node's
%% http2 and Go's net/http. What the paths are for is said in peer_server.
-module(interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2]).
-export([echo/1, echo_in_cleartext/1, interleaved_echo/1, interleaved_echo_active/1, request_trailers/1,
         download_passive/1, download_active/1, download_once/1, download_manual/1, download_slow_reader/1,
         upload/1, upload_small_pieces/1, send_buffer_full/1,
         early_end/1, body_too_large/1, empty_response/1, reset/1, reset_codes/1, reset_active/1,
         goaway_while_open/1, informational/1, informational_dropped/1,
         close_reaches_peer/1, owner_death_reaches_peer/1, connection_lost/1]).

-define(BLOB_SIZE, 32 * 1024 * 1024).
-define(BLOCK, #{block => 20000}).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, nghttpd}, {group, nginx}, {group, node}, {group, go}].

groups() ->
    Common = [download_passive, download_active, download_once, download_manual, download_slow_reader,
              upload],
    Echoing = [echo, echo_in_cleartext],
    %% Servers whose handlers run beside the request, not after it.
    Duplex = [interleaved_echo, interleaved_echo_active, request_trailers, upload_small_pieces,
              send_buffer_full, early_end, goaway_while_open, reset, reset_active, informational,
              informational_dropped, close_reaches_peer, owner_death_reaches_peer, connection_lost],
    [{nghttpd, [], Common ++ Echoing},
     {nginx, [], Common ++ [early_end, body_too_large, reset, reset_active, goaway_while_open]},
     {node, [], Common ++ Echoing ++ Duplex ++ [empty_response, reset_codes]},
     {go, [], Common ++ Echoing ++ Duplex}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    Directory = proplists:get_value(priv_dir, Config),
    Certificates = filename:join(Directory, "certificates"),
    Root = filename:join(Directory, "root"),
    ok = certificates:create(Certificates),
    Blob = crypto:strong_rand_bytes(?BLOB_SIZE),
    ok = filelib:ensure_dir(filename:join(Root, "blob")),
    ok = file:write_file(filename:join(Root, "blob"), Blob),
    [{certificates, Certificates}, {root, Root}, {blob_hash, hash(Blob)} | Config].

end_per_suite(_Config) -> ok.

init_per_group(Kind, Config) ->
    [{kind, Kind}, {server, start(Kind, Config)} | Config].

end_per_group(_Kind, Config) ->
    peer_server:stop(proplists:get_value(server, Config)).

%% One piece each way, our side ended first, as a simple request would be.
echo(Config) -> echo_at(tls, Config).

echo_in_cleartext(Config) -> echo_at(h2c, Config).

echo_at(Listener, Config) ->
    Pid = h2_conversation:open(post, Listener, "/echo", Config),
    ok = hackney_native:h2_send(Pid, <<"one ">>),
    ok = hackney_native:h2_send(Pid, [<<"two">>, " three"], fin),
    Outcome = h2_conversation:collect(Pid),
    ?assertMatch(#{status := 200, body := <<"one two three">>, ended := done}, Outcome),
    ?assertEqual(expected_trailers(proplists:get_value(kind, Config), <<"one two three">>),
                 maps:get(trailers, Outcome)),
    ok = hackney_native:h2_close(Pid).

expected_trailers(nghttpd, _Body) ->
    [{<<"x-trailer">>, <<"from nghttpd">>}];
expected_trailers(_, Body) ->
    [{<<"x-bytes">>, integer_to_binary(byte_size(Body))}, {<<"x-sha256">>, hash(Body)}].

%% Every piece comes back before the next is sent: neither side waits for the other's end.
interleaved_echo(Config) ->
    Pid = h2_conversation:open(post, tls, "/echo", Config),
    {200, _} = h2_conversation:response(Pid),
    Pieces = [<<"piece ", (integer_to_binary(N))/binary>> || N <- lists:seq(1, 200)],
    [begin
         ok = hackney_native:h2_send(Pid, Piece),
         ?assertEqual({ok, {data, Piece}}, hackney_native:h2_recv(Pid, 10000))
     end || Piece <- Pieces],
    ok = hackney_native:h2_send(Pid, <<>>, fin),
    {ok, {trailers, Trailers}} = hackney_native:h2_recv(Pid, 10000),
    ?assertEqual(expected_trailers(proplists:get_value(kind, Config), iolist_to_binary(Pieces)), Trailers),
    ?assertEqual({ok, done}, hackney_native:h2_recv(Pid, 10000)),
    ?assertEqual({error, closed}, hackney_native:h2_recv(Pid, 10000)),
    ?assertMatch({error, Closed} when Closed =:= closed; Closed =:= stream_closed,
                 hackney_native:h2_send(Pid, <<"late">>)),
    ok = hackney_native:h2_close(Pid).

interleaved_echo_active(Config) ->
    Pid = h2_conversation:open(post, tls, "/echo", [{active, true}], Config),
    receive {hackney_h2, Pid, {response, 200, _}} -> ok end,
    [begin
         Piece = integer_to_binary(N),
         ok = hackney_native:h2_send(Pid, Piece),
         receive {hackney_h2, Pid, {data, Piece}} -> ok end
     end || N <- lists:seq(1, 200)],
    ok = hackney_native:h2_send(Pid, <<>>, fin),
    receive {hackney_h2, Pid, {trailers, _}} -> ok end,
    receive {hackney_h2, Pid, done} -> ok end,
    ok = hackney_native:h2_close(Pid).

%% A trailer must be announced for Go to hand it to the handler (RFC 9110 section 6.6.2).
request_trailers(Config) ->
    Pid = h2_conversation:open(post, tls, "/echo", [{headers, [{<<"trailer">>, <<"x-client">>}]}], Config),
    ok = hackney_native:h2_send(Pid, <<"body">>),
    ok = hackney_native:h2_send_trailers(Pid, [{<<"x-client">>, <<"was here">>}]),
    #{ended := done, body := <<"body">>, trailers := Trailers} = h2_conversation:collect(Pid),
    ?assertEqual(<<"was here">>, proplists:get_value(<<"x-client">>, Trailers)),
    ok = hackney_native:h2_close(Pid).

download_passive(Config) -> download([], fun h2_conversation:collect/1, Config).

download_active(Config) -> download([{active, true}], fun h2_conversation:active/1, Config).

download_once(Config) -> download([], fun h2_conversation:once/1, Config).

download_manual(Config) -> download([{flow_control, manual}], fun h2_conversation:manual/1, Config).

%% The reader is slower than the server: every piece costs it a hash of a megabyte.
download_slow_reader(Config) ->
    Work = blob(Config),
    Slow = fun(_Size) -> _ = crypto:hash(sha256, binary:part(Work, 0, 1024 * 1024)), ok end,
    download([], fun(Pid) -> h2_conversation:collect(Pid, Slow) end, Config).

download(Options, Read, Config) ->
    Pid = h2_conversation:open(get, tls, "/blob", Options, Config),
    ok = hackney_native:h2_send(Pid, <<>>, fin),
    Outcome = Read(Pid),
    ?assertMatch(#{status := 200, bytes := ?BLOB_SIZE, ended := done}, maps:without([body], Outcome)),
    ?assertEqual(proplists:get_value(blob_hash, Config), maps:get(hash, Outcome)),
    ok = hackney_native:h2_close(Pid).

%% In pieces of 1,000,000 bytes, as fast as the server takes them. How a server shows what it got differs.
upload(Config) ->
    Hash = proplists:get_value(blob_hash, Config),
    case proplists:get_value(kind, Config) of
        nginx ->
            Put = h2_conversation:open(put, tls, "/store/uploaded", Config),
            ?assertMatch(#{status := 201, ended := done}, send_blob(Put, Config)),
            ok = hackney_native:h2_close(Put),
            Get = h2_conversation:open(get, tls, "/store/uploaded", Config),
            ok = hackney_native:h2_send(Get, <<>>, fin),
            ?assertMatch(#{status := 200, hash := Hash}, maps:without([body], h2_conversation:collect(Get))),
            ok = hackney_native:h2_close(Get);
        nghttpd ->
            Pid = h2_conversation:open(post, tls, "/echo", Config),
            ?assertMatch(#{status := 200, hash := Hash, ended := done},
                         maps:without([body], send_blob(Pid, Config))),
            ok = hackney_native:h2_close(Pid);
        _ ->
            Pid = h2_conversation:open(post, tls, "/upload", Config),
            ?assertMatch(#{status := 200, ended := done, body := <<"33554432 ", Hash/binary>>},
                         send_blob(Pid, Config)),
            ok = hackney_native:h2_close(Pid)
    end.

send_blob(Pid, Config) ->
    send_pieces(Pid, blob(Config), 1000000),
    h2_conversation:collect(Pid).

send_pieces(Pid, Data, Size) ->
    case Data of
        <<Piece:Size/binary, Rest/binary>> ->
            ok = hackney_native:h2_send(Pid, Piece, nofin, ?BLOCK),
            send_pieces(Pid, Rest, Size);
        Last ->
            ok = hackney_native:h2_send(Pid, Last, fin, ?BLOCK)
    end.

upload_small_pieces(Config) ->
    Data = binary:part(blob(Config), 0, 1000000),
    Expected = <<"1000000 ", (hash(Data))/binary>>,
    Pid = h2_conversation:open(post, tls, "/upload", Config),
    send_pieces(Pid, Data, 100),
    ?assertMatch(#{status := 200, ended := done, body := Expected}, h2_conversation:collect(Pid)),
    ok = hackney_native:h2_close(Pid).

%% A peer that does not read: the buffer fills, refuses whole calls, and loses nothing of those it took.
send_buffer_full(Config) ->
    Key = key(),
    Pid = h2_conversation:open(post, tls, "/hold?key=" ++ Key, Config),
    {200, _} = h2_conversation:response(Pid),
    Piece = binary:part(blob(Config), 0, 100000),
    Taken = fill(Pid, Piece, 0),
    %% There was no room for one that waited, so there is none for one that does not.
    ?assertEqual({error, send_buffer_full}, hackney_native:h2_send(Pid, Piece)),
    <<>> = ask("/release?key=" ++ Key, Config),
    ok = hackney_native:h2_send(Pid, Piece, fin, ?BLOCK),
    Sent = binary:copy(Piece, Taken + 1),
    Expected = iolist_to_binary([integer_to_binary(byte_size(Sent)), " ", hash(Sent)]),
    {ok, {data, Summary}} = hackney_native:h2_recv(Pid, 10000),
    ?assertEqual(Expected, Summary),
    ?assertEqual({ok, done}, hackney_native:h2_recv(Pid, 10000)),
    ok = hackney_native:h2_close(Pid).

%% Full is what stays full: until the peer's window is used up, room comes back by itself. At least the
%% promised megabyte must fit, and not without end.
fill(Pid, Piece, Taken) when Taken * byte_size(Piece) < 64 * 1024 * 1024 ->
    case hackney_native:h2_send(Pid, Piece) of
        ok ->
            fill(Pid, Piece, Taken + 1);
        {error, send_buffer_full} ->
            case hackney_native:h2_send(Pid, Piece, nofin, #{block => 300}) of
                ok ->
                    fill(Pid, Piece, Taken + 1);
                {error, timeout} ->
                    ?assert(Taken * byte_size(Piece) >= 900000),
                    Taken
            end
    end.

%% The response ends while our side is open; RST_STREAM(NO_ERROR) may follow it (RFC 9113 section 8.1)
%% and must not turn a complete response into an error.
early_end(Config) ->
    Pid = h2_conversation:open(post, tls, "/early", Config),
    ok = may_come_late(hackney_native:h2_send(Pid, <<"the beginning">>)),
    ?assertMatch(#{status := 200, body := <<"early">>, ended := done}, h2_conversation:collect(Pid)),
    ok = hackney_native:h2_close(Pid).

%% nginx refuses the body by its length and answers before all of it was sent.
body_too_large(Config) ->
    Pid = h2_conversation:open(post, tls, "/limited", [{headers, [{<<"content-length">>, <<"100000">>}]}],
                               Config),
    ok = may_come_late(hackney_native:h2_send(Pid, binary:copy(<<"x">>, 10000))),
    ?assertMatch(#{status := 413, ended := done}, h2_conversation:collect(Pid)),
    ok = hackney_native:h2_close(Pid).

empty_response(Config) ->
    Pid = h2_conversation:open(get, tls, "/empty", Config),
    #{status := 204, bytes := 0, ended := done} = Outcome = h2_conversation:collect(Pid),
    ?assertNot(is_map_key(trailers, Outcome)),
    ok = hackney_native:h2_close(Pid).

%% The reason stays after what came before it was read.
reset(Config) ->
    {Path, Codes} = reset_by(proplists:get_value(kind, Config)),
    Pid = h2_conversation:open(post, tls, Path, Config),
    #{ended := {error, {stream_error, Code}}} = h2_conversation:collect(Pid),
    ?assert(lists:member(Code, Codes)),
    ok = hackney_native:h2_close(Pid).

reset_active(Config) ->
    {Path, Codes} = reset_by(proplists:get_value(kind, Config)),
    Pid = h2_conversation:open(post, tls, Path, [{active, true}], Config),
    #{ended := {error, {stream_error, Code}}} = h2_conversation:active(Pid),
    ?assert(lists:member(Code, Codes)),
    ok = hackney_native:h2_close(Pid).

reset_by(node) -> {"/rst?code=11", [enhance_your_calm]};
reset_by(go) -> {"/abort", [internal_error]};
%% Which of the two it sends has changed with nginx's versions.
reset_by(nginx) -> {"/abort", [internal_error, protocol_error]}.

reset_codes(Config) ->
    Codes = [{1, protocol_error}, {2, internal_error}, {3, flow_control_error}, {4, settings_timeout},
             {5, stream_closed}, {6, frame_size_error}, {7, refused_stream}, {8, cancel},
             {9, compression_error}, {10, connect_error}, {11, enhance_your_calm},
             {12, inadequate_security}, {13, http_1_1_required}],
    [begin
         Pid = h2_conversation:open(post, tls, "/rst?code=" ++ integer_to_list(Number), Config),
         ?assertMatch(#{status := 200, ended := {error, {stream_error, Name}}},
                      h2_conversation:collect(Pid)),
         ok = hackney_native:h2_close(Pid)
     end || {Number, Name} <- Codes].

%% GOAWAY says that no further stream will be served; ours is below its last stream id and goes on.
goaway_while_open(Config) ->
    case proplists:get_value(kind, Config) of
        nginx ->
            Pid = h2_conversation:open(get, goaway, "/blob", Config),
            ok = hackney_native:h2_send(Pid, <<>>, fin),
            Hash = proplists:get_value(blob_hash, Config),
            ?assertMatch(#{status := 200, hash := Hash, ended := done},
                         maps:without([body], h2_conversation:collect(Pid))),
            ok = hackney_native:h2_close(Pid);
        _ ->
            Pid = h2_conversation:open(post, tls, "/goaway", Config),
            {200, _} = h2_conversation:response(Pid),
            [begin
                 ok = hackney_native:h2_send(Pid, <<"still here">>),
                 ?assertEqual({ok, {data, <<"still here">>}}, hackney_native:h2_recv(Pid, 10000))
             end || _ <- lists:seq(1, 20)],
            ok = hackney_native:h2_send(Pid, <<>>, fin),
            {ok, {trailers, _}} = hackney_native:h2_recv(Pid, 10000),
            ?assertEqual({ok, done}, hackney_native:h2_recv(Pid, 10000)),
            ok = hackney_native:h2_close(Pid)
    end.

informational(Config) ->
    Pid = h2_conversation:open(post, tls, "/informational", [{informational, true}], Config),
    ok = hackney_native:h2_send(Pid, <<"body">>, fin),
    #{informational := [{103, Headers}]} = Outcome = h2_conversation:collect(Pid),
    ?assertEqual(<<"</style.css>; rel=preload">>, proplists:get_value(<<"link">>, Headers)),
    ?assertMatch(#{status := 200, body := <<"body">>, ended := done}, Outcome),
    ok = hackney_native:h2_close(Pid).

informational_dropped(Config) ->
    Pid = h2_conversation:open(post, tls, "/informational", Config),
    ok = hackney_native:h2_send(Pid, <<"body">>, fin),
    ?assertMatch(#{informational := [], status := 200, body := <<"body">>, ended := done},
                 h2_conversation:collect(Pid)),
    ok = hackney_native:h2_close(Pid).

%% Only the peer can say that RST_STREAM(CANCEL) was sent. Node tells the code.
close_reaches_peer(Config) ->
    Key = key(),
    Pid = h2_conversation:open(post, tls, "/watch?key=" ++ Key, Config),
    {200, _} = h2_conversation:response(Pid),
    ok = hackney_native:h2_close(Pid),
    ?assertEqual(cancelled_as(proplists:get_value(kind, Config)), ask("/fate?key=" ++ Key, Config)).

owner_death_reaches_peer(Config) ->
    Key = key(),
    {Owner, Monitor} =
        spawn_monitor(fun() ->
                              Pid = h2_conversation:open(post, tls, "/watch?key=" ++ Key, Config),
                              {200, _} = h2_conversation:response(Pid)
                      end),
    receive {'DOWN', Monitor, process, Owner, normal} -> ok end,
    ?assertEqual(cancelled_as(proplists:get_value(kind, Config)), ask("/fate?key=" ++ Key, Config)).

cancelled_as(node) -> <<"code 8">>;
cancelled_as(go) -> <<"cancelled">>.

%% The server is killed in the middle of a conversation.
connection_lost(Config) ->
    Server = start(proplists:get_value(kind, Config), Config),
    Pid = h2_conversation:open(post, tls, "/echo", lists:keyreplace(server, 1, Config, {server, Server})),
    {200, _} = h2_conversation:response(Pid),
    ok = hackney_native:h2_send(Pid, <<"before">>),
    {ok, {data, <<"before">>}} = hackney_native:h2_recv(Pid, 10000),
    ok = peer_server:stop(Server),
    {error, Reason} = hackney_native:h2_recv(Pid, 10000),
    ?assert(Reason =:= closed orelse element(1, Reason) =:= closed),
    ?assertEqual({error, Reason}, hackney_native:h2_recv(Pid, 10000)),
    ?assertMatch({error, _}, hackney_native:h2_send(Pid, <<"after">>)),
    ok = hackney_native:h2_close(Pid).

%% Helpers.

start(Kind, Config) ->
    peer_server:start(Kind, #{certificates => proplists:get_value(certificates, Config),
                              root => proplists:get_value(root, Config)}).

%% Read where it is needed: Common Test writes its configuration into its logs.
blob(Config) ->
    {ok, Blob} = file:read_file(filename:join(proplists:get_value(root, Config), "blob")),
    Blob.

%% A whole request on a stream of its own; returns the body.
ask(Path, Config) ->
    Pid = h2_conversation:open(post, tls, Path, Config),
    ok = may_come_late(hackney_native:h2_send(Pid, <<>>, fin)),
    #{status := 200, body := Body, ended := done} = h2_conversation:collect(Pid),
    ok = hackney_native:h2_close(Pid),
    Body.

%% A server that does not wait for the body may have ended the stream already.
may_come_late(ok) -> ok;
may_come_late({error, Reason}) when Reason =:= closed; Reason =:= stream_closed -> ok.

hash(Binary) -> string:lowercase(binary:encode_hex(crypto:hash(sha256, Binary))).

key() -> integer_to_list(erlang:unique_integer([positive])).
