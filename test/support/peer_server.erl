%% @doc HTTP/2 servers that were not written here, run as children of the test node.
%%
%% Each program of `test/servers' prints one line `READY name=port ...' when it can be spoken to and
%% ends when its standard input does: a crashed test node leaves nothing behind. What the listeners
%% and paths of a server are for is said where it is written; those common to several:
%%
%% <ul>
%% <li>`/blob': the file of that name in the directory given as `root'</li>
%% <li>`/echo': answers at once, returns every piece as it comes, then the trailers `x-bytes',
%%     `x-sha256' and the request's own trailer `x-client'</li>
%% <li>`/upload': `"Bytes Sha256"' once all was read; `/early': an answer before anything was read</li>
%% <li>`/goaway', `/informational': as `/echo', after a GOAWAY or a 103</li>
%% <li>`/abort': RST_STREAM; Node's `/rst?code=N' with that code</li>
%% <li>`/hold?key=K': as `/upload', but reads nothing before somebody asks for `/release?key=K'</li>
%% <li>`/watch?key=K': lasts until the client gives up; `/fate?key=K' answers then, and tells how</li>
%% </ul>
-module(peer_server).

-export([start/2, stop/1, url/3, url/4, built/1, source/1]).
-export_type([server/0, kind/0, listener/0]).

-type kind() :: nghttpd | nginx | node | go | grpcio.
-type listener() :: atom().
-opaque server() :: {pid(), #{listener() => inet:port_number()}}.

%% A cold Go or Python program on a busy machine takes seconds; more than this is a failure.
-define(READY_TIMEOUT, 30000).
-define(HINT, "run `sh test/setup/install.sh test', which installs and builds the servers").

%% @doc Starts one. `certificates' is a directory made by {@link certificates:create/1}, `root' the
%% directory of the files to serve. The server lives until {@link stop/1}, not until the caller ends:
%% Common Test runs the set-up in a process of its own.
-spec start(kind(), #{certificates := file:filename(), root := file:filename()}) -> server().
start(Kind, Dirs) ->
    {Program, Args} = command(Kind, Dirs),
    Caller = self(),
    {Keeper, Monitor} = spawn_monitor(fun() -> keep(Caller, Program, Args) end),
    receive
        {Keeper, Listeners} ->
            demonitor(Monitor, [flush]),
            {Keeper, Listeners};
        {'DOWN', Monitor, process, Keeper, Reason} ->
            error({no_server, Kind, Reason, ?HINT})
    end.

%% @doc Ends it by closing its standard input, and waits until it is gone.
-spec stop(server()) -> ok.
stop({Keeper, _Listeners}) ->
    Monitor = monitor(process, Keeper),
    Keeper ! stop,
    receive {'DOWN', Monitor, process, Keeper, _} -> ok end.

%% @doc The URL of `Path' at a listener, as `https://localhost:Port', or `http' for one named h2c.
-spec url(server(), listener(), string()) -> binary().
url(Server, Listener, Path) ->
    url(Server, Listener, "localhost", Path).

%% @doc The same under another name of this machine.
-spec url(server(), listener(), string(), string()) -> binary().
url({_Keeper, Listeners}, Listener, Host, Path) ->
    Port = integer_to_list(maps:get(Listener, Listeners)),
    list_to_binary([scheme(Listener), "://", Host, ":", Port, Path]).

scheme(h2c) -> "http";
scheme(grpc_h2c) -> "http";
scheme(_) -> "https".

%% Owns the operating system process, from its start to its end.
keep(Caller, Program, Args) ->
    case filelib:is_regular(Program) of
        true -> ok;
        false -> exit({missing, Program})
    end,
    Port = open_port({spawn_executable, Program},
                     [{args, Args}, {line, 4096}, exit_status, binary]),
    Caller ! {self(), listeners(ready_line(Port))},
    receive
        stop ->
            port_close(Port);
        {Port, {exit_status, Status}} ->
            logger:error("~ts ended by itself with status ~b", [Program, Status]),
            exit({exit_status, Status})
    end.

ready_line(Port) ->
    receive
        {Port, {data, {eol, <<"READY ", Rest/binary>>}}} -> Rest;
        {Port, {data, _}} -> ready_line(Port);
        {Port, {exit_status, Status}} -> exit({exit_status, Status})
    after ?READY_TIMEOUT ->
        exit(not_ready)
    end.

listeners(Line) ->
    Pairs = [binary:split(Word, <<"=">>) || Word <- binary:split(Line, <<" ">>, [global])],
    maps:from_list([{binary_to_atom(Name), binary_to_integer(Port)} || [Name, Port] <- Pairs]).

command(Kind, #{certificates := Certificates, root := Root}) ->
    Certificate = certificates:file(Certificates, "server.pem"),
    Key = certificates:file(Certificates, "server.key"),
    case Kind of
        go ->
            {built("interop_server"),
             ["-certificates", Certificates, "-root", Root]};
        node ->
            {executable("node"), [source("node_server.js"), Certificates, Root]};
        nghttpd ->
            _ = executable("nghttpd"),
            {"/usr/bin/python3", [source("nghttpd.py"), Certificate, Key, Root]};
        nginx ->
            {"/usr/bin/python3", [source("nginx.py"), Certificate, Key, Root]};
        grpcio ->
            %% Debian's own Python, whatever `python3' comes first in the path: it has Debian's grpcio.
            {"/usr/bin/python3", [source("grpcio_server.py"), Certificate, Key]}
    end.

%% @doc The path of a program that `test/setup/install.sh' builds.
-spec built(file:filename()) -> file:filename().
built(Name) ->
    filename:join([project(), "_build", "servers", Name]).

%% @doc The path of a file in `test/servers'.
-spec source(file:filename()) -> file:filename().
source(Name) ->
    filename:join([project(), "test", "servers", Name]).

executable(Name) ->
    case os:find_executable(Name) of
        false -> error({no_server, Name, ?HINT});
        Path -> Path
    end.

%% rebar3 compiles the tests below _build: the sources are in the directory above that has them.
project() ->
    project(filename:dirname(filename:absname(code:which(?MODULE)))).

project(Dir) ->
    case filelib:is_regular(filename:join([Dir, "test", "servers", "go", "go.mod"]))
         andalso filelib:is_regular(filename:join(Dir, "rebar.config")) of
        true -> Dir;
        false when Dir =/= "/" -> project(filename:dirname(Dir))
    end.
