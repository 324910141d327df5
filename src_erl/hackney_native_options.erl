%% @private The options of a stream: checked, completed with their defaults, and cut to what the engine is told.
-module(hackney_native_options).

-export([stream/1, from_url/4, worker_threads/0]).

-export_type([stream/0]).

-import(hackney_native_check, [bool/2, integer/4, timeout/2, bound/2, one_of/3, unsupported/1]).

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

-define(CONNECT_TIMEOUT, 8000).
-define(MAX_RECV_BUFFER, 64 * 1024 * 1024).
-define(MAX_SEND_BUFFER, 1024 * 1024).
%% A window is the most that arrives in one round trip: 4 MiB are 80 MB/s at 50 ms. It is also the most that a stream whose
%% reader sleeps can hold in memory.
-define(INITIAL_WINDOW_SIZE, 4 * 1024 * 1024).
-define(CONNECTION_WINDOW_SIZE, 16 * 1024 * 1024).
-define(MAX_WINDOW, 16#7fffffff).
%% What a connection starts with and nothing lowers (RFC 9113, 6.9.2).
-define(MIN_CONNECTION_WINDOW, 65535).
%% RFC 9113, 6.5.2: the smallest, which every peer sends, and the largest.
-define(MIN_FRAME_SIZE, 16#4000).
-define(MAX_FRAME_SIZE, 16#ffffff).
%% Against header lists made to fill memory (RFC 9113, 10.5.1); servers' own limits are 8 to 64 KiB.
-define(MAX_HEADER_LIST_SIZE, 256 * 1024).

%% @doc The stream's options that a request and a property list make, for {@link stream/1} to check.
-spec from_url(atom() | string() | binary(), binary() | string(), list(), list() | map()) -> {ok, map()} | {error, term()}.
from_url(Method, URL, Headers, Options) ->
    case hackney_native_check:options(fun url_option/3, Options, #{}) of
        {ok, Given} ->
            case hackney_native_url:parse(URL) of
                {ok, #{scheme := http} = Parsed} ->
                    case Given of
                        #{h2c := true} -> {ok, request(Method, Parsed, Headers, Given)};
                        _ -> {error, {scheme_not_supported, http}}
                    end;
                {ok, Parsed} ->
                    {ok, request(Method, Parsed, Headers, maps:remove(h2c, Given))};
                Error ->
                    Error
            end;
        Error ->
            Error
    end.

%% These come from the URL and the other arguments.
url_option(Name, _Value, _Acc) when Name =:= host; Name =:= port; Name =:= method; Name =:= transport; Name =:= path;
                                    Name =:= headers ->
    unsupported(Name);
%% Which only `http' URLs heed, but is wrong with any.
url_option(h2c, Value, Acc) -> Acc#{h2c => bool(h2c, Value)};
url_option(Name, Value, Acc) -> Acc#{Name => Value}.

request(Method, #{host := Host, port := Port, path := Path}, Headers, Given) ->
    Given#{method => Method, host => Host, port => Port, path => Path, headers => Headers}.

%% @doc Checks a stream's options. Returns what the engine is told, and how long connecting may take.
-spec stream(map()) -> {ok, Engine :: map(), ConnectTimeout :: timeout()} | {error, term()}.
stream(#{host := _, port := _} = Options) ->
    maybe_chain(Options,
                [fun parse/1, fun check_request/1, fun check_transport/1, fun check_window/1]);
stream(Options) when is_map(Options) ->
    {error, {badarg, hd([host, port] -- maps:keys(Options))}};
stream(_) ->
    {error, {badarg, options}}.

maybe_chain(#{connect_timeout := Timeout} = Acc, []) ->
    {ok, maps:without([connect_timeout, scheme, h2c], Acc), Timeout};
maybe_chain(Acc, [Step | Steps]) ->
    case Step(Acc) of
        {ok, Next} -> maybe_chain(Next, Steps);
        {error, _} = Error -> Error
    end.

parse(Options) ->
    hackney_native_check:options(fun option/3, Options, defaults()).

defaults() ->
    {ok, Tcp} = hackney_native_tcp_options:parse([]),
    #{method => <<"POST">>, path => <<"/">>, headers => [], scheme => https, h2c => false,
      tcp => Tcp, tls => [], connect_timeout => ?CONNECT_TIMEOUT,
      recv_timeout => infinity, send_timeout => 0,
      flow_control => auto, active => false, informational => false,
      max_recv_buffer => ?MAX_RECV_BUFFER, max_send_buffer => ?MAX_SEND_BUFFER,
      initial_window_size => ?INITIAL_WINDOW_SIZE, connection_window_size => ?CONNECTION_WINDOW_SIZE,
      max_frame_size => ?MIN_FRAME_SIZE, max_header_list_size => ?MAX_HEADER_LIST_SIZE}.

option(host, Value, Acc) -> Acc#{host => host(Value)};
option(port, Value, Acc) -> Acc#{port => integer(port, Value, 1, 65535)};
option(method, Value, Acc) -> Acc#{method := Value};
option(path, Value, Acc) -> Acc#{path := Value};
option(headers, Value, Acc) -> Acc#{headers := Value};
option(transport, hackney_ssl, Acc) -> Acc;
option(transport, hackney_tcp, Acc) -> Acc#{scheme := http};
option(h2c, Value, Acc) -> Acc#{h2c := bool(h2c, Value)};
option(connect_options, Value, Acc) -> Acc#{tcp := nested(hackney_native_tcp_options:parse(Value))};
option(ssl_options, Value, #{tls := Before} = Acc) when is_list(Value) -> Acc#{tls := Value ++ Before};
option(ssl_options, Value, Acc) when is_map(Value) -> option(ssl_options, maps:to_list(Value), Acc);
option(insecure, Value, #{tls := Before} = Acc) -> Acc#{tls := [{insecure, bool(insecure, Value)} | Before]};
option(connect_timeout, Value, Acc) -> Acc#{connect_timeout := timeout(connect_timeout, Value)};
option(recv_timeout, Value, Acc) -> Acc#{recv_timeout := timeout(recv_timeout, Value)};
option(send_timeout, Value, Acc) -> Acc#{send_timeout := timeout(send_timeout, Value)};
option(flow_control, Value, Acc) -> Acc#{flow_control := one_of(flow_control, Value, [auto, manual])};
option(active, N, Acc) when is_integer(N) -> Acc#{active := integer(active, N, 1, 32767)};
option(active, Value, Acc) -> Acc#{active := one_of(active, Value, [true, false, once])};
option(informational, Value, Acc) -> Acc#{informational := bool(informational, Value)};
option(max_recv_buffer, Value, Acc) -> Acc#{max_recv_buffer := bound(max_recv_buffer, Value)};
option(max_send_buffer, Value, Acc) -> Acc#{max_send_buffer := bound(max_send_buffer, Value)};
option(initial_window_size, Value, Acc) ->
    Acc#{initial_window_size := integer(initial_window_size, Value, 1, ?MAX_WINDOW)};
option(connection_window_size, Value, Acc) ->
    Acc#{connection_window_size := integer(connection_window_size, Value, ?MIN_CONNECTION_WINDOW, ?MAX_WINDOW)};
option(max_frame_size, Value, Acc) ->
    Acc#{max_frame_size := integer(max_frame_size, Value, ?MIN_FRAME_SIZE, ?MAX_FRAME_SIZE)};
option(max_header_list_size, Value, Acc) ->
    Acc#{max_header_list_size := integer(max_header_list_size, Value, 1, 16#ffffffff)};
option(Name, _Value, _Acc) -> unsupported(Name).

nested({ok, Options}) -> Options;
nested({error, Reason}) -> throw(Reason).

host(Value) when is_binary(Value), Value =/= <<>> -> Value;
host([_ | _] = Value) ->
    try list_to_binary(Value)
    catch error:badarg -> hackney_native_check:bad(host, Value)
    end;
host(Value) -> hackney_native_check:bad(host, Value).

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

check_transport(#{scheme := http, h2c := false}) ->
    {error, {scheme_not_supported, http}};
check_transport(#{h2c := H2c, scheme := Scheme0, host := Host, port := Port, tls := Tls0} = Acc) ->
    Scheme = case H2c of true -> http; false -> Scheme0 end,
    case hackney_native_tls_options:parse(Tls0) of
        {ok, Tls1} ->
            Tls = case Scheme of https -> Tls1; http -> undefined end,
            {ok, Acc#{tls := Tls, authority => hackney_native_url:authority(Scheme, Host, Port)}};
        Error ->
            Error
    end.

%% A peer must not be allowed to send more than may be kept. Windows start at 65,535 and only SETTINGS lowers them
%% (RFC 9113, 6.9.2), which is sent first of all.
check_window(#{max_recv_buffer := Max, initial_window_size := Window} = Acc) when Max < Window ->
    {ok, Acc#{initial_window_size := Max}};
check_window(Acc) ->
    {ok, Acc}.

%% @doc Threads of the engine: the environment's `worker_threads', else half as many as schedulers, one to four.
-spec worker_threads() -> pos_integer().
worker_threads() ->
    case application:get_env(hackney_native, worker_threads) of
        {ok, N} when is_integer(N), N > 0, N =< 1024 -> N;
        _ -> max(1, min(4, erlang:system_info(schedulers_online) div 2))
    end.
