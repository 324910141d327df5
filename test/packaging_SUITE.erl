%% @doc This library as others get it: by git, below a rebar3 project, a mix project and a release; and what the compile
%% hook says when it cannot build.
%%
%% The projects are copies of `examples/', in temporary directories; the repository they depend on is made of this
%% working tree's files, committed or not, without those that git ignores.
-module(packaging_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([rebar3_project/1, rebar3_release/1, mix_project/1, ready_library/1,
         unchanged_is_left_alone/1, replaced_by_rename/1,
         ready_library_missing/1, ready_library_empty/1, no_cargo/1, old_cargo/1, broken_cargo/1]).

%% The first build compiles every crate.
suite() ->
    [{timetrap, {minutes, 15}}].

all() ->
    [ready_library_missing, ready_library_empty, no_cargo, old_cargo, broken_cargo, replaced_by_rename,
     ready_library, rebar3_project, rebar3_release, unchanged_is_left_alone, mix_project].

init_per_suite(Config) ->
    [{server, embedded_server:start()}, {repository, repository(Config)} | Config].

end_per_suite(Config) ->
    embedded_server:stop(?config(server, Config)).

%% Projects.

rebar3_project(Config) ->
    Project = example(Config, "rebar3_app", "by_rebar3"),
    succeeds(run(Project, "rebar3", ["compile"], cargo_env(Config))),
    ?assertEqual(chat_answers(), chat_by_rebar3(Config, Project)).

%% Needs the project of rebar3_project/1. A release holds copies, and loads everything at start.
rebar3_release(Config) ->
    Project = project_dir(Config, "by_rebar3"),
    succeeds(run(Project, "rebar3", ["release"], cargo_env(Config))),
    Release = filename:join(Project, "_build/default/rel/chat"),
    [Library] = filelib:wildcard(filename:join(Release, "lib/hackney_native-*")),
    ?assertEqual([], filelib:wildcard(filename:join(Release, "lib/*/ebin/hackney.beam"))),
    ?assertEqual([], filelib:wildcard(filename:join(Release, "lib/*/ebin/hackney_h2_stream.beam"))),
    [?assert(filelib:is_regular(filename:join([Library, "priv", File])))
     || File <- ["hackney_native.so", "drop_in/hackney.beam", "drop_in/hackney_h2_stream.beam"]],
    Start = filename:join(Release, "releases/0.1.0/start"),
    %% What the release's start script does, without a node name, hence without epmd.
    Binaries = filename:join(code:root_dir(), "erts-" ++ erlang:system_info(version) ++ "/bin"),
    Env = [{"ROOTDIR", Release}, {"BINDIR", Binaries}, {"EMU", "beam"}, {"PROGNAME", "erl"} | chat_env(Config)],
    Output = succeeds(run(Release, filename:join(Binaries, "erlexec"),
                          ["-noshell", "-boot", Start, "-mode", "embedded", "-s", "chat", "main"], Env)),
    ?assertEqual(chat_answers(), summary(Output)).

%% Without Hex: neither its archive nor anything from it is there.
mix_project(Config) ->
    Project = example(Config, "mix_app", "by_mix"),
    Env = [{"MIX_REBAR3", executable("rebar3")}, {"MIX_HOME", filename:join(Project, "mix_home")}, {"MIX_ENV", "dev"},
           {"LC_ALL", "C.UTF-8"} | cargo_env(Config)],
    succeeds(run(Project, "mix", ["deps.get"], Env)),
    succeeds(run(Project, "mix", ["compile"], Env)),
    Output = succeeds(run(Project, "mix", ["run", "-e", "Chat.main()"], Env ++ chat_env(Config))),
    ?assertEqual(chat_answers(), summary(Output)).

%% A relative path too: it counts from the project that compiles, not from the dependency.
ready_library(Config) ->
    Project = example(Config, "rebar3_app", "by_ready_library"),
    Built = filename:join(code:priv_dir(hackney_native), "hackney_native.so"),
    {ok, _} = file:copy(Built, filename:join(Project, "ready.so")),
    Env = [{"HACKNEY_NATIVE_LIB", "ready.so"}, {"HACKNEY_NATIVE_GIT", ?config(repository, Config)} | no_cargo_env(Config)],
    succeeds(run(Project, "rebar3", ["compile"], Env)),
    ?assertEqual(chat_answers(), chat_by_rebar3(Config, Project)).

chat_by_rebar3(Config, Project) ->
    Paths = filelib:wildcard(filename:join(Project, "_build/default/lib/*/ebin")),
    Output = succeeds(run(Project, "erl", ["-noshell", "-pa" | Paths] ++ ["-s", "chat", "main"], chat_env(Config))),
    summary(Output).

%% The compile hook, run by itself.

%% Needs the project of rebar3_project/1.
unchanged_is_left_alone(Config) ->
    Library = filename:join(project_dir(Config, "by_rebar3"), "_build/default/lib/hackney_native"),
    Before = files(Library),
    ?assertMatch([_, _, _], Before),
    succeeds(run(Library, "sh", ["native/build.sh"], cargo_env(Config))),
    ?assertEqual(Before, files(Library)).

%% Which file it is, and when it was written.
files(Library) ->
    [begin
         {ok, #file_info{inode = Inode, mtime = Time}} = file:read_file_info(filename:join(Library, File)),
         {File, Inode, Time}
     end || File <- ["priv/hackney_native.so", "priv/drop_in/hackney.beam", "priv/drop_in/hackney_h2_stream.beam"]].

%% A node that runs has the library mapped: writing into the file would change the code under its feet.
replaced_by_rename(Config) ->
    Tree = tree(Config, "replaced"),
    succeeds(hook(Tree, [{"HACKNEY_NATIVE_LIB", file(Tree, "one.so", "the first")}])),
    Target = filename:join(Tree, "priv/hackney_native.so"),
    {ok, Mapped} = file:open(Target, [read]),
    succeeds(hook(Tree, [{"HACKNEY_NATIVE_LIB", file(Tree, "two.so", "the second")}])),
    ?assertEqual({ok, "the first"}, file:read(Mapped, 100)),
    ?assertEqual({ok, <<"the second">>}, file:read_file(Target)),
    ok = file:close(Mapped),
    {ok, Names} = file:list_dir(filename:join(Tree, "priv")),
    ?assertEqual(["drop_in", "hackney_native.so"], lists:sort(Names)).

ready_library_missing(Config) ->
    Tree = tree(Config, "missing"),
    Output = fails(hook(Tree, [{"HACKNEY_NATIVE_LIB", "/nowhere/lib.so"}])),
    says(Output, "HACKNEY_NATIVE_LIB is set to \"/nowhere/lib.so\", but there is no such file").

ready_library_empty(Config) ->
    Tree = tree(Config, "empty"),
    Output = fails(hook(Tree, [{"HACKNEY_NATIVE_LIB", file(Tree, "empty.so", "")}])),
    says(Output, "which is empty or cannot be read").

%% What somebody without Rust gets to read, from rebar3 as from the hook alone.
no_cargo(Config) ->
    Tree = tree(Config, "no_cargo"),
    [begin
         says(Output, "no cargo was found"),
         says(Output, "Install Rust 1.91 or newer"),
         says(Output, "https://rustup.rs"),
         says(Output, "HACKNEY_NATIVE_LIB")
     end || Output <- [fails(hook(Tree, no_cargo_env(Config))),
                       fails(run(Tree, "rebar3", ["compile"], no_cargo_env(Config)))]],
    ?assertNot(filelib:is_regular(filename:join(Tree, "priv/hackney_native.so"))).

old_cargo(Config) ->
    Tree = tree(Config, "old_cargo"),
    Cargo = program(Tree, "cargo", "echo 'cargo 1.63.0 (fd9c4297c 2022-07-01)'"),
    Output = fails(hook(Tree, [{"CARGO", Cargo}])),
    says(Output, "cargo 1.63"),
    says(Output, "is too old, Rust 1.91 or newer is needed").

broken_cargo(Config) ->
    Tree = tree(Config, "broken_cargo"),
    Cargo = program(Tree, "cargo", "echo 'no default toolchain' >&2; exit 1"),
    Output = fails(hook(Tree, [{"CARGO", Cargo}])),
    says(Output, "was found but does not run"),
    says(Output, "no default toolchain").

hook(Tree, Env) ->
    run(Tree, "sh", ["native/build.sh"], Env).

%% Runs of programs.

%% {Status, Output}; an environment variable of value false is unset.
run(Dir, Program, Args, Env) ->
    Clean = [{Name, false} || Name <- ["ERL_LIBS", "REBAR_CONFIG", "REBAR_PROFILE", "REBAR_BASE_DIR",
                                       "HACKNEY_NATIVE_LIB", "CARGO"]],
    Port = open_port({spawn_executable, executable(Program)},
                     [{args, Args}, {cd, Dir}, {env, Clean ++ Env}, binary, exit_status, stderr_to_stdout]),
    {Status, Output} = collect(Port, []),
    ct:log("~ts ~ts: status ~b~n~ts", [Program, lists:join($\s, Args), Status, Output]),
    {Status, Output}.

collect(Port, Output) ->
    receive
        {Port, {data, Data}} -> collect(Port, [Output, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Output)}
    end.

succeeds({Status, Output}) ->
    ?assertEqual({0, Output}, {Status, Output}),
    Output.

fails({Status, Output}) ->
    ?assertNotEqual({0, Output}, {Status, Output}),
    Output.

%% Whatever the lines are broken at.
says(Output, Text) ->
    OneLine = re:replace(Output, "\\s+", " ", [global, {return, list}]),
    ?assertMatch({true, _}, {string:find(OneLine, Text) =/= nomatch, OneLine}).

executable(Program) ->
    case os:find_executable(Program) of
        false -> error({missing, Program, "run `sh test/setup/install.sh test'"});
        Path -> Path
    end.

