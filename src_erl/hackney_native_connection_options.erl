%% @private The options of a connection: checked, completed with their defaults, and cut to what the engine is told.
-module(hackney_native_connection_options).

-export([connection/1, defaults/0, keepalive/0, keepalive/3, option/3, finish/1, from_url/2]).

-export_type([connection/0]).

-import(hackney_native_check, [bool/2, integer/4, timeout/2, unsupported/1]).

%% What `hackney_native_h2_connection:start_link/1' is given, all but `host' and `port' optional.
-type connection() :: #{host := binary() | string(),
                        port := inet:port_number(),
                        transport => hackney_ssl | hackney_tcp,
                        h2c => boolean(),
                        connect_options => list(),
                        ssl_options => list(),
                        insecure => boolean(),
                        connect_timeout => timeout(),
                        keepalive => pos_integer() | infinity,
                        keepalive_timeout => pos_integer(),
                        initial_window_size => pos_integer(),
                        connection_window_size => pos_integer(),
                        max_frame_size => pos_integer(),
                        max_header_list_size => pos_integer()}.

-define(CONNECT_TIMEOUT, 8000).
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
%% How long the answer to a PING may take.
-define(KEEPALIVE_TIMEOUT, 20000).
-define(MAX_MILLISECONDS, 16#ffffffff).

%% @doc Checks the options of a connection that streams share. Returns what the engine is told, and how long connecting may take.
-spec connection(map()) -> {ok, Engine :: map(), ConnectTimeout :: timeout()} | {error, term()}.
connection(#{host := _, port := _} = Options) ->
    Defaults = maps:merge(defaults(), keepalive()),
    case hackney_native_check:options(fun shared_option/3, Options, Defaults) of
        {ok, Checked} -> finish(Checked);
        {error, _} = Error -> Error
    end;
connection(Options) when is_map(Options) ->
    {error, {badarg, hd([host, port] -- maps:keys(Options))}};
connection(_) ->
    {error, {badarg, options}}.

shared_option(Name, Value, Acc) when Name =:= keepalive; Name =:= keepalive_timeout -> keepalive(Name, Value, Acc);
shared_option(Name, Value, Acc) -> option(Name, Value, Acc).

%% @doc The defaults of the options that {@link keepalive/3} checks.
-spec keepalive() -> map().
keepalive() ->
    #{keepalive => infinity, keepalive_timeout => ?KEEPALIVE_TIMEOUT}.

%% @doc Checks `keepalive' or `keepalive_timeout'.
-spec keepalive(keepalive | keepalive_timeout, term(), map()) -> map().
keepalive(keepalive, infinity, Acc) -> Acc#{keepalive := infinity};
keepalive(Name, Value, Acc) -> Acc#{Name := integer(Name, Value, 1, ?MAX_MILLISECONDS)}.

%% @doc What holds for a connection unless its options say otherwise.
-spec defaults() -> map().
defaults() ->
    {ok, Tcp} = hackney_native_tcp_options:parse([]),
    #{scheme => https, h2c => false, tcp => Tcp, tls => [], connect_timeout => ?CONNECT_TIMEOUT,
      initial_window_size => ?INITIAL_WINDOW_SIZE, connection_window_size => ?CONNECTION_WINDOW_SIZE,
      max_frame_size => ?MIN_FRAME_SIZE, max_header_list_size => ?MAX_HEADER_LIST_SIZE}.

%% @doc Checks one option, for {@link hackney_native_check:options/3}.
-spec option(term(), term(), map()) -> map().
option(host, Value, Acc) -> Acc#{host => host(Value)};
option(port, Value, Acc) -> Acc#{port => integer(port, Value, 1, 65535)};
option(transport, hackney_ssl, Acc) -> Acc;
option(transport, hackney_tcp, Acc) -> Acc#{scheme := http};
option(h2c, Value, Acc) -> Acc#{h2c := bool(h2c, Value)};
option(connect_options, Value, Acc) -> Acc#{tcp := nested(hackney_native_tcp_options:parse(Value))};
option(ssl_options, Value, #{tls := Before} = Acc) when is_list(Value) -> Acc#{tls := Value ++ Before};
option(ssl_options, Value, Acc) when is_map(Value) -> option(ssl_options, maps:to_list(Value), Acc);
option(insecure, Value, #{tls := Before} = Acc) -> Acc#{tls := [{insecure, bool(insecure, Value)} | Before]};
option(connect_timeout, Value, Acc) -> Acc#{connect_timeout := timeout(connect_timeout, Value)};
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

%% @doc Puts together what depends on more than one option.
-spec finish(map()) -> {ok, Engine :: map(), ConnectTimeout :: timeout()} | {error, term()}.
finish(#{scheme := http, h2c := false}) ->
    {error, {scheme_not_supported, http}};
finish(#{h2c := H2c, scheme := Scheme0, host := Host, port := Port, tls := Tls0, connect_timeout := Timeout} = Acc) ->
    Scheme = case H2c of true -> http; false -> Scheme0 end,
    case hackney_native_tls_options:parse(Tls0) of
        {ok, Tls1} ->
            Tls = case Scheme of https -> Tls1; http -> undefined end,
            Engine = maps:without([connect_timeout, scheme, h2c], Acc),
            {ok, Engine#{tls := Tls, authority => hackney_native_url:authority(Scheme, Host, Port)}, Timeout};
        Error ->
            Error
    end.

%% @doc The options that a URL makes, with those given beside it, and the URL's path and query.
-spec from_url(binary() | string(), list() | map()) -> {ok, map(), Path :: binary()} | {error, term()}.
from_url(URL, Options) ->
    case hackney_native_check:options(fun url_option/3, Options, #{}) of
        {ok, Given} ->
            case hackney_native_url:parse(URL) of
                {ok, #{scheme := http} = Parsed} ->
                    case Given of
                        #{h2c := true} -> of_url(Parsed, Given);
                        _ -> {error, {scheme_not_supported, http}}
                    end;
                {ok, Parsed} ->
                    of_url(Parsed, maps:remove(h2c, Given));
                Error ->
                    Error
            end;
        Error ->
            Error
    end.

%% These come from the URL and the other arguments.
url_option(Name, _Value, _Acc) when Name =:= host; Name =:= port; Name =:= method; Name =:= transport; Name =:= path;
                                    Name =:= headers; Name =:= connection ->
    unsupported(Name);
%% Which only `http' URLs heed, but is wrong with any.
url_option(h2c, Value, Acc) -> Acc#{h2c => bool(h2c, Value)};
url_option(Name, Value, Acc) -> Acc#{Name => Value}.

of_url(#{host := Host, port := Port, path := Path}, Given) ->
    {ok, Given#{host => Host, port => Port}, Path}.
