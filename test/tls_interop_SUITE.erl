%% @doc TLS with servers that were not written here: every certificate that must be refused, client
%% certificates, protocol versions and ALPN, against OpenSSL (Node, nginx) and Go's own TLS.
-module(tls_interop_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1]).
-export([trusted/1, ip_literal/1, trust_as_der/1, unknown_authority/1, self_signed/1, self_signed_trusted/1,
         expired/1, wrong_host/1, insecure/1, no_verification/1,
         client_certificate/1, client_certificate_as_der/1, client_certificate_tls12/1,
         encrypted_key/1, encrypted_key_wrong_password/1, client_certificate_missing/1,
         client_certificate_missing_tls12/1,
         version_tls12/1, version_tls13/1, no_common_version/1, no_alpn/1, http1_alpn/1,
         not_tls/1]).

suite() -> [{timetrap, {minutes, 1}}].

all() ->
    [trusted, ip_literal, trust_as_der, unknown_authority, self_signed, self_signed_trusted,
     expired, wrong_host, insecure, no_verification,
     client_certificate, client_certificate_as_der, client_certificate_tls12,
     encrypted_key, encrypted_key_wrong_password, client_certificate_missing,
     client_certificate_missing_tls12,
     version_tls12, version_tls13, no_common_version, no_alpn, http1_alpn, not_tls].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hackney_native),
    Directory = proplists:get_value(priv_dir, Config),
    ok = certificates:create(Directory),
    Servers = [{Kind, peer_server:start(Kind, #{certificates => Directory, root => Directory})}
               || Kind <- [node, nginx, go]],
    [{certificates, Directory} | Servers] ++ Config.

end_per_suite(Config) ->
    [ok = peer_server:stop(proplists:get_value(Kind, Config)) || Kind <- [node, nginx, go]],
    ok.

trusted(Config) ->
    [answers(open(Kind, tls, [{cacertfile, ca(Config)}], Config)) || Kind <- [node, nginx, go]].

%% No SNI, and the address itself must be in the certificate (RFC 6066 section 3, RFC 6125).
ip_literal(Config) ->
    URL = peer_server:url(proplists:get_value(go, Config), tls, "127.0.0.1", "/early"),
    answers(open(URL, [{cacertfile, ca(Config)}])).

trust_as_der(Config) ->
    answers(open(go, tls, [{cacerts, ders(ca(Config))}], Config)).

%% Without options the operating system's roots decide.
unknown_authority(Config) ->
    [refused(unknown_ca, open(Kind, tls, [], Config)) || Kind <- [node, nginx, go]].

self_signed(Config) ->
    refused(unknown_ca, open(node, self_signed, [{cacertfile, ca(Config)}], Config)).

self_signed_trusted(Config) ->
    answers(open(node, self_signed, [{cacertfile, file(Config, "self_signed.pem")}], Config)).

expired(Config) ->
    refused(certificate_expired, open(node, expired, [{cacertfile, ca(Config)}], Config)).

wrong_host(Config) ->
    refused(hostname_check_failed, open(node, wrong_host, [{cacertfile, ca(Config)}], Config)).

%% hackney's own option.
insecure(Config) ->
    [answers(open(node, Listener, [{insecure, true}], Config))
     || Listener <- [tls, expired, wrong_host, self_signed]].

no_verification(Config) ->
    [answers(open(node, Listener, [{verify, verify_none}], Config))
     || Listener <- [tls, expired, wrong_host, self_signed]].

client_certificate(Config) ->
    ?assertEqual(<<"interop client">>, whoami(open_mutual(mtls, identity(Config), Config))).

client_certificate_as_der(Config) ->
    [Certificate] = ders(file(Config, "client.pem")),
    {ok, PEM} = file:read_file(file(Config, "client.key")),
    [{Type, Key, not_encrypted}] = public_key:pem_decode(PEM),
    ?assertEqual(<<"interop client">>,
                 whoami(open_mutual(mtls, [{cert, Certificate}, {key, {Type, Key}}], Config))).

client_certificate_tls12(Config) ->
    ?assertEqual(<<"interop client">>, whoami(open_mutual(mtls12, identity(Config), Config))).

encrypted_key(Config) ->
    ?assertEqual(<<"interop client">>,
                 whoami(open_mutual(mtls, encrypted_identity("open sesame", Config), Config))).

encrypted_key_wrong_password(Config) ->
    ?assertMatch({error, _}, open_mutual(mtls, encrypted_identity("something else", Config), Config)).

%% In TLS 1.3 the refusal comes after our side of the handshake is complete (RFC 8446 section 4.4.2.4).
%% Go 1.19, which is Debian 12's, says bad_certificate.
client_certificate_missing(Config) ->
    refused(certificate_required, open(node, mtls, [{cacertfile, ca(Config)}], Config)),
    {error, {tls_alert, {Alert, _}}} = open_mutual(mtls, [], Config),
    ?assert(lists:member(Alert, [bad_certificate, certificate_required])).

client_certificate_missing_tls12(Config) ->
    {error, {tls_alert, {Alert, _}}} = open_mutual(mtls12, [], Config),
    ?assert(lists:member(Alert, [handshake_failure, bad_certificate, certificate_required])).

version_tls12(Config) ->
    answers(open(node, tls12, [{cacertfile, ca(Config)}], Config)).

version_tls13(Config) ->
    answers(open(node, tls13, [{cacertfile, ca(Config)}, {versions, ['tlsv1.3']}], Config)).

no_common_version(Config) ->
    refused(protocol_version,
            open(node, tls12, [{cacertfile, ca(Config)}, {versions, ['tlsv1.3']}], Config)),
    refused(protocol_version,
            open(node, tls13, [{cacertfile, ca(Config)}, {versions, ['tlsv1.2']}], Config)).

%% A server that ignores ALPN speaks HTTP/1.1 (RFC 9113 section 3.3) ...
no_alpn(Config) ->
    ?assertEqual({error, {protocol_not_negotiated, http1}},
                 open(node, no_alpn, [{cacertfile, ca(Config)}], Config)).

%% ... and so does one that knows no other protocol; nginx refuses ours with an alert.
http1_alpn(Config) ->
    ?assertEqual({error, {protocol_not_negotiated, http1}},
                 open(nginx, http1, [{cacertfile, ca(Config)}], Config)).

%% A listener that answers a ClientHello with HTTP/2 frames, or by closing.
not_tls(Config) ->
    <<"http:", Rest/binary>> = url(node, h2c, Config),
    ?assertMatch({error, _}, open(<<"https:", Rest/binary>>, [])).

%% Helpers.

file(Config, Name) -> certificates:file(proplists:get_value(certificates, Config), Name).

ca(Config) -> file(Config, "ca.pem").

ders(File) ->
    {ok, PEM} = file:read_file(File),
    [DER || {'Certificate', DER, not_encrypted} <- public_key:pem_decode(PEM)].

identity(Config) ->
    [{certfile, file(Config, "client.pem")}, {keyfile, file(Config, "client.key")}].

encrypted_identity(Password, Config) ->
    [{certfile, file(Config, "client.pem")}, {keyfile, file(Config, "client_encrypted.key")},
     {password, Password}].

url(Kind, Listener, Config) ->
    peer_server:url(proplists:get_value(Kind, Config), Listener, "/early").

open(Kind, Listener, SSLOptions, Config) ->
    open(url(Kind, Listener, Config), SSLOptions).

open(URL, SSLOptions) ->
    hackney_native:h2_open(post, URL, [], [{ssl_options, SSLOptions}, {connect_timeout, 10000}]).

open_mutual(Listener, Identity, Config) ->
    URL = peer_server:url(proplists:get_value(go, Config), Listener, "/whoami"),
    open(URL, [{cacertfile, ca(Config)} | Identity]).

answers(Opened) ->
    ?assertEqual(<<"early">>, body(Opened)).

whoami(Opened) -> body(Opened).

%% The servers answer without waiting for our end, so there is none.
body({ok, Pid}) ->
    #{status := 200, body := Body, ended := done} = h2_conversation:collect(Pid),
    ok = hackney_native:h2_close(Pid),
    Body.

%% The text is for people, and not empty.
refused(Alert, Opened) ->
    {error, {tls_alert, {Given, Text}}} = Opened,
    ?assertEqual(Alert, Given),
    ?assert(iolist_size(Text) > 0).
