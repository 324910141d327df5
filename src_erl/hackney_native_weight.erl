%% @private How long the engine takes to read a term: what takes longer than a scheduler may be kept goes to a dirty one.
-module(hackney_native_weight).

-export([is_large/1]).

%% In bytes. Reading a term takes as long as copying some 50 bytes.
-define(LARGE, 65536).
-define(TERM_WEIGHT, 50).

%% @doc Whether reading the term takes some hundred microseconds. Looked at here, where the VM can interrupt, and with little
%% garbage: a stream's process keeps the memory that its heap has once grown to.
-spec is_large(term()) -> boolean().
is_large(Term) ->
    weight(Term, 0) > ?LARGE.

weight([First | Rest], Sum) -> weight(Rest, weight(First, Sum));
weight(Term, Sum) when is_binary(Term) -> Sum + byte_size(Term) + ?TERM_WEIGHT;
weight(Term, Sum) when is_tuple(Term) -> weight_of_elements(Term, tuple_size(Term), Sum);
weight(Term, Sum) when is_map(Term) -> maps:fold(fun(_Key, Value, Before) -> weight(Value, Before) end, Sum, Term);
weight(_Term, Sum) -> Sum.

weight_of_elements(_Tuple, 0, Sum) -> Sum;
weight_of_elements(Tuple, N, Sum) -> weight_of_elements(Tuple, N - 1, weight(element(N, Tuple), Sum)).
