%%% @doc A small HPACK (RFC 7541) for test peers.
%%%
%%% The encoder writes literals only (no table, no Huffman): the simplest thing that is right. The
%%% decoder is complete, because what it reads was written by the engine under test.
-module(hpack_lite).

-export([new/0, new/1, encode/1, decode/2]).

-export_type([table/0, headers/0]).

%% Newest entry first; sizes as RFC 7541 section 4.1 counts them.
-record(table, {entries = [] :: headers(), size = 0 :: non_neg_integer(),
                max = 4096 :: non_neg_integer()}).

-opaque table() :: #table{}.
-type headers() :: [{binary(), binary()}].

%% @doc The dynamic table as both sides start with it.
-spec new() -> table().
new() -> #table{}.

%% @doc The same with a chosen size.
-spec new(non_neg_integer()) -> table().
new(Max) -> #table{max = Max}.

%% @doc Encodes each header as a literal without indexing (RFC 7541 section 6.2.2).
-spec encode([{iodata(), iodata()}]) -> iodata().
encode(Headers) ->
    [[0, string(Name), string(Value)] || {Name, Value} <- Headers].

string(Text) -> [integer(0, 7, iolist_size(Text)), Text].

%% Section 5.1: `High' are the bits above the prefix.
integer(High, Bits, N) when N < (1 bsl Bits) - 1 ->
    <<(High bor N)>>;
integer(High, Bits, N) ->
    Limit = (1 bsl Bits) - 1,
    [High bor Limit, continued(N - Limit)].

continued(N) when N < 128 -> [N];
continued(N) -> [N rem 128 + 128 | continued(N div 128)].

%% @doc Decodes a header block; fails (`error:_') on one that is not right.
-spec decode(binary(), table()) -> {headers(), table()}.
decode(Block, Table) -> decode(Block, Table, []).

decode(<<>>, Table, Acc) ->
    {lists:reverse(Acc), Table};
decode(<<1:1, Rest/bitstring>>, Table, Acc) ->
    {Index, Rest1} = take_integer(7, Rest),
    decode(Rest1, Table, [lookup(Index, Table) | Acc]);
decode(<<0:1, 1:1, Rest/bitstring>>, Table, Acc) ->
    {Header, Rest1} = literal(6, Rest, Table),
    decode(Rest1, insert(Header, Table), [Header | Acc]);
