#!/bin/sh
# Puts into priv/ what the compiled Erlang modules need beside them:
#   priv/hackney_native.so   the NIF, built by cargo (Erlang looks for .so on macOS too)
#   priv/drop_in/*.beam      modules with hackney's own names, loaded only on request
# The compile hook of rebar.config runs it, in this project as in one that depends on it (mix goes
# through rebar3 as well). When nothing has changed it writes nothing.
#
# Environment:
#   HACKNEY_NATIVE_LIB   a ready library: it is used and cargo is not needed
#   CARGO                the cargo to run; else PATH is searched, then $CARGO_HOME/bin, ~/.cargo/bin
#   CARGO_TARGET_DIR and cargo's other variables have their usual meaning
set -eu

min_minor=91 # Rust 1.$min_minor, the rust-version of Cargo.toml

cd "$(dirname "$0")/.."
mkdir -p priv

fail() {
    printf '\n%s\n\n' "$*" | fold -s -w 100 >&2
    exit 1
}

# install_file SOURCE TARGET: a running node may have TARGET mapped. Writing into it would pull
# code away under that node, so the new file takes the name by rename and the old one lives on.
install_file() {
    if [ -f "$2" ] && cmp -s "$1" "$2"; then
        return 0
    fi
    tmp="$2.$$.tmp"
    trap 'rm -f "$tmp"' EXIT
    cp "$1" "$tmp"
    chmod 755 "$tmp"
    mv -f "$tmp" "$2"
    trap - EXIT
}

find_cargo() {
    if [ -n "${CARGO:-}" ] && command -v "$CARGO" >/dev/null 2>&1; then
        return 0
    fi
    if [ -n "${CARGO_HOME:-}" ]; then
        PATH="$PATH:$CARGO_HOME/bin"
    fi
    if [ -n "${HOME:-}" ]; then
        PATH="$PATH:$HOME/.cargo/bin" # where rustup puts it; often only login shells have it in PATH
    fi
    export PATH
    CARGO=cargo
    command -v cargo >/dev/null 2>&1 || fail "hackney_native: its engine is written in Rust and no cargo was" \
        "found, neither in PATH nor in ~/.cargo/bin. Install Rust 1.$min_minor or newer: with rustup, from" \
        "https://rustup.rs (on Debian 13 and later: apt install rustup && rustup default stable), or from your" \
        "distribution if its rustc is new enough; then compile again. Without Rust: build the library on a" \
        "machine of the same kind (it is priv/hackney_native.so there) and set HACKNEY_NATIVE_LIB to its path."
}

check_version() {
    version=$("$CARGO" --version 2>/dev/null | sed -n 's/^cargo \([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
    [ -n "$version" ] || fail "hackney_native: $(command -v "$CARGO") was found but does not run:" \
        "\`cargo --version\` said: $("$CARGO" --version 2>&1 | head -n 4 || true)"
    major=${version%%.*}
    minor=${version#*.}
    if [ "$major" -eq 1 ] && [ "$minor" -lt "$min_minor" ]; then
        fail "hackney_native: cargo $version ($(command -v "$CARGO")) is too old, Rust 1.$min_minor or newer is" \
            "needed. Update it (rustup update stable), or install rustup from https://rustup.rs if this one came" \
            "from the distribution; or set HACKNEY_NATIVE_LIB to the path of a library built elsewhere."
    fi
}

# Cargo alone knows where its output is (target directory, target triple, configuration files):
# it is asked, by way of its JSON messages. They also come when nothing had to be built.
build_library() {
    messages=$("$CARGO" build --release --locked -p hackney_native \
        --message-format=json-render-diagnostics) ||
        fail "hackney_native: cargo could not build the NIF; its own messages are above. If it missed a" \
            "linker or a C compiler (cc), install one (Debian: apt install build-essential); if it could not" \
            "download crates, check the network or vendor them (cargo vendor)."
    library=$(printf '%s\n' "$messages" | sed -n \
        -e 's/.*"\([^"]*libhackney_native\.so\)".*/\1/p' \
        -e 's/.*"\([^"]*libhackney_native\.dylib\)".*/\1/p' | tail -n 1)
    [ -n "$library" ] || fail "hackney_native: cargo built the crate but named no shared library." \
        "Is crate-type cdylib set in native/nif/Cargo.toml, and can this target make one?"
}

ready_library() {
    library=$HACKNEY_NATIVE_LIB
    case $library in
        /*) ;;
        # A relative path means what it meant in the shell: relative to the project, not to this dependency.
        *) library="${REBAR_ROOT_DIR:-$PWD}/$library" ;;
    esac
    [ -f "$library" ] || fail "hackney_native: HACKNEY_NATIVE_LIB is set to \"$HACKNEY_NATIVE_LIB\", but" \
        "there is no such file ($library). Give the path of a libhackney_native built for this machine, or" \
        "unset the variable to build it with cargo."
    [ -s "$library" ] && [ -r "$library" ] || fail "hackney_native: HACKNEY_NATIVE_LIB names $library," \
        "which is empty or cannot be read."
}

compile_drop_in() {
    for source in src_erl/drop_in/*.erl; do
        [ -f "$source" ] || continue
        name=$(basename "$source" .erl)
        beam=priv/drop_in/$name.beam
        # Out of date also when this script changed: it holds the compiler's options.
        if [ -f "$beam" ] && [ -z "$(find "$source" native/build.sh -newer "$beam")" ]; then
            continue
        fi
        out=priv/drop_in/.$$
        mkdir -p "$out"
        trap 'rm -rf "$out"' EXIT
        "${ERLC:-erlc}" +debug_info +deterministic -Werror -o "$out" "$source" ||
            fail "hackney_native: $source did not compile; erlc's messages are above."
        mv -f "$out/$name.beam" "$beam"
        rm -rf "$out"
        trap - EXIT
    done
}

if [ -n "${HACKNEY_NATIVE_LIB:-}" ]; then
    ready_library
else
    find_cargo
    check_version
    build_library
fi
install_file "$library" priv/hackney_native.so
compile_drop_in