%% The packaging builds have a target directory of their own, kept between runs: cargo gives a library that was built of
%% another checkout the same file name. Unoptimised, as they are about the way and not about speed.
cargo_env(Config) ->
    Target = filename:join([embedded_server:project(), "target", "packaging"]),
    [{"CARGO_TARGET_DIR", Target}, {"CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"}, {"CARGO_PROFILE_RELEASE_DEBUG", "0"},
     {"HACKNEY_NATIVE_GIT", ?config(repository, Config)}].

%% Directories of PATH that hold a cargo are replaced by copies without it; HOME leads nowhere that has one.
no_cargo_env(Config) ->
    Home = filename:join(?config(priv_dir, Config), "home"),
    ok = filelib:ensure_dir(filename:join(Home, "x")),
    Paths = [without_cargo(Config, Path) || Path <- string:lexemes(os:getenv("PATH"), ":")],
    [{"PATH", lists:append(lists:join(":", Paths))}, {"HOME", Home}, {"CARGO_HOME", false}].

without_cargo(Config, Path) ->
    case filelib:is_regular(filename:join(Path, "cargo")) of
        false ->
            Path;
        true ->
            Shadow = filename:join([?config(priv_dir, Config), "path", integer_to_list(erlang:phash2(Path))]),
            ok = filelib:ensure_dir(filename:join(Shadow, "x")),
            {ok, Names} = file:list_dir(Path),
            _ = [file:make_symlink(filename:join(Path, Name), filename:join(Shadow, Name))
                 || Name <- Names, Name =/= "cargo", Name =/= "rustc", Name =/= "rustup"],
            Shadow
    end.

