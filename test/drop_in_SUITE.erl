%% @doc hackney's own names on the engine. Each case has a node of its own: what is loaded there stays there.
-module(drop_in_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([without_hackney/1, below_hackney/1, active_mode/1, connect_timeout/1, twice/1, at_start/1, restored/1,
         hackney_comes_later/1, original_in_use/1, hackney_too_old/1, not_built/1, no_library/1, real_hackney/1]).
%% Run on the other node.
-export([talk/3, talk_active/3, connect_to_silence/1, original_stream/0, original_answer/0, code_id/1]).

-define(DEADLINE, 10000).

%% The real hackney is no part of this library and needs a newer OTP: it takes part where it is given, by HACKNEY_EBIN
%% (its ebin directory; its dependencies by ERL_LIBS) or on the code path.
all() ->
    [without_hackney, below_hackney, active_mode, connect_timeout, twice, at_start, restored,
     hackney_comes_later, original_in_use, hackney_too_old, not_built, no_library]
        ++ [real_hackney || real_hackney_paths() =/= none].

init_per_suite(Config) ->
    Ebin = application_dir(Config, "hackney-4.7.4", "4.7.4"),
    [{ok, _} = compile:file(filename:join(?config(data_dir, Config), Module), [{outdir, Ebin}, report])
     || Module <- ["hackney", "hackney_h2_stream"]],
    [{server, embedded_server:start()}, {hackney, Ebin} | Config].

end_per_suite(Config) ->
    embedded_server:stop(?config(server, Config)).

%% Cases.

without_hackney(Config) ->
    Node = node_with([]),
    ?assertEqual(non_existing, call(Node, code, which, [hackney])),
    ?assertEqual(ok, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, uninstall, [])),
    ?assertEqual(non_existing, call(Node, code, which, [hackney])),
    ?assertEqual(non_existing, call(Node, code, which, [hackney_h2_stream])),
    peer:stop(Node).

%% hackney's own facade runs on, unchanged, and drives the engine through the map and the calls of its stream module.
below_hackney(Config) ->
    Node = node_with([?config(hackney, Config)]),
    Facade = call(Node, ?MODULE, code_id, [hackney]),
    ?assertEqual(ok, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    ?assertEqual(Facade, call(Node, ?MODULE, code_id, [hackney])),
    peer:stop(Node).

active_mode(Config) ->
    Node = node_with([?config(hackney, Config)]),
    ?assertEqual(ok, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk_active, chat(Config))),
    peer:stop(Node).

%% hackney gives the time both in the map and to connect/2; the latter counts.
connect_timeout(Config) ->
    Node = node_with([?config(hackney, Config)]),
    ?assertEqual(ok, call(Node, hackney_native, install_drop_in, [])),
    {Milliseconds, Result} = call(Node, ?MODULE, connect_to_silence, [200]),
    ?assertEqual({error, connect_timeout}, Result),
    ?assert(Milliseconds >= 199 andalso Milliseconds < 4000),
    peer:stop(Node).

twice(Config) ->
    Node = node_with([?config(hackney, Config)]),
    ?assertNot(call(Node, hackney_native_drop_in, installed, [])),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, install, [])),
    Before = call(Node, ?MODULE, code_id, [hackney_h2_stream]),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, install, [])),
    ?assertEqual(Before, call(Node, ?MODULE, code_id, [hackney_h2_stream])),
    ?assertNot(call(Node, erlang, check_old_code, [hackney_h2_stream])),
    ?assert(call(Node, hackney_native_drop_in, installed, [])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    peer:stop(Node).

at_start(Config) ->
    Node = node_with([?config(hackney, Config)]),
    ok = call(Node, application, load, [hackney_native]),
    ok = call(Node, application, set_env, [hackney_native, drop_in, true]),
    {ok, _} = call(Node, application, ensure_all_started, [hackney_native]),
    ?assert(call(Node, hackney_native_drop_in, installed, [])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    peer:stop(Node).

restored(Config) ->
    Node = node_with([?config(hackney, Config)]),
    Original = call(Node, ?MODULE, code_id, [hackney_h2_stream]),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, uninstall, [])),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, install, [])),
    ?assertNotEqual(Original, call(Node, ?MODULE, code_id, [hackney_h2_stream])),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, uninstall, [])),
    ?assertEqual(Original, call(Node, ?MODULE, code_id, [hackney_h2_stream])),
    ?assertNot(call(Node, hackney_native_drop_in, installed, [])),
    ?assertEqual({error, {the_original, connect}}, call(Node, ?MODULE, original_answer, [])),
    peer:stop(Node).

