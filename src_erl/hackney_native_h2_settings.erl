%% @private SETTINGS and error codes of HTTP/2, by name and by number (RFC 9113, 6.5.2 and 7; RFC 8441).
-module(hackney_native_h2_settings).

-export([from_peer/1, ours/2, error_code/1]).

-define(UNLIMITED, 16#ffffffff).

%% @doc What a peer has set, over what holds unless it does.
-spec from_peer([{non_neg_integer(), non_neg_integer()}]) -> map().
from_peer(Settings) ->
    lists:foldl(fun({Id, Value}, Acc) ->
                        Name = name(Id),
                        Acc#{Name => value(Name, Value)}
                end, defaults(), Settings).

%% @doc What we have told the peer, with these options.
-spec ours(client | server, map()) -> map().
ours(client, Engine) ->
    Told = maps:with([initial_window_size, max_frame_size, max_header_list_size], Engine),
    named(maps:merge(defaults(), Told#{enable_push => 0}));
ours(server, Engine) ->
    Told = maps:with([header_table_size, max_concurrent_streams, initial_window_size, max_frame_size, max_header_list_size], Engine),
    Connect = case Engine of #{enable_connect_protocol := true} -> 1; _ -> 0 end,
    named(maps:merge(defaults(), Told#{enable_push => 0, enable_connect_protocol => Connect})).

named(Settings) ->
    maps:map(fun(max_concurrent_streams, infinity) -> unlimited;
                (Name, Value) -> value(Name, Value)
             end, Settings).

defaults() ->
    #{header_table_size => 4096, enable_push => 1, max_concurrent_streams => unlimited, initial_window_size => 65535,
      max_frame_size => 16384, max_header_list_size => unlimited, enable_connect_protocol => 0}.

name(1) -> header_table_size;
name(2) -> enable_push;
name(3) -> max_concurrent_streams;
name(4) -> initial_window_size;
name(5) -> max_frame_size;
name(6) -> max_header_list_size;
name(8) -> enable_connect_protocol;
name(Id) -> Id.

value(Name, ?UNLIMITED) when Name =:= max_concurrent_streams; Name =:= max_header_list_size -> unlimited;
value(_Name, Value) -> Value.

%% @doc The number of an error code.
-spec error_code(term()) -> {ok, non_neg_integer()} | error.
error_code(no_error) -> {ok, 0};
error_code(protocol_error) -> {ok, 1};
error_code(internal_error) -> {ok, 2};
error_code(flow_control_error) -> {ok, 3};
error_code(settings_timeout) -> {ok, 4};
error_code(stream_closed) -> {ok, 5};
error_code(frame_size_error) -> {ok, 6};
error_code(refused_stream) -> {ok, 7};
error_code(cancel) -> {ok, 8};
error_code(compression_error) -> {ok, 9};
error_code(connect_error) -> {ok, 10};
error_code(enhance_your_calm) -> {ok, 11};
error_code(inadequate_security) -> {ok, 12};
error_code(http_1_1_required) -> {ok, 13};
error_code({unknown, Code}) -> error_code(Code);
error_code(Code) when is_integer(Code), Code >= 0, Code =< ?UNLIMITED -> {ok, Code};
error_code(_) -> error.
