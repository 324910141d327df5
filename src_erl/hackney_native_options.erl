%% @private The options of a stream: checked, completed with their defaults, and cut to what the engine is told.
-module(hackney_native_options).

-export([stream/1, from_url/4, on_connection/4, split/1, connect_timeout/0, worker_threads/0]).

-export_type([stream/0, shared_stream/0]).

-import(hackney_native_check, [bool/2, integer/4, timeout/2, bound/2, one_of/3]).

%% What `hackney_native_h2_stream:start_link/1' is given, all but `host' and `port' optional.
-type stream() :: #{host := binary() | string(),
                    port := inet:port_number(),
                    method => binary() | atom() | string(),
                    transport => hackney_ssl | hackney_tcp,
                    h2c => boolean(),
                    path => binary(),
                    headers => [{hackney_native_headers:name(), hackney_native_headers:value()}],
                    connect_options => list(),
                    ssl_options => list(),
                    insecure => boolean(),
                    connect_timeout => timeout(),
                    recv_timeout => timeout(),
                    send_timeout => timeout(),
                    flow_control => auto | manual,
                    active => boolean() | once | 1..32767,
                    informational => boolean(),
                    max_recv_buffer => pos_integer() | infinity,
                    max_send_buffer => pos_integer() | infinity,
                    initial_window_size => pos_integer(),
                    connection_window_size => pos_integer(),
                    max_frame_size => pos_integer(),
                    max_header_list_size => pos_integer()}.

