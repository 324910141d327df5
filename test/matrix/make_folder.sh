#!/bin/sh
# Usage: make_folder.sh SUITE FOLDER    (as root)
#
# The smallest Debian of that suite, for test/setup/install.sh to go on from.
set -eu

debian=$1
folder=$2

if ! command -v debootstrap >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "debootstrap is missing: please install it with this system's own package manager" >&2
        exit 1
    fi
    apt-get -q update
    env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends debootstrap
fi

mkdir -p "$folder"
debootstrap --variant=minbase "$debian" "$folder"

# What this machine needs to reach a mirror, a proxy for instance, is needed there too.
apt-config dump Acquire >"$folder/etc/apt/apt.conf.d/90outside"
# It can be made again at any time: documentation is of no use, and dpkg need not wait for the disk.
cat >"$folder/etc/dpkg/dpkg.cfg.d/throw-away" <<'END'
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
END
# No package starts its service: the tests start theirs.
printf '#!/bin/sh\nexit 101\n' >"$folder/usr/sbin/policy-rc.d"
chmod 755 "$folder/usr/sbin/policy-rc.d"
