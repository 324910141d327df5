%%% @doc Nothing leaks: after many opens, half of them failing in every way there is, processes,
%%% ports, atoms, file descriptors, what the engine tells of itself and memory are back where they were.
%%%
%%% `LEAK_OPENS' in the environment sets how many (default 2,000).
-module(leak_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-define(DEFAULT_OPENS, 2000).
-define(SETTLE, 30000).

suite() -> [{timetrap, {minutes, 60}}].

all() -> [opens_that_fail_and_opens_that_do_not, owners_that_die, streams_never_closed].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% Ten kinds in turn: five that work, ended in five ways, and five that fail in five ways.
opens_that_fail_and_opens_that_do_not(_Config) ->
    balanced(fun(Peers, N) -> one(N rem 10, Peers) end, opens()).

%% A stream goes with its owner, even if that is killed.
owners_that_die(_Config) ->
    balanced(fun(#{good := Good}, N) ->
        {Owner, Monitor} = spawn_monitor(fun() ->
            {ok, _} = open(Good, []),
            exit(case N rem 2 of 0 -> normal; 1 -> kill end)
        end),
        receive {'DOWN', Monitor, process, Owner, _} -> ok end
    end, opens() div 10).

%% Read to the end by a long-lived owner that never calls h2_close: hackney keeps the process and
%% the connection of each.
streams_never_closed(_Config) ->
    balanced(fun(#{brief := Brief}, _N) ->
        {ok, Stream} = open(Brief, []),
        [{response, 200, []}, done, {error, closed}] = h2_case:drain(Stream)
    end, opens() div 10).

opens() ->
    case os:getenv("LEAK_OPENS") of
        false -> ?DEFAULT_OPENS;
        Text -> list_to_integer(Text)
    end.

one(0, #{good := Good}) ->
    {ok, Stream} = open(Good, []),
    ok = hackney_native:h2_close(Stream);
one(1, #{refused := Port}) ->
    {error, econnrefused} = hackney_native:h2_open(url(Port), [insecure]);
one(2, #{brief := Brief}) ->
    {ok, Stream} = open(Brief, []),
    %% Refused when the peer's end was here first.
    _ = hackney_native:h2_send(Stream, <<"x">>, fin),
    [{response, 200, []}, done, {error, closed}] = h2_case:drain(Stream);
one(3, #{good := Good}) ->
    {error, {tls_alert, {unknown_ca, _}}} = hackney_native:h2_open(raw_peer:url(Good), []);
one(4, #{resetting := Resetting}) ->
    {ok, Stream} = open(Resetting, []),
    {error, {stream_error, cancel}} = h2_case:recv(Stream);
one(5, #{http1 := Http1}) ->
    {error, {protocol_not_negotiated, http1}} = open(Http1, []);
one(6, #{brief := Brief}) ->
    {ok, Stream} = open(Brief, [{active, true}]),
    {response, 200, []} = h2_case:active(Stream),
    done = h2_case:active(Stream);
one(7, #{closing := Closing}) ->
    {error, closed} = open(Closing, []);
one(8, #{leaving := Leaving}) ->
    {ok, Stream} = open(Leaving, []),
    {error, closed} = h2_case:recv(Stream),
    ok = hackney_native:h2_close(Stream);
one(9, #{silent := Silent}) ->
    {error, connect_timeout} = open(Silent, [{connect_timeout, 20}]).

%% Runs it so many times and waits until the node looks as before. A first round fills what is made
%% once and kept: threads, code, and the allocators' pools, which stay as large as the most that was
%% alive at one time. The VM's, in which the peers' TLS lives, take the longer for it the more there is to come.
balanced(Fun, Count) ->
    Peers = peers(),
    repeat(Fun, Peers, max(min(Count, ?DEFAULT_OPENS), Count div 5)),
    settle(fun() -> streams() =:= 0 end),
    collect(),
    %% Printing loads code too, with its atoms.
    ct:pal("warm   ~p", [h2_leak:figures()]),
    Before = h2_leak:figures(),
    ct:pal("before ~p", [Before]),
    {Micros, ok} = timer:tc(fun() -> repeat(Fun, Peers, Count) end),
    ct:pal("~b opens in ~b ms", [Count, Micros div 1000]),
    %% Each as low as it was; the VM itself comes and goes by a few, and code loaded late brings atoms.
    settle(fun() ->
        Now = h2_leak:figures(),
        lists:all(fun({Key, Slack}) -> maps:get(Key, Now) =< maps:get(Key, Before) + Slack end,
                  [{streams, 0}, {connections, 0}, {tasks, 0}, {recv_queue_bytes, 0}, {send_queue_bytes, 0},
                   {processes, 2}, {ports, 2}, {fds, 2}, {atoms, 20},
                   %% The engine's allocator keeps what the most streams took that were there at one time; their number comes and goes
                   %% by some dozens, of 50 to 90 KiB each.
                   {native_bytes, 16 * 1048576}])
    end),
    %% Allocators come and go by some MiB of their own. In a nightly run of 200,000 opens 32 MiB are 160 bytes for each:
    %% less than anything that could be forgotten.
    collect(),
    ct:pal("after ~p", [h2_leak:figures()]),
    Grown = h2_case:rss() - maps:get(rss, Before),
    ?assert(Grown < 32 * 1048576, {grown_by, Grown}),
    [ok = raw_peer:stop(Peer) || Peer <- maps:values(maps:remove(refused, Peers))],
    h2_case:silent(none).

collect() -> [garbage_collect(Pid) || Pid <- processes()].

repeat(_Fun, _Peers, 0) -> ok;
repeat(Fun, Peers, N) -> Fun(Peers, N), repeat(Fun, Peers, N - 1).

settle(Fun) ->
    try h2_case:until(Fun, ?SETTLE)
    catch error:{never, _} -> error({does_not_settle, h2_leak:figures()})
    end.

%% The engine's own count.
streams() ->
    {ok, #{streams := Streams}} = hackney_native:memory(),
    Streams.

%% Peers whose connections end with the client's, so that both sides are counted.
peers() ->
    Peer = fun(Opts) -> raw_peer:start(Opts#{when_closed => stop}) end,
    Answer = {headers, 1, [{<<":status">>, <<"200">>}], fin},
    #{good => Peer(#{}),
      brief => Peer(#{script => [{settings, []}, {expect, headers}, Answer]}),
      resetting => Peer(#{script => [{settings, []}, {expect, headers}, {rst, 1, cancel}]}),
      closing => Peer(#{script => [{expect, headers}, close]}),
      leaving => Peer(#{script => [{settings, []}, {expect, #{type => settings, flags => [ack]}},
                                   close]}),
      silent => Peer(#{transport => tcp, script => []}),
      http1 => Peer(#{alpn => none}),
      refused => h2_case:refused_port()}.

open(Peer, Opts) ->
    hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer, Opts)).

url(Port) -> iolist_to_binary(["https://127.0.0.1:", integer_to_list(Port)]).
