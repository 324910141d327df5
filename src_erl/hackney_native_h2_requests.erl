%% @private The processes that handle a server's requests: one for each, watched, so that no stream is left open by a handler that dies.
-module(hackney_native_h2_requests).

-export([new/1, started/6, down/3]).
-export([run/6]).

-export_type([requests/0, handler/0]).

%% Words. A request and a short answer fit in, so that most handlers end without a garbage collection: a fifth more requests per second.
-define(HEAP, 987).

-type handler() :: module() | fun((pid(), pos_integer(), binary(), binary(), [{binary(), binary()}]) -> term()).
-opaque requests() :: {handler(), #{reference() => pos_integer()}}.

%% @doc Nobody has asked yet.
-spec new(handler()) -> requests().
new(Handler) ->
    {Handler, #{}}.

%% @doc Has a request handled.
-spec started(pid(), pos_integer(), binary(), binary(), [{binary(), binary()}], requests()) -> requests().
started(Conn, StreamId, Method, Path, Headers, {Handler, Running}) ->
    {_, Monitor} = proc_lib:spawn_opt(?MODULE, run, [Handler, Conn, StreamId, Method, Path, Headers],
                                       [monitor, {min_heap_size, ?HEAP}]),
    {Handler, Running#{Monitor => StreamId}}.

%% @private
-spec run(handler(), pid(), pos_integer(), binary(), binary(), [{binary(), binary()}]) -> term().
run(Handler, Conn, StreamId, Method, Path, Headers) when is_function(Handler) ->
    Handler(Conn, StreamId, Method, Path, Headers);
run(Module, Conn, StreamId, Method, Path, Headers) ->
    Module:handle_request(Conn, StreamId, Method, Path, Headers).

%% @doc A handler has ended. When it has failed the client is told so, as far as that is possible yet; when it has neither answered nor
%% left the stream to somebody else, the stream is cancelled. `error' when it was none of ours.
-spec down(reference(), term(), requests()) -> {ok, requests()} | error.
down(Monitor, Reason, {Handler, Running}) ->
    case maps:take(Monitor, Running) of
        {StreamId, Left} ->
            _ = case Reason of
                    normal -> hackney_native_nif:h2_orphan(self(), StreamId, false);
                    _ -> hackney_native_nif:h2_orphan(self(), StreamId, true)
                end,
            {ok, {Handler, Left}};
        error ->
            error
    end.
