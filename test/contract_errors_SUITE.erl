%%% @doc Section 3 of the contract: every error term, provoked for real; and what bad input gets.
-module(contract_errors_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

-import(h2_case, [open/0, open/1, open/2, respond/1, recv/1, drain/1, active/1, silent/1, gone/1,
                  is_bad/1, is_closed/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() -> [{group, connecting}, {group, tls}, {group, input}, {group, running}].

groups() ->
    [{connecting, [parallel],
      [scheme_not_supported, connection_refused, unknown_host, no_local_address,
       timeout_in_tcp, timeout_in_tls, timeout_before_settings, closed_while_connecting,
       reset_while_connecting, goaway_while_connecting, not_http2_behind_the_port]},
     {tls, [parallel],
      [unknown_ca, bad_certificate, self_signed_and_insecure, certificate_expired, hostname_check_failed,
       protocol_version, alerts_by_name, client_certificate_required, alpn_absent, alpn_http1,
       alpn_refused]},
     {input, [parallel],
      [wrong_types, unknown_options, option_values, bad_urls, bad_methods, bad_targets, bad_headers,
       bad_trailers, nothing_was_sent]},
     {running, [parallel],
      [send_buffer_full, reset_by_code, reset_by_unknown_code, goaway_by_code, orderly_close,
       close_without_close_notify, tcp_reset, truncated_frame, recv_buffer_overflow,
       send_after_fin, send_after_trailers, send_after_the_end, send_after_close,
       errors_in_active_mode, not_connected]}].

init_per_suite(Config) -> h2_case:start(), Config.
end_per_suite(_Config) -> ok.

%% ---- connecting ------------------------------------------------------------------------------

scheme_not_supported(_Config) ->
    ?assertEqual({error, {scheme_not_supported, http}},
                 hackney_native:h2_open(<<"http://localhost:1/">>, [])),
    ?assertEqual({error, {scheme_not_supported, http}},
                 hackney_native:h2_open(<<"http://localhost:1/">>, [{h2c, false}])),
    ?assertEqual({error, {scheme_not_supported, ftp}},
                 hackney_native:h2_open("ftp://localhost/", [])).

connection_refused(_Config) ->
    ?assertEqual({error, econnrefused}, open_at(h2_case:refused_port())).

%% RFC 6761 keeps the top-level domain `invalid' free of names.
unknown_host(_Config) ->
    ?assertEqual({error, nxdomain},
                 hackney_native:h2_open(<<"https://no-such-host.invalid/">>, [])).

no_local_address(_Config) ->
    Peer = raw_peer:start(),
    ?assertEqual({error, eaddrnotavail},
                 h2_open(Peer, [{connect_options, [{ip, {192, 0, 2, 1}}]}])).

%% A listener whose queue is full does not answer at all.
timeout_in_tcp(_Config) ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {backlog, 0}]),
    {ok, Port} = inet:port(Listen),
    fill(Port),
    ?assertEqual({error, connect_timeout}, open_at(Port, [{connect_timeout, 100}])).

fill(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [], 100) of
        {ok, _} -> fill(Port);
        {error, timeout} -> ok
    end.

timeout_in_tls(_Config) ->
    {ok, Listen} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listen),
    ?assertEqual({error, connect_timeout}, open_at(Port, [{connect_timeout, 100}])).

timeout_before_settings(_Config) ->
    Peer = raw_peer:start(#{script => []}),
    Start = erlang:monotonic_time(millisecond),
    ?assertEqual({error, connect_timeout}, h2_open(Peer, [{connect_timeout, 1000}])),
    Took = erlang:monotonic_time(millisecond) - Start,
    ?assert(Took >= 1000 andalso Took < 5000, Took),
    %% The connection is not left behind.
    _ = raw_peer:expect(raw_peer:accept(Peer), fun(#{type := Type}) ->
        Type =:= closed orelse Type =:= handshake_failed
    end).

closed_while_connecting(_Config) ->
    Peer = raw_peer:start(#{script => [{expect, headers}, close]}),
    ?assertEqual({error, closed}, h2_open(Peer)),
    Plain = raw_peer:start(#{transport => tcp, script => [{expect, headers}, close]}),
    ?assertEqual({error, closed}, h2_open(Plain)),
    %% In the middle of the TLS handshake.
    Rude = raw_peer:start(#{transport => tcp, script => [close]}),
    ?assertMatch({error, Reason} when Reason =:= closed orelse element(1, Reason) =:= closed,
                 open_at(raw_peer:port(Rude))).

reset_while_connecting(_Config) ->
    Peer = raw_peer:start(#{script => [{expect, headers}, abort]}),
    ?assertEqual({error, {closed, econnreset}}, h2_open(Peer)).

goaway_while_connecting(_Config) ->
    Peer = raw_peer:start(#{script => [{expect, headers},
                                       {goaway, 0, enhance_your_calm, <<"later">>}, close]}),
    ?assertMatch({error, {goaway, enhance_your_calm}}, h2_open(Peer)).

not_http2_behind_the_port(_Config) ->
    Peer = raw_peer:start(#{transport => tcp,
                            script => [{raw, <<"HTTP/1.1 400 Bad Request\r\n\r\n">>}]}),
    ?assertMatch({error, {closed, {connection_error, _}}}, h2_open(Peer)).

%% ---- TLS -------------------------------------------------------------------------------------

unknown_ca(_Config) ->
    #{cert := Other} = public_key:pkix_test_root_cert("Another root", [{key, {rsa, 2048, 65537}}]),
    alert(unknown_ca, #{}, [{ssl_options, [{cacerts, [Other]}]}]).

%% A root of the right name with another key: the signature is wrong.
bad_certificate(_Config) ->
    #{cacerts := Others} = raw_peer:identity(#{}),
    alert(bad_certificate, #{}, [{ssl_options, [{cacerts, Others}]}]).

%% One and the same server: refused by default, taken when the caller says so.
self_signed_and_insecure(_Config) ->
    Peer = raw_peer:start(),
    Url = raw_peer:url(Peer),
    ?assertMatch({error, {tls_alert, {unknown_ca, _}}}, hackney_native:h2_open(Url, [])),
    [?assertMatch({ok, _}, hackney_native:h2_open(Url, Opts))
     || Opts <- [[insecure], [{insecure, true}], [{ssl_options, [insecure]}],
                 [{ssl_options, [{insecure, true}]}], [{ssl_options, [{verify, verify_none}]}]]].

certificate_expired(_Config) ->
    Identity = raw_peer:identity(#{validity => {{2020, 1, 1}, {2020, 2, 1}}}),
    alert(certificate_expired, #{identity => Identity}, []).

hostname_check_failed(_Config) ->
    Identity = raw_peer:identity(#{names => [{dNSName, "elsewhere.test"}]}),
    alert(hostname_check_failed, #{identity => Identity}, []).

protocol_version(_Config) ->
    Peer = raw_peer:start(#{tls => [{versions, ['tlsv1.2']}]}),
    Result = hackney_native:h2_open(
               raw_peer:url(Peer), [{ssl_options, [{versions, ['tlsv1.3']} | ssl(Peer)]}]),
    ?assertMatch({error, {tls_alert, {protocol_version, [_ | _]}}}, Result).

%% A listener that answers the ClientHello with an alert (RFC 8446 section 6) and nothing else.
alerts_by_name(_Config) ->
    Alerts = [{40, handshake_failure}, {42, bad_certificate}, {43, unsupported_certificate},
              {44, certificate_revoked}, {45, certificate_expired}, {46, certificate_unknown},
              {47, illegal_parameter}, {48, unknown_ca}, {49, access_denied}, {50, decode_error},
              {51, decrypt_error}, {70, protocol_version}, {71, insufficient_security},
              {80, internal_error}, {112, unrecognized_name}, {116, certificate_required}],
    [begin
         Peer = raw_peer:start(#{transport => tcp,
                                 script => [{raw, <<21, 3, 3, 2:16, 2, Code>>}]}),
         {error, {tls_alert, {Alert, Text}}} = open_at(raw_peer:port(Peer)),
         ?assertEqual({Code, Name}, {Code, Alert}),
         ?assert(io_lib:printable_unicode_list(Text), Text)
     end || {Code, Name} <- Alerts].

client_certificate_required(_Config) ->
    #{client := Client} = Identity = raw_peer:identity(#{}),
    Tls = [{verify, verify_peer}, {fail_if_no_peer_cert, true}, {versions, ['tlsv1.2']}],
    Peer = raw_peer:start(#{identity => Identity, tls => Tls}),
    ?assertMatch({error, {tls_alert, {handshake_failure, _}}}, h2_open(Peer)),
    Key = [{Name, Value} || {Name, Value} <- Client, Name =:= cert orelse Name =:= key],
    ?assertMatch({ok, _}, hackney_native:h2_open(raw_peer:url(Peer),
                                                 [{ssl_options, Key ++ ssl(Peer)}])),
    %% TLS 1.3 tells of it after the client believes to be done.
    Peer13 = raw_peer:start(#{identity => Identity,
                              tls => lists:keyreplace(versions, 1, Tls,
                                                      {versions, ['tlsv1.3']})}),
    ?assertMatch({error, {tls_alert, {certificate_required, _}}}, h2_open(Peer13)),
    ?assertMatch({ok, _}, hackney_native:h2_open(raw_peer:url(Peer13),
                                                 [{ssl_options, Key ++ ssl(Peer13)}])).

alpn_absent(_Config) ->
    ?assertEqual({error, {protocol_not_negotiated, http1}}, h2_open(raw_peer:start(#{alpn => none}))).

alpn_http1(_Config) ->
    Peer = raw_peer:start(#{alpn => [<<"http/1.1">>]}),
    Alpn = [{alpn_advertised_protocols, [<<"h2">>, <<"http/1.1">>]}],
    ?assertEqual({error, {protocol_not_negotiated, http1}},
                 hackney_native:h2_open(raw_peer:url(Peer), [{ssl_options, Alpn ++ ssl(Peer)}])).

%% A server that speaks ALPN but not h2 may end the handshake (RFC 7301 section 3.2).
alpn_refused(_Config) ->
    ?assertEqual({error, {protocol_not_negotiated, http1}},
                 h2_open(raw_peer:start(#{alpn => [<<"spdy/3">>]}))).

%% ---- bad input -------------------------------------------------------------------------------

wrong_types(_Config) ->
    Url = <<"https://localhost/">>,
    Opens = [[42, []], [url, []], [{}, []], [Url, headers, []], [Url, [<<"a">>], []],
             [Url, [{<<"a">>, b, c}], []], [Url, [{<<"a">>, <<"b">>} | tail], []], [Url, [], 42],
             [Url, [not_a_known_option_at_all | tail]], [[$h, -1], []], [<<"https://\xff">>, []]],
    [?assert(refused(fun() -> apply(hackney_native, h2_open, Args) end), Args) || Args <- Opens],
    {Stream, Conn} = open(),
    Calls = [{h2_send, [Stream, atom]}, {h2_send, [Stream, [300]]}, {h2_send, [Stream, [<<1:3>>]]},
             {h2_send, [Stream, <<"x">>, maybe_fin]}, {h2_send, [not_a_pid, <<"x">>]},
             {h2_send, [Stream, <<"x">>, nofin, #{block => -1}]},
             {h2_send_trailers, [Stream, trailers]}, {h2_send_trailers, [Stream, [{1}]]},
             {h2_recv, [Stream, -1]}, {h2_recv, [Stream, soon]}, {h2_recv, [not_a_pid]},
             {h2_consume, [Stream, -1]}, {h2_consume, [Stream, 1.0]},
             {h2_setopts, [Stream, [{active, 40000}]]}, {h2_setopts, [Stream, active]},
             {h2_setopts, [Stream, [{passive, true}]]}, {h2_setopts, [x, [{active, true}]]},
             {h2_controlling_process, [Stream, x]}, {h2_close, [x]}, {h2_info, [x]}],
    [?assert(is_bad(fun() -> apply(hackney_native, F, Args) end), {F, Args}) || {F, Args} <- Calls],
    %% None of them has done anything.
    ok = hackney_native:h2_send(Stream, <<"well">>, fin),
    #{data := <<"well">>} = raw_peer:expect(Conn, data),
    [] = [F || #{type := T} = F <- raw_peer:transcript(Conn), T =:= rst_stream].

unknown_options(_Config) ->
    Url = <<"https://localhost/">>,
    [?assertEqual({error, {unsupported_option, Name}}, hackney_native:h2_open(Url, Opts))
     || {Name, Opts} <- [{no_such_option, [{no_such_option, 1}]},
                         {no_such_option, [no_such_option]},
                         {keepalive, [{keepalive, 1000}]},
                         {no_such_option, [{ssl_options, [{no_such_option, 1}]}]},
                         {ciphers, [{ssl_options, [{ciphers, ["x"]}]}]},
                         {verify_fun, [{ssl_options, [{verify_fun, x}]}]},
                         {no_such_option, [{connect_options, [{no_such_option, 1}]}]},
                         {packet, [{connect_options, [{packet, 4}]}]}]],
    {Stream, _Conn} = open(),
    ?assertEqual({error, {unsupported_option, no_such_option}},
                 hackney_native:h2_send(Stream, <<"x">>, nofin, #{no_such_option => 1})).

option_values(_Config) ->
    [?assertEqual({Opt, true},
                  {Opt, refused(fun() -> hackney_native:h2_open(<<"https://localhost/">>, [Opt]) end)})
     || Opt <- [{active, sometimes}, {active, 0}, {active, 32768}, {flow_control, none},
                {connect_timeout, -1}, {recv_timeout, soon}, {send_timeout, 1.5},
                {initial_window_size, 0}, {initial_window_size, 16#80000000},
                {connection_window_size, 1}, {max_recv_buffer, -1}, {max_send_buffer, none},
                {informational, 1}, {h2c, maybe_so}, {connect_options, none}, {ssl_options, none},
                {ssl_options, [{verify, perhaps}]}, {ssl_options, [{cacerts, none}]},
                {ssl_options, [{versions, ['sslv3']}]}]].

bad_urls(_Config) ->
    [?assertMatch({Url, {error, _}}, {Url, hackney_native:h2_open(Url, [])})
     || Url <- [<<>>, <<"https://">>, <<"https:///path">>, <<"https://localhost:99999/">>,
                <<"https://localhost:port/">>, <<"https://localhost:0/">>, <<"https://[::1/">>,
                <<"https://local host/">>, <<"https://local\r\nhost/">>, "https://user:pw@localhost/"]].

bad_methods(_Config) ->
    [?assertEqual({error, {invalid_method, Method}},
                  hackney_native:h2_open(Method, <<"https://localhost/">>, [], []))
     || Method <- [<<"GE\rT">>, <<"GE\nT">>, <<"GE\0T">>, <<"GET / HTTP/1.1\r\nX:">>, <<>>,
                   <<"G T">>, "PO\nST"]].

bad_targets(_Config) ->
    [?assertEqual({error, {invalid_request_target, Path}},
                  hackney_native:h2_open(<<"https://localhost", Path/binary>>, []))
     || Path <- [<<"/a\rb">>, <<"/a\nb">>, <<"/a\0b">>, <<"/?q=\r\nHost: x">>]].

bad_headers(_Config) ->
    Open = fun(Header) -> hackney_native:h2_open(<<"https://localhost/">>, [Header], []) end,
    [?assertEqual({error, {invalid_header, Name}}, Open({Name, <<"v">>}))
     || Name <- [<<"a\rb">>, <<"a\nb">>, <<"a\0b">>, <<"a b">>, <<>>, <<":path">>, <<"a:">>]],
    [?assertEqual({error, {invalid_header, <<"x">>}}, Open({<<"X">>, Value}))
     || Value <- [<<"a\rb">>, <<"a\nb">>, <<"a\0b">>, "a\r\nb: c", [<<"not text">>, -1]]],
    %% RFC 9113 section 8.2.2: fields of an HTTP/1.1 connection.
    [?assertEqual({error, {invalid_header, Name}}, Open({Name, Value}))
     || {Name, Value} <- [{<<"connection">>, <<"close">>}, {<<"transfer-encoding">>, <<"chunked">>},
                          {<<"te">>, <<"gzip">>}]].

bad_trailers(_Config) ->
    {Stream, Conn} = open(),
    [?assertEqual({error, {invalid_header, <<"t">>}},
                  hackney_native:h2_send_trailers(Stream, [{<<"t">>, Value}]))
     || Value <- [<<"a\rb">>, <<"a\nb">>, <<"a\0b">>]],
    ?assertEqual({error, {invalid_header, <<":status">>}},
                 hackney_native:h2_send_trailers(Stream, [{<<":status">>, <<"200">>}])),
    %% The stream is as open as before.
    ok = hackney_native:h2_send_trailers(Stream, [{<<"t">>, <<"fine">>}]),
    #{headers := [{<<"t">>, <<"fine">>}]} = raw_peer:expect(Conn, headers).

nothing_was_sent(_Config) ->
    Peer = raw_peer:start(),
    Url = raw_peer:url(Peer),
    Opts = raw_peer:options(Peer),
    {error, _} = hackney_native:h2_open(<<"G T">>, Url, [], Opts),
    {error, _} = hackney_native:h2_open(Url, [{<<"a">>, <<"\n">>}], Opts),
    {error, _} = hackney_native:h2_open(Url, [{no_such_option, 1} | Opts]),
    ?assertEqual(0, raw_peer:connections(Peer)).

%% ---- on a running stream ---------------------------------------------------------------------

send_buffer_full(_Config) ->
    {Stream, Conn} = open(#{settings => [{initial_window_size, 0}]}, []),
    MiB = 1024 * 1024,
    First = crypto:strong_rand_bytes(MiB - 10),
    ok = hackney_native:h2_send(Stream, First),
    ok = hackney_native:h2_send(Stream, <<"0123456789">>),
    ?assertEqual({error, send_buffer_full}, hackney_native:h2_send(Stream, <<"x">>)),
    ?assertEqual({error, send_buffer_full}, hackney_native:h2_send(Stream, <<"x">>, fin)),
    %% An empty piece needs no room.
    ok = hackney_native:h2_send(Stream, <<>>),
    %% Nothing of the refused ones was taken, and there is room again once the peer has some.
    Total = MiB,
    [ok, ok, Total] = raw_peer:run(Conn, [{window_update, 0, 2 * MiB}, {window_update, 1, 2 * MiB},
                                          {expect_bytes, 1, Total}]),
    ok = hackney_native:h2_send(Stream, <<"fits again">>, fin),
    [_] = raw_peer:run(Conn, [{expect_bytes, 1, Total + 10}]),
    ?assertEqual(<<First/binary, "0123456789fits again">>, body(Conn)).

%% What was received before the reset is read before it is told.
reset_by_code(_Config) ->
    [begin
         {Stream, Conn} = open(),
         respond(Conn),
         [ok] = raw_peer:run(Conn, [{rst, 1, Code}]),
         ?assertEqual([{response, 200, []}, {error, {stream_error, Code}}], drain(Stream)),
         ?assert(is_closed(hackney_native:h2_send(Stream, <<"x">>)))
     end || Code <- h2_frames:code_names()].

reset_by_unknown_code(_Config) ->
    [begin
         {Stream, Conn} = open(),
         [ok] = raw_peer:run(Conn, [{rst, 1, Code}]),
         ?assertEqual({error, {stream_error, Code}}, recv(Stream))
     end || Code <- [14, 255, 16#ffffffff]].

goaway_by_code(_Config) ->
    [begin
         {Stream, Conn} = open(),
         respond(Conn),
         [ok] = raw_peer:run(Conn, [{goaway, 0, Code, <<"debug data">>}]),
         ?assertEqual([{response, 200, []}, {error, {goaway, Code}}], drain(Stream))
     end || Code <- h2_frames:code_names() ++ [14, 16#ffffffff]].

orderly_close(_Config) ->
    [begin
         {Stream, Conn} = open(#{transport => Transport}, []),
         respond(Conn),
         [ok] = raw_peer:run(Conn, [close]),
         ?assertEqual([{response, 200, []}, {error, closed}], drain(Stream))
     end || Transport <- [tls, tcp]].

%% A bare FIN under TLS may be an attacker's (RFC 8446 section 6.1): not an orderly end.
close_without_close_notify(_Config) ->
    {Stream, Conn} = open(),
    respond(Conn),
    [ok] = raw_peer:run(Conn, [shutdown]),
    [{response, 200, []}, {error, Reason}] = drain(Stream),
    ?assert(Reason =:= closed orelse element(1, Reason) =:= closed, Reason).

tcp_reset(_Config) ->
    [begin
         {Stream, Conn} = open(#{transport => Transport}, []),
         respond(Conn),
         {response, 200, []} = recv(Stream),
         [ok] = raw_peer:run(Conn, [abort]),
         ?assertEqual([{error, {closed, econnreset}}], drain(Stream))
     end || Transport <- [tls, tcp]].

truncated_frame(_Config) ->
    Frame = iolist_to_binary(h2_frames:data(1, <<"never whole">>, nofin)),
    [begin
         {Stream, Conn} = open(#{transport => Transport}, []),
         respond(Conn),
         [ok, ok] = raw_peer:run(Conn, [{raw, binary:part(Frame, 0, Size)}, close]),
         ?assertMatch([{response, 200, []}, {error, {closed, _}}], drain(Stream))
     end || Transport <- [tls, tcp], Size <- [4, 9, 15]].

%% Only a peer that breaks its window can get there.
recv_buffer_overflow(_Config) ->
    %% Manual: reading must not give the peer room for the rest.
    {Stream, Conn} = open([{initial_window_size, 1000}, {flow_control, manual}]),
    respond(Conn),
    [ok, ok] = raw_peer:run(Conn, [{data, 1, binary:copy(<<"x">>, 1000)},
                                   {data, 1, binary:copy(<<"y">>, 500)}]),
    [{response, 200, []} | Rest] = drain(Stream),
    ?assertEqual({error, recv_buffer_overflow}, lists:last(Rest)),
    _ = raw_peer:expect(Conn, closed).

send_after_fin(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send(Stream, <<"x">>, fin),
    [?assert(is_closed(Call())) || Call <- sends(Stream)],
    ok = raw_peer:barrier(Conn),
    ?assertEqual(<<"x">>, body(Conn)).

send_after_trailers(_Config) ->
    {Stream, Conn} = open(),
    ok = hackney_native:h2_send_trailers(Stream, [{<<"t">>, <<"1">>}]),
    [?assert(is_closed(Call())) || Call <- sends(Stream)],
    ok = raw_peer:barrier(Conn),
    ?assertEqual(<<>>, body(Conn)).

send_after_the_end(_Config) ->
    {Stream, Conn} = open(),
    [ok] = raw_peer:run(Conn, [{headers, 1, [{<<":status">>, <<"200">>}], fin}]),
    [{response, 200, []}, done, {error, closed}] = drain(Stream),
    [?assertEqual({error, closed}, Call()) || Call <- sends(Stream)].

send_after_close(_Config) ->
    {Stream, _Conn} = open(),
    ok = hackney_native:h2_close(Stream),
    [?assert(is_closed(Call())) || Call <- sends(Stream)].

errors_in_active_mode(_Config) ->
    [begin
         {Stream, Conn} = open([{active, Mode}]),
         _ = raw_peer:run(Conn, Steps),
         ?assertEqual({Mode, {error, Reason}}, {Mode, active(Stream)}),
         gone(Stream),
         silent(Stream)
     end || Mode <- [true, once],
            {Steps, Reason} <- [{[{rst, 1, cancel}], {stream_error, cancel}},
                                {[{goaway, 0, no_error}], {goaway, no_error}},
                                {[abort], {closed, econnreset}}]].

not_connected(_Config) ->
    {ok, Stream} = hackney_native_h2_stream:start_link(
                     #{host => "localhost", port => 1, transport => hackney_ssl}),
    ?assertEqual({error, not_connected}, hackney_native:h2_send(Stream, <<"x">>)),
    ?assertEqual({error, not_connected}, hackney_native:h2_recv(Stream)).

%% ---- helpers ---------------------------------------------------------------------------------

h2_open(Peer) -> h2_open(Peer, []).

h2_open(Peer, More) ->
    hackney_native:h2_open(raw_peer:url(Peer), [], raw_peer:options(Peer, More)).

open_at(Port) -> open_at(Port, []).

open_at(Port, Opts) ->
    Url = iolist_to_binary(["https://127.0.0.1:", integer_to_list(Port)]),
    hackney_native:h2_open(Url, [insecure | Opts]).

ssl(Peer) -> proplists:get_value(ssl_options, raw_peer:options(Peer)).

alert(Expected, PeerOpts, Opts) ->
    Peer = raw_peer:start(PeerOpts),
    Result = hackney_native:h2_open(raw_peer:url(Peer), Opts ++ case Opts of
                                                                    [] -> raw_peer:options(Peer);
                                                                    _ -> []
                                                                end),
    {error, {tls_alert, {Alert, Text}}} = Result,
    ?assertEqual(Expected, Alert),
    ?assert(io_lib:printable_unicode_list(Text), Text).

%% Refused by an exception or by any error that comes before the network.
refused(Fun) ->
    try Fun() of
        {error, Reason} when is_tuple(Reason); Reason =:= badarg -> true;
        Other -> {accepted, Other}
    catch
        error:badarg -> true;
        error:function_clause -> true
    end.

sends(Stream) ->
    [fun() -> hackney_native:h2_send(Stream, <<"late">>) end,
     fun() -> hackney_native:h2_send(Stream, <<"late">>, fin) end,
     fun() -> hackney_native:h2_send(Stream, <<>>, fin) end,
     fun() -> hackney_native:h2_send_trailers(Stream, [{<<"t">>, <<"late">>}]) end].

body(Conn) ->
    iolist_to_binary([Data || #{type := data, data := Data} <- raw_peer:transcript(Conn)]).
