%% @private `ssl_options': what they may be and what the engine is told.
-module(hackney_native_tls_options).

-export([parse/1]).

-import(hackney_native_check, [bool/2, one_of/3, file_name/2, bad/2, unsupported/1]).

%% @doc Checks `ssl_options'. Names and values are those of OTP's `ssl' and of hackney.
%%
%% Whom to trust: `{verify, verify_peer | verify_none}' (`verify_peer'), `{insecure, true}' (the same as `verify_none'),
%% `{cacerts, [DER]}' (also what `public_key:cacerts_get/0' returns), `{cacertfile, File}' (before `cacerts', as in hackney); without
%% either the operating system's roots.
%%
%% Who we are: `{certfile, File}' and `{keyfile, File}' (PEM or DER; without `keyfile', `certfile' holds both), or `{cert, DER | [DER] |
%% PEM}' and `{key, {Type, DER} | DER | PEM}', `{password, Text}' for an encrypted PKCS#8 key.
%%
%% `{server_name_indication, Host | disable}' (the URL's host), `{versions, ['tlsv1.3', 'tlsv1.2']}',
%% `{alpn_advertised_protocols, [binary()]}' (`[<<"h2">>]'), `{keylog, File}' (off), `{session_tickets, auto | disabled}' and
%% `{reuse_sessions, boolean()}' (sessions are resumed, under identical options only).
-spec parse(list() | map()) -> {ok, map()} | {error, term()}.
parse(Options) ->
    case hackney_native_check:options(fun option/3, Options, defaults()) of
        {ok, Acc} -> finish(Acc);
        Error -> Error
    end.

defaults() ->
    #{verify => verify_peer, insecure => false, cacerts => undefined, cacertfile => undefined,
      cert => undefined, key => undefined, password => undefined,
      server_name => from_host, tls12 => true, tls13 => true, alpn => [<<"h2">>], keylog => undefined,
      resumption => true}.

option(verify, Value, Acc) -> Acc#{verify := one_of(verify, Value, [verify_peer, verify_none])};
option(insecure, Value, Acc) -> Acc#{insecure := bool(insecure, Value)};
option(cacerts, Value, Acc) when is_list(Value) -> Acc#{cacerts := [cacert(Cert) || Cert <- Value]};
option(cacertfile, Value, Acc) -> Acc#{cacertfile := file_name(cacertfile, Value)};
option(certfile, Value, Acc) -> Acc#{cert := {file, file_name(certfile, Value)}};
option(cert, Value, Acc) -> Acc#{cert := cert(Value)};
option(keyfile, Value, Acc) -> Acc#{key := {file, file_name(keyfile, Value)}};
option(key, Value, Acc) -> Acc#{key := key(Value)};
option(password, Value, Acc) -> Acc#{password := password(Value)};
option(server_name_indication, disable, Acc) -> Acc#{server_name := disable};
option(server_name_indication, Value, Acc) -> Acc#{server_name := {name, server_name(Value)}};
option(versions, Value, Acc) when is_list(Value), Value =/= [] ->
    %% rustls has no older ones: they are broken (RFC 8996).
    [] =:= Value -- ['tlsv1.2', 'tlsv1.3'] orelse unsupported(versions),
    Acc#{tls12 := lists:member('tlsv1.2', Value), tls13 := lists:member('tlsv1.3', Value)};
option(alpn_advertised_protocols, Value, Acc) when is_list(Value) ->
    lists:all(fun(P) -> is_binary(P) andalso byte_size(P) > 0 andalso byte_size(P) < 256 end, Value)
        orelse bad(alpn_advertised_protocols, Value),
    Acc#{alpn := Value};
option(keylog, Value, Acc) -> Acc#{keylog := file_name(keylog, Value)};
option(session_tickets, Value, Acc) -> Acc#{resumption := one_of(session_tickets, Value, [auto, disabled]) =:= auto};
option(reuse_sessions, Value, Acc) -> Acc#{resumption := bool(reuse_sessions, Value)};
option(Name, Value, _Acc) when Name =:= cacerts; Name =:= versions; Name =:= alpn_advertised_protocols -> bad(Name, Value);
option(Name, _Value, _Acc) -> unsupported(Name).

%% `public_key:cacerts_get/0' returns records of the DER and the decoded certificate.
cacert({cert, Der, _Decoded}) when is_binary(Der) -> Der;
cacert(Der) when is_binary(Der) -> Der;
cacert(Other) -> bad(cacerts, Other).

cert(<<"-----BEGIN", _/binary>> = Pem) -> {pem, Pem};
cert(Der) when is_binary(Der) -> {der, [Der]};
cert([_ | _] = Ders) ->
    lists:all(fun is_binary/1, Ders) orelse bad(cert, Ders),
    {der, Ders};
cert(Other) -> bad(cert, Other).

%% A key or password that is wrong is not repeated in the error.
key(<<"-----BEGIN", _/binary>> = Pem) -> {pem, Pem};
key(Der) when is_binary(Der) -> {der, Der};
key({Type, Der}) when is_binary(Der),
                      (Type =:= 'RSAPrivateKey' orelse Type =:= 'ECPrivateKey' orelse Type =:= 'PrivateKeyInfo') ->
    {der, Der};
key({'DSAPrivateKey', _}) -> unsupported(key);
key(_Secret) -> throw({badarg, key}).

password(Text) when is_binary(Text) -> Text;
password(Text) when is_list(Text) ->
    try unicode:characters_to_binary(Text) of
        Bin when is_binary(Bin) -> Bin;
        _ -> throw({badarg, password})
    catch
        error:badarg -> throw({badarg, password})
    end;
password(_Secret) -> throw({badarg, password}).

server_name(Name) when is_binary(Name), Name =/= <<>> -> Name;
server_name([_ | _] = Name) ->
    try list_to_binary(Name)
    catch error:badarg -> bad(server_name_indication, Name)
    end;
server_name(Name) -> bad(server_name_indication, Name).

finish(#{cert := undefined, key := Key}) when Key =/= undefined ->
    {error, {badarg, {cert, undefined}}};
finish(#{verify := Verify, insecure := Insecure, cacerts := Ders, cacertfile := File} = Acc) ->
    Roots = case {File, Ders} of
                {undefined, undefined} -> system;
                {undefined, _} -> {der, Ders};
                {_, _} -> {file, File}
            end,
    Trust = if Insecure -> verify_none; true -> Verify end,
    Rest = maps:without([insecure, cacerts, cacertfile, cert, key, password], Acc),
    Finished = Rest#{verify := Trust, roots => Roots, identity => undefined},
    case identity(Acc) of
        undefined -> {ok, Finished};
        no_key -> {error, {badarg, {key, undefined}}};
        Identity -> {ok, Finished#{identity := Identity}}
    end.

identity(#{cert := undefined}) -> undefined;
identity(#{cert := {file, _} = File, key := undefined, password := Password}) ->
    #{certificate => File, key => File, password => Password};
identity(#{cert := {pem, _} = Pem, key := undefined, password := Password}) ->
    #{certificate => Pem, key => Pem, password => Password};
identity(#{key := undefined}) -> no_key;
identity(#{cert := Cert, key := Key, password := Password}) ->
    #{certificate => Cert, key => Key, password => Password}.