%% Files.

project_dir(Config, Name) ->
    filename:join(?config(priv_dir, Config), Name).

example(Config, Example, Name) ->
    Dir = project_dir(Config, Name),
    copy_files(filename:join([embedded_server:project(), "examples", Example]), Dir),
    Dir.

%% The library's own tree, for the hook and rebar3 to run in.
tree(Config, Name) ->
    Dir = project_dir(Config, Name),
    copy_files(embedded_server:project(), Dir),
    Dir.

repository(Config) ->
    Dir = tree(Config, "repository"),
    Git = fun(Args) -> succeeds(run(Dir, "git", Args, [])) end,
    Git(["init", "-q", "-b", "main"]),
    Git(["add", "-A"]),
    Git(["-c", "user.name=packaging", "-c", "user.email=packaging@localhost", "commit", "-q", "-m", "A copy"]),
    "file://" ++ Dir.

%% Every file that git knows or would take. The checkout may belong to another user than the one who runs the tests.
copy_files(From, To) ->
    ok = filelib:ensure_dir(filename:join(To, "x")),
    {0, List} = run(From, "git", ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                    []),
    [copy_file(filename:join(From, Name), filename:join(To, Name))
     || Name <- binary:split(List, <<0>>, [global, trim_all])],
    ok.

%% A file that git knows may have been deleted since.
copy_file(From, To) ->
    case file:read_file_info(From) of
        {ok, #file_info{mode = Mode}} ->
            ok = filelib:ensure_dir(To),
            {ok, _} = file:copy(From, To),
            ok = file:change_mode(To, Mode);
        {error, enoent} ->
            ok
    end.

file(Dir, Name, Text) ->
    Path = filename:join(Dir, Name),
    ok = file:write_file(Path, Text),
    Path.

program(Dir, Name, Command) ->
    Path = file(Dir, Name, ["#!/bin/sh\n", Command, "\n"]),
    ok = file:change_mode(Path, 8#755),
    Path.

%% The conversation that both examples have.

chat_env(Config) ->
    Server = ?config(server, Config),
    [{"CHAT_URL", embedded_server:url(Server, "/chat")}, {"CHAT_CACERT", embedded_server:ca_file(Server)}].

chat_answers() ->
    [200,
     <<"Hello! Send me a line, I answer while you go on.\n"
       "Line 1, 5 bytes, heard: \"first\"\n"
       "Line 2, 6 bytes, heard: \"second\"\n"
       "You sent 2 lines. Goodbye!\n">>,
     <<"0">>, done].

%% The examples print one term a line; compilers may have said something before.
summary(Output) ->
    Messages = lists:append([term(Line) || Line <- binary:split(Output, <<"\n">>, [global])]),
    [Status || {response, Status, _} <- Messages]
        ++ [iolist_to_binary([Data || {data, Data} <- Messages])]
        ++ [proplists:get_value(<<"grpc-status">>, Trailers) || {trailers, Trailers} <- Messages]
        ++ [done || done <- Messages].

term(Line) ->
    case erl_scan:string(unicode:characters_to_list(Line)) of
        {ok, Tokens, _} ->
            case erl_parse:parse_term(Tokens) of
                {ok, Term} -> [Term];
                {error, _} -> []
            end;
        _ ->
            []
    end.
