%%% @doc What is a request, a response, a list of trailers (RFC 9113, 8.2 and 8.3), without a connection.
-module(hackney_native_h2_fields_tests).

-include_lib("eunit/include/eunit.hrl").

-import(hackney_native_h2_fields, [request/1]).

-define(F, hackney_native_h2_fields).

-define(GET, [{<<":method">>, <<"GET">>}, {<<":path">>, <<"/">>}, {<<":scheme">>, <<"https">>}]).
-define(CONNECT, [{<<":method">>, <<"CONNECT">>}, {<<":authority">>, <<"a:1">>}]).
-define(EXTENDED, [{<<":method">>, <<"CONNECT">>}, {<<":protocol">>, <<"websocket">>}, {<<":path">>, <<"/chat">>},
                   {<<":scheme">>, <<"https">>}, {<<":authority">>, <<"a">>}]).

requests_test() ->
    {ok, #{method := <<"GET">>, path := <<"/">>, authority := <<>>, protocol := undefined, headers := []}} = request(?GET),
    {ok, #{authority := <<"h:1">>, headers := [{<<"x">>, <<"1">>}, {<<"x">>, <<"2">>}]}} =
        request(?GET ++ [{<<":authority">>, <<"h:1">>}, {<<"x">>, <<"1">>}, {<<"x">>, <<"2">>}]),
    {ok, #{path := <<"*">>}} = request([{<<":method">>, <<"OPTIONS">>}, {<<":path">>, <<"*">>}, {<<":scheme">>, <<"http">>}]),
    {ok, #{path := <<"a:b">>}} = request([{<<":method">>, <<"GET">>}, {<<":path">>, <<"a:b">>}, {<<":scheme">>, <<"ftp">>}]),
    {ok, #{path := <<"/\x{e4}"/utf8>>}} = request(with(<<":path">>, <<"/\x{e4}"/utf8>>)).

tunnels_test() ->
    {ok, #{method := <<"CONNECT">>, authority := <<"a:1">>, path := <<"/">>, protocol := undefined}} = request(?CONNECT),
    {ok, #{protocol := <<"websocket">>, path := <<"/chat">>}} = request(?EXTENDED),
    ?assertEqual({error, missing_authority}, request([{<<":method">>, <<"CONNECT">>}])),
    ?assertEqual({error, protocol_error}, request([{<<":path">>, <<"/">>} | ?CONNECT])),
    ?assertEqual({error, protocol_error}, request([{<<":scheme">>, <<"https">>} | ?CONNECT])),
    ?assertEqual({error, extended_connect_method}, request([{<<":protocol">>, <<"websocket">>} | ?GET])),
    [?assertEqual({error, protocol_error}, request(lists:keydelete(Name, 1, ?EXTENDED)))
     || Name <- [<<":path">>, <<":scheme">>, <<":authority">>]],
    ?assertEqual({error, protocol_error}, request(lists:keystore(<<":path">>, 1, ?EXTENDED, {<<":path">>, <<>>}))),
    ?assertEqual({error, protocol_error}, request(lists:keystore(<<":protocol">>, 1, ?EXTENDED, {<<":protocol">>, <<"a b">>}))).

pseudo_fields_test() ->
    [?assertEqual({error, protocol_error}, request(Fields), Fields)
     || Fields <- [[],
                   [{<<":method">>, <<"GET">>}],
                   [{<<":path">>, <<"/">>}, {<<":scheme">>, <<"https">>}],
                   lists:keydelete(<<":path">>, 1, ?GET),
                   lists:keydelete(<<":scheme">>, 1, ?GET),
                   with(<<":path">>, <<>>),
                   with(<<":path">>, <<"relative">>),
                   with(<<":path">>, <<"*">>),
                   with(<<":path">>, <<"/a b">>),
                   with(<<":path">>, <<"/", 255>>),
                   with(<<":path">>, <<"/", 127>>),
                   with(<<":method">>, <<"G T">>),
                   with(<<":method">>, <<>>),
                   [{<<":status">>, <<"200">>} | ?GET],
                   [{<<":other">>, <<"x">>} | ?GET],
                   ?GET ++ [{<<":path">>, <<"/">>}],
                   [{<<"x">>, <<"y">>} | ?GET],
                   ?GET ++ [{<<"x">>, <<"y">>}, {<<":authority">>, <<"h">>}],
                   ?GET ++ [{<<":authority">>, <<"me@h">>}],
                   ?GET ++ [{<<":authority">>, <<"h h">>}],
                   ?GET ++ [{<<":authority">>, <<"h">>}, {<<"host">>, <<"other">>}]]],
    {ok, _} = request(?GET ++ [{<<":authority">>, <<"H">>}, {<<"host">>, <<"h">>}]).

names_and_values_test() ->
    Refused = [{<<>>, <<"x">>}, {<<"Upper">>, <<"x">>}, {<<"sp ace">>, <<"x">>}, {<<"col:on">>, <<"x">>}, {<<"\x{e4}"/utf8>>, <<"x">>},
               {<<"x">>, <<" before">>}, {<<"x">>, <<"after ">>}, {<<"x">>, <<"\tbefore">>}, {<<"x">>, <<"after\t">>},
               {<<"x">>, <<"n", 0, "l">>}, {<<"x">>, <<"c\rr">>}, {<<"x">>, <<"l\nf">>}, {<<"x">>, <<127>>},
               {<<"connection">>, <<"close">>}, {<<"keep-alive">>, <<"1">>}, {<<"proxy-connection">>, <<"close">>},
               {<<"transfer-encoding">>, <<"chunked">>}, {<<"upgrade">>, <<"h2c">>}, {<<"te">>, <<"gzip">>}, {<<":status">>, <<"200">>}],
    [?assertEqual({error, protocol_error}, Check([Field]), Field) || Field <- Refused, Check <- [fun ?F:response/1, fun ?F:trailers/1]],
    [?assertEqual({error, protocol_error}, request(?GET ++ [Field]), Field) || Field <- Refused],
    Taken = [{<<"x">>, <<>>}, {<<"x">>, <<"a b\tc">>}, {<<"x">>, <<200, 255>>}, {<<"te">>, <<"trailers">>}, {<<"!#$%&'*+-.^_`|~09az">>, <<"x">>}],
    [?assertEqual(ok, Check([Field, Field]), Field) || Field <- Taken, Check <- [fun ?F:response/1, fun ?F:trailers/1]],
    [{ok, _} = request(?GET ++ [Field]) || Field <- Taken].

other_terms_test() ->
    [?assertEqual({error, badarg}, Check(Term), Term)
     || Term <- [atom, #{}, <<"x">>, [x], [{<<"x">>, "y"}], [{"x", <<"y">>}], [{<<"x">>, 1}], [{<<"x">>, <<"y">>} | tail]],
        Check <- [fun ?F:response/1, fun ?F:trailers/1, fun(Fields) -> request(prepend(?GET, Fields)) end]].

sizes_test() ->
    ?assertEqual(0, ?F:list_size([])),
    ?assertEqual(32 + 1 + 2 + 32, ?F:list_size([{<<"a">>, <<"bc">>}, {<<>>, <<>>}])).

with(Name, Value) -> lists:keystore(Name, 1, ?GET, {Name, Value}).

prepend(Fields, More) when is_list(More) -> Fields ++ More;
prepend(_Fields, Other) -> Other.
