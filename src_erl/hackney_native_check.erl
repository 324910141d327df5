%% @private What option checks are made of. Each throws an error term that names the option, for {@link options/3} to return.
-module(hackney_native_check).

-export([options/3, bool/2, integer/4, timeout/2, bound/2, one_of/3, file_name/2, bad/2, unsupported/1]).

%% @doc Folds a property list or map over `Defaults': `Fun(Name, Value, Acc)' checks one option. Where a name comes twice the
%% first counts, as in `proplists'.
-spec options(fun((Name, Value, map()) -> map()), [{Name, Value} | atom()] | map(), map()) -> {ok, map()} | {error, term()}
              when Name :: term(), Value :: term().
options(Fun, Options, Defaults) when is_map(Options) ->
    options(Fun, maps:to_list(Options), Defaults);
options(Fun, Options, Defaults) when is_list(Options) ->
    try
        {ok, lists:foldr(fun({Name, Value}, Acc) -> Fun(Name, Value, Acc);
                            (Name, Acc) when is_atom(Name) -> Fun(Name, true, Acc);
                            (Other, _Acc) -> throw({badarg, {option, Other}})
                         end, Defaults, Options)}
    catch
        throw:Reason -> {error, Reason};
        %% An improper list.
        error:function_clause -> {error, {badarg, options}}
    end;
options(_Fun, _Options, _Defaults) ->
    {error, {badarg, options}}.

%% @doc `true' or `false'.
-spec bool(term(), term()) -> boolean().
bool(_Name, Value) when is_boolean(Value) -> Value;
bool(Name, Value) -> bad(Name, Value).

%% @doc An integer in a range.
-spec integer(term(), term(), integer(), integer()) -> integer().
integer(_Name, Value, Min, Max) when is_integer(Value), Value >= Min, Value =< Max -> Value;
integer(Name, Value, _Min, _Max) -> bad(Name, Value).

%% @doc Milliseconds or `infinity'; as much as `receive ... after' takes.
-spec timeout(term(), term()) -> timeout().
timeout(_Name, infinity) -> infinity;
timeout(Name, Value) -> integer(Name, Value, 0, 16#ffffffff).

%% @doc Bytes, at least one, or `infinity'.
-spec bound(term(), term()) -> pos_integer() | infinity.
bound(_Name, infinity) -> infinity;
bound(Name, Value) -> integer(Name, Value, 1, 1 bsl 48).

%% @doc One of some atoms.
-spec one_of(term(), term(), [atom()]) -> atom().
one_of(Name, Value, Allowed) ->
    case lists:member(Value, Allowed) of
        true -> Value;
        false -> bad(Name, Value)
    end.

%% @doc A file name, as the bytes the operating system gets.
-spec file_name(term(), term()) -> binary().
file_name(Name, Value) when is_binary(Value); is_list(Value), Value =/= [] ->
    case filename:flatten([Value]) of
        Bytes when is_binary(Bytes), Bytes =/= <<>> -> Bytes;
        [_ | _] = Chars ->
            case unicode:characters_to_binary(Chars, unicode, file:native_name_encoding()) of
                Bytes when is_binary(Bytes) -> Bytes;
                _ -> bad(Name, Value)
            end;
        _ -> bad(Name, Value)
    end;
file_name(Name, Value) ->
    bad(Name, Value).

%% @doc The value is of the wrong type or out of range.
-spec bad(term(), term()) -> no_return().
bad(Name, Value) -> throw({badarg, {Name, Value}}).

%% @doc The option is unknown, or known and cannot be honoured.
-spec unsupported(term()) -> no_return().
unsupported(Name) -> throw({unsupported_option, Name}).
