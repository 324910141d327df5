%%% @doc What the tests send: pieces of one long binary in which every place looks different, so that a byte that is lost,
%%% doubled or misplaced shows.
-module(h2_pattern).

-export([at/2, is_at/2]).

-define(SIZE, (16 * 1024 * 1024)).

%% @doc `Size' bytes from the place `From'.
-spec at(non_neg_integer(), non_neg_integer()) -> binary().
at(From, Size) ->
    binary:part(all(), From, Size).

%% @doc Whether these bytes are those of the place `From'.
-spec is_at(non_neg_integer(), binary()) -> boolean().
is_at(From, Data) ->
    at(From, byte_size(Data)) =:= Data.

%% Made once per node.
all() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            All = << <<(N * 16#9E3779B1):64>> || N <- lists:seq(1, ?SIZE div 8) >>,
            persistent_term:put(?MODULE, All),
            All;
        All ->
            All
    end.
