%%% @doc What the contract allows one stream to an echo server to do: the postconditions of {@link prop_h2_stream}.
%%%
%%% A nondeterministic acceptor. {@link step/2} takes all that may be true so far ({@link facts()}) and one event, a call with all
%%% that was observed of it, and gives all that may be true after it; nothing is left when the event is against the contract. There
%%% is more than one possibility wherever the order of two things cannot be seen: a message that lay in the owner's mailbox after
%%% `h2_setopts' had returned was sent before the mode changed, or after it.
%%%
%%% Bytes are checked one by one: what was sent is a piece of one long pattern ({@link h2_pattern}), so what comes back has one
%%% place in it.
-module(h2_contract).

-export([new/1, step/2, is_over/1, is_complete/1]).
-export_type([facts/0, event/0, observation/0, notice/0, setting/0]).

%% What the acceptor has to know of a run beforehand.
-type setting() :: #{transport := fault_case:transport(), flow_control := auto | manual, active := boolean() | once | pos_integer(),
                     max_send_buffer := pos_integer()}.

%% What an owner was sent.
-type notice() :: {message, hackney_native_h2_stream:h2_msg()} | {failed, term()} | closed | passive.

%% `before' and `behind' are what the owner had been sent when the call began, and when it had returned. `took' is in milliseconds.
-type observation() :: #{result := term(), took := non_neg_integer(), before := [notice()], behind := [notice()],
                         bytes => non_neg_integer()}.
-type event() :: {Call :: atom(), Args :: [term()], observation()}.

%% How long a call may take beyond its own timeout, on a machine that has much else to do.
-define(SLACK, 5000).

-record(facts, {setting :: setting(),
                %% Faults that have happened or may happen at any time.
                faults = [] :: [fault_proxy:fault()],
                %% `failed': h2_open has. `closed': h2_close was called. `orphaned': the owner is dead.
                phase = new :: new | open | failed | closed | orphaned,
                mode = false :: boolean() | once | pos_integer(),
                %% {active, N} has run out, and the owner may not have been told.
                passive_due = false :: boolean(),
                %% Our bytes that were taken, and whether our side has ended.
                sent = 0 :: non_neg_integer(),
                fin = false :: boolean(),
                %% The peer's bytes that were read, how many were given back, and what may come next.
                got = 0 :: non_neg_integer(),
                consumed = 0 :: non_neg_integer(),
                next = head :: head | body | done | nothing,
                %% What the stream's users were told of its end.
                told = no :: no | {yes, Reason :: term()}}).

-opaque facts() :: #facts{}.

%% @doc What is true of a stream that is not there yet.
-spec new(setting()) -> [facts()].
new(Setting) ->
    [#facts{setting = Setting}].

%% @doc What may be true after the event.
-spec step(event(), [facts()]) -> [facts()].
step({Call, Args, #{before := Before, behind := Behind} = Seen}, Possible) ->
    First = notices(Before, Possible),
    Splits = [lists:split(N, Behind) || N <- lists:seq(0, length(Behind))],
    lists:usort(lists:append(
        [notices(Late, [After || Facts <- notices(Early, First), in_time(Call, Args, Seen), After <- call(Call, Args, Seen, Facts)])
         || {Early, Late} <- Splits])).

%% @doc Whether the stream's users know of its end, if there ever was a stream.
-spec is_over([facts()]) -> boolean().
is_over(Possible) ->
    lists:any(fun(#facts{phase = Phase, told = Told}) -> Phase =:= failed orelse Told =/= no end, Possible).

%% @doc Whether the stream has ended in an orderly way, with every byte that was sent; or may end otherwise, because it was
%% closed, has lost its owner, or was never opened.
-spec is_complete([facts()]) -> boolean().
is_complete(Possible) ->
    lists:any(fun(#facts{phase = Phase, told = Told, sent = Sent, got = Got}) ->
        Phase =/= open orelse Told =:= {yes, done} andalso Sent =:= Got
    end, Possible).

%% ---- every call returns ----------------------------------------------------------------------

in_time(Call, Args, #{took := Took}) ->
    Took =< deadline(Call, Args) + ?SLACK.

deadline(open, [#{connect_timeout := Timeout}]) -> Timeout;
deadline(recv, [Timeout]) -> Timeout;
deadline(start_reader, [Timeout]) -> Timeout;
deadline(join_reader, [Timeout]) -> Timeout;
deadline(send, [_Size, _Fin, Block]) when is_integer(Block) -> Block;
deadline(_Call, _Args) -> 0.

%% ---- calls -----------------------------------------------------------------------------------

%% With no fault in its way it succeeds.
call(open, [#{plan := Plan}], #{result := Result}, #facts{phase = new, setting = #{active := Active}} = Facts) ->
    Planned = Facts#facts{faults = [Fault || {_, _, Fault} <- Plan]},
    case Result of
        ok -> [Planned#facts{phase = open, mode = Active}];
        {error, Reason} -> [Planned#facts{phase = failed} || may_fail_to_open(Reason, Planned)]
    end;

%% A stream that was never opened is not there to be called.
call(_Call, _Args, #{result := no_stream}, #facts{phase = failed} = Facts) ->
    [Facts];
call(_Call, _Args, _Seen, #facts{phase = Phase}) when Phase =:= new; Phase =:= failed ->
    [];

call(send, [Size, Fin, Block], #{result := Result}, #facts{sent = Sent} = Facts) ->
    case Result of
        ok -> [Facts#facts{sent = Sent + Size, fin = Fin =:= fin} || may_send(Facts)];
        {error, send_buffer_full} -> [Facts || Block =:= default, may_send(Facts), may_be_full(Size, Facts)];
        {error, timeout} -> [Facts || is_integer(Block), may_send(Facts), may_be_full(Size, Facts)];
        {error, Reason} -> refused(Reason, Facts)
    end;

call(send_trailers, [], #{result := Result}, Facts) ->
    case Result of
        ok -> [Facts#facts{fin = true} || may_send(Facts)];
        {error, Reason} -> refused(Reason, Facts)
    end;

call(recv, [_Timeout], #{result := Result}, Facts) ->
    received(Result, Facts);
%% Another process reads: it waits, or has its answer at once.
call(start_reader, [_Timeout], #{result := waits}, Facts) ->
    received({error, timeout}, Facts);
call(start_reader, [_Timeout], #{result := Result}, Facts) ->
    received(Result, Facts);
%% The one that waits has its answer, or is `killed' where it waits. `no_reader': it had it at once.
call(Call, _Args, #{result := Result}, Facts) when Call =:= join_reader; Call =:= kill_reader ->
    case Result of
        no_reader -> [Facts];
        killed -> [Facts];
        _ -> received(Result, Facts)
    end;

%% No more than was received can be given back, which may be more than was read.
call(consume, [_HowMuch], #{result := Result, bytes := N}, #facts{setting = Setting} = Facts) ->
    #facts{sent = Sent, got = Got, consumed = Consumed} = Facts,
    case {Result, Setting} of
        {ok, #{flow_control := auto}} -> [Facts];
        {ok, _} when N =< Sent - Consumed -> [Facts#facts{consumed = Consumed + N}];
        {ok, _} -> [Facts || may_be_over(Facts)];
        {{error, {badarg, {consume, Outstanding}}}, #{flow_control := manual}} ->
            [Facts || Outstanding < N, Outstanding >= Got - Consumed, Outstanding =< Sent - Consumed];
        _ -> []
    end;

call(setopts, [Active], #{result := Result}, Facts) ->
    case Result of
        ok -> [set_mode(Active, Facts)];
        {error, closed} -> [Facts || is_known_to_be_over(Facts)];
        _ -> []
    end;

call(hand_over, [], #{result := Result}, Facts) ->
    case Result of
        ok -> [Facts];
        %% The process has gone.
        {error, closed} -> [Facts || is_known_to_be_over(Facts)];
        _ -> []
    end;
call(hand_over_to_the_dead, [], #{result := Result}, Facts) ->
    case Result of
        {error, noproc} -> [Facts];
        {error, closed} -> [Facts || is_known_to_be_over(Facts)];
        _ -> []
    end;

call(owner_dies, [_How], #{result := gone}, Facts) ->
    [Facts#facts{phase = orphaned, mode = false}];

call(close, [], #{result := ok}, Facts) ->
    [Facts#facts{phase = closed, mode = false, passive_due = false} || Facts#facts.phase =/= orphaned]
    ++ [Facts || Facts#facts.phase =:= orphaned];

call(info, [], #{result := Result}, #facts{sent = Sent, got = Got} = Facts) ->
    case Result of
        {ok, #{state := _, recv_queue_bytes := Queued, send_queue_bytes := Waiting}} ->
            [Facts || Queued =< Sent - Got, Waiting =< Sent];
        {error, closed} -> [Facts || is_known_to_be_over(Facts)];
        _ -> []
    end;

call(fault, [_Direction, Fault], #{result := ok}, #facts{faults = Faults} = Facts) ->
    [Facts#facts{faults = [Fault | Faults]}];
call(resume, [], #{result := ok}, Facts) ->
    [Facts];

%% Nothing but what the owner was sent.
call(listen, [], #{result := ok}, Facts) ->
    [Facts];
call(_, _, _, _) ->
    [].

%% ---- sending ---------------------------------------------------------------------------------

may_send(#facts{phase = open, fin = false, told = no}) -> true;
may_send(_) -> false.

%% What has come back has left the send buffer long ago, and anything is taken when it is empty.
may_be_full(Size, #facts{sent = Sent, got = Got, setting = #{max_send_buffer := Max}}) ->
    Sent > Got andalso Sent - Got + Size > Max.

refused(stream_closed, Facts) -> [Facts || Facts#facts.fin];
refused(closed, Facts) -> [Facts || may_be_over(Facts)];
refused(_, _Facts) -> [].

%% ---- receiving -------------------------------------------------------------------------------

received({ok, Message}, #facts{mode = false} = Facts) ->
    message(Message, Facts);
received({error, timeout}, #facts{mode = false, phase = open, told = no} = Facts) ->
    [Facts];
received({error, {active_mode, Mode}}, #facts{mode = Mode, told = no} = Facts) when Mode =/= false ->
    [Facts];
%% Told again, or told first; in an active mode the owner is told first.
received({error, Reason}, #facts{mode = Mode, told = Told} = Facts) when Mode =:= false; Told =/= no ->
    ended(Reason, Facts);
received(_, _) ->
    [].

%% The peer is an echo: 200, our bytes, how many there were, the end. It ends after we have.
message({response, 200, _}, #facts{next = head, told = no} = Facts) ->
    [Facts#facts{next = body}];
message({data, Data}, #facts{next = body, sent = Sent, got = Got} = Facts) ->
    Size = byte_size(Data),
    [Facts#facts{got = Got + Size}
     || Size >= 1, Size =< 65536, Got + Size =< Sent, not_told(Facts), h2_pattern:is_at(Got, Data)];
message({trailers, [{<<"x-echoed-bytes">>, Echoed}]}, #facts{next = body, fin = true, sent = Sent, got = Sent} = Facts) ->
    [Facts#facts{next = done} || Echoed =:= integer_to_binary(Sent), not_told(Facts)];
message(done, #facts{next = done} = Facts) ->
    [Facts#facts{next = nothing, told = {yes, done}} || not_told(Facts)];
message(_, _) ->
    [].

not_told(#facts{told = Told}) -> Told =:= no.

%% The first reason stands, and is given as often as it is asked for; once all has been read the process goes, and with it
%% the knowledge of it.
ended(closed, #facts{told = {yes, _}} = Facts) ->
    [Facts];
ended(Reason, #facts{told = {yes, Told}} = Facts) ->
    [Facts || Reason =:= Told];
ended(Reason, #facts{told = no} = Facts) ->
    [Facts#facts{told = {yes, Reason}} || may_end(Reason, Facts)].

may_end(closed, #facts{phase = Phase}) when Phase =:= closed; Phase =:= orphaned -> true;
may_end(Reason, #facts{faults = Faults, setting = #{transport := Transport}}) ->
    %% A server that has told us of a wrong byte hangs up on what we go on sending, and that reset may overtake its alert.
    Resets = [reset || lists:member(corrupt, Faults)],
    lists:any(fun(Fault) -> fault_case:is_end(Fault, Transport, Reason) end, Resets ++ (Faults -- harmless(Faults))).

harmless(Faults) ->
    [Fault || Fault <- Faults, is_tuple(Fault) orelse Fault =:= stall orelse Fault =:= resume].

may_fail_to_open(connect_timeout, #facts{faults = Faults}) ->
    %% A length that was made longer has the other side wait.
    lists:member(stall, Faults) orelse lists:member(corrupt, Faults);
may_fail_to_open(Reason, Facts) ->
    may_end(Reason, Facts).

%% The engine may know of an end before anybody was told.
may_be_over(#facts{phase = Phase, told = Told, faults = Faults, fin = Fin}) ->
    Phase =/= open orelse Told =/= no orelse Fin orelse Faults -- harmless(Faults) =/= [].

is_known_to_be_over(#facts{phase = Phase, told = Told}) ->
    Phase =/= open orelse Told =/= no.

%% ---- what the owner is sent ------------------------------------------------------------------

notices([], Possible) ->
    Possible;
notices([Notice | Notices], Possible) ->
    notices(Notices, lists:usort([After || Facts <- Possible, After <- notice(Notice, Facts)])).

%% Nothing in passive mode, nothing after the last message, nothing after h2_close.
notice(passive, #facts{passive_due = true} = Facts) ->
    [Facts#facts{passive_due = false}];
notice({message, Message}, #facts{mode = Mode} = Facts) when Mode =/= false ->
    [last(Message, delivered(After)) || After <- message(Message, Facts)];
notice({failed, Reason}, #facts{mode = Mode, told = no} = Facts) when Mode =/= false, Reason =/= closed ->
    [last(done, After) || After <- ended(Reason, Facts)];
notice(closed, #facts{mode = Mode, told = no} = Facts) when Mode =/= false ->
    [last(done, After) || After <- ended(closed, Facts)];
notice(_, _) ->
    [].

%% An owner who was sent the end is sent nothing after it. One who was not, as a reader took it, may be.
last(done, Facts) -> Facts#facts{passive_due = false};
last(_Message, Facts) -> Facts.

delivered(#facts{mode = true} = Facts) -> Facts;
delivered(#facts{mode = N} = Facts) when is_integer(N), N > 1 -> Facts#facts{mode = N - 1};
delivered(#facts{mode = once} = Facts) -> Facts#facts{mode = false};
delivered(#facts{mode = 1} = Facts) -> Facts#facts{mode = false, passive_due = true}.

%% A count is added to what is left of an earlier one. After h2_close the mode matters no more.
set_mode(_Active, #facts{phase = Phase} = Facts) when Phase =/= open ->
    Facts;
set_mode(N, #facts{mode = Mode} = Facts) when is_integer(N) ->
    Left = case Mode of _ when is_integer(Mode) -> Mode; _ -> 0 end,
    case Left + N of
        Sum when Sum > 0 -> Facts#facts{mode = Sum};
        _ -> Facts#facts{mode = false, passive_due = true}
    end;
set_mode(Mode, Facts) ->
    Facts#facts{mode = Mode}.