%% The same for a stream on a connection that others share. `connect_timeout' is how long it may wait for a place there.
-type shared_stream() :: #{connection := pid(),
                           method => binary() | atom() | string(),
                           path => binary(),
                           headers => [{hackney_native_headers:name(), hackney_native_headers:value()}],
                           connect_timeout => timeout(),
                           recv_timeout => timeout(),
                           send_timeout => timeout(),
                           flow_control => auto | manual,
                           active => boolean() | once | 1..32767,
                           informational => boolean(),
                           max_send_buffer => pos_integer() | infinity}.

-define(CONNECT_TIMEOUT, 8000).
-define(MAX_RECV_BUFFER, 64 * 1024 * 1024).
-define(MAX_SEND_BUFFER, 1024 * 1024).

%% @doc The stream's options that a request and a property list make, for {@link stream/1} to check.
-spec from_url(atom() | string() | binary(), binary() | string(), list(), list() | map()) -> {ok, map()} | {error, term()}.
from_url(Method, URL, Headers, Options) ->
    case hackney_native_connection_options:from_url(URL, Options) of
        {ok, Given, Path} -> {ok, Given#{method => Method, path => Path, headers => Headers}};
        {error, _} = Error -> Error
    end.

%% @doc Cuts what {@link from_url/4} makes into the options that decide about the connection and the others.
-spec split(map()) -> {Connection :: map(), Stream :: map()}.
split(Options) ->
    Names = [host, port, h2c, connect_options, ssl_options, insecure, initial_window_size, connection_window_size, max_frame_size,
             max_header_list_size],
    {maps:with(Names, Options), maps:without(Names, Options)}.

%% @doc How long opening a stream may take unless its options say otherwise.
-spec connect_timeout() -> pos_integer().
connect_timeout() ->
    ?CONNECT_TIMEOUT.

%% @doc The same for a stream on a connection that is there already. It decides about all that concerns connections.
-spec on_connection(atom() | string() | binary(), {pid(), binary() | string()}, list(), list() | map()) ->
          {ok, map()} | {error, term()}.
on_connection(Method, {Connection, Path0}, Headers, Options) ->
    case hackney_native_check:options(fun given_option/3, Options, #{}) of
        {ok, Given} ->
            try unicode:characters_to_binary(Path0) of
                Path when is_binary(Path) ->
                    {ok, Given#{connection => Connection, method => Method, path => Path, headers => Headers}};
                _ ->
                    {error, {badarg, {path, Path0}}}
            catch
                error:badarg -> {error, {badarg, {path, Path0}}}
            end;
        {error, _} = Error ->
            Error
    end.

given_option(Name, _Value, _Acc) when Name =:= connection; Name =:= method; Name =:= path; Name =:= headers ->
    hackney_native_check:unsupported(Name);
given_option(Name, Value, Acc) ->
    Acc#{Name => Value}.

%% @doc Checks a stream's options. Returns what the engine is told, and how long connecting may take.
-spec stream(map()) -> {ok, Engine :: map(), ConnectTimeout :: timeout()} | {error, term()}.
stream(#{connection := Connection} = Options) when is_pid(Connection) ->
    Defaults = (defaults())#{authority => <<>>, connect_timeout => ?CONNECT_TIMEOUT},
    case hackney_native_check:options(fun shared_option/3, maps:remove(connection, Options), Defaults) of
        {ok, Checked} ->
            case check_request(Checked) of
                {ok, #{connect_timeout := Timeout} = Engine} -> {ok, maps:remove(connect_timeout, Engine), Timeout};
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end;
stream(#{connection := Other}) ->
    {error, {badarg, {connection, Other}}};
stream(#{host := _, port := _} = Options) ->
    Defaults = maps:merge(hackney_native_connection_options:defaults(), defaults()),
    case hackney_native_check:options(fun option/3, Options, Defaults) of
        {ok, Checked} ->
            case check_request(Checked) of
                {ok, Request} -> hackney_native_connection_options:finish(check_window(Request));
                {error, _} = Error -> Error
            end;
        {error, _} = Error ->
            Error
    end;
stream(Options) when is_map(Options) ->
    {error, {badarg, hd([host, port] -- maps:keys(Options))}};
stream(_) ->
    {error, {badarg, options}}.

defaults() ->
    #{method => <<"POST">>, path => <<"/">>, headers => [],
      recv_timeout => infinity, send_timeout => 0,
      flow_control => auto, active => false, informational => false,
      max_recv_buffer => ?MAX_RECV_BUFFER, max_send_buffer => ?MAX_SEND_BUFFER}.

option(method, Value, Acc) -> Acc#{method := Value};
option(path, Value, Acc) -> Acc#{path := Value};
option(headers, Value, Acc) -> Acc#{headers := Value};
option(recv_timeout, Value, Acc) -> Acc#{recv_timeout := timeout(recv_timeout, Value)};
option(send_timeout, Value, Acc) -> Acc#{send_timeout := timeout(send_timeout, Value)};
option(flow_control, Value, Acc) -> Acc#{flow_control := one_of(flow_control, Value, [auto, manual])};
option(active, N, Acc) when is_integer(N) -> Acc#{active := integer(active, N, 1, 32767)};
option(active, Value, Acc) -> Acc#{active := one_of(active, Value, [true, false, once])};
option(informational, Value, Acc) -> Acc#{informational := bool(informational, Value)};
option(max_recv_buffer, Value, Acc) -> Acc#{max_recv_buffer := bound(max_recv_buffer, Value)};
option(max_send_buffer, Value, Acc) -> Acc#{max_send_buffer := bound(max_send_buffer, Value)};
option(Name, Value, Acc) -> hackney_native_connection_options:option(Name, Value, Acc).

%% What was received and is unread has its bound in the window, which is the connection's affair.
shared_option(Name, Value, Acc) when Name =/= max_recv_buffer, is_map_key(Name, Acc) -> option(Name, Value, Acc);
shared_option(Name, _Value, _Acc) -> hackney_native_check:unsupported(Name).

check_request(#{method := Method0, path := Path0, headers := Headers0} = Acc) ->
    case hackney_native_headers:method(Method0) of
        {ok, Method} ->
            case hackney_native_headers:target(Path0) of
                {ok, Path} ->
                    case hackney_native_headers:request(Headers0) of
                        {ok, Headers} -> {ok, Acc#{method := Method, path := Path, headers := Headers}};
                        Error -> Error
                    end;
                Error -> Error
            end;
        Error -> Error
    end.

%% A peer must not be allowed to send more than may be kept. Windows start at 65,535 and only SETTINGS lowers them
%% (RFC 9113, 6.9.2), which is sent first of all.
check_window(#{max_recv_buffer := Max, initial_window_size := Window} = Acc) when Max < Window ->
    Acc#{initial_window_size := Max};
check_window(Acc) ->
    Acc.

%% @doc Threads of the engine: the environment's `worker_threads', else half as many as schedulers, one to four.
-spec worker_threads() -> pos_integer().
worker_threads() ->
    case application:get_env(hackney_native, worker_threads) of
        {ok, N} when is_integer(N), N > 0, N =< 1024 -> N;
        _ -> max(1, min(4, erlang:system_info(schedulers_online) div 2))
    end.
