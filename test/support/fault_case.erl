%%% @doc What the tests with a {@link fault_proxy} share: a stream to a real server through a proxy, and how a stream may end
%%% after a fault.
-module(fault_case).

-export([servers/1, stop/1, proxy/2, url/3, options/3, open/4, open/5, in_time/2, is_end/3]).
-export_type([servers/0, transport/0]).

-type transport() :: tls | h2c.
-opaque servers() :: #{transport() => embedded_server:server()}.

%% On top of a deadline: how long a call may take to return on a machine that has much else to do.
-define(SLACK, 5000).

%% @doc A server for each transport. With a small `window' a sender is soon stopped by a server that does not read.
-spec servers(embedded_server:options()) -> servers().
servers(Options) ->
    maps:from_list([{Transport, embedded_server:start(Options#{transport => Transport})} || Transport <- [tls, h2c]]).

%% @doc Ends them.
-spec stop(servers()) -> ok.
stop(Servers) ->
    lists:foreach(fun embedded_server:stop/1, maps:values(Servers)).

%% @doc A proxy before one of them.
-spec proxy(servers(), transport()) -> fault_proxy:proxy().
proxy(Servers, Transport) ->
    fault_proxy:start(embedded_server:port(maps:get(Transport, Servers))).

%% @doc A path of the server behind the proxy.
-spec url(transport(), fault_proxy:proxy(), iodata()) -> binary().
url(Transport, Proxy, Path) ->
    Scheme = case Transport of tls -> "https"; h2c -> "http" end,
    iolist_to_binary([Scheme, "://localhost:", integer_to_list(fault_proxy:port(Proxy)), Path]).

%% @doc The options with which `h2_open' trusts the server, and more.
-spec options(servers(), transport(), [{atom(), term()}]) -> [{atom(), term()}].
options(Servers, tls, More) ->
    [{ssl_options, [{cacertfile, embedded_server:ca_file(maps:get(tls, Servers))}]} | More];
options(_Servers, h2c, More) ->
    [{h2c, true} | More].

%% @doc A stream through a proxy of its own, and its connection there.
-spec open(servers(), transport(), iodata(), [{atom(), term()}]) -> {pid(), fault_proxy:connection()}.
open(Servers, Transport, Path, Options) ->
    open(Servers, Transport, Path, Options, []).

%% @doc The same with faults that are planned.
-spec open(servers(), transport(), iodata(), [{atom(), term()}], fault_proxy:plan()) -> {pid(), fault_proxy:connection()}.
open(Servers, Transport, Path, Options, Plan) ->
    Proxy = proxy(Servers, Transport),
    ok = fault_proxy:plan(Proxy, Plan),
    {ok, Stream} = hackney_native:h2_open(url(Transport, Proxy, Path), [], options(Servers, Transport, Options)),
    {Stream, fault_proxy:accept(Proxy)}.

%% @doc Calls it, and fails unless it has returned so many milliseconds later, or a little after that.
-spec in_time(non_neg_integer(), fun(() -> Result)) -> Result.
in_time(Deadline, Fun) ->
    {Micros, Result} = timer:tc(Fun),
    Micros div 1000 =< Deadline + ?SLACK orelse error({too_late, Micros div 1000, Deadline, Result}),
    Result.

%% @doc Whether a stream may end like this when the fault has hit its open connection. FIN alone is an orderly end only
%% without TLS, which has an end of its own (RFC 8446, section 6.1), and only between two frames.
-spec is_end(fault_proxy:fault(), transport(), term()) -> boolean().
is_end(reset, _Transport, Reason) ->
    %% What the system says depends on whether it was reading or writing.
    lists:member(Reason, [{closed, econnreset}, {closed, epipe}]);
is_end(corrupt, tls, Reason) ->
    case Reason of
        {tls_alert, {Alert, Text}} -> is_atom(Alert) andalso io_lib:printable_unicode_list(Text);
        _ -> false
    end;
is_end(_CutOrHalfClose, _Transport, closed) ->
    true;
is_end(_CutOrHalfClose, _Transport, {closed, Why}) ->
    lists:member(Why, [truncated_frame, econnreset, epipe]);
is_end(_, _, _) ->
    false.
