%% @doc Connections that streams of a name share: `{pool, Name}' among the options of {@link hackney_native:h2_open/4}.
%%
%% Streams to the same origin (scheme, host, port) with the same options of connections share up to `max_connections' connections.
%% A stream goes to the one with most room. When all are full, another is opened; when there may be no more, the stream waits in line
%% on the least busy one. A connection that nobody has used for `idle_timeout' says goodbye; one that has said GOAWAY or is lost is
%% replaced when the next stream needs it.
%%
%% Who opens a stream finds a connection without a call to another process, as long as there is one with room. The pool's process
%% owns the connections, and never waits for one to be connected.
%%
%% == Options ==
%% Of {@link hackney_native:h2_pool/2}; times in milliseconds:
%% <dl>
%% <dt>`{max_connections, 4}'</dt><dd>to one origin with the same options</dd>
%% <dt>`{idle_timeout, 60000}'</dt><dd>or `infinity': how long a connection without streams is kept, at most a quarter longer</dd>
%% <dt>`{keepalive, infinity}', `{keepalive_timeout, 20000}'</dt><dd>as for {@link hackney_native:h2_connect/2}. After a GOAWAY that
%% says `enhance_your_calm' the next connections to that origin send PINGs half as often</dd>
%% </dl>
-module(hackney_native_h2_pool).

-behaviour(gen_server).

-export([configure/2, stop/1, open/3]).

-export([new_table/0, start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([name/0, options/0]).

-import(hackney_native_check, [integer/4, unsupported/1]).

-type name() :: atom().
-type options() :: [{atom(), term()}] | #{atom() => term()}.
%% What connections must have in common to be shared.
-type key() :: term().

%% `{{pool, Name}, Pid}', `{{options, Name}, Settings}', `{{connections, Name, Key}, Pids}': read by whoever opens a stream, written
%% by the pools.
-define(TABLE, hackney_native_h2_pools).
-define(SUPERVISOR, hackney_native_sup).
%% How often those who wait for a new connection are offered a place that has become free on another.
-define(LOOK_AGAIN, 50).
%% How long no further connection is tried where there are some, after one could not be connected.
-define(REST, 1000).
%% On so many connections that end as it comes a stream is tried.
-define(TRIES, 10).
-define(MAX_MILLISECONDS, 16#ffffffff).

-record(origin, {options :: map(),
                 %% Those that streams can be opened on.
                 connections = [] :: [pid()],
                 %% Those that are being connected.
                 connecting = [] :: [pid()],
                 %% Who waits for one, first come first.
                 waiting = [] :: [waiting()],
                 %% No further connection is tried until then.
                 rests_until :: integer() | undefined,
                 %% PINGs come so many times less often than asked for.
                 calm = 1 :: pos_integer()}).

-type waiting() :: {gen_server:from(), Monitor :: reference(), Timer :: reference() | undefined}.

-record(connection, {key :: key(),
                     %% Waits for it to be connected.
                     helper :: pid(),
                     %% Streams that it had had when it was last looked at, and since when it has had none.
                     opened = 0 :: non_neg_integer(),
                     idle_since :: integer() | undefined}).

-record(state, {name :: name(),
                settings :: map(),
                origins = #{} :: #{key() => #origin{}},
                connections = #{} :: #{pid() => #connection{}},
                ticking = false :: boolean(),
                looking = false :: boolean()}).

%%====================================================================
%% API
%%====================================================================

%% @doc See {@link hackney_native:h2_pool/2}.
-spec configure(name(), options()) -> ok | {error, term()}.
configure(Name, Options) ->
    case name(Name) of
        ok ->
            case settings(Name) of
                {ok, Before} ->
                    case hackney_native_check:options(fun setting/3, Options, Before) of
                        {ok, Settings} -> configured(Name, Settings);
                        {error, _} = Error -> Error
                    end;
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

configured(Name, Settings) ->
    true = ets:insert(?TABLE, {{options, Name}, Settings}),
    case process(Name) of
        {ok, Pid} -> call(Name, Pid, {settings, Settings});
        {error, _} = Error -> Error
    end.

setting(max_connections, Value, Acc) -> Acc#{max_connections := integer(max_connections, Value, 1, 10000)};
setting(idle_timeout, infinity, Acc) -> Acc#{idle_timeout := infinity};
setting(idle_timeout, Value, Acc) -> Acc#{idle_timeout := integer(idle_timeout, Value, 1, ?MAX_MILLISECONDS)};
setting(keepalive, infinity, Acc) -> Acc#{keepalive := infinity};
setting(keepalive, Value, Acc) -> Acc#{keepalive := integer(keepalive, Value, 1, ?MAX_MILLISECONDS)};
setting(keepalive_timeout, Value, Acc) -> Acc#{keepalive_timeout := integer(keepalive_timeout, Value, 1, ?MAX_MILLISECONDS)};
setting(Name, _Value, _Acc) -> unsupported(Name).

defaults() ->
    #{max_connections => 4, idle_timeout => 60000, keepalive => infinity, keepalive_timeout => 20000}.

%% @doc See {@link hackney_native:h2_pool_stop/1}.
-spec stop(name()) -> ok | {error, term()}.
stop(Name) ->
    case name(Name) of
        ok ->
            try
                true = ets:delete(?TABLE, {options, Name}),
                _ = supervisor:terminate_child(?SUPERVISOR, {pool, Name}),
                ok
            catch
                error:badarg -> ok;
                exit:_ -> ok
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc Opens a stream on a connection of the pool. `Connection' are the options that decide about the connection, `Stream' the
%% others.
-spec open(name(), map(), map()) -> {ok, pid()} | {error, term()}.
open(Name, Connection, Stream) ->
    case name(Name) of
        ok ->
            %% A wrong value is found when the stream is made.
            Deadline = case maps:get(connect_timeout, Stream, hackney_native_options:connect_timeout()) of
                           Timeout when is_integer(Timeout) -> erlang:monotonic_time(millisecond) + Timeout;
                           _ -> infinity
                       end,
            try open(Name, Connection, Stream, Deadline, ?TRIES)
            catch error:badarg -> not_running(Name)
            end;
        {error, _} = Error ->
            Error
    end.

