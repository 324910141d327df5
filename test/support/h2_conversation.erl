%% @doc What the interop suites say to every server: opening with the suite's options, and reading a
%% whole response in each delivery mode.
-module(h2_conversation).

-export([open/4, open/5, response/1, collect/1, collect/2, active/1, once/1, manual/1]).
-export_type([outcome/0]).

%% Everything from the response's headers to the end, in the order in which it came.
-type outcome() :: #{informational := [{100..199, headers()}],
                     status => 100..599, headers => headers(),
                     bytes := non_neg_integer(), hash := binary(), body := binary(),
                     trailers => headers(),
                     ended := done | {error, term()}}.
-type headers() :: [{binary(), binary()}].

%% A body longer than this is known by its length and hash alone.
-define(BODY_KEPT, 65536).
-define(TIMEOUT, 20000).

%% @doc Opens a stream to `Path' at a listener of the server in a Common Test configuration.
-spec open(atom(), atom(), string(), list()) -> pid().
open(Method, Listener, Path, Config) ->
    open(Method, Listener, Path, [], Config).

-spec open(atom(), atom(), string(), list(), list()) -> pid().
open(Method, Listener, Path, Options, Config) ->
    URL = peer_server:url(proplists:get_value(server, Config), Listener, Path),
    {Headers, Rest} = case lists:keytake(headers, 1, Options) of
                          {value, {headers, H}, R} -> {H, R};
                          false -> {[], Options}
                      end,
    {ok, Pid} = hackney_native:h2_open(Method, URL, Headers, Rest ++ trust(URL, Config)),
    Pid.

trust(<<"http:", _/binary>>, _Config) ->
    [{h2c, true}, {connect_timeout, 10000}];
trust(<<"https:", _/binary>>, Config) ->
    CA = certificates:file(proplists:get_value(certificates, Config), "ca.pem"),
    [{ssl_options, [{cacertfile, CA}]}, {connect_timeout, 10000}].

%% @doc Waits for the response's headers in passive mode.
-spec response(pid()) -> {100..599, headers()}.
response(Pid) ->
    {ok, {response, Status, Headers}} = hackney_native:h2_recv(Pid, ?TIMEOUT),
    {Status, Headers}.

%% @doc Reads in passive mode up to the end, and checks that nothing comes after it.
-spec collect(pid()) -> outcome().
collect(Pid) ->
    collect(Pid, fun(_Size) -> ok end).

%% @doc The same, calling a function with the size of every piece of the body.
-spec collect(pid(), fun((pos_integer()) -> ok)) -> outcome().
collect(Pid, Consumed) ->
    Outcome = loop(fun() -> passive(Pid, Consumed) end, new()),
    case Outcome of
        #{ended := done} -> {error, closed} = hackney_native:h2_recv(Pid, ?TIMEOUT);
        #{ended := {error, Reason}} -> {error, Reason} = hackney_native:h2_recv(Pid, ?TIMEOUT)
    end,
    Outcome.

passive(Pid, Consumed) ->
    case hackney_native:h2_recv(Pid, ?TIMEOUT) of
        {ok, {data, Data} = Message} ->
            ok = Consumed(byte_size(Data)),
            Message;
        {ok, Message} -> Message;
        {error, Reason} -> {error, Reason}
    end.

%% @doc Reads in passive mode with manual flow control, giving back each piece once it was taken.
-spec manual(pid()) -> outcome().
manual(Pid) ->
    collect(Pid, fun(Size) -> hackney_native:h2_consume(Pid, Size) end).

%% @doc Reads what an active stream sends to the calling process, its owner.
-spec active(pid()) -> outcome().
active(Pid) ->
    loop(fun() -> delivered(Pid) end, new()).

%% @doc The same with `{active, once}', renewed after each message.
-spec once(pid()) -> outcome().
once(Pid) ->
    loop(fun() ->
                 ok = hackney_native:h2_setopts(Pid, [{active, once}]),
                 delivered(Pid)
         end, new()).

delivered(Pid) ->
    receive
        {hackney_h2, Pid, Message} -> Message;
        {hackney_h2_error, Pid, Reason} -> {error, Reason}
    after ?TIMEOUT ->
        error({nothing_from, Pid})
    end.

new() ->
    #{informational => [], bytes => 0, hash => crypto:hash_init(sha256), body => <<>>}.

loop(Next, Outcome) ->
    case Next() of
        done -> ended(done, Outcome);
        {error, Reason} -> ended({error, Reason}, Outcome);
        Message -> loop(Next, add(Message, Outcome))
    end.

%% Messages out of order match no clause.
add({informational, Status, Headers}, #{informational := Earlier} = Outcome)
  when not is_map_key(status, Outcome) ->
    Outcome#{informational := Earlier ++ [{Status, Headers}]};
add({response, Status, Headers}, Outcome) when not is_map_key(status, Outcome) ->
    Outcome#{status => Status, headers => Headers};
add({data, Data}, #{bytes := Bytes, hash := Hash, body := Body} = Outcome)
  when byte_size(Data) > 0, is_map_key(status, Outcome), not is_map_key(trailers, Outcome) ->
    Outcome#{bytes := Bytes + byte_size(Data), hash := crypto:hash_update(Hash, Data),
             body := keep(Body, Data)};
add({trailers, Trailers}, Outcome)
  when is_map_key(status, Outcome), not is_map_key(trailers, Outcome) ->
    Outcome#{trailers => Trailers}.

keep(Body, Data) when byte_size(Body) < ?BODY_KEPT -> <<Body/binary, Data/binary>>;
keep(Body, _Data) -> Body.

ended(How, #{hash := Hash} = Outcome) ->
    Outcome#{hash := hex(crypto:hash_final(Hash)), ended => How}.

hex(Binary) ->
    string:lowercase(binary:encode_hex(Binary)).
