%%% @doc A node in an operating system process whose end is seen: its exit status, how long it took, and
%%% what it left behind. `peer' has the node's word only, which a crash does not give.
%%%
%%% Ends with the process that starts it.
-module(os_node).

-export([distributed/0, start/1, start/2, name/1, os_pid/1, call/4, ask/2, stop/1, end_of/1]).
-export([end_with/1]).
-export_type([os_node/0, ending/0]).

-opaque os_node() :: #{port := port(), node := node(), os_pid := string(), dir := file:filename()}.
-type ending() :: {Status :: non_neg_integer(), Milliseconds :: non_neg_integer(), LeftBehind :: [file:filename()]}.

-define(READY_TIMEOUT, 60000).
-define(CALL_TIMEOUT, 60000).
%% Longer than any end may take, so that it can be said how long it took.
-define(END_TIMEOUT, 20000).

%% @doc Gives this node a name if it has none. True if it had none.
-spec distributed() -> boolean().
distributed() ->
    case is_alive() of
        true ->
            false;
        false ->
            %% It returns before the daemon listens.
            _ = os:cmd("epmd -daemon"),
            h2_case:until(fun() -> element(1, net_adm:names(localhost)) =:= ok end),
            {ok, _} = net_kernel:start(list_to_atom(peer:random_name()), #{name_domain => shortnames}),
            true
    end.

%% @doc Starts one in an empty directory, with this node's code path.
-spec start(file:filename()) -> os_node().
start(Dir) ->
    start(Dir, code:get_path()).

%% @doc The same with another code path.
-spec start(file:filename(), [file:filename()]) -> os_node().
start(Parent, CodePath) ->
    Name = lists:concat([peer:random_name("hackney_native"), "@", host()]),
    Dir = filename:join(Parent, Name),
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    %% A limit of the system's own may forbid it; then the exit status is the evidence.
    Script = "ulimit -c unlimited 2>/dev/null; exec erl \"$@\"",
    %% Of the directories after -pa the last becomes the first of the path.
    Args = ["-c", Script, "sh", naming(), Name, "-setcookie", atom_to_list(erlang:get_cookie()), "-hidden",
            "-noshell", "-noinput", "-eval", "io:put_chars(\"READY\\n\")", "-pa" | lists:reverse(CodePath)],
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, Args}, {cd, Dir}, {env, [{"ERL_CRASH_DUMP", filename:join(Dir, "erl_crash.dump")}]},
                      {line, 4096}, exit_status, stderr_to_stdout]),
    ready(Port),
    %% The shell and erl's own scripts have become the node, each by exec.
    {os_pid, Pid} = erlang:port_info(Port, os_pid),
    Node = #{port => Port, node => list_to_atom(Name), os_pid => integer_to_list(Pid), dir => Dir},
    ask(Node, {?MODULE, end_with, [self()]}),
    Node.

%% @private
-spec end_with(pid()) -> no_return().
end_with(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, Pid, _} -> halt() end.

naming() ->
    case net_kernel:longnames() of
        true -> "-name";
        false -> "-sname"
    end.

host() ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Host.

ready(Port) ->
    receive
        {Port, {data, {_, "READY"}}} -> ok;
        {Port, {data, {_, Line}}} -> ct:log("~ts", [Line]), ready(Port);
        {Port, {exit_status, Status}} -> error({node_did_not_start, Status})
    after ?READY_TIMEOUT ->
        error(node_does_not_start)
    end.

%% @doc The node's name.
-spec name(os_node()) -> node().
name(#{node := Node}) -> Node.

%% @doc The operating system's number of the node.
-spec os_pid(os_node()) -> string().
os_pid(#{os_pid := Pid}) -> Pid.

%% @doc Calls a function there.
-spec call(os_node(), module(), atom(), [term()]) -> term().
call(#{node := Node}, Module, Function, Args) ->
    erpc:call(Node, Module, Function, Args, ?CALL_TIMEOUT).

%% @doc Has the node do what it will not answer. A signal is sent by its name.
-spec ask(os_node(), {module(), atom(), [term()]} | string()) -> ok.
ask(#{node := Node}, {Module, Function, Args}) ->
    erpc:cast(Node, Module, Function, Args);
ask(#{os_pid := Pid}, Signal) ->
    "" = os:cmd("kill -" ++ Signal ++ " " ++ Pid),
    ok.

%% @doc Ends it, expecting nothing in particular but that it ends well.
-spec stop(os_node()) -> ok.
stop(Node) ->
    ask(Node, {erlang, halt, []}),
    {0, _, []} = end_of(Node),
    ok.

%% @doc Waits for the end of a node that was just told to end. The status of one that died of a signal is 128 and
%% the signal's number. One that hangs is killed, and its threads' stacks are logged.
-spec end_of(os_node()) -> ending().
end_of(#{port := Port, dir := Dir} = Node) ->
    Begin = erlang:monotonic_time(millisecond),
    Status = exit_status(Port, Node, Begin + ?END_TIMEOUT),
    Took = erlang:monotonic_time(millisecond) - Begin,
    {ok, Left} = file:list_dir(Dir),
    _ = Status =:= 0 andalso Left =:= [] andalso file:del_dir(Dir),
    {Status, Took, [filename:join(Dir, File) || File <- Left]}.

exit_status(Port, Node, Deadline) ->
    receive
        {Port, {exit_status, Status}} -> Status;
        {Port, {data, {_, Line}}} -> ct:log("~ts", [Line]), exit_status(Port, Node, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ct:log("~ts", [stacks(Node)]),
        ask(Node, "KILL"),
        receive {Port, {exit_status, Status}} -> Status end
    end.

stacks(#{os_pid := Pid}) ->
    os:cmd("gdb -batch -ex 'thread apply all backtrace' -p " ++ Pid ++ " 2>&1").
