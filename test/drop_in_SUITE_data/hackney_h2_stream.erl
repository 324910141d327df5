%% @doc Stands for hackney's stream module in drop_in_SUITE: a gen_statem that never gets beyond `idle'.
-module(hackney_h2_stream).

-behaviour(gen_statem).

-export([start_link/1, connect/2, recv/2, close/1]).
-export([init/1, callback_mode/0, idle/3]).

start_link(Options) -> gen_statem:start_link(?MODULE, Options, []).
connect(Stream, _Timeout) -> gen_statem:call(Stream, connect).
recv(Stream, _Timeout) -> gen_statem:call(Stream, recv).
close(Stream) -> gen_statem:stop(Stream).

init(Options) -> {ok, idle, Options}.
callback_mode() -> state_functions.
idle({call, From}, Request, _Options) -> {keep_state_and_data, [{reply, From, {error, {the_original, Request}}}]}.
