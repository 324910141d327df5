%% @doc The HTTP/2 server of `native/peer' (`h2-server'), as a child of the test node.
%%
%% It ends when its standard input closes: a crashed test node leaves nothing behind.
-module(embedded_server).

-export([start/0, start/1, stop/1, port/1, url/2, ca_file/1, project/0]).
-export_type([server/0, options/0]).

-opaque server() :: #{keeper := pid(), scheme := string(), port := inet:port_number(), ca_file := file:filename()}.
%% `window': the receive window of its streams, in bytes.
-type options() :: #{transport => tls | h2c, window => pos_integer()}.

%% Cargo builds the program first if nobody has; the longest known build takes a third of this.
-define(READY_TIMEOUT, 600000).

%% @doc Starts one with TLS.
-spec start() -> server().
start() -> start(#{}).

%% @doc Starts one. It lives until {@link stop/1}, not until the caller ends: Common Test runs the
%% set-up in a process of its own.
-spec start(options()) -> server().
start(Options) ->
    Caller = self(),
    {Keeper, Monitor} = spawn_monitor(fun() -> keep(Caller, arguments(Options)) end),
    receive
        {Keeper, Port, CaFile} ->
            demonitor(Monitor, [flush]),
            #{keeper => Keeper, scheme => scheme(Options), port => Port, ca_file => CaFile};
        {'DOWN', Monitor, process, Keeper, Reason} ->
            error({no_server, Reason})
    end.

%% @doc Ends it by closing its standard input.
-spec stop(server()) -> ok.
stop(#{keeper := Keeper}) ->
    Monitor = monitor(process, Keeper),
    Keeper ! stop,
    receive {'DOWN', Monitor, process, Keeper, _} -> ok end.

%% @doc Its port on the loopback addresses.
-spec port(server()) -> inet:port_number().
port(#{port := Port}) ->
    Port.

%% @doc The URL of a path, such as `/chat' or `/echo'.
-spec url(server(), string()) -> string().
url(#{scheme := Scheme, port := Port}, Path) ->
    lists:concat([Scheme, "://localhost:", Port, Path]).

%% @doc The certificate of the authority that signed the server's, in PEM. Only with TLS.
-spec ca_file(server()) -> file:filename().
ca_file(#{ca_file := CaFile}) ->
    CaFile.

scheme(#{transport := h2c}) -> "http";
scheme(#{}) -> "https".

arguments(Options) ->
    lists:append([["--h2c"] || #{transport := h2c} <- [Options]]
                 ++ [["--window", integer_to_list(Bytes)] || #{window := Bytes} <- [Options]]).

keep(Caller, Arguments) ->
    {Program, Args} = command(Arguments),
    Process = open_port({spawn_executable, Program},
                        [{args, Args}, {cd, project()}, {line, 4096}, exit_status]),
    {Port, CaFile} = await_ready(Process),
    Caller ! {self(), Port, CaFile},
    receive
        stop -> port_close(Process);
        {Process, {exit_status, Status}} -> exit({exit_status, Status})
    end.

await_ready(Process) ->
    receive
        {Process, {data, {eol, "READY " ++ Fields}}} ->
            {match, [Port, CaFile]} = re:run(Fields, "port=([0-9]+) cacert=(.+)$",
                                             [{capture, all_but_first, list}]),
            {list_to_integer(Port), CaFile};
        {Process, {data, _}} ->
            await_ready(Process);
        {Process, {exit_status, Status}} ->
            exit({exit_status, Status})
    after ?READY_TIMEOUT ->
        exit(not_ready)
    end.

%% One that was built elsewhere is taken as it is, as HACKNEY_NATIVE_LIB is for the library.
command(Arguments) ->
    case os:getenv("HACKNEY_H2_SERVER") of
        false -> {cargo(), ["run", "--quiet", "--release", "--locked", "-p", "hackney_peer", "--bin", "h2-server", "--"
                            | Arguments]};
        Program -> {Program, Arguments}
    end.

%% rustup's directory is often only in the path of login shells.
cargo() ->
    Path = os:getenv("PATH", "") ++ ":" ++ filename:join([os:getenv("HOME", "/"), ".cargo", "bin"]),
    case os:find_executable("cargo", Path) of
        false -> exit({no_cargo, Path});
        Cargo -> Cargo
    end.

%% @doc The project's root. rebar3 runs the tests below `_build'.
-spec project() -> file:filename().
project() ->
    project(filename:dirname(filename:absname(code:which(?MODULE)))).

project(Dir) ->
    case [File || File <- ["rebar.config", "Cargo.toml"], filelib:is_regular(filename:join(Dir, File))] of
        [_, _] -> Dir;
        _ when Dir =/= "/" -> project(filename:dirname(Dir))
    end.
