#!/usr/bin/python3
"""The grpcio peer of the interop suites: service interop.Echo on raw bytes, TLS and cleartext.

Usage: grpcio_server.py CERTIFICATE_FILE KEY_FILE
Prints "READY name=port ..." and ends when standard input does.
"""
import struct
import sys
import threading
from concurrent import futures

import grpc

LARGEST_MESSAGE = 64 << 20

fates = {}
fates_changed = threading.Condition()


def unary(request, context):
    """Echoes the message, the metadata x-echo as a header and x-echo-bin as a trailer."""
    metadata = context.invocation_metadata()
    context.send_initial_metadata([(k, v) for k, v in metadata if k == "x-echo"])
    context.set_trailing_metadata([(k, v) for k, v in metadata if k == "x-echo-bin"])
    return request


def fail_with(request, context):
    """Takes <<Code:32, Text/binary>> and ends with that status."""
    (number,) = struct.unpack(">I", request[:4])
    code = next(c for c in grpc.StatusCode if c.value[0] == number)
    context.abort(code, request[4:].decode())


def server_stream(request, context):
    """Takes <<Count:32, Size:32>>; each message of Size bytes begins with its index as 32 bits."""
    count, size = struct.unpack(">II", request)
    for index in range(count):
        yield struct.pack(">I", index) + bytes(size - 4)


def client_stream(requests, context):
    """Answers <<Count:32, Bytes:64>> of the messages it got."""
    sizes = [len(request) for request in requests]
    return struct.pack(">IQ", len(sizes), sum(sizes))


def bidi(requests, context):
    yield from requests


def wait(request, context):
    """Takes a key and lasts until the call is cancelled or its deadline passes; fate tells which."""
    over = threading.Event()
    context.add_callback(over.set)
    context.send_initial_metadata([])
    over.wait()
    remaining = context.time_remaining()
    with fates_changed:
        fates[request] = b"deadline" if remaining is not None and remaining <= 0 else b"canceled"
        fates_changed.notify_all()
    return iter(())


def fate(request, context):
    with fates_changed:
        fates_changed.wait_for(lambda: request in fates)
        return fates[request]


def main(certificate, key):
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=16),
        options=[
            ("grpc.max_receive_message_length", LARGEST_MESSAGE),
            ("grpc.max_send_message_length", LARGEST_MESSAGE),
        ],
    )
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "FailWith": grpc.unary_unary_rpc_method_handler(fail_with),
        "Fate": grpc.unary_unary_rpc_method_handler(fate),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "Wait": grpc.unary_stream_rpc_method_handler(wait),
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("interop.Echo", methods),)
    )
    with open(certificate, "rb") as chain, open(key, "rb") as private:
        credentials = grpc.ssl_server_credentials([(private.read(), chain.read())])
    secure = server.add_secure_port("127.0.0.1:0", credentials)
    clear = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"READY grpc={secure} grpc_h2c={clear}", flush=True)
    sys.stdin.buffer.read()
    server.stop(None)


if __name__ == "__main__":
    main(*sys.argv[1:])
