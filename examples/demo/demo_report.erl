%% @doc What the demo prints: one line per event, and what an error means in plain words.
-module(demo_report).

-export([heading/3, columns/0, line/3, verdict/2, failure/1]).
-export([connection/1, body/1, response/2, trailers/1, the_end/1, milliseconds/1]).

-define(MAX_TEXT, 90).
-define(MAX_HEADERS, 6).

%% @doc A line of the part above the exchange.
-spec heading(string(), io:format(), [term()]) -> ok.
heading(Name, Format, Args) ->
    io:format("~-10s" ++ Format ++ "~n", [Name | Args]).

%% @doc The head of the table that {@link line/3} fills.
-spec columns() -> ok.
columns() ->
    io:format("~n~9s  ~s~n", ["ms", "us        server"]).

%% @doc One event: `out' from us, `in' from the server, `note' from nobody.
-spec line(Time :: iodata(), in | out | note, unicode:chardata()) -> ok.
line(Time, Direction, Text) ->
    io:format("~9s  ~s  ~ts~n", [Time, arrow(Direction), Text]).

arrow(out) -> "------->";
arrow(in) -> "<-------";
arrow(note) -> "        ".

%% @doc The last line.
-spec verdict(io:format(), [term()]) -> ok.
verdict(Format, Args) ->
    io:format("~ndemo: " ++ Format ++ "~n", Args).

%% @doc The last line when the conversation failed: what it means, and the error term itself.
-spec failure(term()) -> ok.
failure(Reason) ->
    verdict("failed: ~ts~n      {error, ~0tp}", [meaning(Reason), Reason]).

meaning(econnrefused) -> "nothing listens at that host and port.";
meaning(nxdomain) -> "the host name does not exist.";
meaning(ehostunreach) -> "there is no way to that host from here.";
meaning(enetunreach) -> "there is no way to that network from here.";
meaning(connect_timeout) -> "no HTTP/2 connection came about in the time allowed.";
meaning(no_end) -> "the server answered but did not end its side in the time allowed.";
meaning(closed) -> "the connection ended before the stream did.";
meaning({closed, _}) -> "the connection was lost.";
meaning({scheme_not_supported, _}) -> "the URL must begin with https://.";
meaning({protocol_not_negotiated, http1}) -> "the server speaks TLS, but HTTP/1.1 only.";
meaning({protocol_not_negotiated, _}) -> "the server did not agree on HTTP/2.";
meaning({tls_alert, {unknown_ca, _}}) ->
    "no authority known here signed the server's certificate (CACERT=file.pem names another one).";
meaning({tls_alert, {hostname_check_failed, _}}) -> "the server's certificate is for another name.";
meaning({tls_alert, {certificate_expired, _}}) -> "the server's certificate has expired.";
meaning({tls_alert, _}) -> "the two sides could not agree on a TLS session.";
meaning({stream_error, http_1_1_required}) -> "the server wants HTTP/1.1 for this request.";
meaning({stream_error, no_error}) -> "the server answered and does not want the rest of the request.";
meaning({stream_error, _}) -> "the server reset the stream.";
meaning({goaway, _}) -> "the server ended the connection.";
meaning({nif_not_loaded, _}) -> "the engine's library was not loaded; run `make compile' and see its messages.";
meaning({options, _}) -> "a file or certificate that was named could not be used.";
meaning({invalid_url, _}) -> "this is not a URL.";
meaning(_) -> "the conversation could not go on.".

%% @doc What {@link hackney_native:h2_info/1} tells of the connection, in a few words.
-spec connection({ok, map()} | {error, term()}) -> iolist().
connection({ok, #{peer := {Address, Port}, tls_version := Version, tls_cipher := Cipher, stream_id := Id}}) ->
    io_lib:format(", stream ~b to ~s port ~b, ~s ~s", [Id, inet:ntoa(Address), Port, Version, Cipher]);
connection(_) ->
    [].

%% @doc A body as text where it is text, else its size.
-spec body(binary()) -> unicode:chardata().
body(Data) ->
    ["data      " | case unicode:characters_to_list(Data) of
                        Text when is_list(Text) -> text(Text, Data);
                        _NotUtf8 -> size_of(Data)
                    end].

text(Text, Data) ->
    OneLine = lists:flatten(lists:join($\s, string:lexemes(Text, [$\n, $\r, "\r\n", $\t]))),
    case {io_lib:printable_unicode_list(OneLine), string:length(OneLine) > ?MAX_TEXT} of
        {false, _} -> size_of(Data);
        {true, false} -> OneLine;
        {true, true} -> [string:slice(OneLine, 0, ?MAX_TEXT), "... (", size_of(Data), ")"]
    end.

size_of(Data) ->
    io_lib:format("~b bytes", [byte_size(Data)]).

%% @doc The response's status and its first headers.
-spec response(non_neg_integer(), [{binary(), binary()}]) -> iolist().
response(Status, Headers) ->
    ["response  ", integer_to_list(Status), headers(Headers)].

%% @doc The trailers.
-spec trailers([{binary(), binary()}]) -> iolist().
trailers(Trailers) ->
    ["trailers", headers(Trailers)].

%% @doc END_STREAM.
-spec the_end(string()) -> iolist().
the_end(Whose) ->
    ["end       of ", Whose, " side"].

headers(Headers) ->
    {Shown, Rest} = lists:split(min(?MAX_HEADERS, length(Headers)), Headers),
    [[["  ", Name, ": ", shorten(Value)] || {Name, Value} <- Shown],
     [io_lib:format("  (and ~b more)", [length(Rest)]) || Rest =/= []]].

%% Header values are bytes (RFC 9110 section 5.5): what is no text is not sent to the terminal.
shorten(Value) ->
    Clean = << <<(case C >= 32 andalso C < 127 of true -> C; false -> $? end)>> || <<C>> <= Value >>,
    case Clean of
        <<Head:40/binary, _, _/binary>> -> [Head, "..."];
        _ -> Clean
    end.

%% @doc Microseconds as milliseconds with two digits.
-spec milliseconds(integer()) -> string().
milliseconds(Microseconds) ->
    lists:flatten(io_lib:format("~.2f", [Microseconds / 1000])).
