%%% @doc A process that makes calls for a test, and keeps what a stream sends it until it is asked.
-module(h2_actor).

-export([start/0, call/2, timed/3, notices/2, dies/2, reader/2, answer/1, joined/2, kill_waiting/1]).
-export_type([reader/0]).

-opaque reader() :: {pid(), reference()}.

%% Only a hang meets it: no call of the tests may take so long.
-define(DEADLINE, 60000).

%% @doc Starts one. It ends with its starter.
-spec start() -> pid().
start() ->
    Starter = self(),
    spawn(fun() -> loop(monitor(process, Starter)) end).

loop(Starter) ->
    receive
        {call, From, Ref, Fun} -> From ! {Ref, Fun()}, loop(Starter);
        {'DOWN', Starter, process, _, _} -> ok
    end.

%% @doc Has it make a call.
-spec call(pid(), fun(() -> Result)) -> Result.
call(Actor, Fun) ->
    Ref = monitor(process, Actor),
    Actor ! {call, self(), Ref, Fun},
    receive
        {Ref, Result} -> demonitor(Ref, [flush]), Result;
        {'DOWN', Ref, process, _, Reason} -> error({actor_died, Reason})
    after ?DEADLINE ->
        error({hangs, process_info(Actor, current_stacktrace)})
    end.

%% @doc Has it make a call about a stream, and tells all there is to see of that.
-spec timed(pid(), pid(), fun(() -> term())) -> h2_contract:observation().
timed(Actor, Stream, Fun) ->
    call(Actor, fun() ->
        Before = take(Stream),
        {Micros, Result} = timer:tc(Fun),
        #{before => Before, result => Result, behind => take(Stream), took => Micros div 1000}
    end).

%% @doc Takes what a stream has sent it.
-spec notices(pid(), pid()) -> [h2_contract:notice()].
notices(Actor, Stream) ->
    call(Actor, fun() -> take(Stream) end).

take(Stream) ->
    receive
        {hackney_h2, Stream, {closed, closed}} -> [closed | take(Stream)];
        {hackney_h2, Stream, Message} -> [{message, Message} | take(Stream)];
        {hackney_h2_error, Stream, Reason} -> [{failed, Reason} | take(Stream)];
        {hackney_h2_passive, Stream} -> [passive | take(Stream)];
        %% Only to owners that trap exits, which this is not.
        Other when element(2, Other) =:= Stream -> error({unexpected, Other})
    after 0 ->
        []
    end.

%% @doc Ends it, and waits for that.
-spec dies(pid(), normal | kill) -> ok.
dies(Actor, How) ->
    Monitor = monitor(process, Actor),
    case How of
        kill -> exit(Actor, kill);
        normal -> Actor ! {call, self(), Monitor, fun() -> exit(normal) end}
    end,
    receive {'DOWN', Monitor, process, Actor, _} -> ok end.

%% @doc A process that waits in `h2_recv', or has got its answer already.
-spec reader(pid(), timeout()) -> reader().
reader(Stream, Timeout) ->
    {Pid, _} = Reader = spawn_monitor(fun() ->
        {Micros, Result} = timer:tc(fun() -> hackney_native:h2_recv(Stream, Timeout) end),
        exit({answer, Result, Micros div 1000})
    end),
    h2_case:until(fun() -> not is_process_alive(Pid) orelse waits(Pid) end),
    Reader.

%% Where a reader waits for the engine's word: it has taken no message that it has not returned.
waits(Pid) ->
    %% With something in its mailbox it has been handed a message, or soon looks for one.
    case process_info(Pid, [current_stacktrace, message_queue_len]) of
        [{current_stacktrace, [{hackney_native_h2_stream, await, _, _} | _]}, {message_queue_len, 0}] -> true;
        _ -> false
    end.

%% @doc What it returned, or that it waits.
-spec answer(reader()) -> waits | {Result :: term(), non_neg_integer()}.
answer({Pid, _} = Reader) ->
    case is_process_alive(Pid) of
        true -> waits;
        false -> joined(Reader, ?DEADLINE)
    end.

%% @doc Its answer, and how many milliseconds that took; waits so many for it.
-spec joined(reader(), non_neg_integer()) -> {Result :: term(), non_neg_integer()}.
joined({Pid, Monitor}, Timeout) ->
    receive
        {'DOWN', Monitor, process, Pid, {answer, Result, Took}} -> {Result, Took};
        {'DOWN', Monitor, process, Pid, Reason} -> error({reader_failed, Reason})
    after Timeout ->
        error({reader_hangs, process_info(Pid, current_stacktrace)})
    end.

%% @doc Kills it where it waits, so that no message can be lost with it. One that does not wait any more is let go on.
-spec kill_waiting(reader()) -> killed | {Result :: term(), non_neg_integer()}.
kill_waiting({Pid, Monitor} = Reader) ->
    Stopped = try erlang:suspend_process(Pid) catch error:badarg -> false end,
    case Stopped andalso waits(Pid) of
        true ->
            exit(Pid, kill),
            receive
                {'DOWN', Monitor, process, Pid, killed} -> killed;
                {'DOWN', Monitor, process, Pid, {answer, Result, Took}} -> {Result, Took}
            end;
        false ->
            _ = Stopped andalso erlang:resume_process(Pid),
            joined(Reader, ?DEADLINE)
    end.
