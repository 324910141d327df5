-module(hackney_native_headers_tests).

-include_lib("eunit/include/eunit.hrl").

request_test_() ->
    [?_assertEqual({ok, [{<<"x-a">>, <<"1">>}, {<<"b">>, <<"two">>}, {<<"c">>, <<"3">>}, {<<"x-a">>, <<"4">>}]},
                   hackney_native_headers:request([{<<"X-A">>, 1}, {b, "two"}, {"C", <<"3">>}, {<<"x-a">>, <<" 4\t">>}])),
     ?_assertEqual({ok, []}, hackney_native_headers:request([{"Host", "elsewhere"}])),
     ?_assertEqual({ok, [{<<"te">>, <<"trailers">>}]}, hackney_native_headers:request([{te, trailers}])),
     ?_assertEqual({ok, [{<<"t">>, <<"a\tb">>}]}, hackney_native_headers:request([{<<"t">>, <<"a\tb">>}])),
     ?_assertEqual({ok, [{<<"u">>, <<"\x{c3}\x{bc}">>}]}, hackney_native_headers:request([{<<"u">>, [252]}]))].

refused_test_() ->
    [?_assertEqual({error, {invalid_header, Name}}, hackney_native_headers:request([Header]))
     || {Name, Header} <- [{<<"a\r\nb">>, {<<"a\r\nb">>, <<"v">>}},
                           {<<"a">>, {<<"a">>, <<"v\r\nb: c">>}},
                           {<<"a">>, {<<"a">>, <<"v\nb">>}},
                           {<<"a">>, {<<"a">>, <<"v\0">>}},
                           {<<"a">>, {<<"a">>, <<127>>}},
                           {<<"a b">>, {<<"a b">>, <<"v">>}},
                           {<<>>, {<<>>, <<"v">>}},
                           {<<":path">>, {<<":path">>, <<"/">>}},
                           {<<"connection">>, {<<"Connection">>, <<"close">>}},
                           {<<"transfer-encoding">>, {<<"transfer-encoding">>, <<"chunked">>}},
                           {<<"te">>, {<<"te">>, <<"gzip">>}},
                           {<<"a">>, {<<"a">>, {}}},
                           {7, {7, <<"v">>}}]]
        ++ [?_assertEqual({error, {badarg, {header, x}}}, hackney_native_headers:request([x])),
            ?_assertEqual({error, {badarg, headers}}, hackney_native_headers:request(x)),
            ?_assertEqual({error, {badarg, headers}}, hackney_native_headers:request([{a, b} | c]))].

method_test_() ->
    [?_assertEqual({ok, <<"POST">>}, hackney_native_headers:method(post)),
     ?_assertEqual({ok, <<"GET">>}, hackney_native_headers:method("get")),
     ?_assertEqual({ok, <<"pAtCh">>}, hackney_native_headers:method(<<"pAtCh">>))]
        ++ [?_assertEqual({error, {invalid_method, M}}, hackney_native_headers:method(M))
            || M <- [<<"GE T">>, <<"GET\r\n">>, <<"G\0">>, <<>>, "", 7, [a], {}]].

target_test_() ->
    [?_assertEqual({ok, <<"/a?b=%20">>}, hackney_native_headers:target(<<"/a?b=%20">>))]
        ++ [?_assertEqual({error, {invalid_request_target, T}}, hackney_native_headers:target(T))
            || T <- [<<"/a b">>, <<"/a\r\nb">>, <<"/\0">>, <<"/", 200>>, <<"a">>, <<>>, "/a", 7]].
