%%% @doc Properties of one stream, whatever is done with it and to it.
%%%
%%% {@link prop_commands/1} runs random sequences of commands, one after the other: the model below says which may come when, and
%%% {@link h2_contract} whether what was observed is allowed. {@link prop_concurrent/1} has a sender, a reader and others at work at
%%% the same time, and asks whether there is an order of what they did that the contract allows.
%%%
%%% After each sequence the stream is read to its end, and everything must be gone that it was made of.
-module(prop_h2_stream).
-behaviour(proper_statem).

-include_lib("proper/include/proper.hrl").

-export([prop_commands/1, prop_concurrent/1]).
-export([initial_state/0, command/1, precondition/2, next_state/3, postcondition/3]).

%% The state of the model: what commands are possible, and what was observed so far.
-record(model, {phase = new :: new | open | closed | orphaned,
                transport :: fault_case:transport() | undefined,
                %% Somebody waits in h2_recv, for so long at most.
                reader = none :: none | non_neg_integer(),
                setting :: h2_contract:setting() | undefined,
                seen = [] :: [h2_contract:event()]}).

%% A reader that waits for what never comes, as far as a test goes.
-define(FOR_EVER, 60000).

%% ---- commands --------------------------------------------------------------------------------

initial_state() ->
    #model{}.

