#!/usr/bin/python3
"""The server as clients and operators meet it: hostile bytes, kills, damaged directories."""
import base64
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
import unittest

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else "build/src/cmd/trifectad"
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith("TRIFECTA_")}


class Server:
    """One trifectad on a port of its own; `log` is all it has printed."""

    def __init__(self, data, *flags):
        self.process = subprocess.Popen(
            [PROGRAM, "--data", data, "--http", "127.0.0.1:0", *flags],
            stderr=subprocess.PIPE, env=ENVIRONMENT)
        self.log, self.port = "", None
        for line in self.process.stderr:
            self.log += line.decode()
            found = re.search(r"event=server\.started .*http=[^ ]*:(\d+)", self.log)
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
        head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n"
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


class ServerTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.data = os.path.join(self.folder, "data")
        self.servers = []

    def tearDown(self):
        for server in self.servers:
            if server.process.poll() is None:
                server.stop(signal.SIGKILL)
            # A report of a sanitizer ends the server, which a test may not notice.
            self.assertNotRegex(server.log, "Sanitizer|runtime error|check failed")
        shutil.rmtree(self.folder)

    def start(self, *flags):
        server = Server(self.data, *flags)
        self.servers.append(server)
        return server

    def refused(self, *flags):
        """Starts a server that must not come up; gives its exit code and its words."""
        server = self.start(*flags)
        self.assertIsNone(server.port, server.log)
        return server.ended(), server.log

    def fill(self, server, count):
        lines = "".join(f"word {number}\t{number % 997}\n" for number in range(count))
        status, _, body = server.ask("POST", "/api/v1/import", lines.encode(),
                                     [("Content-Type", "text/tab-separated-values")])
        self.assertEqual((status, json.loads(body)["imported"]), (200, count))

    # --- Requests ---

    def test_any_bytes_are_a_word_and_come_back_exactly(self):
        server = self.start()
        for raw in (b"a\x00b", b"\xff\xfe", "Stra\u00dfe".encode(), b"\x01", b"x" * 4096):
            text = {"base64": base64.b64encode(raw).decode()}
            status, _, _ = server.ask("POST", "/api/v1/words", {"word": text, "payload": text})
            self.assertEqual(status, 201)
            quoted = "".join(f"%{byte:02x}" for byte in raw)
            status, entry = server.get(f"/api/v1/words?word={quoted}")
            word = entry["word"]
            back = base64.b64decode(word["base64"]) if isinstance(word, dict) else word.encode()
            self.assertEqual((status, back), (200, raw))
        self.assertEqual(server.get("/api/v1/count?q=stras")[1], {"count": 1})

    def test_what_is_wrong_with_a_write_is_named_and_nothing_is_stored(self):
        server = self.start("--max-body-bytes", "100KiB")
        for body, status, part in (
                (b"", 400, "json"), (b"{", 400, "json"), (b"[]", 400, "json"),
                (b'{"word":""}', 400, "word"), (b'{"word":"%s"}' % (b"x" * 4097), 400, "word"),
                (b'{"word":"a","score":NaN}', 400, ""), (b'{"word":"a","score":1e999}', 400, "score"),
                (b'{"word":"a","score":"1"}', 400, "score"), (b'{"word":"a","x":1}', 400, "x"),
                (b'{"word":"a","word":"b"}', 400, "word"), (b'{"word":"a","tags":["%s"]}' %
                                                            (b"t" * 65), 400, "tags"),
                (b'{"word":"a\xff"}', 400, ""), (b" " * 200000, 413, "max_body_bytes")):
            got, headers, answer = server.ask("POST", "/api/v1/words", body)
            self.assertEqual(got, status, answer)
            self.assertEqual(headers["content-type"], "application/problem+json")
            self.assertIn(part, answer.decode())
        self.assertEqual(server.get("/api/v1/count?q=")[1], {"count": 0})

    def test_hostile_http_is_refused_and_the_server_goes_on(self):
        server = self.start("--request-timeout-ms", "1500")
        for raw, expected in (
                (b"garbage\r\n\r\n", 400),
                (b"GET / HTTP/1.1\nHost: a\n\n", 400),
                (b"GET /live HTTP/1.1\r\n\r\n", 400),
                (b"GET /live HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
                (b"GET /live HTTP/1.1\r\nHost : a\r\n\r\n", 400),
                (b"GET /live HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
                (b"POST /api/v1/words HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                (b"POST /api/v1/words HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                 b"Content-Length: 4\r\n\r\nabcd", 400),
                (b"POST /api/v1/words HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"zz\r\n", 400),
                (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
                (b"GET /live HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 15000, 431),
                (b"GET /live HTTP/2.0\r\nHost: a\r\n\r\n", 505),
                (b"GET /live HT", 408)):
            self.assertEqual(server.send(raw)[0], expected, raw[:60])
        self.assertEqual(server.get("/live")[0], 200)

    def test_a_pipeline_is_answered_in_order(self):
        server = self.start()
        raw, expected = b"", []
        for number in range(50):
            body = json.dumps({"word": f"w{number:03}", "score": number}).encode()
            raw += (b"POST /api/v1/words HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" %
                    len(body)) + body
            expected.append((201, b'"w%03d"' % number))
            if number % 3 == 0:
                raw += b"GET /search?q=w&limit=1 HTTP/1.1\r\nHost: a\r\n\r\n"
                expected.append((200, b'{"results":["w%03d"]' % number))
            if number % 7 == 0:
                raw += b"POST /api/v1/words HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{"
                expected.append((400, b"invalid_json"))
        with server.dial() as connection:
            connection.sendall(raw)
            stream = connection.makefile("rb")
            for status, part in expected:
                got, _, body = read_answer(stream)
                self.assertEqual(got, status, body)
                self.assertIn(part, body)

    def test_a_write_is_seen_by_every_connection_at_once(self):
        server = self.start("--threads", "2")
        with server.dial() as reader:
            stream = reader.makefile("rb")
            for number in range(100):
                server.ask("POST", "/api/v1/words", {"word": f"x{number}", "score": number})
                reader.sendall(b"GET /search?q=x&limit=1 HTTP/1.1\r\nHost: a\r\n\r\n")
                self.assertIn(b'["x%d"]' % number, read_answer(stream)[2])

    def test_imports_report_bad_lines_and_exports_come_back(self):
        server = self.start()
        lines = [b"word %d\t%d" % (number, number) for number in range(5000)]
        lines[2499] = b"bad\tscore"
        kind = [("Content-Type", "text/tab-separated-values")]
        status, _, body = server.ask("POST", "/api/v1/import", b"\n".join(lines), kind)
        answer = json.loads(body)
        self.assertEqual((status, answer["imported"], answer["failed"]), (207, 4999, 1))
        self.assertEqual(answer["errors"][0]["line"], 2500)
        for how in ("tsv", "ndjson"):
            status, _, body = server.ask("GET", f"/api/v1/export?q=&format={how}")
            self.assertEqual((status, body.count(b"\n")), (200, 4999))
        self.assertEqual(server.ask("POST", "/api/v1/import", b"a\t1\n")[0], 415)
        self.assertEqual(server.ask("POST", "/api/v1/import", None, kind)[0], 411)
        self.assertEqual(server.get("/api/v1/count?q=")[1], {"count": 4999})

    def test_pages_of_an_alphabetical_walk_hold_each_word_once_under_writes(self):
        server = self.start()
        self.fill(server, 3000)
        ended = threading.Event()

        def disturb():
            number = 0
            while not ended.is_set():
                server.ask("POST", "/api/v1/words", {"word": f"other {number % 50}"})
                server.ask("DELETE", f"/api/v1/words?word=other%20{(number + 25) % 50}")
                number += 1

        writer = threading.Thread(target=disturb)
        writer.start()
        try:
            words, cursor = [], ""
            while cursor is not None:
                _, page = server.get(f"/search?q=&limit=100&sort=alphabetical:asc{cursor}")
                words += page["results"]
                cursor = "&cursor=" + page["next_cursor"] if "next_cursor" in page else None
        finally:
            ended.set()
            writer.join()
        steady = [word for word in words if word.startswith("word ")]
        self.assertEqual(len(steady), 3000)
        self.assertEqual(words, sorted(set(words)))

    def test_a_slow_reader_is_not_idle(self):
        server = self.start("--idle-timeout-ms", "1500")
        self.fill(server, 20000)
        with socket.socket() as connection:
            # A small window, so that the server waits for the reader, not for buffers.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.settimeout(60)
            connection.connect(("127.0.0.1", server.port))
            requests = 200
            connection.sendall(b"GET /api/v1/search?q=&limit=1000 HTTP/1.1\r\nHost: a\r\n\r\n" *
                               requests)
            # Two timeouts long it takes a little at a time, less than the server sends at once.
            begun, taken = time.monotonic(), b""
            while time.monotonic() - begun < 4:
                taken += connection.recv(4096)
                threading.Event().wait(0.1)
            stream = io.BufferedReader(Rest(taken, connection))
            for _ in range(requests):
                status, _, body = read_answer(stream)
                self.assertEqual((status, len(json.loads(body)["results"])), (200, 1000))

    def test_a_reader_that_stops_is_closed(self):
        server = self.start("--idle-timeout-ms", "1000")
        self.fill(server, 20000)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(b"GET /api/v1/search?q=&limit=1000 HTTP/1.1\r\nHost: a\r\n\r\n" * 80)
            self.wait_for(lambda: "\ntrifecta_connections 1\n" in
                          server.ask("GET", "/metrics")[2].decode())

    # --- Durability ---

    def test_kill_9_loses_nothing_acknowledged(self):
        acknowledged, lock = {}, threading.Lock()

        def write(server, writer, cycle):
            try:
                with server.dial() as connection:
                    stream = connection.makefile("rb")
                    for number in range(100000):
                        word = f"w{writer}.{cycle}.{number}"
                        body = json.dumps({"word": word, "score": number}).encode()
                        connection.sendall(b"POST /api/v1/words HTTP/1.1\r\nHost: a\r\n"
                                           b"Content-Length: %d\r\n\r\n" % len(body) + body)
                        if read_answer(stream)[0] != 201:
                            return
                        with lock:
                            acknowledged[word] = number
                            enough.set() if len(acknowledged) % 300 == 0 else None
            except OSError:
                return

        for cycle in range(6):
            server, enough = self.start(), threading.Event()
            for word in list(acknowledged)[::37]:
                self.assertEqual(server.get(f"/api/v1/words?word={word}")[1]["score"],
                                 acknowledged[word])
            self.assertGreaterEqual(server.get("/api/v1/count?q=w")[1]["count"],
                                    len(acknowledged))
            writers = [threading.Thread(target=write, args=(server, number, cycle))
                       for number in range(4)]
            for writer in writers:
                writer.start()
            self.assertTrue(enough.wait(60))
            server.stop(signal.SIGKILL)
            for writer in writers:
                writer.join()
        server = self.start()
        status, _, body = server.ask("GET", "/api/v1/export?q=&format=tsv")
        lines = dict(line.split("\t") for line in body.decode().splitlines())
        self.assertEqual(status, 200)
        for word, score in acknowledged.items():
            self.assertEqual(float(lines[word]), score)

    def test_a_clean_stop_leaves_nothing_to_replay(self):
        server = self.start()
        self.fill(server, 20000)
        before = server.get("/search?q=word&limit=1000")
        self.assertEqual(server.stop(), 0)
        server = self.start()
        self.assertIn("replayed_batches=0", server.log)
        self.assertEqual(server.get("/search?q=word&limit=1000"), before)

    # --- The directory ---

    def test_a_directory_in_use_is_refused(self):
        self.start()
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn("another trifectad is running", log)

    def test_a_directory_that_is_not_ours_is_left_alone(self):
        os.mkdir(self.data)
        stranger = os.path.join(self.data, "letters.txt")
        with open(stranger, "w", encoding="utf-8") as file:
            file.write("mine")
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn("letters.txt", log)
        with open(stranger, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")

    def test_damage_is_found_named_and_never_served(self):
        server = self.start()
        self.fill(server, 20000)
        self.assertEqual(server.stop(), 0)
        run = next(name for name in os.listdir(self.data) if name.startswith("run-"))
        with open(os.path.join(self.data, run), "r+b") as file:
            file.seek(os.path.getsize(file.name) // 4)  # Among the keys.
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        server = self.start()
        refused = 0
        for number in range(10, 100):
            status, answer = server.get(f"/search?q=word%20{number}&limit=1000")
            refused += status != 200
            for word in answer.get("results", []):
                self.assertTrue(re.fullmatch(f"word {number}[0-9]*", word), word)
        self.assertGreater(refused, 0)
        self.wait_for(lambda: run in json.dumps(server.get("/ready")[1]))
        self.assertEqual(server.get("/ready")[0], 503)
        self.assertEqual(server.ask("POST", "/api/v1/words", {"word": "new one"})[0], 201)
        self.assertEqual(server.get("/search?q=new")[0], 200)

    def wait_for(self, condition):
        for _ in range(600):
            if condition():
                return
            threading.Event().wait(0.05)
        self.fail("it did not happen")

    def test_bad_settings_and_addresses_stop_the_start(self):
        code, log = self.refused("--thraeds", "2")
        self.assertEqual(code, 2)
        self.assertIn("threads", log)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = Server(self.data, "--http", f"127.0.0.1:{taken.getsockname()[1]}")
            self.assertIsNone(server.port)
            self.assertEqual(server.ended(), 1)
            self.assertIn("in use", server.log)


if __name__ == "__main__":
    unittest.main()
