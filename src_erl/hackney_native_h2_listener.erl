%% @private A server: the process of a listening socket of the engine's, and the supervisor of its connections.
%%
%% Each connection has a process, made here when it is accepted, and monitored. When the server is stopped, connections are asked to open
%% no more streams (GOAWAY), and have some time for those that are there.
-module(hackney_native_h2_listener).

-behaviour(gen_server).

-export([start_link/2, name/3, stop/2, connections/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(server, {engine :: map(),
                 handler :: term(),
                 connections = #{} :: #{reference() => pid()},
                 %% The names under which it is to be found, and what is found there.
                 names = [] :: [{term(), term()}],
                 %% It accepts nothing any more, and waits for its connections.
                 stopping = false :: boolean()}).

%% @doc Listens. `{ok, Pid, Port}'.
-spec start_link(inet:port_number(), map()) -> {ok, pid(), inet:port_number()} | {error, term()}.
start_link(_Port, Options) ->
    case gen_server:start_link(?MODULE, Options, []) of
        {ok, Pid} -> {ok, Pid, gen_server:call(Pid, port, infinity)};
        {error, {shutdown, Reason}} -> {error, Reason};
        {error, Reason} -> {error, Reason};
        ignore -> {error, ignore}
    end.

%% @doc Has it found under a name, as long as it serves.
-spec name(pid(), term(), term()) -> ok.
name(Pid, Name, Ref) ->
    gen_server:call(Pid, {name, Name, Ref}, infinity).

%% @doc Accepts nothing any more. Connections have so many milliseconds to end what they are at. Does not wait for it.
-spec stop(pid(), timeout()) -> ok.
stop(Pid, Patience) ->
    gen_server:cast(Pid, {stop, Patience}).

%% @doc The processes of the connections.
-spec connections(pid()) -> [pid()].
connections(Pid) ->
    gen_server:call(Pid, connections, infinity).

%% @private
-spec init(map()) -> {ok, {inet:port_number(), #server{}}} | {stop, term()}.
init(#{listen := Listen, engine := Engine, handler := Handler}) ->
    process_flag(trap_exit, true),
    case hackney_native_nif:listen(Listen, hackney_native_options:worker_threads()) of
        {ok, {_Address, Port}} -> {ok, {Port, #server{engine = Engine, handler = Handler}}};
        {error, {nif_not_loaded, _} = Reason} -> {stop, {shutdown, Reason}};
        {error, {options, _} = Reason} -> {stop, {shutdown, Reason}};
        {error, Reason} -> {stop, {shutdown, {listen_failed, Reason}}}
    end.

%% @private
-spec handle_call(term(), gen_server:from(), {inet:port_number(), #server{}}) -> {reply, term(), {inet:port_number(), #server{}}}.
handle_call(port, _From, {Port, _} = State) ->
    {reply, Port, State};
handle_call(connections, _From, {_, #server{connections = Connections}} = State) ->
    {reply, maps:values(Connections), State};
handle_call({name, Name, Ref}, _From, {Port, #server{names = Names} = Server}) ->
    persistent_term:put({h2, server, Name}, Ref),
    {reply, ok, {Port, Server#server{names = [{Name, Ref} | Names]}}};
handle_call(_Other, _From, State) ->
    {reply, {error, badrequest}, State}.

%% @private
-spec handle_cast(term(), {inet:port_number(), #server{}}) ->
          {noreply, {inet:port_number(), #server{}}} | {stop, normal, {inet:port_number(), #server{}}}.
handle_cast({stop, _}, {_, #server{connections = Connections}} = State) when map_size(Connections) =:= 0 ->
    {stop, normal, State};
handle_cast({stop, Patience}, {Port, #server{connections = Connections} = Server}) ->
    _ = hackney_native_nif:unlisten(),
    forget(Server),
    maps:foreach(fun(_, Connection) -> Connection ! {hackney_native_h2_listener, drain} end, Connections),
    _ = is_integer(Patience) andalso erlang:send_after(Patience, self(), patience_is_over),
    {noreply, {Port, Server#server{stopping = true, names = []}}};
handle_cast(_Other, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), {inet:port_number(), #server{}}) ->
          {noreply, {inet:port_number(), #server{}}} | {stop, normal, {inet:port_number(), #server{}}}.
%% It came in just before: nobody has asked for anything yet, and the engine closes it when this process ends.
handle_info({hackney_native_nif, {accepted, _}}, {_, #server{stopping = true}} = State) ->
    {noreply, State};
handle_info({hackney_native_nif, {accepted, Id}}, {Port, #server{engine = Engine, handler = Handler} = Server}) ->
    case hackney_native_h2_connection:start_accepted(Id, Engine, Handler) of
        {ok, Connection} ->
            Monitor = erlang:monitor(process, Connection),
            {noreply, {Port, Server#server{connections = (Server#server.connections)#{Monitor => Connection}}}};
        {error, _} ->
            %% The application is being stopped.
            {noreply, {Port, Server}}
    end;
handle_info({hackney_native_nif, {certificates, ok}}, {Port, _} = State) ->
    logger:info("hackney_native: the server on port ~b has read its certificates again, and uses them", [Port]),
    {noreply, State};
handle_info({hackney_native_nif, {certificates, {error, {options, {Name, Text}}}}}, {Port, _} = State) ->
    logger:warning("hackney_native: the server on port ~b goes on with the certificates it has, as its files cannot be used now: ~p: ~ts",
                   [Port, Name, Text]),
    {noreply, State};
handle_info({'DOWN', Monitor, process, _, _}, {Port, #server{connections = Connections0, stopping = Stopping} = Server}) ->
    Connections = maps:remove(Monitor, Connections0),
    State = {Port, Server#server{connections = Connections}},
    case Stopping andalso map_size(Connections) =:= 0 of
        true -> {stop, normal, State};
        false -> {noreply, State}
    end;
handle_info(patience_is_over, State) ->
    %% The connections monitor this process.
    {stop, normal, State};
handle_info(_Other, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), {inet:port_number(), #server{}}) -> ok.
terminate(_Reason, {_Port, Server}) ->
    forget(Server).

%% A name may have been given to another server since.
forget(#server{names = Names}) ->
    lists:foreach(fun({Name, Ref}) ->
                          Key = {h2, server, Name},
                          persistent_term:get(Key, undefined) =:= Ref andalso persistent_term:erase(Key)
                  end, Names).
