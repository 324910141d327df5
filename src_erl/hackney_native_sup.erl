%% @private The application's root. Its children are the servers, and the pools, started when they are needed. A stream, or a client's
%% connection, is its owner's, linked to it, or its owner's supervisor's.
-module(hackney_native_sup).

-behaviour(supervisor).

-export([start_link/0, init/1]).

%% @private
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case supervisor:start_link({local, ?MODULE}, ?MODULE, []) of
        {ok, Pid} -> {ok, Pid};
        ignore -> {error, ignore};
        {error, Reason} -> {error, Reason}
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    ok = hackney_native_h2_pool:new_table(),
    {ok, {#{strategy => one_for_one},
          [#{id => servers, start => {hackney_native_h2_server_sup, start_link, []}, type => supervisor}]}}.
