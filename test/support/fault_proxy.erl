%%% @doc A TCP proxy between a client and a real server that does harm when a test says so.
%%%
%%% It knows nothing of TLS or HTTP/2: what it forwards is bytes. Each connection has two directions, `up' (from the client to
%%% the server) and `down', and each direction counts the bytes it has forwarded. A fault happens in one direction after so many
%%% bytes, by the plan a connection begins with ({@link plan/2}), or at once, on a running connection ({@link inject/3}):
%%%
%%% | fault            | what it does                                                                    |
%%% |------------------|---------------------------------------------------------------------------------|
%%% | `cut'            | FIN to both sides; what they still send is thrown away                           |
%%% | `half_close'     | FIN in this direction; what comes after is thrown away. The other one goes on    |
%%% | `reset'          | RST to both sides                                                               |
%%% | `stall'          | forwards nothing more in this direction, reads nothing more, until `resume'      |
%%% | `resume'         | goes on after `stall', with nothing lost; a stall that was planned does not come  |
%%% | `{trickle, N}'   | the next N bytes one by one, each in a segment of its own                        |
%%% | `{delay, Ms}'    | holds each piece back for so long, from now on; 0 ends it                        |
%%% | `corrupt'        | inverts the next byte                                                            |
%%%
%%% The first three are fatal to a connection, and so is `corrupt' under TLS; after the others all must go on as if nothing had been.
-module(fault_proxy).
-behaviour(gen_server).

-export([start/1, stop/1, port/1, plan/2, accept/1, connections/1,
         inject/3, forwarded/2, harmed/1, is_over/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([proxy/0, connection/0, direction/0, fault/0, plan/0]).

-opaque proxy() :: #{pid := pid(), port := inet:port_number()}.
-opaque connection() :: fault_pump:pair().
-type direction() :: up | down.
-type fault() :: cut | half_close | reset | stall | resume | {trickle, pos_integer()} | {delay, non_neg_integer()} | corrupt.
-type plan() :: [{direction(), After :: non_neg_integer(), fault()}].

-define(DEADLINE, 10000).

-record(proxy, {listen :: gen_tcp:socket(),
                server :: inet:port_number(),
                owner :: reference(),
                plan = [] :: plan(),
                accepted = 0 :: non_neg_integer(),
                queue = accept_queue:new() :: accept_queue:accept_queue()}).

%% @doc Starts a proxy to a port of 127.0.0.1. It lives no longer than its caller.
-spec start(inet:port_number()) -> proxy().
start(ServerPort) ->
    {ok, Pid} = gen_server:start(?MODULE, {self(), ServerPort}, []),
    #{pid => Pid, port => gen_server:call(Pid, port)}.

%% @doc Ends it and its connections.
-spec stop(proxy()) -> ok.
stop(#{pid := Pid}) -> gen_server:stop(Pid).

%% @doc Where clients connect to, on 127.0.0.1.
-spec port(proxy()) -> inet:port_number().
port(#{port := Port}) -> Port.

%% @doc The faults of every connection that is made from now on.
-spec plan(proxy(), plan()) -> ok.
plan(#{pid := Pid}, Plan) -> gen_server:call(Pid, {plan, Plan}).

%% @doc The next connection that nobody has asked for yet; waits for it.
-spec accept(proxy()) -> connection().
accept(#{pid := Pid}) -> gen_server:call(Pid, accept, ?DEADLINE).

%% @doc How many connections there were.
-spec connections(proxy()) -> non_neg_integer().
connections(#{pid := Pid}) -> gen_server:call(Pid, connections).

%% @doc A fault at once. Of the three that concern both directions, `cut' and `reset' are done when this returns.
-spec inject(connection(), direction(), fault()) -> ok.
inject(Connection, Direction, Fault) -> fault_pump:inject(Connection, Direction, Fault).

%% @doc Bytes forwarded so far.
-spec forwarded(connection(), direction()) -> non_neg_integer().
forwarded(Connection, Direction) -> fault_pump:forwarded(Connection, Direction).

%% @doc Whether a fatal fault, or `corrupt', has happened yet.
-spec harmed(connection()) -> boolean().
harmed(Connection) -> fault_pump:harmed(Connection).

%% @doc Whether both sides have closed the connection.
-spec is_over(connection()) -> boolean().
is_over(Connection) -> fault_pump:is_over(Connection).

%% ---- the listening process -------------------------------------------------------------------

%% @private
-spec init({pid(), inet:port_number()}) -> {ok, #proxy{}}.
init({Owner, ServerPort}) ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {reuseaddr, true}, {backlog, 1024} | fault_pump:socket_options()]),
    Self = self(),
    _ = spawn_link(fun() -> accept_loop(Self, Listen, ServerPort) end),
    {ok, #proxy{listen = Listen, server = ServerPort, owner = monitor(process, Owner)}}.

accept_loop(Proxy, Listen, ServerPort) ->
    case gen_tcp:accept(Listen) of
        {ok, Client} ->
            Plan = gen_server:call(Proxy, take_plan),
            case gen_tcp:connect({127, 0, 0, 1}, ServerPort, fault_pump:socket_options()) of
                {ok, Server} -> gen_server:cast(Proxy, {accepted, fault_pump:start(Client, Server, Plan)});
                {error, _} -> gen_tcp:close(Client)
            end,
            accept_loop(Proxy, Listen, ServerPort);
        {error, closed} ->
            %% The pumps are linked: they end with the proxy.
            exit(shutdown)
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #proxy{}) -> {reply, term(), #proxy{}} | {noreply, #proxy{}}.
handle_call(port, _From, #proxy{listen = Listen} = State) ->
    {ok, Port} = inet:port(Listen),
    {reply, Port, State};
handle_call({plan, Plan}, _From, State) ->
    {reply, ok, State#proxy{plan = Plan}};
handle_call(take_plan, _From, #proxy{plan = Plan} = State) ->
    {reply, Plan, State};
handle_call(connections, _From, #proxy{accepted = Accepted} = State) ->
    {reply, Accepted, State};
handle_call(accept, From, #proxy{queue = Queue} = State) ->
    {noreply, State#proxy{queue = accept_queue:take(From, Queue)}}.

%% @private
-spec handle_cast(term(), #proxy{}) -> {noreply, #proxy{}}.
handle_cast({accepted, Connection}, #proxy{queue = Queue, accepted = Accepted} = State) ->
    {noreply, State#proxy{queue = accept_queue:put(Connection, Queue), accepted = Accepted + 1}}.

%% @private
-spec handle_info(term(), #proxy{}) -> {stop, normal, #proxy{}}.
handle_info({'DOWN', Owner, process, _Pid, _Reason}, #proxy{owner = Owner} = State) ->
    {stop, normal, State}.
