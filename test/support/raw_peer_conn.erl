%%% @doc One connection of a {@link raw_peer}: the interpreter of its steps.
%%%
%%% Steps (`Sid' is a stream id, `Fin' is `fin' or `nofin'):
%%%
%%% | step                               | does                                                |
%%% |------------------------------------|-----------------------------------------------------|
%%% | `{expect, Pattern}'                | waits for an event, takes and returns it            |
%%% | `{expect_bytes, Sid, N}'           | waits until N bytes of DATA came; returns how many   |
%%% | `barrier'                          | PING, and waits for its ACK: the client has read all |
%%% | `{wait, Word}'                     | waits for `raw_peer:tell(Conn, Word)'                |
%%% | `{settings, List}', `ack'          | SETTINGS, SETTINGS with ACK                          |
%%% | `{headers, Sid, Headers[, Fin]}'   | HEADERS in one frame                                 |
%%% | `{data, Sid, Data[, Fin]}'         | DATA, whatever the window says                       |
%%% | `{flood, Sid, Chunk}'              | DATA until the window is full; returns how many bytes |
%%% | `{pump, Sid, Total, Chunk, Fin}'   | DATA as the window allows; returns bytes and SHA-256 |
%%% | `{rst, Sid, Code}'                 | RST_STREAM                                           |
%%% | `{goaway, Last, Code[, Debug]}'    | GOAWAY                                               |
%%% | `{window_update, Sid, N}'          | WINDOW_UPDATE                                        |
%%% | `{ping, Opaque}'                   | PING                                                 |
%%% | `{raw, Bytes}'                     | any bytes, inside TLS                                |
%%% | `{tcp, Bytes}'                     | any bytes, beneath TLS                               |
%%% | `{storm, Bytes, Opts}'             | the same bytes again and again: {@link raw_peer_storm} |
%%% | `{drip, Bytes, Ms}'                | a byte, and the next after so many milliseconds      |
%%% | `{tls, Fun}'                       | what OTP's TLS can do with the connection            |
%%% | `pause', `resume'                  | stops and goes on reading the socket                 |
%%% | `close'                            | an orderly end (close_notify, FIN)                   |
%%% | `shutdown'                         | FIN without close_notify                             |
%%% | `abort'                            | a TCP reset                                          |
%%%
%%% Events are the frames of {@link h2_frames}, with `headers' decoded and CONTINUATION joined to
%%% its HEADERS, and besides `#{type => preface}', `#{type => handshake_failed, reason => R}' and
%%% `#{type => closed, reason => R}'.
-module(raw_peer_conn).
-behaviour(gen_server).

-export([matches/2, content/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([step/0, event/0, pattern/0]).

-type event() :: #{type := atom() | tuple(), atom() => term()}.
%% A type, a part of the event, or a predicate.
-type pattern() :: atom() | map() | fun((event()) -> boolean()).
-type step() :: atom() | tuple().

-define(PREFACE_SIZE, 24).
-define(HANDSHAKE_TIMEOUT, 10000).

-record(conn, {opts :: map(),
               tcp :: gen_tcp:socket() | undefined,
               tls :: ssl:sslsocket() | undefined,
               paused = false :: boolean(),
               closed = false :: boolean(),
               buffer = <<>> :: binary(),
               preface = false :: boolean() | wrong,
               hpack = hpack_lite:new() :: hpack_lite:table(),
               open_block :: h2_frames:frame() | undefined,
               log = [] :: [event()],
               inbox = [] :: [event()],
               words = [] :: [term()],
               jobs = [] :: [job()],
               pings = 0 :: non_neg_integer(),
               bytes = #{} :: #{h2_frames:stream_id() => non_neg_integer()},
               offsets = #{} :: #{h2_frames:stream_id() => non_neg_integer()},
               %% What the client lets us send (RFC 9113 section 5.2).
               initial = 65535 :: integer(),
               window = 65535 :: integer(),
               windows = #{} :: #{h2_frames:stream_id() => integer()}}).

-record(job, {from :: gen_server:from() | script, steps :: [step()], results = [] :: [term()]}).
-type job() :: #job{}.

%% @doc Whether an event is what a pattern means.
-spec matches(pattern(), event()) -> boolean().
matches(Pattern, Event) when is_function(Pattern, 1) -> Pattern(Event);
matches(Pattern, Event) when is_map(Pattern) -> maps:with(maps:keys(Pattern), Event) =:= Pattern;
matches(Type, #{type := Other}) -> Type =:= Other.

%% ---- gen_server ------------------------------------------------------------------------------

%% @private
-spec init({pid(), map()}) -> {ok, #conn{}}.
init({Listener, Opts}) ->
    _ = monitor(process, Listener),
    %% Servers send no preface (RFC 9113, 3.4).
    {ok, #conn{opts = Opts, preface = maps:get(role, Opts, server) =:= client}}.

%% @private
-spec handle_call(term(), gen_server:from(), #conn{}) ->
          {reply, term(), #conn{}} | {noreply, #conn{}}.
handle_call(transcript, _From, #conn{log = Log} = State) ->
    {reply, lists:reverse(Log), State};
handle_call({run, Steps}, From, #conn{jobs = Jobs} = State) ->
    {noreply, advance(State#conn{jobs = Jobs ++ [#job{from = From, steps = Steps}]})}.

%% @private
-spec handle_cast(term(), #conn{}) -> {noreply, #conn{}} | {stop, normal, #conn{}}.
handle_cast({socket, Tcp}, #conn{opts = Opts, jobs = Jobs} = State) ->
    Hello = [{settings, maps:get(settings, Opts, [])}],
    Script = #job{from = script, steps = maps:get(script, Opts, Hello)},
    noreply(secure(State#conn{tcp = Tcp, jobs = [Script | Jobs]}));
handle_cast({tell, Word}, #conn{words = Words} = State) ->
    noreply(State#conn{words = [Word | Words]}).

%% @private
-spec handle_info(term(), #conn{}) -> {noreply, #conn{}} | {stop, normal, #conn{}}.
handle_info({Kind, _Socket, Bytes}, State) when Kind =:= tcp; Kind =:= ssl ->
    noreply(listen(feed(Bytes, State)));
handle_info({Kind, _Socket}, State) when Kind =:= tcp_closed; Kind =:= ssl_closed ->
    noreply(ended(normal, State));
handle_info({Kind, _Socket, Reason}, State) when Kind =:= tcp_error; Kind =:= ssl_error ->
    noreply(ended(Reason, State));
handle_info(go_on, State) ->
    noreply(State);
handle_info({'DOWN', _, process, _Listener, _Reason}, State) ->
    {stop, normal, State}.

noreply(State) ->
    case advance(State) of
        #conn{closed = true, opts = #{when_closed := stop}} = State1 -> {stop, normal, State1};
        State1 -> {noreply, State1}
    end.

secure(#conn{opts = #{transport := tcp}} = State) ->
    listen(State);
secure(#conn{tcp = Tcp, opts = #{role := client} = Opts} = State) ->
    Tls0 = maps:get(tls, Opts, []) ++ [{verify, verify_none}, {alpn_advertised_protocols, [<<"h2">>]}, {log_level, none}],
    secured(ssl:connect(Tcp, Tls0, ?HANDSHAKE_TIMEOUT), State);
secure(#conn{tcp = Tcp, opts = #{server := Server} = Opts} = State) ->
    Alpn = case maps:get(alpn, Opts, [<<"h2">>]) of
               none -> [];
               Protocols -> [{alpn_preferred_protocols, Protocols}]
           end,
    Tls0 = maps:get(tls, Opts, []) ++ Alpn ++ Server ++ [{log_level, none}],
    secured(ssl:handshake(Tcp, Tls0, ?HANDSHAKE_TIMEOUT), State).

secured({ok, Tls}, State) ->
    listen(State#conn{tls = Tls});
secured({error, Reason}, State) ->
    record(#{type => handshake_failed, reason => Reason}, State#conn{closed = true}).

%% One packet at a time, so that `pause' takes hold at once.
listen(#conn{paused = true} = State) -> State;
listen(#conn{closed = true} = State) -> State;
listen(State) ->
    _ = active(once, State),
    State.

active(Mode, #conn{tls = undefined, tcp = Tcp}) -> inet:setopts(Tcp, [{active, Mode}]);
active(Mode, #conn{tls = Tls}) -> ssl:setopts(Tls, [{active, Mode}]).

%% What was on its way when the socket turned passive.
flush(State) ->
    receive {Kind, _Socket, Bytes} when Kind =:= tcp; Kind =:= ssl -> flush(feed(Bytes, State))
    after 0 -> State
    end.

ended(_Reason, #conn{closed = true} = State) -> State;
ended(Reason, State) -> record(#{type => closed, reason => Reason}, State#conn{closed = true}).

%% ---- what arrives ----------------------------------------------------------------------------

feed(Bytes, #conn{buffer = Buffer, preface = Preface} = State) ->
    Input = <<Buffer/binary, Bytes/binary>>,
    case Preface of
        true -> frames(Input, State);
        false -> preface(Input, State);
        wrong -> State
    end.

preface(<<Preface:?PREFACE_SIZE/binary, Rest/binary>>, State) ->
    case h2_frames:preface() of
        Preface -> frames(Rest, record(#{type => preface}, State#conn{preface = true}));
        _ -> record(#{type => not_a_preface, bytes => Preface}, State#conn{preface = wrong})
    end;
preface(Part, State) ->
    State#conn{buffer = Part}.

frames(Input, State) ->
    case h2_frames:decode(Input) of
        {Frame, Rest} -> frames(Rest, frame(Frame, State));
        more -> State#conn{buffer = Input}
    end.

frame(#{type := headers} = Frame, State) ->
    block(Frame, State);
frame(#{type := continuation, block := Part, flags := Flags}, #conn{open_block = Open} = State) ->
    #{block := Block, flags := OpenFlags} = Open,
    block(Open#{block => <<Block/binary, Part/binary>>, flags => OpenFlags ++ Flags}, State);
frame(#{type := settings, flags := [], settings := Settings} = Frame, State) ->
    State1 = lists:foldl(fun setting/2, State, Settings),
    record(Frame, acknowledge(settings, h2_frames:settings_ack(), State1));
frame(#{type := ping, flags := [], opaque := Opaque} = Frame, State) ->
    record(Frame, acknowledge(ping, h2_frames:ping_ack(Opaque), State));
frame(#{type := window_update, stream := 0, increment := N} = Frame, State) ->
    record(Frame, State#conn{window = State#conn.window + N});
frame(#{type := window_update, stream := Sid, increment := N} = Frame, State) ->
    record(Frame, widen(Sid, N, State));
frame(#{type := data, stream := Sid, data := Data} = Frame, #conn{bytes = Bytes} = State) ->
    Sum = maps:get(Sid, Bytes, 0) + byte_size(Data),
    record(Frame, State#conn{bytes = Bytes#{Sid => Sum}});
frame(Frame, State) ->
    record(Frame, State).

block(#{block := Block, flags := Flags} = Frame, #conn{hpack = Table} = State) ->
    case lists:member(end_headers, Flags) of
        true ->
            {Headers, Table1} = hpack_lite:decode(Block, Table),
            Event = maps:remove(block, Frame#{headers => Headers}),
            record(Event, State#conn{hpack = Table1, open_block = undefined});
        false ->
            State#conn{open_block = Frame}
    end.

acknowledge(What, Ack, #conn{opts = Opts} = State) ->
    case lists:member(What, maps:get(auto, Opts, [settings, ping])) of
        true -> _ = send(Ack, State), State;
        false -> State
    end.

%% A new initial window moves every open stream's window by the difference (section 6.9.2).
setting({initial_window_size, New}, #conn{initial = Old, windows = Windows} = State) ->
    State#conn{initial = New, windows = maps:map(fun(_, W) -> W + New - Old end, Windows)};
setting(_Other, State) ->
    State.

widen(Sid, N, #conn{windows = Windows} = State) ->
    State#conn{windows = Windows#{Sid => stream_window(Sid, State) + N}}.

stream_window(Sid, #conn{windows = Windows, initial = Initial}) ->
    maps:get(Sid, Windows, Initial).

record(Event, #conn{log = Log, inbox = Inbox, opts = Opts} = State) ->
    case Opts of
        #{report := Pid} -> Pid ! {raw_peer, self(), Event};
        #{} -> ok
    end,
    State#conn{log = [Event | Log], inbox = Inbox ++ [Event]}.

%% ---- steps -----------------------------------------------------------------------------------

advance(#conn{jobs = []} = State) ->
    State;
advance(#conn{jobs = [#job{steps = []} = Job | Jobs]} = State) ->
    answer(Job, {ok, lists:reverse(Job#job.results)}),
    advance(State#conn{jobs = Jobs});
advance(#conn{jobs = [#job{steps = [Step | Steps], results = Results} = Job | Jobs]} = State) ->
    case step(Step, State) of
        {done, Result, State1} ->
            Job1 = Job#job{steps = Steps, results = [Result | Results]},
            advance(State1#conn{jobs = [Job1 | Jobs]});
        {blocked, Step1, State1} ->
            State1#conn{jobs = [Job#job{steps = [Step1 | Steps]} | Jobs]};
        {error, Reason} ->
            answer(Job, {error, {Step, Reason}}),
            advance(State#conn{jobs = Jobs})
    end.

answer(#job{from = script}, _Answer) -> ok;
answer(#job{from = From}, Answer) -> gen_server:reply(From, Answer).

step({expect, Pattern} = Step, #conn{inbox = Inbox} = State) ->
    case lists:splitwith(fun(Event) -> not matches(Pattern, Event) end, Inbox) of
        {Before, [Event | After]} -> {done, Event, State#conn{inbox = Before ++ After}};
        {_, []} -> blocked(Step, State)
    end;
step({expect_bytes, Sid, N} = Step, #conn{bytes = Bytes} = State) ->
    case maps:get(Sid, Bytes, 0) of
        Sum when Sum >= N -> {done, Sum, State};
        _ -> blocked(Step, State)
    end;
step({wait, Word} = Step, #conn{words = Words} = State) ->
    case lists:member(Word, Words) of
        true -> {done, ok, State#conn{words = lists:delete(Word, Words)}};
        false -> {blocked, Step, State}
    end;
step(barrier, #conn{pings = N} = State) ->
    Opaque = <<"barr", N:32>>,
    case send(h2_frames:ping(Opaque), State) of
        ok -> step({barrier, Opaque}, State#conn{pings = N + 1});
        Error -> Error
    end;
step({barrier, Opaque}, State) ->
    case step({expect, #{type => ping, flags => [ack], opaque => Opaque}}, State) of
        {done, _, State1} -> {done, ok, State1};
        {blocked, _, State1} -> {blocked, {barrier, Opaque}, State1};
        Error -> Error
    end;
step({flood, Sid, Chunk}, State) ->
    flood(Sid, Chunk, 0, State);
step({pump, Sid, Total, Chunk, Fin}, State) ->
    step({pump, Sid, 0, Total, Chunk, Fin, crypto:hash_init(sha256)}, State);
step({pump, _Sid, Total, Total, _Chunk, _Fin, Hash}, State) ->
    {done, #{bytes => Total, sha256 => crypto:hash_final(Hash)}, State};
step({pump, Sid, Sent, Total, Chunk, Fin, Hash} = Step, State) ->
    case min(room(Sid, State), min(Chunk, Total - Sent)) of
        Size when Size > 0 ->
            {Bytes, State1} = next_content(Sid, Size, State),
            Last = case Sent + Size of Total -> Fin; _ -> nofin end,
            sent(send_data(Sid, Bytes, Last, State1),
                 {pump, Sid, Sent + Size, Total, Chunk, Fin, crypto:hash_update(Hash, Bytes)});
        _ ->
            blocked(Step, State)
    end;
step(pause, State) ->
    _ = active(false, State),
    {done, ok, State#conn{paused = true}};
step(resume, State) ->
    {done, ok, listen(State#conn{paused = false})};
step({data, Sid, Data}, State) ->
    step({data, Sid, Data, nofin}, State);
step({data, Sid, Data, Fin}, State) ->
    finish(send_data(Sid, Data, Fin, State));
step({storm, Bytes, Opts}, State) ->
    _ = active(false, State),
    #conn{buffer = Buffer} = State1 = flush(State),
    {Outcome, Rest} = raw_peer_storm:run(transport(State1), Bytes, Buffer, Opts),
    State2 = State1#conn{buffer = Rest},
    case Outcome of
        %% No message tells a passive socket's owner.
        #{ended := cut} -> {done, Outcome, ended(cut, State2)};
        _ -> {done, Outcome, listen(State2)}
    end;
step({drip, <<>>, _Ms}, State) ->
    {done, ok, State};
step({drip, <<Byte, Rest/binary>>, Ms}, State) ->
    case send(<<Byte>>, State) of
        ok ->
            Word = make_ref(),
            {ok, _} = timer:apply_after(Ms, raw_peer, tell, [self(), Word]),
            {blocked, {drip, Word, Rest, Ms}, State};
        Error ->
            Error
    end;
step({drip, Word, Rest, Ms} = Step, State) ->
    case step({wait, Word}, State) of
        {done, ok, State1} -> step({drip, Rest, Ms}, State1);
        {blocked, _, State1} -> {blocked, Step, State1}
    end;
step({tls, Fun}, #conn{tls = Tls} = State) ->
    {done, Fun(Tls), State};
step({tcp, Bytes}, #conn{tcp = Tcp} = State) ->
    finish(ok_state(gen_tcp:send(Tcp, Bytes), State));
step(shutdown, State) ->
    finish(ok_state(hang_up(shutdown, State), State));
step(Step, State) when Step =:= close; Step =:= abort ->
    %% No message tells of one's own closing.
    finish(ok_state(hang_up(Step, State), State#conn{closed = true}));
step(Step, State) ->
    finish(ok_state(send(encode(Step), State), State)).

encode({settings, List}) -> h2_frames:settings(List);
encode(ack) -> h2_frames:settings_ack();
encode({headers, Sid, Headers}) -> encode({headers, Sid, Headers, nofin});
encode({headers, Sid, Headers, Fin}) -> h2_frames:headers(Sid, hpack_lite:encode(Headers), Fin);
encode({rst, Sid, Code}) -> h2_frames:rst_stream(Sid, Code);
encode({goaway, Last, Code}) -> h2_frames:goaway(Last, Code, <<>>);
encode({goaway, Last, Code, Debug}) -> h2_frames:goaway(Last, Code, Debug);
encode({window_update, Sid, N}) -> h2_frames:window_update(Sid, N);
encode({ping, Opaque}) -> h2_frames:ping(Opaque);
encode({raw, Bytes}) -> Bytes.

%% What has not arrived on a closed connection never will.
blocked(_Step, #conn{closed = true}) -> {error, closed};
blocked(Step, State) -> {blocked, Step, State}.

finish({ok, State}) -> {done, ok, State};
finish({error, _} = Error) -> Error.

%% Back through the loop, so that a long pump still reads what the client says meanwhile.
sent({ok, State}, Step) ->
    self() ! go_on,
    {blocked, Step, State};
sent({error, _} = Error, _Step) ->
    Error.

ok_state(ok, State) -> {ok, State};
ok_state({error, _} = Error, _State) -> Error.

%% ---- DATA ------------------------------------------------------------------------------------

flood(Sid, Chunk, Sum, State) ->
    case min(room(Sid, State), Chunk) of
        Size when Size > 0 ->
            {Bytes, State1} = next_content(Sid, Size, State),
            case send_data(Sid, Bytes, nofin, State1) of
                {ok, State2} -> flood(Sid, Chunk, Sum + Size, State2);
                Error -> Error
            end;
        _ ->
            {done, Sum, State}
    end.

room(Sid, #conn{window = Window} = State) ->
    min(Window, stream_window(Sid, State)).

send_data(Sid, Data, Fin, #conn{window = Window} = State) ->
    Size = iolist_size(Data),
    ok_state(send(h2_frames:data(Sid, Data, Fin), State),
             widen(Sid, -Size, State#conn{window = Window - Size})).

next_content(Sid, Size, #conn{offsets = Offsets} = State) ->
    From = maps:get(Sid, Offsets, 0),
    {content(From, Size), State#conn{offsets = Offsets#{Sid => From + Size}}}.

%% @doc `Size' bytes at the place `From' of what `flood' and `pump' send on a stream. They differ
%% from place to place, so that a lost, doubled or misplaced one shows.
-spec content(non_neg_integer(), non_neg_integer()) -> binary().
content(From, Size) ->
    Skip = From rem 8,
    First = From div 8,
    Words = << <<(N * 16#9E3779B1):64>>
               || N <- lists:seq(First, First + (Skip + Size + 7) div 8) >>,
    binary:part(Words, Skip, Size).

%% ---- the socket ------------------------------------------------------------------------------

send(Bytes, State) ->
    {Module, Socket} = transport(State),
    Module:send(Socket, Bytes).

transport(#conn{tls = undefined, tcp = Tcp}) -> {gen_tcp, Tcp};
transport(#conn{tls = Tls}) -> {ssl, Tls}.

hang_up(close, #conn{tls = undefined, tcp = Tcp}) ->
    gen_tcp:close(Tcp);
hang_up(close, #conn{tls = Tls}) ->
    _ = ssl:close(Tls),
    ok;
hang_up(shutdown, #conn{tcp = Tcp}) ->
    gen_tcp:shutdown(Tcp, write);
hang_up(abort, #conn{tcp = Tcp}) ->
    %% Linger 0 turns close into RST; the port is closed under TLS's feet, so it cannot say goodbye.
    _ = inet:setopts(Tcp, [{linger, {true, 0}}]),
    gen_tcp:close(Tcp).
