%% @private The servers of {@link hackney_native_h2:start_server/2}. One that dies is not started again: nobody would know its port.
-module(hackney_native_h2_server_sup).

-behaviour(supervisor).

-export([start_link/0, start_server/2, init/1]).

%% @private
-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @doc Starts a server. `{ok, Pid, Port}'.
-spec start_server(inet:port_number(), map()) -> {ok, pid(), inet:port_number()} | {error, term()}.
start_server(Port, Options) ->
    try supervisor:start_child(?MODULE, [Port, Options]) of
        {ok, Pid, Actual} -> {ok, Pid, Actual};
        {error, _} = Error -> Error
    catch
        exit:{noproc, _} -> {error, {not_started, hackney_native}}
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    {ok, {#{strategy => simple_one_for_one},
          [#{id => server, start => {hackney_native_h2_listener, start_link, []}, restart => temporary, shutdown => 5000}]}}.