command(#model{phase = new}) ->
    {call, h2_rig, open, [spec()]};
command(#model{phase = Phase, transport = Transport, reader = Reader}) ->
    Calls = [{12, {call, h2_rig, send, [size(), frequency([{9, nofin}, {1, fin}]), block()]}},
             {1, {call, h2_rig, send_trailers, []}},
             {16, {call, h2_rig, recv, [frequency([{3, 0}, {4, 15}, {1, 150}])]}},
             {5, {call, h2_rig, consume, [oneof([all, half, {more, integer(1, 100000)}])]}},
             {8, {call, h2_rig, setopts, [oneof([false, true, once, 1, 2, 5, -2])]}},
             {3, {call, h2_rig, start_reader, [oneof([30, ?FOR_EVER])]}},
             {2, {call, h2_rig, hand_over, []}},
             {1, {call, h2_rig, hand_over_to_the_dead, []}},
             {2, {call, h2_rig, info, []}},
             {2, {call, h2_rig, listen, []}},
             {1, {call, h2_rig, close, []}}],
    While = [{1, {call, h2_rig, owner_dies, [oneof([normal, kill])]}},
             {3, ?LET({D, F}, {direction(), harmless()}, {call, h2_rig, fault, [D, F]})},
             {1, ?LET({D, F}, {direction(), fatal(Transport)}, {call, h2_rig, fault, [D, F]})},
             {2, {call, h2_rig, resume, []}}],
    Waiting = [{8, {call, h2_rig, join_reader, [Reader]}}, {8, {call, h2_rig, kill_reader, []}}],
    frequency(Calls ++ [Command || Command <- While, Phase =:= open] ++ [Command || Command <- Waiting, Reader =/= none]).

spec() ->
    ?LET({Transport, FlowControl, Active},
         {oneof([tls, h2c]), oneof([auto, manual]), frequency([{4, false}, {1, true}, {1, once}, {1, integer(1, 4)}])},
         ?LET(Plan, frequency([{6, []}, {4, [planned(Transport)]}]),
              #{transport => Transport, flow_control => FlowControl, active => Active, plan => Plan,
                connect_timeout => case lists:keymember(stall, 3, Plan) of true -> 400; false -> 10000 end})).

%% Below a thousand bytes it meets a handshake, then what runs.
planned(Transport) ->
    {direction(), oneof([integer(0, 1000), integer(1000, 60000)]), oneof([harmless(), fatal(Transport)])}.

direction() -> oneof([up, down]).

harmless() -> frequency([{2, stall}, {1, {trickle, integer(1, 400)}}, {1, {delay, integer(0, 2)}}]).

%% Without TLS nobody can tell a wrong byte from a right one.
fatal(tls) -> oneof([cut, half_close, reset, corrupt]);
fatal(h2c) -> oneof([cut, half_close, reset]).

size() -> frequency([{1, 0}, {4, integer(1, 100)}, {4, integer(1, 20000)}, {1, integer(20000, 150000)}]).

block() -> frequency([{3, default}, {1, 0}, {1, 20}]).

%% ---- preconditions ---------------------------------------------------------------------------

precondition(#model{phase = new}, {call, _, open, _}) ->
    true;
precondition(#model{phase = new}, _) ->
    false;
precondition(_, {call, _, open, _}) ->
    false;
%% One order of what is received can be told only while one process receives: see prop_concurrent/1 for more.
precondition(#model{reader = Reader}, {call, _, Call, _}) when Call =:= recv; Call =:= setopts; Call =:= start_reader ->
    Reader =:= none;
%% One that waits for ever is waited for only once the stream must have ended.
precondition(#model{phase = Phase, reader = Reader}, {call, _, join_reader, [Timeout]}) ->
    Reader =:= Timeout andalso (Reader =/= ?FOR_EVER orelse Phase =/= open);
precondition(#model{reader = Reader}, {call, _, kill_reader, _}) ->
    Reader =/= none;
precondition(#model{phase = Phase}, {call, _, Call, _}) when Call =:= owner_dies; Call =:= fault; Call =:= resume ->
    Phase =:= open;
precondition(_, _) ->
    true.

%% ---- transitions -----------------------------------------------------------------------------

next_state(#model{seen = Seen} = Model, Observation, {call, _, Call, Args}) ->
    (transition(Call, Args, Model))#model{seen = [{Call, Args, Observation} | Seen]}.

transition(open, [#{transport := Transport} = Spec], Model) ->
    Model#model{phase = open, transport = Transport, setting = setting(Spec)};
transition(close, _, #model{phase = open} = Model) -> Model#model{phase = closed};
transition(owner_dies, _, Model) -> Model#model{phase = orphaned};
transition(start_reader, [Timeout], Model) -> Model#model{reader = Timeout};
transition(join_reader, _, Model) -> Model#model{reader = none};
transition(kill_reader, _, Model) -> Model#model{reader = none};
transition(_, _, Model) -> Model.

setting(Spec) ->
    (maps:with([transport, flow_control, active], Spec))#{max_send_buffer => h2_rig:max_send_buffer()}.

%% ---- postconditions --------------------------------------------------------------------------

%% All of them are the contract's.
postcondition(Model, Call, Observation) ->
    #model{setting = Setting, seen = Seen} = next_state(Model, Observation, Call),
    case accept(lists:reverse(Seen), h2_contract:new(Setting)) of
        {forbidden, _, _} -> false;
        _Possible -> true
    end.

%% All that may be true after the events, or the first that the contract forbids, and what was true before it.
accept([], Possible) ->
    Possible;
accept([Event | Events], Possible) ->
    case h2_contract:step(Event, Possible) of
        [] -> {forbidden, Event, Possible};
        After -> accept(Events, After)
    end.

%% ---- the properties --------------------------------------------------------------------------

%% @doc One command after the other.
-spec prop_commands(h2_rig:world()) -> proper:test().
prop_commands(World) ->
    ?FORALL(Commands, more_commands(2, commands(?MODULE)),
            with_rig(World, fun() ->
                {History, #model{setting = Setting, seen = Seen}, Result} = run_commands(?MODULE, Commands),
                Possible = accept(lists:reverse(Seen), [Facts || Setting =/= undefined, Facts <- h2_contract:new(Setting)]),
                {Result =:= ok, Possible, [Result | [Observation || {_Model, Observation} <- History]]}
            end)).

%% @doc A sender, a reader, and somebody who meddles, all at the same time.
-spec prop_concurrent(h2_rig:world()) -> proper:test().
prop_concurrent(World) ->
    ?FORALL({Spec, Scripts}, concurrent(),
            with_rig(World, fun() ->
                Opened = accept([{open, [Spec], h2_rig:open(Spec)}], h2_contract:new(setting(Spec))),
                Lines = [Line || h2_rig:stream() =/= undefined, Line <- h2_crowd:run(Scripts)],
                Possible = h2_crowd:possible(Lines, Opened),
                {Possible =/= [], Possible, [Opened | Lines]}
            end)).

concurrent() ->
    ?LET(Spec, spec(),
         {Spec#{plan := [], connect_timeout := 10000},
          [list({send, [size(), frequency([{15, nofin}, {1, fin}]), block()]}),
           list(frequency([{4, {recv, [oneof([0, 5, 30])]}}, {1, {consume, [all]}}])),
           list(frequency([{6, {setopts, [oneof([false, false, true, once, 1, 2, -2])]}}, {1, {hand_over, []}}, {1, {info, []}},
                           {1, ?LET(F, harmless(), {fault, [direction(), F]})},
                           {1, ?LET(F, fatal(maps:get(transport, Spec)), {fault, [direction(), F]})},
                           {1, {close, []}}]))]}).

%% Runs it on a new rig, then reads the stream to its end, takes the rig down, and looks for what was left. The function returns
%% whether all is well so far, what may be true then, and what to show if something is not.
with_rig(World, Run) ->
    Before = h2_leak:figures(),
    {Fine, Seen} =
        try
            ok = h2_rig:start(World),
            observed(Run())
        catch
            %% Told here: this PropEr asks for stack traces in a way that newer VMs do not know.
            Class:Reason:Stack -> {false, {Class, Reason, Stack}}
        after
            h2_rig:stop()
        end,
    Left = try h2_leak:settled(Before) catch error:What -> What end,
    ?WHENFAIL(io:format("~nSeen:~n~P~nLeft: ~p~n", [Seen, 500, Left]), Fine andalso Left =:= ok).

observed({false, Possible, Seen}) ->
    {false, {Possible, Seen}};
observed({true, Possible, Seen}) ->
    Ended = ends(Possible, h2_rig:finish()),
    Stray = h2_rig:stray(),
    {Ended =:= allowed andalso Stray =:= [], #{seen => Seen, the_end => Ended, stray => Stray}}.

%% Whether the contract allows the last events, and the stream has the end that it must have.
ends([], {any, []}) ->
    allowed;
ends(Possible, {Must, Events}) ->
    case accept(Events, Possible) of
        {forbidden, _, _} = Forbidden -> Forbidden;
        After ->
            Is = case Must of
                     complete -> h2_contract:is_complete(After);
                     over -> h2_contract:is_over(After);
                     any -> true
                 end,
            case Is of
                true -> allowed;
                false -> {must_be, Must, After}
            end
    end.
