#!/bin/sh
# Installs what `make demo` or `make test` needs beyond Rust, cc, make and git on Debian 12 or newer:
#
#     sh test/setup/install.sh demo|test|otp
#
# `otp` is `test` for a bare Debian that is lent Rust and the programs in Go (test/matrix/run.sh).
#
# Installs with apt only what is missing, so that it costs nothing once all is there.
# Where apt is not to be had it says what to install and changes nothing.
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
missing=

# has_command NAME, has_file PATH, has_python MODULE, has_erlang APPLICATION: is it there?
has_command() { command -v "$1" >/dev/null 2>&1 || test -x "/usr/sbin/$1"; }
has_file() { test -e "$1"; }
has_python() { /usr/bin/python3 -c "import $1" >/dev/null 2>&1; }

# One start of the emulator answers for every application.
erlang_applications() {
    has_command erl && erl -noshell -eval \
        '[io:format("~s~n", [A]) || A <- [crypto, public_key, ssl, inets, parsetools, syntax_tools, tools,
                                          common_test, eunit, dialyzer, edoc, xmerl, proper],
                                    is_list(code:lib_dir(A))], halt().' 2>/dev/null || true
}
has_erlang() { echo "$erlang" | grep -qx "$1"; }

# The headers that `-include_lib` asks for are in a package of their own on some releases.
has_erlang_headers() {
    has_command erl && test -e "$(erl -noshell -eval \
        "io:format(\"~s\", [code:lib_dir($1)]), halt()." 2>/dev/null)/include/$1.hrl"
}

# need PACKAGE CHECK ARGUMENT: notes the package when the check fails.
need() {
    if ! "$2" "$3"; then missing="$missing $1"; fi
}

demo() {
    erlang=$(erlang_applications)
    need erlang-base has_command erlc
    need erlang-dev has_erlang_headers public_key
    for application in crypto public_key ssl inets parsetools syntax_tools tools; do
        need "erlang-$(echo $application | tr _ -)" has_erlang $application
    done
    need rebar3 has_command rebar3
    need openssl has_command openssl
}

tests() {
    demo
    for application in common_test eunit dialyzer edoc xmerl; do
        need "erlang-$(echo $application | tr _ -)" has_erlang $application
    done
    need erlang-proper has_erlang proper
    need erlang-proper-dev has_erlang_headers proper
    need elixir has_command elixir
    need nghttp2-server has_command nghttpd
    need nghttp2-client has_command nghttp
    need nginx-light has_command nginx
    need nodejs has_command node
    need python3-grpcio has_python grpc
    need curl has_command curl
    # The authorities the operating system trusts; Go fetches the modules of its programs over TLS.
    need ca-certificates has_file /etc/ssl/certs/ca-certificates.crt
}

bare_system() {
    need make has_command make
    need git has_command git
    need gcc has_command cc
    need libc6-dev has_file /usr/include/stdlib.h
}

install_missing() {
    test -n "$missing" || return 0
    if ! has_command apt-get; then
        echo "Missing:$missing" >&2
        echo "These are Debian's names of the packages. Please install them with this system's own" \
             "package manager, then run this again." >&2
        exit 1
    fi
    if test "$(id -u)" = 0; then as_root=
    elif has_command sudo; then as_root=sudo
    else
        echo "Missing:$missing" >&2
        echo "Installing them takes root, and there is no sudo here. Please run as root:" >&2
        echo "    apt-get update && apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    echo "Installing:$missing"
    # The names must not be quoted: they are separate arguments.
    $as_root apt-get -q update
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $missing
}

# build_go FOLDER PROGRAM PACKAGE: a package of the module in that folder of test becomes that program.
# Go itself finds out whether anything has changed since the last build. It needs neither cc nor git
# for this: a checkout owned by somebody else must not make it fail.
build_go() {
    (cd "$here/test/$1" && CGO_ENABLED=0 go build -buildvcs=false -o "$here/_build/servers/$2" "$3")
}

build_go_programs() {
    build_go servers/go interop_server .
    # Somebody else's programs, built as they are: only the versions are ours.
    build_go h2spec h2spec github.com/summerwind/h2spec/cmd/h2spec
    build_go grpcurl grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl
}

case "${1-}" in
    demo) demo; install_missing ;;
    test) tests; need golang-go has_command go; install_missing; build_go_programs ;;
    otp) tests; bare_system; install_missing ;;
    *) echo "usage: $0 demo|test|otp" >&2; exit 2 ;;
esac
