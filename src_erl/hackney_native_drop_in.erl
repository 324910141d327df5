%% @doc Puts the engine under hackney's own module names while the node runs.
%%
%% hackney's `h2_*' functions do their work through its module `hackney_h2_stream'.
%% {@link install/0} loads a module of that name over hackney's, which hands every call to
%% {@link hackney_native_h2_stream}; programs that call `hackney:h2_open/3' change nothing and run on the
%% engine. On a node without hackney a small module `hackney' with the `h2_*' functions is loaded too; a
%% real one is never replaced.
%%
%% The stand-ins lie in `priv/drop_in', outside every code path: a release that held two modules of one
%% name in `ebin' directories would not assemble.
-module(hackney_native_drop_in).

-export([install/0, uninstall/0, installed/0]).
-export_type([reason/0]).

-type reason() :: {in_use, module()}
                | {hackney_without_h2, Version :: string() | undefined}
                | {drop_in_not_built, Text :: string()}
                | {nif_not_loaded, Text :: string()}
                | {load_failed, module(), term()}.
%% Why nothing was changed. `in_use': streams opened by the original run in this node. `hackney_without_h2':
%% this hackney is too old to have the `h2_*' functions.

-define(STREAM, hackney_h2_stream).
-define(FACADE, hackney).

%% @doc Loads the stand-ins. A second call, or one on a node where they are loaded already, changes nothing.
-spec install() -> ok | {error, reason()}.
install() ->
    %% A hackney that works must not give way to an engine that does not.
    alone(fun() -> all([fun hackney_native_nif:status/0, fun install_unchecked/0]) end).

%% @doc Removes the stand-ins; where there is a hackney, its own modules are loaded again.
%%
%% Streams that were opened meanwhile go on. They belong to the engine: use them through
%% {@link hackney_native_h2_stream} from then on.
-spec uninstall() -> ok | {error, reason()}.
uninstall() ->
    alone(fun() -> all([fun() -> unload(?FACADE) end, fun() -> unload(?STREAM) end]) end).

%% @doc Whether hackney's streams run on the engine at present.
-spec installed() -> boolean().
installed() ->
    is_stand_in(?STREAM).

%% Two installations at once would each see the other's half-done work. The lock is this node's alone.
alone(Fun) ->
    global:trans({?MODULE, self()}, Fun, [node()]).

all([]) -> ok;
all([Step | Steps]) ->
    case Step() of
        ok -> all(Steps);
        {error, _} = Error -> Error
    end.

install_unchecked() ->
    case real(?FACADE) of
        true -> install_below_hackney();
        false -> all([fun() -> load(?STREAM) end, fun() -> load(?FACADE) end])
    end.

install_below_hackney() ->
    %% A stand-in from before hackney was added to the code path must not hide hackney.
    case unload(?FACADE) of
        ok ->
            _ = code:ensure_loaded(?FACADE),
            case erlang:function_exported(?FACADE, h2_open, 4) of
                true -> load(?STREAM);
                false -> {error, {hackney_without_h2, hackney_version()}}
            end;
        {error, _} = Error ->
            Error
    end.

hackney_version() ->
    _ = application:load(hackney),
    case application:get_key(hackney, vsn) of
        {ok, Version} -> Version;
        undefined -> undefined
    end.

%% Loading.

load(Module) ->
    case read_stand_in(Module) of
        {ok, Path, Binary} ->
            case is_stand_in(Module) andalso same_code(Module, Binary) of
                true -> ok;
                false -> load_over(Module, Path, Binary)
            end;
        {error, _} = Error ->
            Error
    end.

load_over(Module, Path, Binary) ->
    WasOriginal = not is_stand_in(Module),
    case in_use(Module) of
        true ->
            {error, {in_use, Module}};
        false ->
            case code:load_binary(Module, Path, Binary) of
                {module, Module} -> settle(Module, WasOriginal andalso has_processes(Module));
                {error, Reason} -> {error, {load_failed, Module, Reason}}
            end
    end.

%% A stream of the original that was started between the look and the load would meet a module without
%% the state functions its gen_statem calls: the original gets its place back.
settle(Module, true) ->
    _ = unload(Module),
    {error, {in_use, Module}};
settle(Module, false) ->
    _ = code:soft_purge(Module),
    ok.

%% code:soft_purge/1 alone does not see the original's streams: a gen_statem that waits has no frame of
%% its callback module on its stack, and would fail at its next event.
in_use(Module) ->
    not code:soft_purge(Module) orelse (not is_stand_in(Module) andalso has_processes(Module)).

has_processes(Module) ->
    code:is_loaded(Module) =/= false
        andalso lists:any(fun(Pid) -> started_in(Pid, Module) end, erlang:processes()).

started_in(Pid, Module) ->
    case proc_lib:initial_call(Pid) of
        {Module, _Function, _Arguments} -> true;
        _ -> false
    end.

unload(Module) ->
    case is_stand_in(Module) of
        false ->
            ok;
        true ->
            case {code:soft_purge(Module), code:where_is_file(beam_name(Module))} of
                {false, _} -> {error, {in_use, Module}};
                {true, non_existing} -> delete(Module);
                {true, _Original} -> load_original(Module)
            end
    end.

delete(Module) ->
    true = code:delete(Module),
    _ = code:soft_purge(Module),
    ok.

load_original(Module) ->
    case code:load_file(Module) of
        {module, Module} ->
            _ = code:soft_purge(Module),
            ok;
        {error, Reason} ->
            {error, {load_failed, Module, Reason}}
    end.

%% What is there.

%% Whether the module's own author's version is loaded, or would be by the next call to it.
real(Module) ->
    code:where_is_file(beam_name(Module)) =/= non_existing
        orelse (code:is_loaded(Module) =/= false andalso not is_stand_in(Module)).

is_stand_in(Module) ->
    code:is_loaded(Module) =/= false
        andalso proplists:is_defined(?MODULE, Module:module_info(attributes)).

same_code(Module, Binary) ->
    {ok, {Module, Md5}} = beam_lib:md5(Binary),
    Module:module_info(md5) =:= Md5.

read_stand_in(Module) ->
    case code:priv_dir(hackney_native) of
        {error, bad_name} ->
            not_built("the application hackney_native is not on the code path, so its priv/drop_in cannot be found");
        Priv ->
            Path = filename:join([Priv, "drop_in", beam_name(Module)]),
            case file:read_file(Path) of
                {ok, Binary} -> {ok, Path, Binary};
                {error, Reason} -> not_built([Path, ": ", file:format_error(Reason),
                                              "; the compile hook native/build.sh makes it"])
            end
    end.

not_built(Text) ->
    {error, {drop_in_not_built, lists:flatten(Text)}}.

beam_name(Module) ->
    atom_to_list(Module) ++ ".beam".
