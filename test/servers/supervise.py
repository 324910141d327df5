"""Ties server programs that know nothing of their parent to this process's standard input."""
import os
import signal
import subprocess
import sys
import threading

_children = []


def spawn(command, **options):
    """Starts a server that will not outlive this process's standard input."""
    if not _children:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    _children.append(child)
    return child


def _end_with_stdin():
    # Unbuffered: a thread inside a buffered read could not be left at exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass
    for child in _children:
        child.terminate()


def announce(ports):
    print("READY " + " ".join(f"{name}={port}" for name, port in ports.items()), flush=True)


def wait():
    """Returns when the children are gone, and says so when one ended by itself."""
    for child in _children:
        if child.wait() != 0 and child.returncode != -signal.SIGTERM:
            print(f"{child.args[0]} ended with status {child.returncode}", file=sys.stderr)
