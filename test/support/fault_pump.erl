%%% @doc One direction of a connection of the {@link fault_proxy}: a process that reads one socket and writes the other, and acts
%%% out the faults of its plan on the way.
%%%
%%% A process each, because one that waits in `send' for a reader that does not read must not hold up the other direction.
-module(fault_pump).

-export([start/3, socket_options/0, inject/3, forwarded/2, harmed/1, is_over/1]).
-export_type([pair/0]).

-type pair() :: #{up := pid(), down := pid(),
                  client := gen_tcp:socket(), server := gen_tcp:socket(),
                  figures := counters:counters_ref()}.

%% Places in the figures of a connection.
-define(UP, 1).
-define(DOWN, 2).
-define(HARM, 3).

-record(pump, {from :: gen_tcp:socket(),
               to :: gen_tcp:socket(),
               %% The pump of the other direction.
               other :: pid(),
               figures :: counters:counters_ref(),
               place :: ?UP | ?DOWN,
               plan :: [{At :: non_neg_integer(), fault_proxy:fault()}],
               flow = open :: open | stalled | discarding,
               held = <<>> :: binary(),
               trickle = 0 :: non_neg_integer(),
               delay = 0 :: non_neg_integer(),
               corrupt = false :: boolean(),
               %% Whether the source, and that of the other pump, have ended.
               ended = false :: boolean(),
               other_ended = false :: boolean()}).

%% @doc How both sockets must be made.
-spec socket_options() -> [gen_tcp:option()].
socket_options() ->
    %% A side that has ended can still be written to: only so does a half close stay one.
    [binary, {active, false}, {nodelay, true}, {exit_on_close, false}, {show_econnreset, true}].

%% @doc Starts both directions. The calling process owns the sockets up to now.
-spec start(gen_tcp:socket(), gen_tcp:socket(), fault_proxy:plan()) -> pair().
start(Client, Server, Plan) ->
    Figures = counters:new(3, []),
    Pump = fun(From, To, Direction) ->
        #pump{from = From, to = To, other = self(), figures = Figures, place = place(Direction),
              plan = lists:sort([{At, Fault} || {D, At, Fault} <- Plan, D =:= Direction])}
    end,
    Up = spawn_link(fun() -> begin_with(Pump(Client, Server, up)) end),
    Down = spawn_link(fun() -> begin_with(Pump(Server, Client, down)) end),
    ok = gen_tcp:controlling_process(Client, Up),
    ok = gen_tcp:controlling_process(Server, Down),
    Up ! {other, Down},
    Down ! {other, Up},
    #{up => Up, down => Down, client => Client, server => Server, figures => Figures}.

%% @doc See {@link fault_proxy:inject/3}.
-spec inject(pair(), fault_proxy:direction(), fault_proxy:fault()) -> ok.
inject(#{client := Client, server := Server, up := Up, down := Down, figures := Figures}, _Direction, reset) ->
    %% From here: a pump that waits in `send' hears of nothing but its socket's end.
    harm(Figures),
    [begin abort(Socket), Pump ! stop end || {Socket, Pump} <- [{Client, Up}, {Server, Down}]],
    ok;
