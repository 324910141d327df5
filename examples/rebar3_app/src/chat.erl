%% @doc A client for a server that answers line by line, such as `/chat' of this library's own `h2-server'.
-module(chat).

-export([main/0, talk/3]).

%% @doc `CHAT_URL=https://... CHAT_CACERT=ca.pem erl ... -s chat main': says two lines and prints the answers.
-spec main() -> no_return().
main() ->
    {ok, _} = application:ensure_all_started(chat),
    Answers = talk(os:getenv("CHAT_URL"), os:getenv("CHAT_CACERT"), [<<"first\n">>, <<"second\n">>]),
    [io:format("~0tp.~n", [Answer]) || Answer <- Answers],
    halt(0).

%% @doc Says each line and returns everything that the server sent, in order.
-spec talk(string(), file:filename(), [binary()]) -> [term()].
talk(URL, CaFile, Lines) ->
    {ok, Stream} = hackney_native:h2_open(URL, [], [{ssl_options, [{cacertfile, CaFile}]}]),
    [ok = hackney_native:h2_send(Stream, Line) || Line <- Lines],
    ok = hackney_native:h2_send(Stream, <<>>, fin),
    Answers = receive_all(Stream),
    ok = hackney_native:h2_close(Stream),
    Answers.

receive_all(Stream) ->
    case hackney_native:h2_recv(Stream, 10000) of
        {ok, done} -> [done];
        {ok, Message} -> [Message | receive_all(Stream)]
    end.
