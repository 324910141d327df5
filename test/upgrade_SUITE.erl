%%% @doc Code is loaded, purged and deleted under running streams, and library files are missing, broken
%%% or of another version: the node goes on, and so do the streams, or they end with an error.
-module(upgrade_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(NIF, hackney_native_nif).
%% In these, callers wait: for a message, for room, for a connection.
-define(WAITED_IN, [hackney_native, hackney_native_h2_stream]).
%% They wait in these by way of that one.
-define(WAITED_THROUGH, [hackney_native_remote]).
%% In these nobody waits, but their callers may just be there.
-define(CALLED, [hackney_native_h2, hackney_native_h2_connection, hackney_native_h2_exchange]).
-define(WAITING, [blocked_sender, opening, waiting_reader]).
-define(CYCLES, 50).

suite() -> [{timetrap, {minutes, 10}}].

all() ->
    [changed_code, changed_code_twice, deleted_and_loaded, fifty_cycles, owners_die_while_purged,
     purged_while_the_engine_stops, another_abi_in_a_running_node, another_abi_from_the_start,
     library_files, another_library_file, change_over].

init_per_suite(Config) ->
    h2_case:start(),
    [{distributed, os_node:distributed()}, {server, embedded_server:start()} | Config].

end_per_suite(Config) ->
    embedded_server:stop(?config(server, Config)),
    _ = ?config(distributed, Config) andalso net_kernel:stop(),
    ok.

%% ---- code under running streams ----------------------------------------------------------------

%% No stream notices, whichever module it is.
changed_code(Config) ->
    {Traffic, Node} = busy_node(Config, traffic:kinds()),
    Before = living(Node, Traffic),
    [begin
         change(Node, Module, 1),
         moves(Node, Traffic),
         ?assertEqual({Module, Before}, {Module, living(Node, Traffic)})
     end || Module <- new_code:modules()],
    all_closed(Node, Traffic, []),
    os_node:stop(Node).

%% The VM kills who runs code that is two versions old. That is who waits in these two modules, and soft_purge
%% tells beforehand. Their streams go with them; nobody else is harmed.
changed_code_twice(Config) ->
    {Traffic, Node} = busy_node(Config, traffic:kinds()),
    [begin
         change(Node, Module, 1),
         moves(Node, Traffic),
         ?assertEqual({Module, not lists:member(Module, ?WAITED_IN)}, {Module, os_node:call(Node, code, soft_purge, [Module])}),
         change(Node, Module, 2),
         moves(Node, Traffic)
     end || Module <- new_code:modules()],
    Killed = traffic:kinds() -- living(Node, Traffic),
    ?assertEqual(?WAITING, lists:sort([Kind || {Kind, _} <- Killed])),
    Living = lists:sum([N * traffic:streams(Kind) || {Kind, N} <- living(Node, Traffic)]),
    h2_case:until(fun() -> streams(Node) =< Living end),
    all_closed(Node, Traffic, [{Kind, {exit, killed}} || {Kind, N} <- Killed, _ <- lists:seq(1, N)]),
    ?assertEqual(0, streams(Node)),
    os_node:stop(Node).

%% The same for owners that happen to be in code that is deleted: of the library's own module, those who send
%% from a dirty scheduler, which there are none of here.
deleted_and_loaded(Config) ->
    {Traffic, Node} = busy_node(Config, lists:keydelete(upload_in_pieces, 1, traffic:kinds())),
    Before = living(Node, Traffic),
    [begin
         {module, Module} = os_node:call(Node, new_code, reload, [Module]),
         moves(Node, Traffic),
         ?assertEqual({Module, Before}, {Module, living(Node, Traffic)})
     end || Module <- new_code:modules() -- (?WAITED_IN ++ ?WAITED_THROUGH ++ ?CALLED)],
    [begin
         {module, Module} = os_node:call(Node, new_code, reload, [Module]),
         moves(Node, Traffic)
     end || Module <- ?WAITED_IN ++ ?WAITED_THROUGH ++ ?CALLED],
    ok = os_node:call(Node, application, stop, [hackney_native]),
    Ends = os_node:call(Node, traffic, ends, [Traffic]),
    ?assertEqual([], lists:usort([Reason || {_, Reason} <- Ends]) -- [closed, stopped, {exit, killed}]),
    %% Active owners wait in their own code.
    ?assertEqual([closed], lists:usort([Reason || {active, Reason} <- Ends])),
    ?assertEqual(0, streams(Node)),
    os_node:stop(Node).

%% The library is opened once, however often its module is loaded.
fifty_cycles(Config) ->
    {Traffic, Node} = busy_node(Config, [{ping_pong, 4}, {active, 3}, {upload, 2}, {churn, 2}]),
    Before = living(Node, Traffic),
    cycle(Node, Traffic, 1),
    Figures = process_figures(Node),
    [cycle(Node, Traffic, Generation) || Generation <- lists:seq(2, ?CYCLES)],
    ?assertEqual(Before, living(Node, Traffic)),
    h2_case:until(fun() -> below(process_figures(Node), Figures) end),
    all_closed(Node, Traffic, []),
    os_node:stop(Node).

%% Who was about to call when the module was deleted must have called before it is deleted again.
cycle(Node, Traffic, Generation) ->
    change(Node, ?NIF, Generation),
    {module, ?NIF} = os_node:call(Node, new_code, reload, [?NIF]),
    moves(Node, Traffic).

%% Threads, descriptors, mappings of the library. Streams that come and go have a descriptor each at most.
process_figures(Node) ->
    Proc = "/proc/" ++ os_node:os_pid(Node) ++ "/",
    {ok, Threads} = file:list_dir(Proc ++ "task"),
    {ok, Descriptors} = file:list_dir(Proc ++ "fd"),
    {ok, Maps} = file:read_file(Proc ++ "maps"),
    {length(Threads), length(Descriptors), length(binary:matches(Maps, <<"hackney_native.so">>))}.

below({Threads, Descriptors, Maps}, {ThreadsBefore, DescriptorsBefore, MapsBefore}) ->
    Threads =< ThreadsBefore andalso Descriptors =< DescriptorsBefore + 4 andalso Maps =:= MapsBefore.

%% The VM's word of a process's death reaches the library when no module has it.
owners_die_while_purged(Config) ->
    {Traffic, Node} = busy_node(Config, [{active, 3}, {waiting_reader, 3}]),
    %% They wait in the VM or in the stream's module, and do not call.
    6 = streams(Node),
    Owners = [Pid || {_, Pid} <- os_node:call(Node, traffic, living, [Traffic])],
    true = os_node:call(Node, code, delete, [?NIF]),
    _ = os_node:call(Node, code, purge, [?NIF]),
    [exit(Pid, kill) || Pid <- Owners],
    Ends = os_node:call(Node, traffic, ends, [Traffic]),
    ?assertEqual([{exit, killed}], lists:usort([Reason || {_, Reason} <- Ends])),
    {module, ?NIF} = os_node:call(Node, code, load_file, [?NIF]),
    h2_case:until(fun() -> streams(Node) =:= 0 end),
    works(Node, Config),
    os_node:stop(Node).

%% A process of the old code is within the library, on a dirty scheduler.
purged_while_the_engine_stops(Config) ->
    Node = os_node:start(?config(priv_dir, Config)),
    [begin
         Traffic = os_node:call(Node, traffic, start, [target(Config)]),
         Stop = h2_case:concurrently(fun() -> os_node:call(Node, application, stop, [hackney_native]) end),
         [change(Node, ?NIF, Generation) || Generation <- [1, 2, 3]],
         ok = h2_case:result(Stop),
         %% Who stopped it may have been killed, and the stop go on in the library: until then no stream is opened.
         h2_case:until(fun() -> ok =:= os_node:call(Node, traffic, exchange, [target(Config)]) end),
         Ends = os_node:call(Node, traffic, ends, [Traffic]),
         %% A sender on a dirty scheduler is in the old code too.
         ?assertEqual([], lists:usort(Ends) -- [{upload_in_pieces, {exit, killed}} | said_closed()])
     end || _ <- lists:seq(1, 5)],
    works(Node, Config),
    os_node:stop(Node).

%% ---- versions that do not fit --------------------------------------------------------------------

%% The version that works is not replaced by one that cannot.
another_abi_in_a_running_node(Config) ->
    {Traffic, Node} = busy_node(Config, traffic:kinds()),
    Before = living(Node, Traffic),
    Other = new_code:of_another_abi(?config(priv_dir, Config)),
    ?assertEqual({error, on_load_failure}, os_node:call(Node, new_code, load, [?NIF, Other])),
    ?assertEqual({error, on_load_failure}, os_node:call(Node, new_code, load, [?NIF, Other])),
    ?assertEqual(ok, os_node:call(Node, ?NIF, status, [])),
    moves(Node, Traffic),
    ?assertEqual(Before, living(Node, Traffic)),
    all_closed(Node, Traffic, []),
    os_node:stop(Node).

%% A library left over from another version.
another_abi_from_the_start(Config) ->
    {Node, App} = node_of_its_own(Config),
    Other = new_code:of_another_abi(?config(priv_dir, Config)),
    ok = file:write_file(filename:join([App, "ebin", "hackney_native_nif.beam"]), Other),
    unusable(Node, ["hackney_native.so", "another version", "ABI 4711", "compile"]),
    os_node:stop(Node).

%% In one node, one after the other, and at last the right one: no restart is needed.
library_files(Config) ->
    {Node, App} = node_of_its_own(Config),
    File = filename:join([App, "priv", "hackney_native.so"]),
    {ok, Library} = file:read_file(File),
    Size = byte_size(Library),
    ok = file:delete(File),
    unusable(Node, [File, "there is no file", "HACKNEY_NATIVE_LIB"]),
    ok = file:make_dir(File),
    unusable(Node, [File, "cannot be read"]),
    ok = file:del_dir(File),
    ok = file:make_symlink(File, File),
    unusable(Node, [File, "cannot be read"]),
    ok = file:delete(File),
    [begin
         ok = file:write_file(File, Content),
         unusable(Node, [File | Words])
     end || {Content, Words} <-
                [{<<>>, ["cut off"]},
                 {<<"not a library">>, ["compile"]},
                 {rand:bytes(Size), ["compile"]},
                 {<<Library:30/binary>>, ["compile"]},
                 {<<0:64, Library/binary>>, ["compile"]}]
                ++ [{binary:part(Library, 0, Length), ["cut off"]}
                    || Length <- [64, 1000, 4096, 100000, Size div 2, Size - 4096, Size - 1]]],
    ok = file:write_file(File, Library),
    {module, ?NIF} = os_node:call(Node, code, load_file, [?NIF]),
    works(Node, Config),
    os_node:stop(Node).

%% Beside a running library another is refused, since the streams of the one are none of the other's. It takes
%% the other's place when that is taken away; the streams that are left end.
another_library_file(Config) ->
    {Traffic, Node} = busy_node(Config, [{ping_pong, 3}, {upload, 2}, {active, 3}]),
    App = application_copy(Config),
    true = os_node:call(Node, code, replace_path, [hackney_native, filename:join(App, "ebin")]),
    ?assertEqual({error, on_load_failure}, os_node:call(Node, code, load_file, [?NIF])),
    moves(Node, Traffic),
    {module, ?NIF} = os_node:call(Node, new_code, reload, [?NIF]),
    ok = os_node:call(Node, ?NIF, status, []),
    ?assertMatch({ok, #{streams := 0, tasks := 0, threads := 0}}, os_node:call(Node, hackney_native, memory, [])),
    h2_case:until(fun() -> [{active, 3}] =:= living(Node, Traffic) end),
    works(Node, Config),
    [exit(Pid, kill) || {_, Pid} <- os_node:call(Node, traffic, living, [Traffic])],
    Ends = os_node:call(Node, traffic, ends, [Traffic]),
    ?assertEqual([closed, {exit, killed}], lists:usort([Reason || {_, Reason} <- Ends])),
    os_node:stop(Node).

%% The way that the documentation gives.
change_over(Config) ->
    {Traffic, Node} = busy_node(Config, traffic:kinds()),
    App = application_copy(Config),
    all_closed(Node, Traffic, []),
    true = os_node:call(Node, code, replace_path, [hackney_native, filename:join(App, "ebin")]),
    [{module, Module} = os_node:call(Node, new_code, reload, [Module]) || Module <- new_code:modules()],
    {ok, Maps} = file:read_file(["/proc/", os_node:os_pid(Node), "/maps"]),
    ?assertNotEqual(nomatch, binary:match(Maps, list_to_binary(App))),
    works(Node, Config),
    os_node:stop(Node).

%% ---- helpers -----------------------------------------------------------------------------------

busy_node(Config, Kinds) ->
    Node = os_node:start(?config(priv_dir, Config)),
    {os_node:call(Node, traffic, start, [target(Config), Kinds]), Node}.

%% A node that has the application in a directory which the test may spoil.
node_of_its_own(Config) ->
    App = application_copy(Config),
    Ours = filename:dirname(code:which(hackney_native)),
    {os_node:start(?config(priv_dir, Config), [filename:join(App, "ebin") | code:get_path() -- [Ours]]), App}.

application_copy(Config) ->
    Unique = integer_to_list(erlang:unique_integer([positive])),
    App = filename:join([?config(priv_dir, Config), Unique, "hackney_native"]),
    Ours = filename:dirname(filename:dirname(code:which(hackney_native))),
    [begin
         To = filename:join(App, File),
         ok = filelib:ensure_dir(To),
         {ok, _} = file:copy(filename:join(Ours, File), To)
     end || File <- ["priv/hackney_native.so" | filelib:wildcard("ebin/*", Ours)]],
    App.

change(Node, Module, Generation) ->
    {module, Module} = os_node:call(Node, new_code, load, [Module, new_code:changed(Module, Generation)]),
    ?assertEqual(Generation, os_node:call(Node, new_code, generation, [Module])).

moves(Node, Traffic) ->
    ok = os_node:call(Node, traffic, moves, [Traffic]).

%% How many owners of each kind live.
living(Node, Traffic) ->
    Kinds = [Kind || {Kind, _} <- os_node:call(Node, traffic, living, [Traffic])],
    [{Kind, N} || {Kind, _} <- traffic:kinds(), N <- [length([K || K <- Kinds, K =:= Kind])], N > 0].

streams(Node) ->
    {ok, #{streams := Streams}} = os_node:call(Node, hackney_native, memory, []),
    Streams.

%% The application stops, and every owner that is left hears that its stream is closed.
all_closed(Node, Traffic, Others) ->
    ok = os_node:call(Node, application, stop, [hackney_native]),
    Ends = os_node:call(Node, traffic, ends, [Traffic]),
    ?assertEqual(lists:sort(Others), lists:sort([End || End <- Ends, not lists:member(End, said_closed())])),
    h2_case:until(fun() -> streams(Node) =:= 0 end).

said_closed() ->
    [{churn, stopped} | [{Kind, closed} || {Kind, _} <- traffic:kinds()]].

works(Node, Config) ->
    Traffic = os_node:call(Node, traffic, start, [target(Config)]),
    moves(Node, Traffic),
    all_closed(Node, Traffic, []).

%% The node runs, the application starts, and every call says the same, in which these words are.
unusable(Node, Words) ->
    {module, ?NIF} = os_node:call(Node, new_code, reload, [?NIF]),
    ok = os_node:call(Node, application, start, [hackney_native]),
    [{_, {error, {nif_not_loaded, Text}} = Error} | _] = Answers = os_node:call(Node, ?MODULE, calls, []),
    ct:log("~ts", [Text]),
    ?assertEqual([], [Answer || {_, Result} = Answer <- Answers, Result =/= Error]),
    ?assertEqual([], [{Word, Text} || Word <- Words, string:find(Text, Word) =:= nomatch]),
    ok = os_node:call(Node, application, stop, [hackney_native]).

%% @doc Every function of the API but `h2_close', which is `ok' in any case, and `install_drop_in'. Runs in the other
%% node.
calls() ->
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, _} -> ok end,
    ok = hackney_native:h2_close(Dead),
    Url = <<"https://localhost:1/">>,
    [{Function, apply(Module, Function, Args)}
     || {Module, Calls} <-
            [{hackney_native,
              [{h2_open, [Url, []]}, {h2_open, [Url, [], []]}, {h2_open, [get, Url, [], []]},
               {h2_send, [Dead, <<"x">>]}, {h2_send, [Dead, [<<"x">>, "y"], fin]},
               {h2_send, [Dead, lists:duplicate(100, binary:copy(<<"x">>, 100))]},
               {h2_send, [Dead, <<"x">>, nofin, #{block => infinity}]}, {h2_send_trailers, [Dead, []]},
               {h2_recv, [Dead]}, {h2_recv, [Dead, infinity]}, {h2_consume, [Dead, 1]},
               {h2_setopts, [Dead, [{active, once}]]}, {h2_controlling_process, [Dead, self()]}, {h2_info, [Dead]}]},
             {hackney_native_h2_stream,
              [{start_link, [#{host => <<"localhost">>, port => 1}]}, {connect, [Dead]}, {connect, [Dead, 1000]}]}],
        {Function, Args} <- Calls].

target(Config) ->
    Server = ?config(server, Config),
    #{url => embedded_server:url(Server, ""), ca_file => embedded_server:ca_file(Server)}.
