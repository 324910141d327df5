%% @private What callers do with the streams of a connection that are named by their identifiers. It runs in the caller's process, and goes
%% straight to the engine: the connection's process is not on the way.
-module(hackney_native_h2_exchange).

-export([send_request/5, send_request_headers/4, send_response/4, respond/5, send_data/4, send_data/5, send_trailers/3,
         set_stream_handler/4, unset_stream_handler/2, consume/3, cancel_stream/3, get_peer_settings/1]).

-type stream_id() :: hackney_native_h2_connection:stream_id().
-type headers() :: hackney_native_h2_connection:headers().
-type error_code() :: hackney_native_h2_connection:error_code().
-type request_options() :: hackney_native_h2_connection:request_options().

%% @doc See {@link hackney_native_h2_connection:send_request/5}.
-spec send_request(pid(), binary(), binary(), headers(), EndStream :: boolean()) -> {ok, stream_id()} | {error, term()}.
send_request(Conn, Method, Path, Headers0, EndStream) when is_list(Headers0) ->
    {Authority, Headers} = case lists:keyfind(<<"host">>, 1, Headers0) of
                               {_, Host} -> {[{<<":authority">>, Host}],
                                             [Field || {Name, _} = Field <- Headers0, Name =/= <<"host">>]};
                               false -> {[], Headers0}
                           end,
    Pseudo = case Method of
                 <<"CONNECT">> -> [{<<":method">>, Method} | Authority];
                 %% The scheme only has to be there: the engine sends that of the connection.
                 _ -> [{<<":method">>, Method}, {<<":path">>, Path}, {<<":scheme">>, <<"https">>} | Authority]
             end,
    send_request_headers(Conn, Pseudo ++ Headers, EndStream, #{});
send_request(_, _, _, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:send_request_headers/4}.
-spec send_request_headers(pid(), headers(), EndStream :: boolean(), request_options()) -> {ok, stream_id()} | {error, term()}.
send_request_headers(Conn, Headers, EndStream, #{handler := Handler}) when is_pid(Conn), is_pid(Handler), node(Handler) =/= node(Conn),
                                                                            is_list(Headers), is_boolean(EndStream) ->
    {error, {badarg, {handler, Handler}}};
send_request_headers(Conn, Headers, EndStream, Options) when is_pid(Conn), node(Conn) =/= node(), is_map(Options) ->
    %% The answer may come as a message, to a process of that node.
    hackney_native_remote:call(Conn, ?MODULE, send_request_headers, [Conn, Headers, EndStream, Options]);
send_request_headers(Conn, Headers, EndStream, Options) when is_pid(Conn), is_boolean(EndStream), is_map(Options) ->
    case hackney_native_h2_fields:request(Headers) of
        {ok, Request} ->
            case allowed(Conn, Request, Headers) of
                ok -> ask(Conn, (maps:remove(scheme, Request))#{fin => EndStream}, Options);
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end;
send_request_headers(_, _, _, _) ->
    error(badarg).

%% What the peer's settings have to say about it.
allowed(Conn, #{protocol := Protocol}, Headers) ->
    case ready(Conn, hackney_native_remote:nif(Conn, h2_peer_settings, [Conn])) of
        {ok, Settings} ->
            case hackney_native_h2_settings:from_peer(Settings) of
                #{enable_connect_protocol := 0} when Protocol =/= undefined ->
                    {error, extended_connect_disabled};
                #{max_header_list_size := Max} when is_integer(Max) ->
                    case hackney_native_h2_fields:list_size(Headers) > Max of
                        true -> {error, header_list_too_large};
                        false -> ok
                    end;
                _ ->
                    ok
            end;
        {error, _} = Error ->
            Error
    end.

ask(Conn, Request0, Options) ->
    Request = Request0#{handler => maps:get(handler, Options, undefined),
                        defer => maps:get(defer, Options, false) =:= true,
                        manual => maps:get(flow_control, Options, auto) =:= manual},
    Ref = make_ref(),
    Function = case hackney_native_weight:is_large(Request) of true -> h2_request_many; false -> h2_request end,
    case hackney_native_remote:nif(Conn, Function, [Conn, Request, Ref]) of
        %% Another thread is at work on the connection, which takes microseconds.
        wait -> receive {hackney_native, Ref, Answer} -> refused(Answer) end;
        Result -> refused(ready(Conn, Result))
    end.

refused({error, {badarg, {request, _}}}) -> {error, protocol_error};
%% Another request was quicker.
refused({error, connect_timeout}) -> {error, max_streams_exceeded};
refused(Result) -> Result.

%% The engine knows no connection before it is activated, and none that is over.
ready(Conn, {error, Reason}) when Reason =:= not_connected; Reason =:= closed -> hackney_native_remote:statem_call(Conn, not_ready);
ready(_Conn, Result) -> Result.

%% @doc See {@link hackney_native_h2_connection:send_response/4}.
-spec send_response(pid(), stream_id(), 100..999, headers()) -> ok | {error, term()}.
send_response(_Conn, _StreamId, 101, _Headers) ->
    {error, status_101_forbidden};
send_response(Conn, StreamId, Status, Headers) when is_integer(StreamId), is_integer(Status), Status >= 100, Status =< 999 ->
    case hackney_native_h2_fields:response(Headers) of
        ok ->
            Function = case hackney_native_weight:is_large(Headers) of true -> h2_respond_many; false -> h2_respond end,
            answered(Conn, hackney_native_remote:nif(Conn, Function, [Conn, StreamId, Status, Headers, Status =:= 204 orelse Status =:= 304]));
        {error, _} = Error ->
            Error
    end;
send_response(_, _, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:respond/5}.
-spec respond(pid(), stream_id(), 200..999, headers(), iodata()) -> ok | {error, term()}.
respond(Conn, StreamId, Status, Headers, Body) when is_integer(StreamId), is_integer(Status), Status >= 200, Status =< 999 ->
    case hackney_native_h2_fields:response(Headers) of
        ok when Status =:= 204; Status =:= 304 ->
            answered(Conn, hackney_native_remote:nif(Conn, h2_respond, [Conn, StreamId, Status, Headers, true]));
        ok ->
            case payload(Body) of
                {few, <<>>} ->
                    answered(Conn, hackney_native_remote:nif(Conn, h2_respond, [Conn, StreamId, Status, Headers, true]));
                {few, Payload} ->
                    answered(Conn, hackney_native_remote:nif(Conn, h2_respond_with, [Conn, StreamId, Status, Headers, Payload]));
                {many, _} ->
                    answered(Conn, hackney_native_remote:nif(Conn, h2_respond_with, [Conn, StreamId, Status, Headers, iolist_to_binary(Body)]))
            end;
        {error, _} = Error ->
            Error
    end;
respond(_, _, _, _, _) ->
    error(badarg).

answered(_Conn, {error, responded}) -> {error, invalid_stream_state};
answered(Conn, Result) -> ready(Conn, Result).

%% @doc See {@link hackney_native_h2_connection:send_data/4}.
-spec send_data(pid(), stream_id(), iodata(), EndStream :: boolean()) -> ok | {error, term()}.
send_data(Conn, StreamId, Data, EndStream) when is_integer(StreamId), is_boolean(EndStream) ->
    sent(Conn, case payload(Data) of
             {few, Payload} -> hackney_native_remote:nif(Conn, h2_send_data, [Conn, StreamId, Payload, EndStream]);
             {many, Payload} -> hackney_native_remote:nif(Conn, h2_send_many, [Conn, StreamId, Payload, EndStream])
         end);
send_data(_, _, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:send_data/5}.
-spec send_data(pid(), stream_id(), iodata(), EndStream :: boolean(), #{block => timeout() | undefined}) -> ok | {error, term()}.
send_data(Conn, StreamId, Data, EndStream, Options) when is_map(Options) ->
    case Options of
        #{block := Timeout} when Timeout =:= infinity; is_integer(Timeout), Timeout >= 0 ->
            send_and_wait(Conn, StreamId, Data, EndStream, Timeout);
        #{block := Other} when Other =/= undefined ->
            {error, {badarg, {block, Other}}};
        _ ->
            send_data(Conn, StreamId, Data, EndStream)
    end;
send_data(_, _, _, _, _) ->
    error(badarg).

send_and_wait(Conn, StreamId, Data, EndStream, Timeout) when is_pid(Conn), node(Conn) =/= node() ->
    hackney_native_remote:call(Conn, ?MODULE, send_data, [Conn, StreamId, Data, EndStream, #{block => Timeout}]);
send_and_wait(Conn, StreamId, Data, EndStream, Timeout) when is_pid(Conn), is_integer(StreamId), is_boolean(EndStream) ->
    Ref = make_ref(),
    Payload = case payload(Data) of
                  {few, Few} -> Few;
                  {many, _} -> iolist_to_binary(Data)
              end,
    case hackney_native_nif:h2_send_and_wait(Conn, StreamId, Payload, EndStream, Ref) of
        wait ->
            receive
                {hackney_native, Ref, Result} -> Result
            after Timeout ->
                case hackney_native_nif:h2_stop_waiting(Conn, StreamId) of
                    true -> {error, timeout};
                    %% It was told in this moment.
                    _ -> receive {hackney_native, Ref, Result} -> Result after 1000 -> {error, timeout} end
                end
            end;
        Result ->
            sent(Conn, Result)
    end;
send_and_wait(_, _, _, _, _) ->
    error(badarg).

sent(_Conn, {error, Reason}) when Reason =:= no_response; Reason =:= stream_closed -> {error, invalid_stream_state};
sent(Conn, Result) -> ready(Conn, Result).

%% As the engine wants it, and whether it is of so many parts that a scheduler should not look at each.
payload(Data) when is_binary(Data) ->
    {few, Data};
payload(Data) ->
    case erlang:iolist_to_iovec(Data) of
        [] -> {few, <<>>};
        [Binary] -> {few, Binary};
        Binaries when length(Binaries) =< 64 -> {few, Binaries};
        Binaries -> {many, Binaries}
    end.

%% @doc See {@link hackney_native_h2_connection:send_trailers/3}.
-spec send_trailers(pid(), stream_id(), headers()) -> ok | {error, term()}.
send_trailers(Conn, StreamId, Headers) when is_integer(StreamId) ->
    case hackney_native_h2_fields:trailers(Headers) of
        ok ->
            Function = case hackney_native_weight:is_large(Headers) of
                           true -> h2_send_many_trailers;
                           false -> h2_send_trailers
                       end,
            sent(Conn, hackney_native_remote:nif(Conn, Function, [Conn, StreamId, Headers]));
        {error, _} = Error ->
            Error
    end;
send_trailers(_, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:set_stream_handler/4}.
-spec set_stream_handler(pid(), stream_id(), pid(), #{drain_buffer => boolean(), flow_control => auto | manual}) ->
          ok | {ok, [{binary(), boolean()}]} | {error, term()}.
set_stream_handler(Conn, StreamId, Handler, Options) when is_pid(Conn), is_integer(StreamId), is_pid(Handler), is_map(Options),
                                                          node(Handler) =/= node(Conn) ->
    {error, {badarg, {handler, Handler}}};
set_stream_handler(Conn, StreamId, Handler, Options) when is_integer(StreamId), is_pid(Handler), is_map(Options) ->
    ready(Conn, hackney_native_remote:nif(Conn, h2_set_handler, [Conn, StreamId, Handler, maps:get(drain_buffer, Options, false) =:= true,
                                          maps:get(flow_control, Options, undefined)]));
set_stream_handler(_, _, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:unset_stream_handler/2}.
-spec unset_stream_handler(pid(), stream_id()) -> ok | {error, closed}.
unset_stream_handler(Conn, StreamId) when is_integer(StreamId) ->
    ready(Conn, hackney_native_remote:nif(Conn, h2_unset_handler, [Conn, StreamId]));
unset_stream_handler(_, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:consume/3}.
-spec consume(pid(), stream_id(), non_neg_integer()) -> ok | {error, unknown_stream | closed}.
consume(Conn, StreamId, N) when is_integer(StreamId), is_integer(N), N >= 0 ->
    case ready(Conn, hackney_native_remote:nif(Conn, h2_consume, [Conn, StreamId, N])) of
        %% Of a stream that is over there is nothing left to give back.
        {error, stream_closed} -> ok;
        Result -> Result
    end;
consume(_, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:cancel_stream/3}.
-spec cancel_stream(pid(), stream_id(), error_code()) -> ok | {error, term()}.
cancel_stream(Conn, StreamId, Code) when is_integer(StreamId) ->
    case hackney_native_h2_settings:error_code(Code) of
        {ok, Number} -> ready(Conn, hackney_native_remote:nif(Conn, h2_cancel, [Conn, StreamId, Number]));
        error -> {error, {badarg, {code, Code}}}
    end;
cancel_stream(_, _, _) ->
    error(badarg).

%% @doc See {@link hackney_native_h2_connection:get_peer_settings/1}.
-spec get_peer_settings(pid()) -> map() | {error, term()}.
get_peer_settings(Conn) ->
    case hackney_native_remote:nif(Conn, h2_peer_settings, [Conn]) of
        {ok, Settings} ->
            hackney_native_h2_settings:from_peer(Settings);
        {error, _} = Error ->
            case ready(Conn, Error) of
                {error, {not_ready, _}} -> hackney_native_h2_settings:from_peer([]);
                Other -> Other
            end
    end.
