%% @doc The scenarios: names, sizes, and the frame in which each single measurement runs.
-module(bench_scenario).

-export([names/0, unit/1, better/1, parameters/2, run/4]).
-export_type([name/0, parameters/0, target/0]).

-type name() :: pingpong | many | oneway | download_passive | download_active | download_manual
              | upload_16k | upload_10m | open | idle_memory.
-type parameters() :: #{seconds => float(), size => pos_integer(), streams => pos_integer(),
                        rounds => pos_integer(), bytes => pos_integer(), piece => pos_integer(),
                        mode => bench_transfer:mode()}.
-type target() :: #{url := string(), cacertfile := undefined | file:filename()}.

%% No single measurement takes longer than this, unless its subject hangs.
-define(DEADLINE, 120000).
%% How long what a measurement has started may take to end after it.
-define(SETTLING, 3000).

%% @doc All scenarios, in the order of the table.
-spec names() -> [name()].
names() ->
    [pingpong, many, oneway, download_passive, download_active, download_manual, upload_16k, upload_10m,
     open, idle_memory].

%% @doc What a scenario's figure counts.
-spec unit(name()) -> string().
unit(pingpong) -> "msg/s";
unit(many) -> "msg/s";
unit(open) -> "open/s";
unit(idle_memory) -> "KiB/stream";
unit(_) -> "MB/s".

%% @doc Whether more of it is better, or less.
-spec better(name()) -> more | less.
better(idle_memory) -> less;
better(_) -> more.

%% @doc How much a scenario does.
-spec parameters(name(), Scale :: float()) -> parameters().
parameters(pingpong, Scale) -> #{seconds => 1.5 * Scale, size => 64};
parameters(many, Scale) -> #{streams => 100, rounds => scaled(500, Scale), size => 64};
parameters(oneway, Scale) -> #{seconds => 1.5 * Scale, size => 64};
parameters(download_passive, Scale) -> #{bytes => scaled(500000000, Scale), mode => passive};
parameters(download_active, Scale) -> #{bytes => scaled(500000000, Scale), mode => active};
parameters(download_manual, Scale) -> #{bytes => scaled(500000000, Scale), mode => manual};
parameters(upload_16k, Scale) -> #{bytes => scaled(500000000, Scale), piece => 16384};
parameters(upload_10m, Scale) -> #{bytes => scaled(500000000, Scale), piece => 10000000};
parameters(open, Scale) -> #{seconds => 1.5 * Scale};
parameters(idle_memory, Scale) -> #{streams => scaled(1000, Scale)}.

scaled(Number, Scale) ->
    max(1, round(Number * Scale)).

%% @doc Runs a scenario once and gives its figure.
-spec run(name(), parameters(), bench_subject:subject(), target()) -> {ok, float()} | {fails, term()}.
run(Name, Parameters, #{runtime := Runtime}, Target) ->
    bench_rust:run(Name, Parameters, Runtime, Target, ?DEADLINE);
run(idle_memory, #{streams := Streams}, Subject, Target) ->
    bench_idle:run(Streams, Subject, Target, ?DEADLINE);
run(Name, Parameters, #{module := Api} = Subject, Target) ->
    Context = #{api => Api, open => fun(Path, Options) -> bench_subject:open(Subject, Target, Path, Options) end},
    in_own_process(fun() -> measure(Name, Context, Parameters) end).

measure(pingpong, Context, Parameters) -> bench_ping_pong:one(Context, Parameters);
measure(many, Context, Parameters) -> bench_ping_pong:many(Context, Parameters);
measure(oneway, Context, Parameters) -> bench_transfer:one_way(Context, Parameters);
measure(upload_16k, Context, Parameters) -> bench_transfer:upload(Context, Parameters);
measure(upload_10m, Context, Parameters) -> bench_transfer:upload(Context, Parameters);
measure(open, Context, Parameters) -> bench_open:run(Context, Parameters);
measure(_Download, Context, Parameters) -> bench_transfer:download(Context, Parameters).

%% Streams end with their owner: whatever a measurement leaves behind goes with its process.
in_own_process(Measurement) ->
    Before = erlang:system_info(process_count),
    {Pid, Monitor} = spawn_monitor(fun() -> exit(outcome(Measurement)) end),
    Outcome = receive
                  {'DOWN', Monitor, process, Pid, {shutdown, Result}} -> Result;
                  {'DOWN', Monitor, process, Pid, Reason} -> {fails, Reason}
              after ?DEADLINE ->
                      exit(Pid, kill),
                      erlang:demonitor(Monitor, [flush]),
                      {fails, deadline}
              end,
    settle(Before, erlang:monotonic_time(millisecond) + ?SETTLING),
    Outcome.

outcome(Measurement) ->
    try Measurement() of
        Value -> {shutdown, {ok, float(Value)}}
    catch
        throw:{fails, Reason} -> {shutdown, {fails, Reason}};
        Class:Reason -> {shutdown, {fails, {Class, Reason}}}
    end.

%% The next subject starts on a quiet node. The processes are the subject's own: no event tells of their end.
settle(Before, Deadline) ->
    case erlang:system_info(process_count) > Before andalso erlang:monotonic_time(millisecond) < Deadline of
        true ->
            receive after 5 -> ok end,
            settle(Before, Deadline);
        false ->
            _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
            ok
    end.
