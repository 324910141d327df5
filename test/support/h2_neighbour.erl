%%% @doc A well-behaved stream beside those that a test does things to: it ping-pongs with the embedded
%%% server and keeps the longest round trip, which tells whether the others harm it.
-module(h2_neighbour).

-export([start/0, stop/1, mark/1, since/2]).

-export_type([neighbour/0, mark/0]).

-opaque neighbour() :: #{pid := pid(), server := embedded_server:server()}.
-type mark() :: non_neg_integer().

%% Between two rounds: enough rounds to meet every hold-up, and little of the machine.
-define(PAUSE, 2).
%% A round trip takes microseconds: this is a hang.
-define(HANGS, 10000).

%% @doc Starts the server and the stream. They live until {@link stop/1}.
-spec start() -> neighbour().
start() ->
    Server = embedded_server:start(),
    Self = self(),
    {Pid, Monitor} = spawn_monitor(fun() ->
        Options = [{ssl_options, [{cacertfile, embedded_server:ca_file(Server)}]}],
        {ok, Stream} = hackney_native:h2_open(embedded_server:url(Server, "/echo"), Options),
        round_trip(Stream, 0),
        Self ! {self(), open},
        loop(Stream, 1, [])
    end),
    receive
        {Pid, open} -> demonitor(Monitor, [flush]);
        {'DOWN', Monitor, process, Pid, Reason} -> error({no_neighbour, Reason})
    end,
    #{pid => Pid, server => Server}.

%% @doc Ends both.
-spec stop(neighbour()) -> ok.
stop(#{pid := Pid, server := Server}) ->
    exit(Pid, shutdown),
    embedded_server:stop(Server).

%% @doc From here on.
-spec mark(neighbour()) -> mark().
mark(_Neighbour) -> erlang:monotonic_time(microsecond).

%% @doc How many round trips have ended since the mark, and what the longest took. One more ends before
%% this returns, however long it takes.
-spec since(neighbour(), mark()) -> #{rounds := pos_integer(), worst_us := non_neg_integer()}.
since(#{pid := Pid}, Mark) ->
    Times = ask(Pid, {since, Mark}),
    #{rounds => length(Times), worst_us => lists:max(Times)}.

ask(Pid, Request) ->
    Monitor = monitor(process, Pid),
    Pid ! {Request, self(), Monitor},
    receive
        {Monitor, Answer} -> demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, Pid, Reason} -> error({neighbour_died, Reason})
    after 2 * ?HANGS ->
        error({neighbour_hangs, process_info(Pid, current_stacktrace)})
    end.

loop(Stream, N, Rounds) ->
    {Micros, ok} = timer:tc(fun() -> round_trip(Stream, N) end),
    Rounds1 = [{erlang:monotonic_time(microsecond), Micros} | Rounds],
    receive
        {{since, Mark}, From, Ref} ->
            %% The one that has just ended, if no other, ended after the mark was made.
            [{_, Last} | _] = Rounds1,
            From ! {Ref, [Last | [Time || {At, Time} <- tl(Rounds1), At >= Mark]]}
    after ?PAUSE ->
        ok
    end,
    loop(Stream, N + 1, Rounds1).

round_trip(Stream, N) ->
    ok = hackney_native:h2_send(Stream, <<N:64>>),
    <<N:64>> = collect(Stream, <<>>),
    ok.

collect(_Stream, <<_:64>> = Whole) ->
    Whole;
collect(Stream, Part) ->
    case hackney_native:h2_recv(Stream, ?HANGS) of
        {ok, {response, 200, _}} -> collect(Stream, Part);
        {ok, {data, Data}} -> collect(Stream, <<Part/binary, Data/binary>>)
    end.
