%% @doc Memory that open streams hold on which nothing happens.
%%
%% It is measured in a node of its own, new for each measurement: memory that earlier work has left free in
%% the VM or in the C library would be used again, and the streams would look smaller than they are. It is not
%% linked: a node that dies is a failure of its subject, not of the bench.
-module(bench_idle).

-export([run/4, measure/3]).

%% @doc KiB resident per open stream.
-spec run(pos_integer(), bench_subject:subject(), bench_scenario:target(), timeout()) ->
          {ok, float()} | {fails, term()}.
run(Streams, Subject, Target, Deadline) ->
    Arguments = lists:append([["-pa", Directory] || Directory <- own_code_path()]),
    {ok, Node, _} = peer:start(#{connection => standard_io, args => ["+Q", "65536" | Arguments]}),
    try peer:call(Node, ?MODULE, measure, [Streams, Subject, Target], Deadline)
    catch
        Class:Reason -> {fails, {Class, Reason}}
    after
        peer:stop(Node)
    end.

%% What is neither OTP's nor, by ERL_LIBS, inherited anyway. The first in the path stays first: -pa puts each in front.
own_code_path() ->
    lists:reverse([filename:absname(Directory) || Directory <- code:get_path(),
                                                  Directory =/= ".",
                                                  not lists:prefix(code:lib_dir(), Directory)]).

%% @doc Opens that many streams and tells what they cost. Runs in the node made for it.
-spec measure(pos_integer(), bench_subject:subject(), bench_scenario:target()) -> {ok, float()} | {fails, term()}.
measure(Streams, #{module := Api} = Subject, Target) ->
    {ok, Ready} = bench_subject:prepare(Subject),
    Context = #{api => Api, open => fun(Path, Options) -> bench_subject:open(Ready, Target, Path, Options) end},
    try
        %% The first one pays for loaded code and started threads.
        bench_stream:close(Context, open(Context)),
        Before = resident(),
        Held = [open(Context) || _ <- lists:seq(1, Streams)],
        After = resident(),
        _ = [bench_stream:close(Context, Stream) || Stream <- Held],
        {ok, (After - Before) / Streams}
    catch
        throw:{fails, Reason} -> {fails, Reason}
    end.

open(Context) ->
    Stream = bench_stream:open(Context, "/hang", []),
    bench_stream:response(Context, Stream),
    Stream.

%% Linux tells the resident memory of a process in KiB. Garbage is not what an idle stream holds.
resident() ->
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    case file:read_file("/proc/self/status") of
        {ok, Status} ->
            {match, [KiB]} = re:run(Status, "VmRSS:\\s*([0-9]+) kB", [{capture, all_but_first, binary}]),
            binary_to_integer(KiB);
        {error, Reason} ->
            throw({fails, {'/proc/self/status', Reason}})
    end.
