%%% @doc A supervisor with a stream as its only child: streams are processes like any other.
-module(h2_case_sup).
-behaviour(supervisor).

-export([init/1]).

%% @private
-spec init(map()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Map) ->
    {ok, {#{}, [#{id => stream, start => {hackney_native_h2_stream, start_link, [Map]},
                  restart => temporary}]}}.
