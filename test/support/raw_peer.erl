%%% @doc An HTTP/2 server that does exactly what a test tells it, frame by frame.
%%%
%%% It is for what no real server does: a GOAWAY in the middle, a window that shrinks, half a frame
%%% and then silence. It listens on 127.0.0.1, over TLS with ALPN or in clear text, runs a script on
%%% each connection and then takes orders from the test:
%%%
%%% ```
%%% Peer = raw_peer:start(#{}),
%%% {ok, S} = hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer)),
%%% Conn = raw_peer:accept(Peer),
%%% [#{headers := _}] = raw_peer:run(Conn, [{expect, headers}]),
%%% raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>}]}, {data, 1, <<"x">>, fin}]).
%%% '''
%%%
%%% The test and the peer meet at events, never at times: `expect' waits for a frame, `barrier'
%%% waits until the client has processed all that was sent to it, `wait' for a word of the test.
%%% What a connection does with each step is in {@link raw_peer_conn}.
%%%
%%% The peer and all its connections end with the process that started it.
-module(raw_peer).
-behaviour(gen_server).

-include_lib("public_key/include/public_key.hrl").

-export([start/0, start/1, stop/1, url/1, url/2, port/1, options/1, options/2,
         accept/1, connections/1, dial/2, identity/0, identity/1]).
-export([dialled/2]).
-export([run/2, run/3, expect/2, tell/2, transcript/1, barrier/1, sequence/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([peer/0, identity/0]).

%% One deadline for every wait: far above what any step takes, so that only a real hang meets it.
-define(DEADLINE, 10000).

-opaque peer() :: #{pid := pid(), port := inet:port_number(), transport := tls | tcp,
                    cacerts := [public_key:der_encoded()]}.
-type identity() :: #{server := [ssl:tls_server_option()], cacerts := [public_key:der_encoded()],
                      client := [ssl:tls_client_option()]}.

-record(listener, {listen :: gen_tcp:socket(), owner :: reference(),
                   queue = accept_queue:new() :: accept_queue:accept_queue(),
                   accepted = 0 :: non_neg_integer()}).

%% ---- the peer --------------------------------------------------------------------------------

%% @doc A TLS peer that greets with empty SETTINGS.
-spec start() -> peer().
start() -> start(#{}).

%% @doc Starts a peer. Options, all optional:
%% <ul>
%% <li>`transport': `tls' (default) or `tcp'</li>
%% <li>`script': the steps each connection begins with; by default the peer's SETTINGS</li>
%% <li>`settings': the SETTINGS of the default script</li>
%% <li>`auto': which of `settings' and `ping' are acknowledged unasked; by default both</li>
%% <li>`alpn': what the server agrees to (default `[<<"h2">>]'), or `none'</li>
%% <li>`identity': what {@link identity/1} returned; `tls': further server options</li>
%% <li>`when_closed': `stop' lets a connection's process end with it (default: it stays, to be asked)</li>
%% <li>`owner': the process with which the peer ends (default: the caller)</li>
%% <li>`report': a process that gets `{raw_peer, Conn, Event}' for all that arrives</li>
%% </ul>
-spec start(map()) -> peer().
start(Opts) ->
    Transport = maps:get(transport, Opts, tls),
    #{cacerts := CaCerts, server := Server} = maps:get(identity, Opts, identity()),
    Conn = Opts#{transport => Transport, server => Server},
    {ok, Pid} = gen_server:start(?MODULE, {maps:get(owner, Opts, self()), Conn}, []),
    #{pid => Pid, port => gen_server:call(Pid, port), transport => Transport, cacerts => CaCerts}.

