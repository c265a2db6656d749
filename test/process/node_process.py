#!/usr/bin/python3
"""Starts trifectad and talks to it; for the tests of it as a program."""
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import unittest

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else "build/src/cmd/trifectad"
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith("TRIFECTA_")}


class Server:
    """One trifectad on a port of its own; `log` is all it has printed."""

    def __init__(self, data, *flags, before=(), environment=None):
        """`before` is a command that ends by running what follows it; `environment` comes on top."""
        self.process = subprocess.Popen(
            [*before, PROGRAM, "--data", data, "--http", "127.0.0.1:0", *flags],
            stderr=subprocess.PIPE, env=ENVIRONMENT | (environment or {}))
        self.log, self.port = "", None
        for line in self.process.stderr:
            self.log += line.decode()
            found = re.search(r"server\.started.*http[=\":]*[^ ,]*:(\d+)", self.log)
            if found:
                self.port = int(found.group(1))
                break
        # Drained, so that the server never waits for us to read its log.
        self.drain = threading.Thread(target=self.read_log)
        self.drain.start()

    def read_log(self):
        for line in self.process.stderr:
            self.log += line.decode()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.ended()

    def ended(self):
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.drain.join()
        self.process.stderr.close()
        return code

    def dial(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, raw):
        """All that comes back until the server closes or has answered once."""
        with self.dial() as connection:
            connection.sendall(raw)
            return read_answer(connection.makefile("rb"))

    def ask(self, method, target, body=None, headers=()):
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers)
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            head += f"Content-Length: {len(body)}\r\n"
        return self.send(head.encode() + b"\r\n" + (body or b""))

    def get(self, target):
        status, _, body = self.ask("GET", target)
        return status, json.loads(body)


class Rest(io.RawIOBase):
    """Bytes that were taken from a connection, and then all others."""

    def __init__(self, taken, connection):
        super().__init__()
        self.taken, self.connection = taken, connection

    def readable(self):
        return True

    def readinto(self, room):
        part = self.taken[:len(room)] or self.connection.recv(len(room))
        self.taken = self.taken[len(room):]
        room[:len(part)] = part
        return len(part)


def read_answer(stream):
    """(status, headers, body); status 0 when the connection ended without an answer."""
    line = stream.readline()
    if not line:
        return 0, {}, b""
    status, headers = int(line.split()[1]), {}
    while (line := stream.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if status == 100:
        return read_answer(stream)
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return status, headers, body
    return status, headers, stream.read(int(headers.get("content-length", 0)))


class NodeTest(unittest.TestCase):
    result = None

    def run(self, result=None):
        self.result = result
        return super().run(result)

    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.data = os.path.join(self.folder, "data")
        self.servers = []

    def tearDown(self):
        if self.result and any(test is self for test, _ in self.result.errors + self.result.failures):
            self.tell_servers()
        for server in self.servers:
            if server.process.poll() is None:
                server.stop(signal.SIGKILL)
            # A report of a sanitizer ends the server, which a test may not notice.
            self.assertNotRegex(server.log, "Sanitizer|runtime error|check failed")
        shutil.rmtree(self.folder)

    def tell_servers(self):
        """What may show why the test has failed."""
        for server in self.servers:
            code = server.process.poll()
            state = "runs" if code is None else f"ended with {code}"
            print(f"-- {' '.join(server.process.args)}: {state}\n{server.log[-6000:]}", file=sys.stderr)

    def start(self, *flags, before=()):
        server = Server(self.data, *flags, before=before)
        self.servers.append(server)
        return server

    def refused(self, *flags, before=()):
        """Starts a server that must not come up; gives its exit code and its words."""
        server = self.start(*flags, before=before)
        self.assertIsNone(server.port, server.log)
        return server.ended(), server.log

    def fill(self, server, count):
        lines = "".join(f"word {number}\t{number % 997}\n" for number in range(count))
        status, _, body = server.ask("POST", "/api/v1/import", lines.encode(),
                                     [("Content-Type", "text/tab-separated-values")])
        self.assertEqual((status, json.loads(body)["imported"]), (200, count))

    def wait_for(self, condition):
        for _ in range(600):
            if condition():
                return
            threading.Event().wait(0.05)
        waits = [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.line}"
                 for frame in traceback.extract_stack(limit=5)[:-1]]
        self.fail("it did not happen: " + " < ".join(reversed(waits)))