decode(<<0:2, 1:1, Rest/bitstring>>, Table, Acc) ->
    {Max, Rest1} = take_integer(5, Rest),
    decode(Rest1, evict(Table#table{max = Max}), Acc);
decode(<<0:3, _Never:1, Rest/bitstring>>, Table, Acc) ->
    {Header, Rest1} = literal(4, Rest, Table),
    decode(Rest1, Table, [Header | Acc]).

literal(Bits, Input, Table) ->
    {Name, Rest} = case take_integer(Bits, Input) of
                       {0, Rest0} -> take_string(Rest0);
                       {Index, Rest0} -> {element(1, lookup(Index, Table)), Rest0}
                   end,
    {Value, Rest1} = take_string(Rest),
    {{Name, Value}, Rest1}.

take_integer(Bits, Input) ->
    <<N:Bits, Rest/binary>> = Input,
    case (1 bsl Bits) - 1 of
        N -> take_continued(Rest, N, 0);
        _ -> {N, Rest}
    end.

take_continued(<<1:1, N:7, Rest/binary>>, Sum, Shift) ->
    take_continued(Rest, Sum + (N bsl Shift), Shift + 7);
take_continued(<<0:1, N:7, Rest/binary>>, Sum, Shift) ->
    {Sum + (N bsl Shift), Rest}.

take_string(<<Huffman:1, Input/bitstring>>) ->
    {Len, Rest} = take_integer(7, Input),
    <<Text:Len/binary, Rest1/binary>> = Rest,
    case Huffman of
        1 -> {huffman(Text), Rest1};
        0 -> {Text, Rest1}
    end.

%% ---- tables ----------------------------------------------------------------------------------

lookup(Index, _Table) when Index >= 1, Index =< 61 -> element(Index, static());
lookup(Index, #table{entries = Entries}) when Index > 61 -> lists:nth(Index - 61, Entries).

insert({Name, Value} = Header, #table{entries = Entries, size = Size} = Table) ->
    evict(Table#table{entries = [Header | Entries],
                      size = Size + byte_size(Name) + byte_size(Value) + 32}).

evict(#table{size = Size, max = Max} = Table) when Size =< Max ->
    Table;
evict(#table{entries = Entries, size = Size} = Table) ->
    {Name, Value} = lists:last(Entries),
    evict(Table#table{entries = lists:droplast(Entries),
                      size = Size - byte_size(Name) - byte_size(Value) - 32}).

%% RFC 7541 appendix A.
static() ->
    {{<<":authority">>, <<>>}, {<<":method">>, <<"GET">>}, {<<":method">>, <<"POST">>},
     {<<":path">>, <<"/">>}, {<<":path">>, <<"/index.html">>},
     {<<":scheme">>, <<"http">>}, {<<":scheme">>, <<"https">>},
     {<<":status">>, <<"200">>}, {<<":status">>, <<"204">>}, {<<":status">>, <<"206">>},
     {<<":status">>, <<"304">>}, {<<":status">>, <<"400">>}, {<<":status">>, <<"404">>},
     {<<":status">>, <<"500">>},
     {<<"accept-charset">>, <<>>}, {<<"accept-encoding">>, <<"gzip, deflate">>},
     {<<"accept-language">>, <<>>}, {<<"accept-ranges">>, <<>>}, {<<"accept">>, <<>>},
     {<<"access-control-allow-origin">>, <<>>}, {<<"age">>, <<>>}, {<<"allow">>, <<>>},
     {<<"authorization">>, <<>>}, {<<"cache-control">>, <<>>},
     {<<"content-disposition">>, <<>>}, {<<"content-encoding">>, <<>>},
     {<<"content-language">>, <<>>}, {<<"content-length">>, <<>>},
     {<<"content-location">>, <<>>}, {<<"content-range">>, <<>>}, {<<"content-type">>, <<>>},
     {<<"cookie">>, <<>>}, {<<"date">>, <<>>}, {<<"etag">>, <<>>}, {<<"expect">>, <<>>},
     {<<"expires">>, <<>>}, {<<"from">>, <<>>}, {<<"host">>, <<>>}, {<<"if-match">>, <<>>},
     {<<"if-modified-since">>, <<>>}, {<<"if-none-match">>, <<>>}, {<<"if-range">>, <<>>},
     {<<"if-unmodified-since">>, <<>>}, {<<"last-modified">>, <<>>}, {<<"link">>, <<>>},
     {<<"location">>, <<>>}, {<<"max-forwards">>, <<>>}, {<<"proxy-authenticate">>, <<>>},
     {<<"proxy-authorization">>, <<>>}, {<<"range">>, <<>>}, {<<"referer">>, <<>>},
     {<<"refresh">>, <<>>}, {<<"retry-after">>, <<>>}, {<<"server">>, <<>>},
     {<<"set-cookie">>, <<>>}, {<<"strict-transport-security">>, <<>>},
     {<<"transfer-encoding">>, <<>>}, {<<"user-agent">>, <<>>}, {<<"vary">>, <<>>},
     {<<"via">>, <<>>}, {<<"www-authenticate">>, <<>>}}.

%% ---- Huffman (RFC 7541 section 5.2, appendix B) ------------------------------------------------

huffman(Text) -> huffman(Text, codes(), <<>>).

huffman(Bits, Codes, Acc) -> symbol(Bits, 0, 0, Codes, Acc).

%% Fewer than eight bits left over, all ones, are padding.
symbol(<<>>, Len, Code, _Codes, Acc) when Len < 8, Code =:= (1 bsl Len) - 1 ->
    Acc;
symbol(<<Bit:1, Rest/bitstring>>, Len, Code, Codes, Acc) ->
    Next = Code bsl 1 bor Bit,
    case Codes of
        #{{Len + 1, Next} := Symbol} -> huffman(Rest, Codes, <<Acc/binary, Symbol>>);
        #{} when Len < 30 -> symbol(Rest, Len + 1, Next, Codes, Acc)
    end.

%% The code is canonical, so the lengths say it all: shorter codes come first, and among equals the
%% smaller symbol.
codes() ->
    case persistent_term:get(?MODULE, undefined) of
        undefined ->
            Codes = maps:from_list(canonical(lists:sort(lists:zip(lengths(), lists:seq(0, 255))),
                                             0, 0)),
            persistent_term:put(?MODULE, Codes),
            Codes;
        Codes ->
            Codes
    end.

canonical([{Len, Symbol} | Rest], Code, PrevLen) ->
    Shifted = Code bsl (Len - PrevLen),
    [{{Len, Shifted}, Symbol} | canonical(Rest, Shifted + 1, Len)];
canonical([], _Code, _Len) ->
    [].

lengths() ->
    [13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
     28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
     5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
     13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
     7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
     15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
     6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
     20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
     24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
     22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
     21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
     26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
     19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
     20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
     26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26].
