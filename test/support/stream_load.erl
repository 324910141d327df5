%%% @doc Thousands of streams, each with its own TLS connection to `/echo' of an {@link embedded_server}, that send and receive all the
%%% while; and what the node holds meanwhile. For a node of its own, so that its memory is that of the streams.
-module(stream_load).

-export([start_node/0, run/2]).
-export_type([report/0]).

-type report() :: #{opened_in_ms := non_neg_integer(), messages := non_neg_integer(), bytes := non_neg_integer(),
                    before := h2_leak:figures(), 'after' := h2_leak:figures(), samples := [h2_leak:figures()]}.

%% Streams that open at one time: more would only wait in the server's backlog.
-define(OPENING, 50).
%% Messages a second, of all streams together: some half of two cores.
-define(RATE, 8000).
-define(LARGEST, 65536).
-define(SAMPLES, 30).
-define(TIMEOUT, 60000).

%% @doc A node whose processes may have as many open files as the system allows at all.
-spec start_node() -> pid().
start_node() ->
    Shell = "ulimit -n $(ulimit -H -n) && exec \"$@\"",
    {ok, Peer, _Name} = peer:start_link(#{connection => standard_io,
                                          exec => {"/bin/sh", ["-c", Shell, "sh", os:find_executable("erl")]},
                                          args => ["-pa" | code:get_path()]}),
    Peer.

%% @doc Opens so many streams, has them talk for so many seconds and closes them.
-spec run(pos_integer(), pos_integer()) -> report().
run(Streams, Seconds) ->
    h2_case:start(),
    Server = embedded_server:start(),
    try
        %% Makes what is made once: threads, the TLS configuration, code.
        _ = talk(Server, 10, 1),
        settled(),
        Before = h2_leak:figures(),
        Report = talk(Server, Streams, Seconds),
        settled(),
        Report#{before => Before, 'after' => h2_leak:figures()}
    after
        embedded_server:stop(Server)
    end.

settled() ->
    h2_case:until(fun() ->
        {ok, Native} = hackney_native:memory(),
        #{streams => 0, connections => 0, tasks => 0} =:= maps:with([streams, connections, tasks], Native)
    end, ?TIMEOUT),
    [garbage_collect(Pid) || Pid <- processes()],
    ok.

talk(Server, Streams, Seconds) ->
    %% On average the streams together keep to the rate.
    Pause = max(1, 2000 * Streams div ?RATE),
    Text = binary:copy(<<"0123456789abcdef">>, ?LARGEST div 16),
    Talk = fun(Starter, N) -> talker(Starter, Server, Pause, Text, N) end,
    {Micros, Talkers} = timer:tc(fun() -> open(Talk, Streams, 0, []) end),
    [Pid ! begin_talking || {Pid, _} <- Talkers],
    Samples = [begin receive after Seconds * 1000 div ?SAMPLES -> h2_leak:figures() end end || _ <- lists:seq(1, ?SAMPLES)],
    [Pid ! stop || {Pid, _} <- Talkers],
    {Messages, Bytes} = lists:unzip([h2_case:result(Talker) || Talker <- Talkers]),
    #{opened_in_ms => Micros div 1000, samples => Samples, messages => lists:sum(Messages), bytes => lists:sum(Bytes)}.

open(_Talk, 0, 0, Talkers) ->
    Talkers;
open(Talk, Left, Opening, Talkers) when Left > 0, Opening < ?OPENING ->
    Starter = self(),
    Talker = h2_case:concurrently(fun() -> Talk(Starter, Left) end),
    open(Talk, Left - 1, Opening + 1, [Talker | Talkers]);
open(Talk, Left, Opening, Talkers) ->
    receive
        opened -> open(Talk, Left, Opening - 1, Talkers);
        {'DOWN', _, process, _, Reason} -> error({not_opened, Reason})
    after ?TIMEOUT ->
        error(nothing_opens)
    end.

%% One in two streams is passive, the other active; they end in four ways.
talker(Starter, Server, Pause, Text, N) ->
    Active = N rem 2 =:= 0,
    Options = [{ssl_options, [{cacertfile, embedded_server:ca_file(Server)}]}, {connect_timeout, ?TIMEOUT}, {active, Active}],
    {ok, Stream} = hackney_native:h2_open(post, embedded_server:url(Server, "/echo"), [], Options),
    {response, 200, _} = next(Stream, Active),
    Starter ! opened,
    receive begin_talking -> ok end,
    Said = say(Stream, Active, Pause, Text, 0, 0),
    ok = finish(N rem 4, Stream, Active),
    Said.

say(Stream, Active, Pause, Text, Messages, Bytes) ->
    receive
        stop -> {Messages, Bytes}
    after rand:uniform(Pause) ->
        Part = binary:part(Text, 0, size_of_message()),
        ok = hackney_native:h2_send(Stream, Part),
        ok = hear(Stream, Active, Part),
        %% What is resident is to be the streams', not what the VM has still to collect.
        _ = Messages rem 16 =:= 15 andalso garbage_collect(),
        say(Stream, Active, Pause, Text, Messages + 1, Bytes + byte_size(Part))
    end.

%% Most messages are small.
size_of_message() ->
    case rand:uniform(20) of
        1 -> rand:uniform(?LARGEST);
        _ -> rand:uniform(1000)
    end.

hear(_Stream, _Active, <<>>) ->
    ok;
hear(Stream, Active, Expected) ->
    {data, Data} = next(Stream, Active),
    Size = byte_size(Data),
    <<Data:Size/binary, Rest/binary>> = Expected,
    hear(Stream, Active, Rest).

next(Stream, false) ->
    {ok, Message} = hackney_native:h2_recv(Stream, ?TIMEOUT),
    Message;
next(Stream, true) ->
    receive {hackney_h2, Stream, Message} -> Message
    after ?TIMEOUT -> error({nothing_from, Stream})
    end.

finish(Way, Stream, Active) when Way < 2 ->
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    {trailers, _} = next(Stream, Active),
    done = next(Stream, Active),
    ok;
finish(2, Stream, _Active) ->
    hackney_native:h2_close(Stream);
%% The owner's end is the stream's.
finish(3, _Stream, _Active) ->
    ok.
