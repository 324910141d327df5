%%% @doc Other versions of this library's modules, to load into a running node.
-module(new_code).

-export([modules/0, changed/2, of_another_abi/1, generation/1, load/2, reload/1]).

%% @doc Every module of the application.
-spec modules() -> [module()].
modules() ->
    _ = application:load(hackney_native),
    {ok, Modules} = application:get_key(hackney_native, modules),
    Modules.

%% @doc The module with one more attribute and one more function.
-spec changed(module(), integer()) -> binary().
changed(Module, Generation) ->
    {ok, {Module, [{abstract_code, {raw_abstract_v1, Forms}}]}} =
        beam_lib:chunks(code:which(Module), [abstract_code]),
    {Head, [{eof, Line}]} = lists:split(length(Forms) - 1, Forms),
    {Attributes, Functions} = lists:splitwith(fun(Form) -> element(1, Form) =:= attribute end, Head),
    Added = [{attribute, Line, generation, Generation}, {attribute, Line, export, [{generation, 0}]}],
    Function = {function, Line, generation, 0, [{clause, Line, [], [], [{integer, Line, Generation}]}]},
    {ok, Module, Binary} = compile:forms(Attributes ++ Added ++ Functions ++ [Function, {eof, Line}], [debug_info]),
    Binary.

%% @doc `hackney_native_nif' of a version that wants another library. `Dir' is for its source.
-spec of_another_abi(file:filename()) -> binary().
of_another_abi(Dir) ->
    Name = "hackney_native_nif.erl",
    {ok, Source} = file:read_file(filename:join([embedded_server:project(), "src_erl", Name])),
    Changed = re:replace(Source, "-define\\(ABI, \\d+\\)", "-define(ABI, 4711)"),
    true = iolist_to_binary(Changed) =/= Source,
    File = filename:join(Dir, Name),
    ok = file:write_file(File, Changed),
    {ok, hackney_native_nif, Binary} = compile:file(File, [binary, debug_info]),
    Binary.

%% @doc Which version runs: 0 for the one that was compiled with the library.
-spec generation(module()) -> integer().
generation(Module) ->
    case lists:keyfind(generation, 1, Module:module_info(attributes)) of
        {generation, [Generation]} -> Generation;
        false -> 0
    end.

%% @doc Loads it in place of what runs.
-spec load(module(), binary()) -> {module, module()} | {error, term()}.
load(Module, Binary) ->
    code:load_binary(Module, code:which(Module), Binary).

%% @doc Takes the module away and loads it again. Not by `code:load_file/1': a call that comes in between loads the
%% module too, and of two loads at the same time of a module with an on_load function OTP 25's code server never ends
%% the second.
-spec reload(module()) -> {module, module()} | {error, term()}.
reload(Module) ->
    _ = code:delete(Module),
    _ = code:purge(Module),
    code:ensure_loaded(Module).