open(Name, Key, Stream, Deadline, Tries) ->
    Known = case ets:lookup(?TABLE, {connections, Name, Key}) of
                [{_, Pids}] -> Pids;
                [] -> []
            end,
    case roomiest(Known) of
        {free, _, Connection} -> open_on({place, Connection}, Name, Key, Stream, Deadline, Tries);
        _ -> ask(Name, Key, Stream, Deadline, Tries)
    end.

%% There is none with room: the pool decides.
ask(Name, Key, Stream, Deadline, Tries) ->
    %% Nothing is connected for a stream that cannot be opened anyway.
    case hackney_native_options:stream(Stream#{connection => self()}) of
        {ok, _, _} ->
            case process(Name) of
                {ok, Pid} ->
                    case call(Name, Pid, {connection, Key, Deadline}) of
                        {error, _} = Error -> Error;
                        Where -> open_on(Where, Name, Key, Stream, Deadline, Tries)
                    end;
                {error, _} = Error ->
                    Error
            end;
        {error, _} = Error ->
            Error
    end.

open_on({How, Connection}, Name, Key, Stream, Deadline, Tries) ->
    case hackney_native_h2_stream:start_link(Stream#{connection => Connection}) of
        {ok, Pid} ->
            case take(How, Pid, remaining(Deadline)) of
                ok ->
                    {ok, Pid};
                %% Somebody was quicker.
                {error, full} ->
                    open(Name, Key, Stream, Deadline, Tries);
                {error, Reason} = Error ->
                    case Tries > 1 andalso is_unprocessed(Reason) of
                        true -> open(Name, Key, Stream, Deadline, Tries - 1);
                        false -> Error
                    end
            end;
        {error, _} = Error ->
            Error
    end.

take(place, Pid, Timeout) -> hackney_native_h2_stream:connect_if_free(Pid, Timeout);
take(line, Pid, Timeout) -> hackney_native_h2_stream:connect(Pid, Timeout).

%% The connection has ended before the request was sent.
is_unprocessed(unprocessed) -> true;
is_unprocessed(closed) -> true;
is_unprocessed({closed, _}) -> true;
is_unprocessed({tls_alert, _}) -> true;
is_unprocessed({goaway, _}) -> true;
is_unprocessed(_) -> false.

%% The connection with most room, or else the least busy one.
roomiest(Connections) ->
    lists:foldl(fun(Connection, Best) ->
                    case room(Connection) of
                        over -> Best;
                        Room when element(1, Best) =:= none; Room > element(2, Best) -> {kind(Room), Room, Connection};
                        _ -> Best
                    end
                end, {none, 0, undefined}, Connections).

kind(Room) when Room > 0 -> free;
kind(_) -> full.

name(Name) when is_atom(Name), not is_boolean(Name), Name =/= undefined -> ok;
name(Name) -> {error, {badarg, {pool, Name}}}.

settings(Name) ->
    try ets:lookup(?TABLE, {options, Name}) of
        [{_, Settings}] -> {ok, Settings};
        [] -> {ok, defaults()}
    catch
        error:badarg -> not_running(Name)
    end.

%% The pool's process, started if need be.
process(Name) ->
    case ets:lookup(?TABLE, {pool, Name}) of
        [{_, Pid}] ->
            case is_process_alive(Pid) of
                true -> {ok, Pid};
                %% Killed, so that it could not say goodbye.
                false -> start(Name)
            end;
        [] ->
            start(Name)
    end.

start(Name) ->
    Child = #{id => {pool, Name}, start => {?MODULE, start_link, [Name]}, restart => temporary},
    try supervisor:start_child(?SUPERVISOR, Child) of
        {ok, Pid} -> {ok, Pid};
        {error, {already_started, Pid}} -> {ok, Pid};
        {error, _} -> not_running(Name)
    catch
        exit:_ -> not_running(Name)
    end.

call(Name, Pid, Request) ->
    try gen_server:call(Pid, Request, infinity)
    catch exit:_ -> not_running(Name)
    end.

%% The application is not started, or is stopping, or the pool was stopped.
not_running(Name) ->
    case hackney_native_nif:status() of
        ok -> {error, {pool_not_running, Name}};
        {error, _} = Error -> Error
    end.

remaining(infinity) -> infinity;
remaining(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%%====================================================================
%% gen_server
%%====================================================================

%% @private The table of all pools, which belongs to their supervisor.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @private
-spec start_link(name()) -> {ok, pid()} | {error, term()}.
start_link(Name) ->
    case gen_server:start_link(?MODULE, Name, []) of
        {ok, Pid} -> {ok, Pid};
        ignore -> {error, ignore};
        {error, _} = Error -> Error
    end.

%% @private
-spec init(name()) -> {ok, #state{}}.
init(Name) ->
    process_flag(trap_exit, true),
    forget(Name),
    true = ets:insert(?TABLE, {{pool, Name}, self()}),
    {ok, Settings} = settings(Name),
    {ok, #state{name = Name, settings = Settings}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}} | {noreply, #state{}}.
handle_call({settings, Settings}, _From, State) ->
    {reply, ok, tick(State#state{settings = Settings})};
handle_call({connection, Key, Deadline}, {Caller, _} = From, #state{origins = Origins} = State) ->
    Origin = maps:get(Key, Origins, #origin{options = Key}),
    Timer = case Deadline of
                infinity -> undefined;
                _ -> erlang:send_after(remaining(Deadline), self(), {expired, Key, From})
            end,
    Waiting = {From, erlang:monitor(process, Caller), Timer},
    {noreply, serve(Key, Origin#origin{waiting = Origin#origin.waiting ++ [Waiting]}, State)};
handle_call(_Unknown, _From, State) ->
    {reply, {error, badrequest}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({connected, Connection, Result}, State) ->
    {noreply, connected(Connection, Result, State)};
handle_cast(_Unknown, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({h2, Connection, {goaway, _, Code}}, State) ->
    {noreply, over(Connection, Code, State)};
handle_info({h2, Connection, {closed, Reason}}, State) ->
    {noreply, without(Connection, over(Connection, Reason, State))};
handle_info({'EXIT', Connection, _}, #state{connections = Connections} = State) when is_map_key(Connection, Connections) ->
    {noreply, without(Connection, over(Connection, closed, State))};
handle_info({'EXIT', _, normal}, State) ->
    {noreply, State};
handle_info({'EXIT', Helper, _}, #state{connections = Connections} = State) ->
    %% Killed, as by a second change of this module's code.
    Orphans = [Connection || {Connection, #connection{helper = Pid}} <- maps:to_list(Connections), Pid =:= Helper],
    lists:foreach(fun hackney_native:h2_close/1, Orphans),
    {noreply, lists:foldl(fun(Connection, Acc) -> connected(Connection, {error, closed}, Acc) end, State, Orphans)};
handle_info({expired, Key, From}, State) ->
    {noreply, gone(Key, fun({Who, _, _}) -> Who =:= From end, State)};
handle_info({'DOWN', Monitor, process, _, _}, #state{origins = Origins} = State) ->
    IsIt = fun({_, Other, _}) -> Other =:= Monitor end,
    Keys = [Key || {Key, #origin{waiting = Waiting}} <- maps:to_list(Origins), lists:any(IsIt, Waiting)],
    {noreply, lists:foldl(fun(Key, Acc) -> gone(Key, IsIt, Acc) end, State, Keys)};
handle_info(look_again, #state{origins = Origins} = State) ->
    Keys = [Key || {Key, #origin{waiting = [_ | _]}} <- maps:to_list(Origins)],
    {noreply, lists:foldl(fun(Key, #state{origins = Now} = Acc) -> serve(Key, maps:get(Key, Now), Acc) end,
                          State#state{looking = false}, Keys)};
handle_info(tick, #state{connections = Connections} = State) ->
    Now = erlang:monotonic_time(millisecond),
    {noreply, tick(maps:fold(fun(Connection, _, Acc) -> retire_if_idle(Connection, Now, Acc) end,
                             State#state{ticking = false}, Connections))};
handle_info(_Unknown, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{name = Name}) ->
    %% The connections end with this process.
    forget(Name).

forget(Name) ->
    true = ets:match_delete(?TABLE, {{connections, Name, '_'}, '_'}),
    true = ets:delete(?TABLE, {pool, Name}),
    ok.

%%--------------------------------------------------------------------
%% Those who wait
%%--------------------------------------------------------------------

%% Gives those who wait the places there are, in their order, and has more connected if that does not do.
serve(Key, #origin{connections = Connections0, waiting = Waiting} = Origin0, State) ->
    %% Of the end of some the engine may know, and this process not yet.
    Connections = lists:filter(fun is_open/1, Connections0),
    Origin = Origin0#origin{connections = Connections, waiting = fill(Connections, Waiting)},
    case Origin of
        #origin{waiting = []} ->
            keep(Key, Origin, State);
        #origin{connecting = [], waiting = Left} ->
            case may_connect(Origin, State) of
                true ->
                    connect(Key, Origin, State);
                false ->
                    ok = line_up([], by_room(Connections), Left),
                    keep(Key, Origin#origin{waiting = []}, State)
            end;
        #origin{} ->
            keep(Key, Origin, look_again(State))
    end.

%% Returns those for whom there is no place. Who is given one takes it a moment later: each connection is asked once only.
fill(_Connections, []) ->
    [];
fill(Connections, Waiting) ->
    case roomiest(Connections) of
        {free, Room, Connection} ->
            {Served, Left} = lists:split(min(Room, length(Waiting)), Waiting),
            lists:foreach(fun(Who) -> answer({place, Connection}, Who) end, Served),
            fill(lists:delete(Connection, Connections), Left);
        _ ->
            Waiting
    end.

%% On each connection as many as on the others, the least busy first.
line_up(_Next, _All, []) -> ok;
line_up([], [], Waiting) -> lists:foreach(fun(Who) -> answer({error, closed}, Who) end, Waiting);
line_up([], All, Waiting) -> line_up(All, All, Waiting);
line_up([Connection | Next], All, [Who | Waiting]) ->
    ok = answer({line, Connection}, Who),
    line_up(Next, All, Waiting).

by_room(Connections) ->
    Rooms = [{room(Connection), Connection} || Connection <- Connections],
    [Connection || {Room, Connection} <- lists:reverse(lists:sort(Rooms)), Room =/= over].

is_open(Connection) ->
    room(Connection) =/= over.

%% Less than none when there is a line.
room(Connection) ->
    case hackney_native_nif:client_load(Connection) of
        {Streams, infinity, _} -> 16#7fffffff - Streams;
        {Streams, Most, _} -> Most - Streams;
        {error, _} -> over
    end.

%% A place may become free before another connection stands.
look_again(#state{looking = true} = State) ->
    State;
look_again(State) ->
    _ = erlang:send_after(?LOOK_AGAIN, self(), look_again),
    State#state{looking = true}.

answer(Answer, {From, Monitor, Timer}) ->
    _ = erlang:demonitor(Monitor, [flush]),
    _ = Timer =/= undefined andalso erlang:cancel_timer(Timer),
    gen_server:reply(From, Answer).

%% The time of one who waits is over, or he is. A connection for which nobody waits any more is given up.
gone(Key, IsIt, #state{origins = Origins} = State) ->
    case Origins of
        #{Key := #origin{waiting = Waiting0, connecting = Connecting} = Origin} ->
            {Gone, Waiting} = lists:partition(IsIt, Waiting0),
            lists:foreach(fun(Who) -> answer({error, connect_timeout}, Who) end, Gone),
            case Waiting of
                [] ->
                    lists:foreach(fun hackney_native:h2_close/1, Connecting),
                    keep(Key, Origin#origin{waiting = [], connecting = []},
                         lists:foldl(fun without/2, State, Connecting));
                _ ->
                    keep(Key, Origin#origin{waiting = Waiting}, State)
            end;
        #{} ->
            State
    end.

%%--------------------------------------------------------------------
%% Connections
%%--------------------------------------------------------------------

may_connect(#origin{connections = Connections, connecting = Connecting, rests_until = Rests},
            #state{settings = #{max_connections := Max}}) ->
    %% One at a time: the next when it is known how many places this one has.
    Connecting =:= [] andalso length(Connections) < Max
        andalso (Connections =:= [] orelse Rests =:= undefined orelse erlang:monotonic_time(millisecond) >= Rests).

connect(Key, #origin{options = Options, connecting = Before} = Origin, #state{connections = Connections} = State) ->
    case hackney_native_h2_connection:start_link(maps:merge(Options, keepalive(Origin, State))) of
        {ok, Connection} ->
            Pool = self(),
            %% As long as somebody waits for it: `gone' gives it up.
            Helper = spawn_link(fun() ->
                                    Result = hackney_native_h2_connection:connect(Connection, infinity),
                                    gen_server:cast(Pool, {connected, Connection, Result})
                                end),
            keep(Key, Origin#origin{connecting = [Connection | Before]},
                 look_again(State#state{connections = Connections#{Connection => #connection{key = Key, helper = Helper}}}));
        {error, _} = Error ->
            not_connected(Key, Origin, Error, State)
    end.

keepalive(#origin{calm = Calm}, #state{settings = #{keepalive := Interval, keepalive_timeout := Timeout}}) ->
    #{keepalive_timeout => Timeout,
      keepalive => case Interval of
                       infinity -> infinity;
                       _ -> min(Interval * Calm, ?MAX_MILLISECONDS)
                   end}.

%% How connecting went. Not heard any more of one that was given up, or was over before its connecting was told.
connected(Connection, Result, #state{connections = Connections, origins = Origins} = State) ->
    case Connections of
        #{Connection := #connection{key = Key}} ->
            #{Key := #origin{connecting = Connecting, connections = Others} = Origin} = Origins,
            case lists:member(Connection, Connecting) of
                true when Result =:= ok ->
                    serve(Key, Origin#origin{connecting = lists:delete(Connection, Connecting),
                                             connections = [Connection | Others]}, State);
                true ->
                    not_connected(Key, Origin#origin{connecting = lists:delete(Connection, Connecting)}, Result,
                                  without(Connection, State));
                false ->
                    State
            end;
        #{} ->
            State
    end.

%% It could not be connected. Who waits is told so, or waits in line where there is one.
not_connected(Key, #origin{connections = [], connecting = [], waiting = Waiting} = Origin, Error, State) ->
    lists:foreach(fun(Who) -> answer(Error, Who) end, Waiting),
    keep(Key, Origin#origin{waiting = []}, State);
not_connected(Key, Origin, _Error, State) ->
    serve(Key, Origin#origin{rests_until = erlang:monotonic_time(millisecond) + ?REST}, State).

%% No stream is opened on it any more.
over(Connection, Why, #state{connections = Connections, origins = Origins} = State) ->
    case Connections of
        #{Connection := #connection{key = Key}} ->
            case Origins of
                #{Key := #origin{connections = Others, connecting = Connecting, calm = Calm0} = Origin} ->
                    Calm = case Why of enhance_your_calm -> min(2 * Calm0, 1024); _ -> Calm0 end,
                    Less = Origin#origin{connections = lists:delete(Connection, Others),
                                         connecting = lists:delete(Connection, Connecting), calm = Calm},
                    case lists:member(Connection, Connecting) of
                        %% A server that hangs up on whom it has just greeted would be asked for ever.
                        true -> not_connected(Key, Less, {error, closed}, State);
                        false -> serve(Key, Less, State)
                    end;
                #{} ->
                    State
            end;
        #{} ->
            State
    end.

without(Connection, #state{connections = Connections} = State) ->
    State#state{connections = maps:remove(Connection, Connections)}.

%% Notes what has become of an origin. One that has nothing is forgotten.
keep(Key, #origin{connections = [], connecting = [], waiting = [], calm = 1}, #state{name = Name, origins = Origins} = State) ->
    true = ets:delete(?TABLE, {connections, Name, Key}),
    State#state{origins = maps:remove(Key, Origins)};
keep(Key, #origin{connections = Now} = Origin, #state{name = Name, origins = Origins} = State) ->
    case Origins of
        #{Key := #origin{connections = Now}} -> true;
        #{} -> ets:insert(?TABLE, {{connections, Name, Key}, Now})
    end,
    tick(State#state{origins = Origins#{Key => Origin}}).

retire_if_idle(Connection, Now, #state{connections = Connections, origins = Origins, settings = Settings} = State) ->
    #{idle_timeout := Timeout} = Settings,
    #{Connection := #connection{key = Key, opened = Before, idle_since = Since} = Seen} = Connections,
    #{Key := #origin{connections = All} = Origin} = maps:merge(#{Key => #origin{options = Key}}, Origins),
    %% One that stands and of which this process has not heard yet is not idle: there is somebody who waits for it.
    case lists:member(Connection, All) andalso hackney_native_nif:client_load(Connection) of
        false ->
            State;
        {0, _, Before} when is_integer(Since), is_integer(Timeout), Now - Since >= Timeout ->
            %% Should somebody be about to open a stream on it, he is told to try another.
            ok = hackney_native_nif:client_retire(Connection),
            keep(Key, Origin#origin{connections = lists:delete(Connection, All)}, State);
        {0, _, Before} when is_integer(Since) ->
            State;
        {0, _, Opened} ->
            State#state{connections = Connections#{Connection := Seen#connection{opened = Opened, idle_since = Now}}};
        {_, _, Opened} ->
            State#state{connections = Connections#{Connection := Seen#connection{opened = Opened, idle_since = undefined}}};
        {error, _} ->
            State
    end.

%% Looks for idle connections from now on, if there are any at all.
tick(#state{ticking = false, settings = #{idle_timeout := Timeout}, connections = Connections} = State)
  when is_integer(Timeout), map_size(Connections) > 0 ->
    _ = erlang:send_after(max(1, Timeout div 4), self(), tick),
    State#state{ticking = true};
tick(State) ->
    State.
