%% @doc A conversation over one HTTP/2 stream, told line by line: `make demo', `make demo URL=https://...'.
%%
%% The program is an ordinary user of {@link hackney_native}. It opens one stream, sends a few lines, shows
%% what comes back at the moment it comes, ends its own side and waits for the server to end the other.
-module(demo).

-export([main/0]).

-define(LINES, [<<"Good morning!\n">>,
                <<"You answer while my request is still open.\n">>,
                <<"This is my last line.\n">>]).
%% How long a server may take to speak first, if it does that.
-define(GREETING, 300).
%% How long a line waits for an answer before the next one goes out: many servers answer only at the end.
-define(PATIENCE, 1000).
%% How long the server may take to end its side once ours has ended.
-define(END_TIMEOUT, 15000).
-define(CONNECT_TIMEOUT, 8000).

%% @doc Runs the demo and halts: status 0 when the stream was opened, answered and ended in order, else 1.
%%
%% Environment: `URL' (none: an embedded server is started), `METHOD', `CACERT' (PEM file), `INSECURE'.
-spec main() -> no_return().
main() ->
    halt(case run(setting("URL")) of
             ok -> 0;
             error -> 1
         end).

run(none) ->
    case demo_server:start() of
        {ok, #{port := Port, cacert := CaFile}} ->
            demo_report:heading("server", "embedded, port ~b, certificate made just now", [Port]),
            URL = lists:concat(["https://localhost:", Port, "/chat"]),
            converse("POST", URL, [{cacertfile, CaFile}]);
        {error, Text} ->
            demo_report:verdict("the embedded server did not start: ~ts", [Text]),
            error
    end;
run(URL) ->
    converse(method(), URL, tls_options()).

converse(Method, URL, TLS) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    demo_report:heading("open", "~ts ~ts", [Method, URL]),
    Begin = now_us(),
    Options = [{active, true}, {connect_timeout, ?CONNECT_TIMEOUT}, {ssl_options, TLS}],
    case hackney_native:h2_open(Method, URL, [{<<"content-type">>, <<"text/plain">>}], Options) of
        {ok, Stream} ->
            demo_report:heading("opened", "after ~ts ms~ts", [demo_report:milliseconds(now_us() - Begin),
                                                              demo_report:connection(hackney_native:h2_info(Stream))]),
            demo_report:columns(),
            Outcome = talk(Stream, now_us(), lines(Method)),
            ok = hackney_native:h2_close(Stream),
            conclude(Outcome);
        {error, Reason} ->
            demo_report:failure(Reason),
            error
    end.

%% A request whose method has no body ends with its headers.
lines(Method) when Method =:= "GET"; Method =:= "HEAD"; Method =:= "OPTIONS" -> [];
lines(_) -> ?LINES.

%% What has been seen so far: when the exchange began and how many messages went each way.
talk(Stream, Start, Lines) ->
    Talk = #{stream => Stream, start => Start, sent => 0, received => 0, status => none, patience => ?PATIENCE},
    case Lines =/= [] andalso listen(an_answer, ?GREETING, Talk) of
        false -> speak([], Talk);
        {answered, Talk1} -> speak(Lines, Talk1);
        {silent, Talk1} -> speak(Lines, Talk1);
        Ended -> Ended
    end.

speak([], Talk) ->
    case send(<<>>, fin, Talk) of
        {ok, Talk1} -> listen(the_end, ?END_TIMEOUT, Talk1);
        Refused -> Refused
    end;
speak([Line | Lines], Talk) ->
    case send(Line, nofin, Talk) of
        {ok, Talk1} ->
            case listen(an_answer, maps:get(patience, Talk1), Talk1) of
                {answered, Talk2} -> speak(Lines, Talk2);
                {silent, Talk2} -> speak(Lines, note_silence(Talk2));
                Ended -> Ended
            end;
        Refused ->
            Refused
    end.

%% Having waited once in vain, the rest is sent without waiting.
note_silence(#{patience := 0} = Talk) ->
    Talk;
note_silence(Talk) ->
    report(note, "(no answer yet: this server may answer at the end only)", Talk),
    Talk#{patience := 0}.

send(Line, Fin, #{stream := Stream, sent := Sent} = Talk) ->
    case hackney_native:h2_send(Stream, Line, Fin) of
        ok when Line =:= <<>> ->
            report(out, demo_report:the_end("our"), Talk),
            {ok, Talk};
        ok ->
            report(out, demo_report:body(Line), Talk),
            {ok, Talk#{sent := Sent + 1}};
        {error, closed} ->
            %% The server ended the whole stream meanwhile. Why is in the messages it sent before.
            listen(the_end, ?END_TIMEOUT, Talk);
        {error, Reason} ->
            {failed, Reason, Talk}
    end.

%% Shows every message until what is waited for has come, the stream has ended, or the time is over.
listen(Awaited, Time, Talk) ->
    Deadline = erlang:monotonic_time(millisecond) + Time,
    listen_until(Awaited, Deadline, Talk).

listen_until(Awaited, Deadline, #{stream := Stream, received := Received} = Talk) ->
    receive
        {hackney_h2, Stream, {response, Status, Headers}} ->
            report(in, demo_report:response(Status, Headers), Talk),
            listen_until(Awaited, Deadline, Talk#{status := Status});
        {hackney_h2, Stream, {data, Data}} ->
            report(in, demo_report:body(Data), Talk),
            Talk1 = Talk#{received := Received + 1},
            case Awaited of
                an_answer -> {answered, Talk1};
                the_end -> listen(the_end, ?END_TIMEOUT, Talk1)
            end;
        {hackney_h2, Stream, {trailers, Trailers}} ->
            report(in, demo_report:trailers(Trailers), Talk),
            listen_until(Awaited, Deadline, Talk);
        {hackney_h2, Stream, done} ->
            report(in, demo_report:the_end("the server's"), Talk),
            {ended, Talk};
        {hackney_h2, Stream, {closed, Reason}} ->
            {failed, Reason, Talk};
        {hackney_h2_error, Stream, Reason} ->
            {failed, Reason, Talk}
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
            case Awaited of
                an_answer -> {silent, Talk};
                the_end -> {failed, no_end, Talk}
            end
    end.

conclude({ended, #{sent := Sent, received := Received, status := Status} = Talk}) ->
    demo_report:verdict("~b messages sent, ~b received, status ~p, ended in order after ~ts ms",
                        [Sent, Received, Status, elapsed(Talk)]),
    ok;
conclude({failed, Reason, _Talk}) ->
    demo_report:failure(Reason),
    error.

report(Direction, Text, Talk) ->
    demo_report:line(elapsed(Talk), Direction, Text).

elapsed(#{start := Start}) ->
    demo_report:milliseconds(now_us() - Start).

now_us() ->
    erlang:monotonic_time(microsecond).

%% Settings.

method() ->
    case setting("METHOD") of
        none -> "POST";
        Name -> string:uppercase(Name)
    end.

tls_options() ->
    [{cacertfile, File} || File <- [setting("CACERT")], File =/= none]
        ++ [{verify, verify_none} || setting("INSECURE") =/= none].

setting(Name) ->
    case os:getenv(Name) of
        false -> none;
        "" -> none;
        Value -> Value
    end.
