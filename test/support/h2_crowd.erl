%%% @doc Several processes at work on the stream of an {@link h2_rig} at the same time, each with a list of calls of its own; and
%%% whether there is an order of all that was seen which the contract allows.
-module(h2_crowd).

-export([run/1, possible/2]).
-export_type([script/0, line/0]).

-type script() :: [{Call :: atom(), Args :: [term()]}].
%% What one process has seen, in its order. An event took place somewhere between two moments.
-type line() :: [{From :: integer(), To :: integer(), h2_contract:event()}].

%% Only a hang meets it: no script waits for so long.
-define(DEADLINE, 30000).

%% What a process has sent, read and given back.
-record(tally, {sent = 0 :: non_neg_integer(), got = 0 :: non_neg_integer(), consumed = 0 :: non_neg_integer()}).

%% @doc Has a process carry out each script; returns what they saw, and what the owners were sent.
-spec run([script()]) -> [line()].
run(Scripts) ->
    Begin = now_(),
    Workers = [spawn_monitor(fun() -> work(Script, Env) end) || Env <- [environment()], Script <- Scripts],
    Results = [result(Worker) || Worker <- Workers],
    End = now_(),
    Heard = h2_rig:heard(),
    %% Of a message in a mailbox nobody can tell when it came.
    Mail = [[{Begin, End, {listen, [], seen(ok, 0, [Notice])}} || Notice <- Notices] || Notices <- Heard],
    Read = [{ok, Message} || Notices <- Heard, {message, Message} <- Notices],
    #tally{got = Got} = lists:foldl(fun note_read/2, #tally{}, Read),
    Tallies = [Tally || {_, Tally} <- Results],
    Lines = [Line || {Line, _} <- Results],
    ok = h2_rig:note(#{sent => lists:sum([T#tally.sent || T <- Tallies]),
                       got => Got + lists:sum([T#tally.got || T <- Tallies]),
                       consumed => lists:sum([T#tally.consumed || T <- Tallies]),
                       inherited => [] =/= [ok || Line <- Lines, {_, _, {hand_over, _, #{result := ok}}} <- Line],
                       corrupted => [] =/= [ok || Line <- Lines, {_, _, {fault, [_, corrupt], _}} <- Line]}),
    Lines ++ Mail.

result({Pid, Monitor}) ->
    receive
        {'DOWN', Monitor, process, Pid, {done, Line, Tally}} -> {Line, Tally};
        {'DOWN', Monitor, process, Pid, Reason} -> error({worker_failed, Reason})
    after ?DEADLINE ->
        error({hangs, process_info(Pid, current_stacktrace)})
    end.

environment() ->
    {h2_rig:stream(), h2_rig:connection(), h2_rig:people()}.

now_() -> erlang:monotonic_time().

%% ---- a process -------------------------------------------------------------------------------

work(Script, Env) ->
    {Line, Tally} = lists:mapfoldl(fun({Call, Args}, Tally) ->
        From = now_(),
        {Result, Tally1, More} = call(Call, Args, Env, Tally),
        To = now_(),
        Took = erlang:convert_time_unit(To - From, native, millisecond),
        {{From, To, {Call, Args, maps:merge(seen(Result, Took, []), More)}}, Tally1}
    end, #tally{}, Script),
    exit({done, Line, Tally}).

seen(Result, Took, Before) -> #{before => Before, result => Result, behind => [], took => Took}.

call(send, [Size, Fin, Block], {Stream, _, _}, #tally{sent = Sent} = Tally) ->
    Options = case Block of default -> #{}; _ -> #{block => Block} end,
    case hackney_native:h2_send(Stream, h2_pattern:at(Sent, Size), Fin, Options) of
        ok -> {ok, Tally#tally{sent = Sent + Size}, #{}};
        Error -> {Error, Tally, #{}}
    end;
call(send_trailers, [], {Stream, _, _}, Tally) ->
    {hackney_native:h2_send_trailers(Stream, [{<<"x-trailer">>, <<"1">>}]), Tally, #{}};
call(recv, [Timeout], {Stream, _, _}, Tally) ->
    Result = hackney_native:h2_recv(Stream, Timeout),
    {Result, note_read(Result, Tally), #{}};
call(consume, [all], {Stream, _, _}, #tally{got = Got, consumed = Consumed} = Tally) ->
    N = Got - Consumed,
    case hackney_native:h2_consume(Stream, N) of
        ok -> {ok, Tally#tally{consumed = Got}, #{bytes => N}};
        Error -> {Error, Tally, #{bytes => N}}
    end;
call(setopts, [Active], {Stream, _, _}, Tally) ->
    {hackney_native:h2_setopts(Stream, [{active, Active}]), Tally, #{}};
call(hand_over, [], {Stream, _, {_Owner, Heir}}, Tally) ->
    {hackney_native:h2_controlling_process(Stream, Heir), Tally, #{}};
call(close, [], {Stream, _, _}, Tally) ->
    {hackney_native:h2_close(Stream), Tally, #{}};
call(info, [], {Stream, _, _}, Tally) ->
    {hackney_native:h2_info(Stream), Tally, #{}};
call(fault, [Direction, Fault], {_, Connection, _}, Tally) ->
    {fault_proxy:inject(Connection, Direction, Fault), Tally, #{}}.

note_read({ok, {data, Data}}, #tally{got = Got} = Tally) -> Tally#tally{got = Got + byte_size(Data)};
note_read(_Result, Tally) -> Tally.

%% ---- orders ----------------------------------------------------------------------------------

%% @doc All that may be true after the lines, taken in any order in which each line keeps its own and nothing comes before what had
%% ended when it began. Empty if there is no such order.
-spec possible([line()], [h2_contract:facts()]) -> [h2_contract:facts()].
possible(Lines, Facts) ->
    advance(#{Lines => Facts}).

%% Places are what is left of each line. Each step takes one event more: two ways to one place meet there.
advance(Places) ->
    case maps:to_list(Places) of
        [] -> [];
        [{Lines, Facts} | _] = All ->
            case lists:all(fun(Line) -> Line =:= [] end, Lines) of
                true -> Facts;
                false -> advance(lists:foldl(fun further/2, #{}, All))
            end
    end.

further({Lines, Facts}, Places) ->
    %% Whatever is next must begin before any other has ended.
    FirstEnd = lists:min([To || [{_, To, _} | _] <- Lines]),
    lists:foldl(fun(N, Acc) ->
        case lists:split(N, Lines) of
            {Before, [[{From, _, Event} | Rest] | After]} when From =< FirstEnd ->
                case h2_contract:step(Event, Facts) of
                    [] -> Acc;
                    Then -> maps:update_with(Before ++ [Rest | After], fun(Other) -> lists:usort(Other ++ Then) end, Then, Acc)
                end;
            _ -> Acc
        end
    end, Places, lists:seq(0, length(Lines) - 1)).