%% A node that gets hackney after the installation, as by a release upgrade: hackney's facade comes into its own.
hackney_comes_later(Config) ->
    Node = node_with([]),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, install, [])),
    Substitute = call(Node, ?MODULE, code_id, [hackney]),
    true = call(Node, code, add_patha, [?config(hackney, Config)]),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, install, [])),
    ?assertNotEqual(Substitute, call(Node, ?MODULE, code_id, [hackney])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    peer:stop(Node).

%% A stream of the original waits with no frame of its module on the stack: a purge would not notice it.
original_in_use(Config) ->
    Node = node_with([?config(hackney, Config)]),
    Stream = call(Node, ?MODULE, original_stream, []),
    ?assertEqual({error, {in_use, hackney_h2_stream}}, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual({error, {the_original, recv}}, call(Node, hackney_h2_stream, recv, [Stream, 0])),
    ok = call(Node, hackney_h2_stream, close, [Stream]),
    ?assertEqual(ok, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    peer:stop(Node).

hackney_too_old(Config) ->
    Ebin = application_dir(Config, "hackney-1.20.1", "1.20.1"),
    {ok, hackney, Beam} = compile:forms([{attribute, {1, 1}, module, hackney}]),
    ok = file:write_file(filename:join(Ebin, "hackney.beam"), Beam),
    Node = node_with([Ebin]),
    ?assertEqual({error, {hackney_without_h2, "1.20.1"}}, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual(non_existing, call(Node, code, which, [hackney_h2_stream])),
    peer:stop(Node).

not_built(Config) ->
    Ebin = copy_of_this_library(Config, "without_stand_ins", fun(Priv, Copy) ->
        {ok, _} = file:copy(filename:join(Priv, "hackney_native.so"), filename:join(Copy, "hackney_native.so"))
    end),
    Node = node_with([?config(hackney, Config)], Ebin),
    {error, {drop_in_not_built, Text}} = call(Node, hackney_native, install_drop_in, []),
    ?assertMatch({match, _}, re:run(Text, "without_stand_ins/hackney_native/priv/drop_in/hackney_h2_stream.beam: no such")),
    ?assertEqual({error, {the_original, connect}}, call(Node, ?MODULE, original_answer, [])),
    peer:stop(Node).

%% An engine that cannot run does not take the place of a hackney that can.
no_library(Config) ->
    Ebin = copy_of_this_library(Config, "without_library", fun(Priv, Copy) ->
        {ok, Names} = file:list_dir(filename:join(Priv, "drop_in")),
        [begin
             Target = filename:join([Copy, "drop_in", Name]),
             ok = filelib:ensure_dir(Target),
             {ok, _} = file:copy(filename:join([Priv, "drop_in", Name]), Target)
         end || Name <- Names]
    end),
    Node = node_with([?config(hackney, Config)], Ebin),
    ?assertMatch({error, {nif_not_loaded, _}}, call(Node, hackney_native, install_drop_in, [])),
    ?assertEqual({error, {the_original, connect}}, call(Node, ?MODULE, original_answer, [])),
    peer:stop(Node).

real_hackney(Config) ->
    Node = node_with(real_hackney_paths()),
    {ok, _} = call(Node, application, ensure_all_started, [hackney]),
    Original = call(Node, ?MODULE, code_id, [hackney_h2_stream]),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    ?assertEqual(ok, eventually_installed(Node, erlang:monotonic_time(millisecond) + ?DEADLINE)),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk_active, chat(Config))),
    {_, Silent} = call(Node, ?MODULE, connect_to_silence, [200]),
    ?assertEqual({error, connect_timeout}, Silent),
    ?assertEqual(ok, call(Node, hackney_native_drop_in, uninstall, [])),
    ?assertEqual(Original, call(Node, ?MODULE, code_id, [hackney_h2_stream])),
    ?assertEqual(chat_answers(), call(Node, ?MODULE, talk, chat(Config))),
    peer:stop(Node).

%% hackney's own stream ends some time after its owner: until then it is in use, and said to be.
eventually_installed(Node, Deadline) ->
    case call(Node, hackney_native, install_drop_in, []) of
        {error, {in_use, hackney_h2_stream}} ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline),
            eventually_installed(Node, Deadline);
        Result ->
            Result
    end.

%% On the other node, in one process: the stream belongs to it.

%% Everything that the server said, DATA joined: HTTP/2 keeps no message boundaries.
talk(URL, CaFile, Lines) ->
    {ok, Stream} = hackney:h2_open(URL, [{<<"x-case">>, <<"drop-in">>}], options(CaFile, false)),
    [ok = hackney:h2_send(Stream, Line) || Line <- Lines],
    ok = hackney:h2_send(Stream, <<>>, fin),
    Messages = receive_passive(Stream),
    ok = hackney:h2_close(Stream),
    summary(Messages).

receive_passive(Stream) ->
    case hackney:h2_recv(Stream, ?DEADLINE) of
        {ok, done} -> [done];
        {ok, Message} -> [Message | receive_passive(Stream)]
    end.

talk_active(URL, CaFile, Lines) ->
    {ok, Stream} = hackney:h2_open(URL, [], options(CaFile, true)),
    [ok = hackney:h2_send(Stream, Line) || Line <- Lines],
    ok = hackney:h2_send(Stream, <<>>, fin),
    Messages = receive_active(Stream),
    ok = hackney:h2_close(Stream),
    summary(Messages).

receive_active(Stream) ->
    receive
        {hackney_h2, Stream, done} -> [done];
        {hackney_h2, Stream, Message} -> [Message | receive_active(Stream)]
    after ?DEADLINE -> error(no_message)
    end.

options(CaFile, Active) ->
    [{connect_timeout, ?DEADLINE}, {active, Active}, {ssl_options, [{cacertfile, CaFile}]}].

summary(Messages) ->
    [Status || {response, Status, _} <- Messages]
        ++ [iolist_to_binary([Data || {data, Data} <- Messages])]
        ++ [proplists:get_value(<<"grpc-status">>, Trailers) || {trailers, Trailers} <- Messages]
        ++ [lists:last(Messages)].

%% A server that accepts and never says a word.
connect_to_silence(Timeout) ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    Begin = erlang:monotonic_time(millisecond),
    {ok, Stream} = hackney_h2_stream:start_link(#{host => "localhost", port => Port, transport => hackney_ssl,
                                                  connect_timeout => 60000}),
    Result = hackney_h2_stream:connect(Stream, Timeout),
    {erlang:monotonic_time(millisecond) - Begin, Result}.

