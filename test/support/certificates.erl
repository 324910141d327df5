%% @doc Fresh certificates for one run of a suite, made by openssl: nothing that could expire is kept
%% in the repository.
%%
%% The directory then holds, for each name of {@link name()}, `Name.pem' and `Name.key'.
-module(certificates).

-export([create/1, file/2]).
-export_type([name/0]).

-type name() :: ca          %% the root that clients are told to trust
              | server      %% localhost, 127.0.0.1 and ::1
              | expired     %% the same names, its time is over
              | wrong_host  %% another name
              | self_signed %% the right names, signed by nobody
              | client.     %% a client's, its common name is "interop client"

-define(PASSWORD, "open sesame").

%% @doc Makes them all in `Dir'. Beside `client.key' there is the same key encrypted, as PKCS#8 in
%% `client_encrypted.key', with the password "open sesame".
-spec create(file:filename()) -> ok.
create(Dir) ->
    ok = filelib:ensure_dir(filename:join(Dir, "x")),
    %% openssl's ca command is the one that dates a certificate freely; it keeps a database.
    ok = file:write_file(filename:join(Dir, "index.txt"), <<>>),
    ok = file:write_file(filename:join(Dir, "openssl.cnf"), configuration()),
    openssl(Dir, "req -x509 -config openssl.cnf -extensions root -subj '/CN=interop root' "
                 "-days 30 " ++ new_key(ca) ++ " -out ca.pem"),
    Local = "DNS:localhost,IP:127.0.0.1,IP:::1",
    signed(Dir, server, "localhost", Local, "-days 30"),
    signed(Dir, expired, "localhost", Local, "-startdate 20200101000000Z -enddate 20200201000000Z"),
    signed(Dir, wrong_host, "elsewhere.test", "DNS:elsewhere.test", "-days 30"),
    signed(Dir, client, "interop client", "DNS:client.test", "-days 30"),
    openssl(Dir, "req -x509 -config openssl.cnf -extensions leaf -subj /CN=localhost -days 30 "
                 ++ new_key(self_signed) ++ " -out self_signed.pem", Local),
    openssl(Dir, "pkcs8 -topk8 -v2 aes-256-cbc -passout 'pass:" ?PASSWORD "' -in client.key "
                 "-out client_encrypted.key").

%% @doc The path of a file that {@link create/1} made: `file(Dir, "ca.pem")'.
-spec file(file:filename(), file:filename()) -> file:filename().
file(Dir, Name) ->
    filename:join(Dir, Name).

-spec signed(file:filename(), name(), string(), string(), string()) -> ok.
signed(Dir, Name, CommonName, AltNames, Dates) ->
    File = atom_to_list(Name),
    openssl(Dir, "req -new -config openssl.cnf -subj '/CN=" ++ CommonName ++ "' "
                 ++ new_key(Name) ++ " -out " ++ File ++ ".csr"),
    openssl(Dir, "ca -batch -notext -config openssl.cnf -extensions leaf "
                 "-in " ++ File ++ ".csr -out " ++ File ++ ".pem " ++ Dates, AltNames).

new_key(Name) ->
    "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout " ++ atom_to_list(Name) ++ ".key".

openssl(Dir, Arguments) ->
    openssl(Dir, Arguments, "DNS:unused.test").

openssl(Dir, Arguments, AltNames) ->
    Port = open_port({spawn_executable, "/bin/sh"},
                     [{args, ["-c", "exec openssl " ++ Arguments]}, {cd, Dir},
                      {env, [{"ALT_NAMES", AltNames}]}, exit_status, stderr_to_stdout, binary]),
    case output(Port, []) of
        {0, _} -> ok;
        {Status, Text} -> error({openssl, Arguments, Status, Text})
    end.

output(Port, Acc) ->
    receive
        {Port, {data, Data}} -> output(Port, [Acc, Data]);
        {Port, {exit_status, Status}} -> {Status, iolist_to_binary(Acc)}
    end.

configuration() ->
    "[req]\n"
    "distinguished_name = name\n"
    "prompt = no\n"
    "[name]\n"
    "CN = unnamed\n"
    "[root]\n"
    "basicConstraints = critical,CA:TRUE\n"
    "keyUsage = critical,keyCertSign,cRLSign\n"
    "subjectKeyIdentifier = hash\n"
    "[leaf]\n"
    "basicConstraints = critical,CA:FALSE\n"
    "keyUsage = critical,digitalSignature\n"
    "extendedKeyUsage = serverAuth,clientAuth\n"
    "subjectAltName = $ENV::ALT_NAMES\n"
    "[ca]\n"
    "default_ca = interop\n"
    "[interop]\n"
    "database = index.txt\n"
    "rand_serial = yes\n"
    "new_certs_dir = .\n"
    "certificate = ca.pem\n"
    "private_key = ca.key\n"
    "default_md = sha256\n"
    "unique_subject = no\n"
    "policy = any\n"
    "[any]\n"
    "commonName = supplied\n".
