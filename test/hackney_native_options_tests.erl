-module(hackney_native_options_tests).

-include_lib("eunit/include/eunit.hrl").

stream(Options) ->
    hackney_native_options:stream(maps:merge(#{host => "h", port => 443}, Options)).

engine(Options) ->
    {ok, Engine, _} = stream(Options),
    Engine.

tls(Options) ->
    maps:get(tls, engine(#{ssl_options => Options})).

defaults_test_() ->
    {ok, Engine, ConnectTimeout} = stream(#{}),
    #{tls := Tls, tcp := Tcp} = Engine,
    [?_assertEqual(8000, ConnectTimeout),
     ?_assertMatch(#{method := <<"POST">>, path := <<"/">>, authority := <<"h">>, headers := [], active := false,
                     flow_control := auto, recv_timeout := infinity, send_timeout := 0, informational := false,
                     max_recv_buffer := 67108864, max_send_buffer := 1048576}, Engine),
     ?_assertMatch(#{verify := verify_peer, roots := system, identity := undefined, server_name := from_host,
                     tls12 := true, tls13 := true, alpn := [<<"h2">>], resumption := true}, Tls),
     ?_assertMatch(#{nodelay := true, keepalive := false, family := any}, Tcp)].

the_window_is_no_larger_than_the_buffer_test_() ->
    [?_assertMatch(#{initial_window_size := 1000}, engine(#{max_recv_buffer => 1000})),
     ?_assertMatch(#{initial_window_size := 70000}, engine(#{max_recv_buffer => infinity, initial_window_size => 70000}))].

unsupported_test_() ->
    [?_assertEqual({error, {unsupported_option, nonsense}}, stream(#{nonsense => 1})),
     ?_assertEqual({error, {unsupported_option, pool}}, stream(#{pool => x})),
     ?_assertEqual({error, {unsupported_option, packet}}, stream(#{connect_options => [{packet, 4}]})),
     ?_assertEqual({error, {unsupported_option, binary}}, stream(#{connect_options => [binary]}))]
        ++ [?_assertEqual({error, {unsupported_option, Name}}, stream(#{ssl_options => [{Name, Value}]}))
            || {Name, Value} <- [{verify_fun, x}, {ciphers, []}, {depth, 3}, {versions, ['tlsv1.1']},
                                 {key, {'DSAPrivateKey', <<>>}}, {nonsense, 1}]].


wrong_test_() ->
    [?_assertEqual({error, {badarg, {Name, Value}}}, stream(#{Name => Value}))
     || {Name, Value} <- [{active, 'maybe'}, {active, 0}, {active, 40000}, {flow_control, x}, {connect_timeout, -1},
                          {recv_timeout, x}, {send_timeout, 1.5}, {max_recv_buffer, 0}, {max_send_buffer, -1},
                          {initial_window_size, 0}, {initial_window_size, 1 bsl 31}, {connection_window_size, 65534},
                          {max_frame_size, 16383}, {max_frame_size, 1 bsl 24}, {port, 0}, {port, 65536}, {host, ""},
                          {h2c, 1}, {insecure, 1}, {informational, 1}]]
        ++ [?_assertEqual({error, {badarg, {Name, Value}}}, stream(#{ssl_options => [{Name, Value}]}))
            || {Name, Value} <- [{verify, x}, {cacerts, x}, {cacertfile, x}, {certfile, ""}, {cert, []}, {versions, []},
                                 {server_name_indication, 7}, {alpn_advertised_protocols, ["h2"]}, {session_tickets, x}]]
        ++ [?_assertEqual({error, {badarg, {Name, Value}}}, stream(#{connect_options => [{Name, Value}]}))
            || {Name, Value} <- [{nodelay, 1}, {ip, {1, 2, 3}}, {ip, "nowhere"}, {port, -1}, {recbuf, 0}, {linger, 5}]]
        ++ [?_assertEqual({error, {badarg, options}}, stream(#{connect_options => x})),
            ?_assertEqual({error, {badarg, {option, 7}}}, stream(#{connect_options => [7]})),
            ?_assertEqual({error, {badarg, host}}, hackney_native_options:stream(#{port => 1})),
            ?_assertEqual({error, {badarg, port}}, hackney_native_options:stream(#{host => "h"}))].

secrets_are_not_repeated_test_() ->
    [?_assertEqual({error, {badarg, key}}, stream(#{ssl_options => [{cert, <<1>>}, {key, {secret, "hunter2"}}]})),
     ?_assertEqual({error, {badarg, password}}, stream(#{ssl_options => [{password, {"hunter2"}}]}))].

trust_test_() ->
    [?_assertMatch(#{verify := verify_none}, tls([{insecure, true}])),
     ?_assertMatch(#{verify := verify_none}, tls([insecure])),
     ?_assertMatch(#{tls := #{verify := verify_none}}, engine(#{insecure => true})),
     ?_assertMatch(#{roots := {der, [<<1>>, <<2>>]}}, tls([{cacerts, [<<1>>, {cert, <<2>>, decoded}]}])),
     ?_assertMatch(#{roots := {file, <<"f">>}}, tls([{cacerts, [<<1>>]}, {cacertfile, "f"}])),
     ?_assertMatch(#{server_name := {name, <<"n">>}}, tls([{server_name_indication, "n"}])),
     ?_assertMatch(#{server_name := disable}, tls([{server_name_indication, disable}])),
     ?_assertMatch(#{tls12 := false, tls13 := true}, tls([{versions, ['tlsv1.3']}])),
     ?_assertMatch(#{resumption := false}, tls([{session_tickets, disabled}]))].

identity_test_() ->
    File = {file, <<"c">>},
    [?_assertMatch(#{identity := #{certificate := File, key := File, password := undefined}}, tls([{certfile, "c"}])),
     ?_assertMatch(#{identity := #{certificate := {der, [<<1>>]}, key := {der, <<2>>}, password := <<"p">>}},
                   tls([{cert, <<1>>}, {key, {'RSAPrivateKey', <<2>>}}, {password, "p"}])),
     ?_assertMatch(#{identity := #{key := {pem, _}}}, tls([{cert, [<<1>>]}, {key, <<"-----BEGIN X">>}])),
     ?_assertEqual({error, {badarg, {key, undefined}}}, stream(#{ssl_options => [{cert, <<1>>}]})),
     ?_assertEqual({error, {badarg, {cert, undefined}}}, stream(#{ssl_options => [{keyfile, "k"}]}))].

schemes_test_() ->
    Open = fun(URL, Options) -> hackney_native_options:from_url(post, URL, [], Options) end,
    [?_assertEqual({error, {scheme_not_supported, http}}, Open("http://h", [])),
     ?_assertMatch({ok, #{h2c := true}}, Open("http://h", [{h2c, true}])),
     ?_assertMatch(#{tls := undefined, authority := <<"h:8080">>}, engine(#{h2c => true, port => 8080})),
     ?_assertEqual({error, {scheme_not_supported, http}}, stream(#{transport => hackney_tcp})),
     ?_assertEqual({error, {unsupported_option, host}}, Open("https://h", [{host, "x"}])),
     ?_assertMatch({error, {badarg, options}}, Open("https://h", x))].

the_first_of_two_counts_test() ->
    ?assertMatch(#{tcp := #{nodelay := false}}, engine(#{connect_options => [{nodelay, false}, {nodelay, true}]})).
