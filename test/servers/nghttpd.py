#!/usr/bin/python3
"""Runs nghttpd over TLS and in cleartext: files, uploads echoed, every response with a trailer.

Usage: nghttpd.py CERTIFICATE_FILE KEY_FILE FILE_DIRECTORY
"""
import os
import shutil
import socket
import subprocess
import sys
import threading

import supervise


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(root, *options, identity=()):
    """nghttpd cannot choose a port itself: offers it free ones until one is still free."""
    while True:
        port = free_port()
        # Only when verbose does it say that it listens; and newer ones hold that back in a buffer until it is full.
        process = supervise.spawn(
            ["stdbuf", "--output=L", "nghttpd", "-v", "-a", "127.0.0.1", "-d", root, "--echo-upload",
             "--trailer", "x-trailer: from nghttpd", *options, str(port), *identity],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if any(b"listen" in line for line in process.stdout):
            discard(process.stdout)
            return port


def discard(output):
    sink = open(os.devnull, "wb")
    threading.Thread(target=shutil.copyfileobj, args=(output, sink), daemon=True).start()


def main(certificate, key, root):
    tls = start(root, identity=(key, certificate))
    h2c = start(root, "--no-tls")
    supervise.announce({"tls": tls, "h2c": h2c})
    supervise.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
