#!/usr/bin/python3
"""Runs nginx: HTTP/2 over TLS and in cleartext, and one listener that speaks HTTP/1.1 only.

Usage: nginx.py CERTIFICATE_FILE KEY_FILE FILE_DIRECTORY
"""
import os
import pathlib
import shutil
import socket
import sys
import tempfile

import supervise

LISTENERS = ("tls", "h2c", "http1", "goaway")

CONFIGURATION = pathlib.Path(__file__).with_name("nginx.conf")


def main(certificate, key, root):
    # nginx takes over listening sockets that the environment names, so the kernel can choose the
    # ports and a client may connect before nginx has even started.
    sockets = {name: socket.create_server(("127.0.0.1", 0)) for name in LISTENERS}
    ports = {name: s.getsockname()[1] for name, s in sockets.items()}
    descriptors = [s.fileno() for s in sockets.values()]
    inherited = "".join(f"{descriptor};" for descriptor in descriptors)

    home = pathlib.Path(tempfile.mkdtemp(prefix="nginx-"))
    (home / "store").mkdir()
    text = CONFIGURATION.read_text()
    # Workers of a root master would become another user, to whom the files may be closed.
    user = "user root;" if os.getuid() == 0 else ""
    values = {"USER": user, "CERTIFICATE": certificate, "KEY": key, "ROOT": root,
              "HOME": str(home)}
    values.update({name.upper() + "_PORT": str(port) for name, port in ports.items()})
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    (home / "nginx.conf").write_text(text)

    try:
        supervise.spawn(
            ["/usr/sbin/nginx", "-p", home, "-c", home / "nginx.conf", "-e", home / "error.log"],
            env={**os.environ, "NGINX": inherited}, pass_fds=descriptors)
        for s in sockets.values():
            s.close()
        supervise.announce(ports)
        supervise.wait()
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