%% @doc Closes the listening socket and every connection.
-spec stop(peer()) -> ok.
stop(#{pid := Pid}) -> gen_server:stop(Pid).

%% @doc The peer's URL, path `/'.
-spec url(peer()) -> binary().
url(Peer) -> url(Peer, "/").

%% @doc The peer's URL with a path.
-spec url(peer(), iodata()) -> binary().
url(#{port := Port} = Peer, Path) ->
    iolist_to_binary([scheme(Peer), "://localhost:", integer_to_list(Port), Path]).

scheme(#{transport := tls}) -> "https";
scheme(#{transport := tcp}) -> "http".

%% @doc The peer's port.
-spec port(peer()) -> inet:port_number().
port(#{port := Port}) -> Port.

%% @doc The options with which `h2_open' trusts this peer.
-spec options(peer()) -> [{atom(), term()}].
options(Peer) -> options(Peer, []).

%% @doc The same with more of them.
-spec options(peer(), [{atom(), term()}]) -> [{atom(), term()}].
options(#{transport := tls, cacerts := CaCerts}, More) ->
    [{ssl_options, [{cacerts, CaCerts}]} | More];
options(#{transport := tcp}, More) ->
    [{h2c, true} | More].

%% @doc The next connection that no one has asked for yet; waits for it.
-spec accept(peer()) -> pid().
accept(#{pid := Pid}) -> gen_server:call(Pid, accept, ?DEADLINE).

%% @doc The other way round: a client, connected to that port of 127.0.0.1, that does what a test tells it. It begins with the preface
%% and SETTINGS. Options as in {@link start/1}, as far as they make sense.
-spec dial(inet:port_number(), map()) -> pid().
dial(Port, Opts) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}, {nodelay, true}, {send_timeout, ?DEADLINE}]),
    dialled(Socket, Opts).

%% @doc The same on a socket that is connected already.
-spec dialled(gen_tcp:socket(), map()) -> pid().
dialled(Socket, Opts) ->
    Hello = [{raw, h2_frames:preface()}, {settings, maps:get(settings, Opts, [])}],
    Conn = maps:merge(#{transport => tcp, role => client, script => Hello}, Opts),
    {ok, Pid} = gen_server:start(raw_peer_conn, {maps:get(owner, Opts, self()), Conn}, []),
    ok = gen_tcp:controlling_process(Socket, Pid),
    ok = gen_server:cast(Pid, {socket, Socket}),
    Pid.

%% @doc How many connections were accepted so far.
-spec connections(peer()) -> non_neg_integer().
connections(#{pid := Pid}) -> gen_server:call(Pid, connections, ?DEADLINE).

%% ---- a connection ----------------------------------------------------------------------------

%% @doc Runs steps in order, each when the one before is done; returns what each gave.
-spec run(pid(), [raw_peer_conn:step()]) -> [term()].
run(Conn, Steps) -> run(Conn, Steps, ?DEADLINE).

%% @doc The same with another deadline. A step that fails or hangs is an error that shows the
%% transcript.
-spec run(pid(), [raw_peer_conn:step()], timeout()) -> [term()].
run(Conn, Steps, Timeout) ->
    try gen_server:call(Conn, {run, Steps}, Timeout) of
        {ok, Results} -> Results;
        {error, Reason} -> error({raw_peer, Reason, transcript(Conn)})
    catch
        exit:{timeout, _} -> error({raw_peer, {hangs_in, Steps}, transcript(Conn)})
    end.

%% @doc Waits for one event.
-spec expect(pid(), raw_peer_conn:pattern()) -> raw_peer_conn:event().
expect(Conn, Pattern) ->
    [Event] = run(Conn, [{expect, Pattern}]),
    Event.

%% @doc Waits until the client has read, and answered, all that was sent to it.
-spec barrier(pid()) -> ok.
barrier(Conn) ->
    [ok] = run(Conn, [barrier]),
    ok.

%% @doc Says a word for which a script may `wait'.
-spec tell(pid(), term()) -> ok.
tell(Conn, Word) -> gen_server:cast(Conn, {tell, Word}).

%% @doc All that the client has sent so far, oldest first.
-spec transcript(pid()) -> [raw_peer_conn:event()].
transcript(Conn) -> gen_server:call(Conn, transcript, ?DEADLINE).

%% @doc The events of the transcript that match the patterns in this order, others between them
%% allowed; fails if there is no such run of events.
-spec sequence(pid(), [raw_peer_conn:pattern()]) -> [raw_peer_conn:event()].
sequence(Conn, Patterns) ->
    Transcript = transcript(Conn),
    sequence(Transcript, Patterns, Transcript).

sequence(_Events, [], _All) ->
    [];
sequence([Event | Events], [Pattern | More] = Patterns, All) ->
    case raw_peer_conn:matches(Pattern, Event) of
        true -> [Event | sequence(Events, More, All)];
        false -> sequence(Events, Patterns, All)
    end;
sequence([], Patterns, All) ->
    error({raw_peer, {not_in_order, Patterns}, All}).

%% ---- certificates ----------------------------------------------------------------------------

%% @doc A certificate for `localhost' and 127.0.0.1, made once per node.
-spec identity() -> identity().
identity() ->
    case persistent_term:get({?MODULE, identity}, undefined) of
        undefined -> global:trans({{?MODULE, identity}, self()}, fun make_identity/0, [node()]);
        Identity -> Identity
    end.

%% Keys take long to make: tests that run at the same time wait for the first.
make_identity() ->
    case persistent_term:get({?MODULE, identity}, undefined) of
        undefined ->
            Identity = identity(#{}),
            persistent_term:put({?MODULE, identity}, Identity),
            Identity;
        Identity ->
            Identity
    end.

%% @doc A fresh root and a server certificate under it. Options: `names' (default
%% `[{dNSName, "localhost"}, {iPAddress, <<127,0,0,1>>}]'), `validity' (`{From, To}' dates).
-spec identity(map()) -> identity().
identity(Opts) ->
    Names = maps:get(names, Opts, [{dNSName, "localhost"}, {iPAddress, <<127, 0, 0, 1>>}]),
    AltName = #'Extension'{extnID = ?'id-ce-subjectAltName', extnValue = Names,
                           critical = false},
    %% Not an EC key: public_key then writes an algorithm identifier that RFC 5758 forbids.
    Common = [{key, {rsa, 2048, 65537}}, {digest, sha256}],
    Validity = [{validity, V} || {ok, V} <- [maps:find(validity, Opts)]],
    ServerRoot = root("Server root", Common),
    ClientRoot = root("Client root", Common),
    #{server_config := Server, client_config := Client} =
        public_key:pkix_test_data(
          #{server_chain => #{root => ServerRoot, intermediates => [],
                              peer => [{extensions, [AltName]} | Common ++ Validity]},
            client_chain => #{root => ClientRoot, intermediates => [], peer => Common}}),
    #{server => complete(Server, ServerRoot), client => complete(Client, ClientRoot),
      cacerts => proplists:get_value(cacerts, Client)}.

root(Name, Opts) ->
    #{cert := Certificate, key := Key} = Root = public_key:pkix_test_root_cert(Name, Opts),
    Root#{cert := complete_certificate(Certificate, Key)}.

complete(Config, #{key := Key}) ->
    {value, {cert, Certificate}, Rest} = lists:keytake(cert, 1, Config),
    [{cert, complete_certificate(Certificate, Key)} | Rest].

%% From OTP 29 on public_key leaves out the parameters of a key's algorithm, rsaEncryption. RFC 3279 section 2.3.1 demands
%% that they are there, and NULL; the engine refuses a certificate without.
complete_certificate(Certificate, IssuersKey) ->
    #'OTPCertificate'{tbsCertificate = TBS} = public_key:pkix_decode_cert(Certificate, otp),
    #'OTPTBSCertificate'{subjectPublicKeyInfo = #'OTPSubjectPublicKeyInfo'{algorithm = Algorithm} = Info} = TBS,
    Complete = Info#'OTPSubjectPublicKeyInfo'{algorithm = Algorithm#'PublicKeyAlgorithm'{parameters = 'NULL'}},
    public_key:pkix_sign(TBS#'OTPTBSCertificate'{subjectPublicKeyInfo = Complete}, IssuersKey).

%% ---- the listening process -------------------------------------------------------------------

%% @private
-spec init({pid(), map()}) -> {ok, #listener{}}.
init({Owner, Conn}) ->
    process_flag(trap_exit, true),
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false},
                                      {nodelay, true}, {reuseaddr, true}, {backlog, 1024},
                                      {send_timeout, ?DEADLINE}]),
    Self = self(),
    _ = spawn_link(fun() -> accept_loop(Self, Listen, Conn) end),
    {ok, #listener{listen = Listen, owner = monitor(process, Owner)}}.

accept_loop(Listener, Listen, Conn) ->
    case gen_tcp:accept(Listen) of
        {ok, Socket} ->
            {ok, Pid} = gen_server:start(raw_peer_conn, {Listener, Conn}, []),
            ok = gen_tcp:controlling_process(Socket, Pid),
            ok = gen_server:cast(Pid, {socket, Socket}),
            Listener ! {accepted, Pid},
            accept_loop(Listener, Listen, Conn);
        {error, closed} ->
            ok
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #listener{}) ->
          {reply, term(), #listener{}} | {noreply, #listener{}}.
handle_call(port, _From, #listener{listen = Listen} = State) ->
    {ok, Port} = inet:port(Listen),
    {reply, Port, State};
handle_call(connections, _From, State) ->
    {reply, State#listener.accepted, State};
handle_call(accept, From, #listener{queue = Queue} = State) ->
    {noreply, State#listener{queue = accept_queue:take(From, Queue)}}.

%% @private
-spec handle_cast(term(), #listener{}) -> {noreply, #listener{}}.
handle_cast(_Other, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #listener{}) -> {noreply, #listener{}} | {stop, normal, #listener{}}.
handle_info({accepted, Conn}, #listener{queue = Queue, accepted = N} = State) ->
    {noreply, State#listener{queue = accept_queue:put(Conn, Queue), accepted = N + 1}};
handle_info({'DOWN', Owner, process, _Pid, _Reason}, #listener{owner = Owner} = State) ->
    {stop, normal, State};
handle_info(_Other, State) ->
    {noreply, State}.