%% Not linked to the caller, whose life is one call.
original_stream() ->
    {ok, Stream} = hackney_h2_stream:start_link(#{}),
    unlink(Stream),
    Stream.

original_answer() ->
    {ok, Stream} = hackney_h2_stream:start_link(#{}),
    Answer = hackney_h2_stream:connect(Stream, ?DEADLINE),
    ok = hackney_h2_stream:close(Stream),
    Answer.

%% What tells one version of a module from another.
code_id(Module) ->
    Module:module_info(md5).

%% Helpers.

chat(Config) ->
    Server = ?config(server, Config),
    [embedded_server:url(Server, "/chat"), embedded_server:ca_file(Server), [<<"one\n">>, <<"two\n">>]].

chat_answers() ->
    [200,
     <<"Hello! Send me a line, I answer while you go on.\n"
       "Line 1, 3 bytes, heard: \"one\"\n"
       "Line 2, 3 bytes, heard: \"two\"\n"
       "You sent 2 lines. Goodbye!\n">>,
     <<"0">>, done].

%% A node with this library, the suite, and the given directories, and with no hackney that the environment offers.
node_with(Paths) ->
    node_with(Paths, filename:dirname(code:which(hackney_native))).

node_with(Paths, Library) ->
    Own = [Library, filename:dirname(code:which(?MODULE))],
    {ok, Node, _} = peer:start_link(#{connection => standard_io,
                                      env => [{"ERL_LIBS", ""}],
                                      args => ["-pa" | [filename:absname(Path) || Path <- Own ++ Paths]]}),
    Node.

call(Node, Module, Function, Arguments) ->
    peer:call(Node, Module, Function, Arguments, 3 * ?DEADLINE).

%% An application hackney with no module yet; its ebin directory.
application_dir(Config, Name, Version) ->
    Ebin = filename:join([?config(priv_dir, Config), Name, "ebin"]),
    App = {application, hackney, [{vsn, Version}, {applications, [kernel, stdlib]}]},
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    ok = file:write_file(filename:join(Ebin, "hackney.app"), io_lib:format("~p.~n", [App])),
    Ebin.

%% This library's modules in a directory of their own, and of its priv what Fill puts there; its ebin directory.
copy_of_this_library(Config, Name, Fill) ->
    Root = filename:join([?config(priv_dir, Config), Name, "hackney_native"]),
    [Ebin, Priv] = [filename:join(Root, Dir) || Dir <- ["ebin", "priv"]],
    [ok = filelib:ensure_dir(filename:join(Dir, "x")) || Dir <- [Ebin, Priv]],
    [{ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
     || File <- filelib:wildcard(filename:join(filename:dirname(code:which(hackney_native)), "hackney_native*"))],
    _ = Fill(code:priv_dir(hackney_native), Priv),
    Ebin.

%% The real hackney's ebin directory and those of ERL_LIBS, from where its dependencies come.
real_hackney_paths() ->
    case {os:getenv("HACKNEY_EBIN"), code:where_is_file("hackney_h2_stream.beam")} of
        {false, non_existing} -> none;
        {false, Beam} -> [filename:dirname(Beam) | dependency_paths()];
        {Ebin, _} -> [Ebin | dependency_paths()]
    end.

dependency_paths() ->
    [Ebin || Lib <- string:lexemes(os:getenv("ERL_LIBS", ""), ":"), Ebin <- filelib:wildcard(filename:join(Lib, "*/ebin"))].
