%%% @doc A node of its own for {@link raw_peer}s that attack: what they send and keep does not count as
%%% this node's memory and processor time, which a test measures.
-module(attacker).

-export([start/0, stop/1, peer/2, open/2, open/3]).

-export_type([attacker/0]).

-opaque attacker() :: #{node := node(), control := pid(), distribution := boolean()}.

%% @doc Starts the node. It lives until {@link stop/1}, not until the caller ends.
-spec start() -> attacker().
start() ->
    Distribution = os_node:distributed(),
    {ok, Control, Node} = peer:start(#{name => peer:random_name(), args => ["-pa" | code:get_path()]}),
    {ok, _} = erpc:call(Node, application, ensure_all_started, [ssl]),
    #{node => Node, control => Control, distribution => Distribution}.

%% @doc Ends the node, and the distribution if it was started for it.
-spec stop(attacker()) -> ok.
stop(#{control := Control, distribution := Distribution}) ->
    ok = peer:stop(Control),
    _ = Distribution andalso net_kernel:stop(),
    ok.

%% @doc A {@link raw_peer} on that node; it ends with the caller.
-spec peer(attacker(), map()) -> raw_peer:peer().
peer(#{node := Node}, Opts) ->
    erpc:call(Node, raw_peer, start, [Opts#{owner => self()}]).

%% @doc A stream to a new peer there, and the peer's end of it: as {@link h2_case:open/2}.
-spec open(attacker(), map()) -> {pid(), pid()}.
open(Attacker, PeerOpts) -> open(Attacker, PeerOpts, []).

%% @doc The same with options for `h2_open'.
-spec open(attacker(), map(), [{atom(), term()}]) -> {pid(), pid()}.
open(Attacker, PeerOpts, Opts) -> h2_case:open_to(peer(Attacker, PeerOpts), Opts).
