%% @doc The bench of connections that many streams share: servers under h2load, and clients with a thousand streams.
%%
%% Subjects take turns (A B C A B C ...), so that a machine that becomes slower or faster meanwhile does so for all of them.
-module(bench_shared).

-export([main/0]).

-define(DEFAULTS, #{rounds => 5, requests => 200000, streams => 1000, pings => 100}).

%% @doc Runs what the command line asks for and halts.
-spec main() -> no_return().
main() ->
    case options(init:get_plain_arguments(), ?DEFAULTS) of
        {ok, Options} ->
            run(Options),
            halt(0);
        error ->
            io:put_chars("bench/server [--rounds 5] [--requests 200000] [--streams 1000] [--pings 100]\n"
                         "h2load's requests for each server and transport; streams on the connection, and ping-pongs on each.\n"),
            halt(2)
    end.

options([], Options) ->
    {ok, Options};
options(["--" ++ Name, Value | Rest], Options) ->
    case {[Key || Key <- maps:keys(Options), atom_to_list(Key) =:= Name], string:to_integer(Value)} of
        {[Key], {Number, ""}} when Number > 0 -> options(Rest, Options#{Key := Number});
        _ -> error
    end;
options(_, _) ->
    error.

run(#{rounds := Rounds} = Options) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    Others = case code:ensure_loaded(h2) of
                 {module, h2} ->
                     {ok, _} = application:ensure_all_started(h2),
                     [h2];
                 {error, _} ->
                     io:format(standard_error, "erlang_h2 is left out: there is no module h2 (ERL_LIBS?)~n", []),
                     []
             end,
    io:format("OTP ~ts, ~b schedulers. Medians of ~b alternating rounds (least to most).~n~n",
              [erlang:system_info(otp_release), erlang:system_info(schedulers_online), Rounds]),
    Servers = [hackney_native_h2 | Others] ++ [rust, hyper],
    Loads = [{Transport, load(Transport, Servers, Options)} || Transport <- [h2c, tls]],
    table(["server", "unit"], Servers,
          [{[atom_to_list(Transport) ++ What, Unit], [{Subject, [element(N, Value) || Value <- Values]} || {Subject, Values} <- Figures]}
           || {Transport, Figures} <- Loads, {N, What, Unit} <- [{1, "", "req/s"}, {2, ", p99 (less is better)", "ms"}]]),
    Clients = [hackney_native_h2, hackney_native | Others],
    table(["client", "unit"], Clients, [{["ping-pong, streams on one connection", "msg/s"], pings(Clients, Options)}]).

load(Transport, Subjects, #{rounds := Rounds, requests := Requests}) ->
    Servers = [{Subject, bench_shared_server:start(Subject, Transport)} || Subject <- Subjects],
    _ = [h2load(Transport, Number, 20000) || {_, {_, Number}} <- Servers],
    Figures = rounds(Rounds, Subjects, fun(Subject) ->
                                               {_, {_, Number}} = lists:keyfind(Subject, 1, Servers),
                                               h2load(Transport, Number, Requests)
                                       end, Transport),
    _ = [bench_shared_server:stop(Port) || {_, {Port, _}} <- Servers],
    Figures.

rounds(Rounds, Subjects, Measure, Label) ->
    All = [{Subject, Measured} || Round <- lists:seq(1, Rounds), Subject <- Subjects,
                                  Measured <- [Measure(Subject)],
                                  ok =:= io:format(standard_error, "~p ~b ~p: ~p~n", [Label, Round, Subject, Measured])],
    [{Subject, [Value || {Of, Value} <- All, Of =:= Subject]} || Subject <- Subjects].

%% Requests per second, and the time in which 99 of 100 were answered, in milliseconds. In two runs: writing a line of the log for each
%% request takes a part of what the server could use.
h2load(Transport, Number, Requests) ->
    {match, [Rate]} = re:run(answered(Transport, Number, Requests, ""), "finished in [^,]*, ([0-9.]+) req/s", [{capture, all_but_first, list}]),
    Log = filename:join(os:getenv("BENCH_DIR"), "h2load.log"),
    _ = file:delete(Log),
    _ = answered(Transport, Number, max(1, Requests div 4), ["--log-file=", Log]),
    {ok, Lines} = file:read_file(Log),
    Times = lists:sort([binary_to_integer(lists:last(binary:split(Line, <<"\t">>, [global])))
                        || Line <- binary:split(Lines, <<"\n">>, [global, trim])]),
    {list_to_float(Rate), lists:nth((length(Times) * 99 + 99) div 100, Times) / 1000}.

%% What h2load says when all requests were answered with a 2xx.
answered(Transport, Number, Requests, Options) ->
    Scheme = case Transport of tls -> "https"; h2c -> "http" end,
    Command = io_lib:format("h2load -n ~b -c 16 -m 16 ~ts ~ts://localhost:~b/hello", [Requests, Options, Scheme, Number]),
    Text = os:cmd(lists:flatten(Command)),
    {match, [Good]} = re:run(Text, "status codes: ([0-9]+) 2xx", [{capture, all_but_first, list}]),
    Requests =:= list_to_integer(Good) orelse error({h2load, Text}),
    Text.

pings(Subjects, #{rounds := Rounds, streams := Streams, pings := Pings}) ->
    {Port, Number} = bench_shared_server:start(rust, tls),
    Figures = rounds(Rounds, Subjects, fun(Subject) -> bench_shared_client:run(Subject, Number, {Streams, Pings}) end, pings),
    bench_shared_server:stop(Port),
    Figures.

%% The ratios are those of the first subject to the others.
table(Head, [First | Others] = Subjects, Rows) ->
    Ratios = [[name(First), " : ", name(Other)] || Other <- Others],
    Columns = Head ++ [name(Subject) || Subject <- Subjects] ++ Ratios,
    io:put_chars([bench_table:row(Columns), bench_table:row(["---" || _ <- Columns]),
                  [bench_table:row(Names ++ [bench_table:figure(Values) || {_, Values} <- Figures]
                                   ++ [ratio(element(2, hd(Figures)), Values) || {_, Values} <- tl(Figures)])
                   || {Names, Figures} <- Rows],
                  "\n"]).

ratio(Ours, Theirs) -> [bench_table:number(bench_table:median(Ours) / bench_table:median(Theirs)), "x"].

name(rust) -> "rust (h2 crate)";
name(h2) -> "erlang_h2";
name(Subject) -> atom_to_list(Subject).
