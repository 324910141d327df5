%% @private Calls to the process of a stream or connection, which may be gone or on another node, and the change of its owner.
-module(hackney_native_remote).

-export([call/4, nif/3, statem_call/2, statem_call/3, post_to/1, change_owner/3]).

%% @doc Applies a function on the node of a process. What it raises is raised here.
-spec call(pid(), module(), atom(), [term()]) -> term().
call(Pid, Module, Function, Args) ->
    try
        erpc:call(node(Pid), Module, Function, Args)
    catch
        error:{erpc, Reason} -> {error, {nodedown, {node(Pid), Reason}}};
        error:{exception, Reason, _} -> error(Reason)
    end.

%% @doc Calls the engine on the node of a process. Not for `send' and `recv': there the detour would show.
-spec nif(pid(), atom(), [term()]) -> term().
nif(Pid, Function, Args) when node(Pid) =:= node() ->
    apply(hackney_native_nif, Function, Args);
nif(Pid, Function, Args) when is_pid(Pid) ->
    call(Pid, hackney_native_nif, Function, Args);
nif(_, _, _) ->
    error(badarg).

%% @doc Calls the process itself. `{error, closed}' when it is gone.
-spec statem_call(pid(), term()) -> term().
statem_call(Pid, Request) ->
    statem_call(Pid, Request, infinity).

%% @doc The same, waiting so many milliseconds: `{error, timeout}' after that.
-spec statem_call(pid(), term(), timeout()) -> term().
statem_call(Pid, Request, Timeout) ->
    try
        gen_statem:call(Pid, Request, Timeout)
    catch
        exit:{timeout, _} ->
            {error, timeout};
        exit:{{nodedown, Node}, _} ->
            {error, {nodedown, Node}};
        exit:_ ->
            %% Without the library there can be nothing to call: that is the better answer.
            case hackney_native_nif:status() of
                {error, _} = Error when node(Pid) =:= node() -> Error;
                _ -> {error, closed}
            end
    end.

%% @doc To whom the engine posts what is an owner's: the owner, or, as it posts on this node only, the calling process, which passes on what
%% an owner elsewhere is to have.
-spec post_to(Owner :: pid() | undefined) -> pid().
post_to(Owner) when is_pid(Owner), node(Owner) =:= node() -> Owner;
post_to(_) -> self().

%% @doc Moves link and monitor of the calling process from one owner to the next.
-spec change_owner(pid(), reference(), pid()) -> {pid(), reference()}.
change_owner(OldOwner, OldMonitor, NewOwner) ->
    link(NewOwner),
    Monitor = erlang:monitor(process, NewOwner),
    unlink(OldOwner),
    erlang:demonitor(OldMonitor, [flush]),
    receive {'EXIT', OldOwner, _} -> ok after 0 -> ok end,
    {NewOwner, Monitor}.
