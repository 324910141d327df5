%%% @doc Connections that wait for somebody to take them, and callers who wait for a connection: first come, first served.
-module(accept_queue).

-export([new/0, put/2, take/2]).
-export_type([accept_queue/0]).

-opaque accept_queue() :: {Ready :: queue:queue(term()), Waiting :: queue:queue(gen_server:from())}.

%% @doc Nobody waits.
-spec new() -> accept_queue().
new() -> {queue:new(), queue:new()}.

%% @doc A connection has come.
-spec put(term(), accept_queue()) -> accept_queue().
put(Connection, {Ready, Waiting}) -> hand_out({queue:in(Connection, Ready), Waiting}).

%% @doc A caller of a gen_server wants one: it is the reply.
-spec take(gen_server:from(), accept_queue()) -> accept_queue().
take(From, {Ready, Waiting}) -> hand_out({Ready, queue:in(From, Waiting)}).

hand_out({Ready, Waiting} = Queue) ->
    case {queue:out(Ready), queue:out(Waiting)} of
        {{{value, Connection}, Ready1}, {{value, From}, Waiting1}} ->
            gen_server:reply(From, Connection),
            hand_out({Ready1, Waiting1});
        _ ->
            Queue
    end.
