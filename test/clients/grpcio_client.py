#!/usr/bin/python3
"""A grpcio client of interop.Echo on raw bytes: every kind of call, checked.

Usage: grpcio_client.py PORT [CA_FILE]
Prints the name of each check that holds; the first that does not ends it with a trace and status 1.
"""
import struct
import sys
import threading

import grpc

DEADLINE = 20


def unary(call):
    assert call("Unary", b"hello") == b"hello"


def large_messages(call):
    message = bytes(range(256)) * (3 << 12)
    assert call("Unary", message) == message


def metadata(call):
    rpc = call.unary("Unary")
    reply, info = rpc.with_call(
        b"x", metadata=[("x-echo", "one"), ("x-echo-bin", b"\0\1\2\xff")], timeout=DEADLINE
    )
    assert reply == b"x"
    assert ("x-echo", "one") in info.initial_metadata()
    assert ("x-echo-bin", b"\0\1\2\xff") in info.trailing_metadata()


def failure(call):
    code, details = refusal(call, "FailWith", struct.pack(">I", 5) + b"no such thing: 100%")
    assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no such thing: 100%"), (code, details)


def unknown_method(call):
    assert refusal(call, "NoSuchMethod", b"")[0] == grpc.StatusCode.UNIMPLEMENTED


def server_streaming(call):
    replies = call.channel.unary_stream("/interop.Echo/ServerStream")(
        struct.pack(">II", 5000, 4), timeout=DEADLINE
    )
    assert [struct.unpack(">I", reply)[0] for reply in replies] == list(range(5000))


def client_streaming(call):
    rpc = call.channel.stream_unary("/interop.Echo/ClientStream")
    reply = rpc((bytes(size) for size in range(1000)), timeout=DEADLINE)
    assert struct.unpack(">IQ", reply) == (1000, sum(range(1000)))


def bidi_ping_pong(call):
    """Every message needs the answer to the one before."""
    answered = threading.Semaphore(1)

    def requests():
        for number in range(1000):
            answered.acquire(timeout=DEADLINE)
            yield b"message %d" % number

    replies = []
    for reply in call.channel.stream_stream("/interop.Echo/Bidi")(requests(), timeout=DEADLINE):
        replies.append(reply)
        answered.release()
    assert replies == [b"message %d" % number for number in range(1000)]


def deadline(call):
    rpc = call.channel.unary_stream("/interop.Echo/Wait")(b"key", timeout=0.2)
    try:
        list(rpc)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    else:
        raise AssertionError("it has ended")


def cancellation(call):
    rpc = call.channel.unary_stream("/interop.Echo/Wait")(b"key", timeout=DEADLINE)
    rpc.initial_metadata()
    rpc.cancel()
    assert rpc.code() == grpc.StatusCode.CANCELLED


def refusal(call, method, message):
    try:
        call(method, message)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("it was answered")


class Calls:
    def __init__(self, channel):
        self.channel = channel

    def unary(self, method):
        return self.channel.unary_unary("/interop.Echo/" + method)

    def __call__(self, method, message):
        return self.unary(method)(message, timeout=DEADLINE)


def main(port, ca=None):
    address = "localhost:" + port
    options = [("grpc.max_receive_message_length", 64 << 20)]
    if ca is None:
        channel = grpc.insecure_channel(address, options)
    else:
        with open(ca, "rb") as roots:
            credentials = grpc.ssl_channel_credentials(roots.read())
        channel = grpc.secure_channel(address, credentials, options)
    with channel:
        for check in (
            unary, large_messages, metadata, failure, unknown_method, server_streaming,
            client_streaming, bidi_ping_pong, deadline, cancellation,
        ):
            check(Calls(channel))
            print(check.__name__, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
