#!/bin/sh
# Usage: run.sh OTP TARGET...    makes targets of the Makefile on another release of Erlang/OTP
#
# A release comes with the Debian that has it, as a folder below OTP_MATRIX_DIR (_build/otp): made when it is
# missing, kept between runs. What no OTP release touches is built here, outside, once for all of them: the NIF,
# whose one file serves every release, and the test servers in Go and Rust. What is compiled inside goes to
# _build/otpNN, as beams of two releases must not mix.
set -eu

matrix=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$matrix/../.." && pwd)
otp=$1
shift

fail() {
    echo "otp-$otp: $*" >&2
    exit 1
}

case $otp in
    27) debian=trixie ;;
    29) debian=testing ;;
    *) fail "test/matrix/run.sh knows no release of Debian for it" ;;
esac

if [ "$(id -u)" = 0 ]; then as_root=
elif command -v sudo >/dev/null; then as_root=sudo
else fail "debootstrap and mount take root, and there is no sudo here"
fi
$as_root unshare --mount true || fail "this machine lets nobody mount, not even root"

# Cargo alone knows where it puts a program.
server=$("${CARGO:-cargo}" build --release --locked -p hackney_peer --bin h2-server \
    --message-format=json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
cp -f "$server" "$project/_build/servers/h2-server"

rust=$("${RUSTC:-rustc}" --print sysroot)
[ -x "$rust/bin/cargo" ] || fail "the folder borrows a toolchain as rustup installs it, and $rust holds no cargo"

build=$project/_build/otp$otp
mkdir -p "$build/_build" "$build/target" "$build/drop_in"

# enter ROOT USER COMMAND...: in namespaces of its own, which end with this script, whatever ends it. So no mount and
# no server stays behind. Nor is its epmd the machine's, which would end with them.
enter() {
    root=$1 user=$2
    shift 2
    $as_root setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child \
        sh "$matrix/enter.sh" "$root" "$user" "$project" "$build" "$rust" "${CARGO_HOME:-$HOME/.cargo}" \
        $((20000 + $$ % 10000)) "$@" </dev/null
}

folder=${OTP_MATRIX_DIR:-$project/_build/otp}/$otp
if [ ! -d "$folder" ]; then
    begin=$(date +%s)
    # One that was not finished bears another name.
    $as_root rm -rf "$folder.partial"
    $as_root sh "$matrix/make_folder.sh" "$debian" "$folder.partial"
    enter "$folder.partial" 0:0 sh test/setup/install.sh otp
    $as_root mv "$folder.partial" "$folder"
    echo "otp-$otp: $folder made in $(($(date +%s) - begin)) s"
fi
# Costs nothing once all is there; a later version of the tests may need more.
enter "$folder" 0:0 sh test/setup/install.sh otp

found=$(enter "$folder" 0:0 erl -noshell -eval 'io:put_chars(erlang:system_info(otp_release)), halt().')
[ "$found" = "$otp" ] || fail "Debian $debian has OTP $found by now: change test/matrix/run.sh"

# The verdict is that of all targets, and every one runs.
enter "$folder" "$(id -u):$(id -g)" make --no-print-directory --keep-going "$@"