inject(#{client := Client, server := Server, up := Up, down := Down, figures := Figures}, _Direction, cut) ->
    harm(Figures),
    [begin Pump ! discard, finish(Socket) end || {Socket, Pump} <- [{Client, Up}, {Server, Down}]],
    ok;
inject(Pair, Direction, Fault) ->
    maps:get(Direction, Pair) ! {fault, Fault},
    ok.

%% @doc See {@link fault_proxy:forwarded/2}.
-spec forwarded(pair(), fault_proxy:direction()) -> non_neg_integer().
forwarded(#{figures := Figures}, Direction) -> counters:get(Figures, place(Direction)).

%% @doc See {@link fault_proxy:harmed/1}.
-spec harmed(pair()) -> boolean().
harmed(#{figures := Figures}) -> counters:get(Figures, ?HARM) > 0.

%% @doc See {@link fault_proxy:is_over/1}.
-spec is_over(pair()) -> boolean().
is_over(#{up := Up, down := Down}) -> not (is_process_alive(Up) orelse is_process_alive(Down)).

place(up) -> ?UP;
place(down) -> ?DOWN.

%% ---- the process -----------------------------------------------------------------------------

begin_with(Pump) ->
    receive {other, Other} -> loop(listen(forward(<<>>, Pump#pump{other = Other}))) end.

loop(#pump{ended = true, other_ended = true}) ->
    ok;
loop(#pump{from = From} = Pump) ->
    receive
        {tcp, From, Bytes} -> loop(listen(forward(Bytes, Pump)));
        {tcp_closed, From} -> loop(source_ended(Pump));
        {tcp_error, From, _Reason} -> reset(Pump);
        {fault, Fault} -> loop(listen(now(Fault, Pump)));
        discard -> loop(listen(discard(Pump)));
        other_ended -> loop(Pump#pump{other_ended = true});
        stop -> ok
    end.

%% One packet at a time, so that a stall holds back what comes after it.
listen(#pump{flow = stalled} = Pump) ->
    Pump;
listen(#pump{from = From} = Pump) ->
    _ = inet:setopts(From, [{active, once}]),
    Pump.

source_ended(#pump{ended = true} = Pump) ->
    Pump;
source_ended(#pump{to = To, other = Other} = Pump) ->
    finish(To),
    Other ! other_ended,
    Pump#pump{ended = true}.

now(resume, #pump{plan = Plan} = Pump) ->
    resumed(Pump#pump{plan = [Planned || {_, Fault} = Planned <- Plan, Fault =/= stall]});
now(stall, #pump{flow = stalled} = Pump) ->
    Pump;
now(_Fault, #pump{flow = discarding} = Pump) ->
    Pump;
now(Fault, #pump{flow = Flow, held = Held} = Pump) ->
    case act(Fault, Pump#pump{flow = open, held = <<>>}) of
        #pump{flow = open} = Pump1 when Flow =:= stalled -> Pump1#pump{flow = stalled, held = Held};
        Pump1 -> Pump1
    end.

resumed(#pump{flow = stalled, held = Held} = Pump) -> forward(Held, Pump#pump{flow = open, held = <<>>});
resumed(Pump) -> Pump.

discard(Pump) ->
    Pump#pump{flow = discarding, held = <<>>}.

%% What comes before the next fault, the fault, and the rest.
forward(Bytes, #pump{flow = stalled, held = Held} = Pump) ->
    Pump#pump{held = <<Held/binary, Bytes/binary>>};
forward(_Bytes, #pump{flow = discarding} = Pump) ->
    Pump;
forward(Bytes, #pump{plan = [{At, Fault} | Plan]} = Pump) ->
    Before = At - counters:get(Pump#pump.figures, Pump#pump.place),
    case Bytes of
        <<First:Before/binary, Rest/binary>> -> forward(Rest, act(Fault, pass(First, Pump#pump{plan = Plan})));
        _ -> pass(Bytes, Pump)
    end;
forward(Bytes, Pump) ->
    pass(Bytes, Pump).

pass(<<>>, Pump) ->
    Pump;
pass(_Bytes, #pump{flow = discarding} = Pump) ->
    Pump;
pass(<<First, Rest/binary>>, #pump{corrupt = true} = Pump) ->
    harm(Pump#pump.figures),
    pass(<<(First bxor 16#ff), Rest/binary>>, Pump#pump{corrupt = false});
pass(<<First:1/binary, Rest/binary>>, #pump{trickle = N} = Pump) when N > 0 ->
    pass(Rest, write(First, Pump#pump{trickle = N - 1}));
pass(Bytes, Pump) ->
    write(Bytes, Pump).

write(Bytes, #pump{to = To, delay = Delay} = Pump) ->
    _ = Delay > 0 andalso receive after Delay -> ok end,
    case gen_tcp:send(To, Bytes) of
        ok ->
            counters:add(Pump#pump.figures, Pump#pump.place, byte_size(Bytes)),
            Pump;
        {error, _} ->
            discard(Pump)
    end.

act(cut, #pump{from = From, to = To, other = Other, figures = Figures} = Pump) ->
    harm(Figures),
    Other ! discard,
    finish(To),
    finish(From),
    discard(Pump);
act(half_close, #pump{to = To, figures = Figures} = Pump) ->
    harm(Figures),
    finish(To),
    discard(Pump);
act(reset, Pump) ->
    reset(Pump),
    exit(normal);
act(stall, Pump) -> Pump#pump{flow = stalled};
act(resume, Pump) -> Pump;
act({trickle, N}, Pump) -> Pump#pump{trickle = N};
act({delay, Ms}, Pump) -> Pump#pump{delay = Ms};
act(corrupt, Pump) -> Pump#pump{corrupt = true}.

reset(#pump{from = From, to = To, other = Other, figures = Figures}) ->
    harm(Figures),
    abort(From),
    abort(To),
    Other ! stop,
    ok.

harm(Figures) -> counters:add(Figures, ?HARM, 1).

%% FIN behind all that was written.
finish(Socket) ->
    _ = gen_tcp:shutdown(Socket, write),
    ok.

%% Linger 0 turns close into RST.
abort(Socket) ->
    _ = inet:setopts(Socket, [{linger, {true, 0}}]),
    gen_tcp:close(Socket).
