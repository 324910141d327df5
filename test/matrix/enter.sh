#!/bin/sh
# Usage: enter.sh ROOT USER PROJECT BUILD RUST CARGO_HOME EPMD_PORT COMMAND...
#
# Runs a command below ROOT. It is started as root and as process 1 of new mount and PID namespaces (see run.sh): nothing is
# undone here. It stays until the command ends, as process 1 must reap what others leave.
set -eu

root=$1 user=$2 project=$3 build=$4 rust=$5 cargo_home=$6 epmd_port=$7
shift 7

# bind SOURCE PATH: SOURCE becomes PATH below the root.
bind() { mount --bind "$1" "$root$2"; }
# lend SOURCE PATH: the same, to be read only.
lend() {
    bind "$1" "$2"
    mount -o remount,bind,ro "$root$2"
}

mkdir -p "$root/hackney_native" "$root/opt/rust" "$root/opt/cargo"
cat /etc/resolv.conf >"$root/etc/resolv.conf"
cat /etc/hosts >"$root/etc/hosts"

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
lend "$rust" /opt/rust
lend "$cargo_home" /opt/cargo
lend "$project" /hackney_native
bind "$build/_build" /hackney_native/_build
bind "$build/target" /hackney_native/target
bind "$build/drop_in" /hackney_native/priv/drop_in
mkdir -p "$build/_build/servers"
lend "$project/_build/servers" /hackney_native/_build/servers

chroot --userspec="$user" "$root" env -i \
    PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 CI=true \
    CARGO_HOME=/opt/cargo CARGO_NET_OFFLINE=true ERL_EPMD_PORT="$epmd_port" \
    HACKNEY_NATIVE_LIB=/hackney_native/priv/hackney_native.so \
    HACKNEY_H2_SERVER=/hackney_native/_build/servers/h2-server \
    sh -c 'cd /hackney_native && exec "$@"' sh "$@"
