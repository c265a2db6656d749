#!/usr/bin/python3
"""Connections that misbehave, and those that only look like it."""
import io
import json
import os
import re
import signal
import socket
import struct
import threading
import time
import unittest

from node_process import NodeTest, Rest, read_answer


class ConnectionTest(NodeTest):
    def test_hostile_http_is_refused_and_the_server_goes_on(self):
        server = self.start("--request-timeout-ms", "1500")
        for raw, expected in (
                (b"garbage\r\n\r\n", 400),
                (b"GET / HTTP/1.1\nHost: localhost\n\n", 400),
                (b"GET /live HTTP/1.1\r\n\r\n", 400),
                (b"GET /live HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n", 400),
                (b"GET /live HTTP/1.1\r\nHost : a\r\n\r\n", 400),
                (b"GET /live HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400),
                (b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
                 b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
                (b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
                 b"Content-Length: 4\r\n\r\nabcd", 400),
                (b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"zz\r\n", 400),
                (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
                (b"GET /live HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 15000, 431),
                (b"GET /live HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
                (b"GET /live HT", 408)):
            self.assertEqual(server.send(raw)[0], expected, raw[:60])
        self.assertEqual(server.get("/live")[0], 200)

    def test_a_pipeline_is_answered_in_order(self):
        server = self.start()
        raw, expected = b"", []
        for number in range(50):
            body = json.dumps({"word": f"w{number:03}", "score": number}).encode()
            raw += (b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" %
                    len(body)) + body
            expected.append((201, b'"w%03d"' % number))
            if number % 3 == 0:
                raw += b"GET /search?q=w&limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
                expected.append((200, b'{"results":["w%03d"]' % number))
            if number % 5 == 0:
                raw += (b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\n"
                        b"\r\n")
                expected.append((403, b"cross_site"))
            if number % 7 == 0:
                raw += b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n{"
                expected.append((400, b"invalid_json"))
        with server.dial() as connection:
            connection.sendall(raw)
            stream = connection.makefile("rb")
            for status, part in expected:
                got, _, body = read_answer(stream)
                self.assertEqual(got, status, body)
                self.assertIn(part, body)

    def test_a_slow_reader_is_not_idle(self):
        server = self.start("--idle-timeout-ms", "1500")
        self.fill(server, 20000)
        with socket.socket() as connection:
            # A small window, so that the server waits for the reader, not for buffers.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
            connection.settimeout(60)
            connection.connect(("127.0.0.1", server.port))
            requests = 200
            connection.sendall(b"GET /api/v1/search?q=&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" *
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
            connection.sendall(b"GET /api/v1/search?q=&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 80)
            self.wait_for(lambda: "\ntrifecta_connections 1\n" in
                          server.ask("GET", "/metrics")[2].decode())

    def test_smuggled_and_broken_requests_never_reach_a_second_meaning(self):
        """What follows a request whose end is in doubt is not taken for another one."""
        server = self.start()
        second = b"DELETE /api/v1/words?word=kept HTTP/1.1\r\nHost: localhost\r\n\r\n"
        server.ask("POST", "/api/v1/words", {"word": "kept"})
        post = b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\n"
        for raw in (
                post + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
                post + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                post + b"Transfer-Encoding: identity\r\n\r\n",
                post + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
                post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
                post + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
                post + b"Content-Length: 1, 1\r\n\r\n{",
                post + b"Content-Length: +1\r\n\r\n{",
                post + b"Content-Length: 0x1\r\n\r\n{",
                post + b"Content-Length: 99999999999999999999\r\n\r\n",
                post + b"Content-Length: 0\r\n\r\n".replace(b"\r\n\r\n", b"\n\r\n"),
                post + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
                post + b"X: a\rb\r\n\r\n", post + b"X: a\x00b\r\n\r\n",
                post + b"Transfer-Encoding: chunked\r\n\r\n1\n{\r\n0\r\n\r\n",
                post + b"Transfer-Encoding: chunked\r\n\r\n1 \r\n{\r\n0\r\n\r\n",
                post + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{\r\n0\r\n\r\n",
                post + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{\r\n0\r\n\r\n",
                b"GET /live  HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n\r\n\x16\x03\x01\x02\x00\x01"):
            with server.dial() as connection:
                connection.sendall(raw + second)
                stream = connection.makefile("rb")
                status, headers, body = read_answer(stream)
                self.assertIn(status, (400, 413, 501), raw)
                self.assertEqual(headers["connection"], "close", raw)
                self.assertIn("request_id", json.loads(body))
                self.assertEqual(read_answer(stream)[0], 0, raw)
        self.assertEqual(server.get("/api/v1/words?word=kept")[0], 200)

    def test_slow_requests_are_ended(self):
        """Each sends a little more all the time, and never the whole."""
        server = self.start("--request-timeout-ms", "1000")
        for start, drip in ((b"", b"G"), (b"GET /live HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
                            (b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999"
                             b"\r\n\r\n", b" ")):
            with server.dial() as connection:
                connection.sendall(start)
                connection.settimeout(0.05)
                answer = b""
                while not answer:
                    try:
                        connection.sendall(drip)
                        answer = connection.recv(4096)
                    except TimeoutError:
                        continue
                self.assertIn(answer.split(b" ")[1], (b"408", b"400"), start)
        self.assertEqual(server.get("/live")[0], 200)

    def test_a_client_that_only_stops_sending_gets_its_answers(self):
        server = self.start()
        self.fill(server, 3000)
        lines = b"".join(b"line %d\t1\n" % number for number in range(20000))
        body = b'{"word":"half"}'
        post = b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        kind = b"Content-Type: text/tab-separated-values\r\nContent-Length: %d\r\n\r\n" % len(lines)
        for raw, statuses in (
                (b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3, [200] * 3),
                (post + body + post + body, [201, 200]),
                (b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\n" + kind + lines, [200]),
                (b"GET /api/v1/export?q= HTTP/1.1\r\nHost: localhost\r\n\r\n", [200]),
                (b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /li", [200])):
            with server.dial() as connection:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                stream = connection.makefile("rb")
                for status in statuses:
                    self.assertEqual(read_answer(stream)[0], status, raw[:40])
                self.assertEqual(stream.read(), b"")

    def test_the_last_answer_is_not_lost_in_a_reset(self):
        """Whoever sends on after a refusal gets to read it all the same."""
        server = self.start("--max-body-bytes", "1MiB")
        for head, status in ((b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999", 413),
                             (b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999",
                              415), (b"nonsense", 400)):
            for _ in range(5):
                with server.dial() as connection:
                    connection.sendall(head + b"\r\n\r\n")
                    for _ in range(20):
                        connection.sendall(b"x" * 100000)
                    stream = connection.makefile("rb")
                    self.assertEqual(read_answer(stream)[0], status)
                    self.assertEqual(stream.read(), b"")
        self.all_closed(server)

    def test_a_client_that_does_not_close_is_closed(self):
        server = self.start()
        with server.dial() as connection:
            connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            stream = connection.makefile("rb")
            self.assertEqual(read_answer(stream)[0], 200)
            self.assertEqual(stream.read(), b"")  # At once: it says goodbye before it goes.
            self.all_closed(server)

    def all_closed(self, server):
        """But for the one that asks."""
        self.wait_for(lambda: "\ntrifecta_connections 1\n" in
                      server.ask("GET", "/metrics")[2].decode())

    def test_many_small_chunks_are_no_way_round_the_limit_of_a_body(self):
        server = self.start("--max-body-bytes", "100KiB")
        with server.dial() as connection:
            connection.sendall(b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\n"
                               b"Transfer-Encoding: chunked\r\n\r\n")
            try:
                for _ in range(100):
                    connection.sendall((b"1;" + b"x" * 1000 + b"\r\n \r\n") * 100)
            except OSError:
                pass
            self.assertEqual(read_answer(connection.makefile("rb"))[0], 413)

    def test_a_chunked_body_in_the_smallest_pieces_is_whole(self):
        server = self.start()
        raw = b"POST /api/v1/words?ns=n HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        for byte in b'{"word":"pieces"}':
            raw += b"1;x=y\r\n%c\r\n" % byte
        raw += b"0\r\nX: y\r\n\r\n"
        with server.dial() as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(0, len(raw), 3):
                connection.sendall(raw[at:at + 3])
            self.assertEqual(read_answer(connection.makefile("rb"))[0], 201)
        self.assertEqual(server.get("/api/v1/words?ns=n&word=pieces")[0], 200)

    def test_headers_outlive_the_bytes_that_they_came_in(self):
        """Another connection's bytes come between a head and its body."""
        server = self.start("--threads", "1")
        body = b'{"word":"w","payload":"%s"}' % (b"p" * 50000)
        with server.dial() as first, server.dial() as second:
            first.sendall(b"POST /api/v1/words?ns=right HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\n"
                          b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            stream = first.makefile("rb")
            self.assertEqual(stream.readline(), b"HTTP/1.1 100 Continue\r\n")
            self.assertEqual(stream.readline(), b"\r\n")
            second.sendall(b"GET /live?" + b"z" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_answer(second.makefile("rb"))
            first.sendall(body[:100])
            second.sendall(b"POST /api/v1/words?ns=wrong HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: "
                           b"other\r\n\r\n")
            read_answer(second.makefile("rb"))
            first.sendall(body[100:])
            status, headers, _ = read_answer(stream)
            self.assertEqual((status, headers["x-request-id"]), (201, "mine"))
        self.assertEqual(server.get("/api/v1/words?ns=right&word=w")[0], 200)

    def test_a_pipeline_that_goes_on_is_not_a_slow_request(self):
        server = self.start("--request-timeout-ms", "1000")
        body = b'{"word":"again"}'
        post = b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body), body)
        begun, sent = time.monotonic(), 0
        with server.dial() as connection:
            stream = connection.makefile("rb")
            connection.sendall(post[:20])
            while time.monotonic() - begun < 3:
                # There is always the half of a request on its way.
                connection.sendall(post[20:] + post[:20])
                self.assertIn(read_answer(stream)[0], (200, 201))
                sent += 1
        self.assertGreater(sent, 10)

    def test_answers_larger_than_all_buffers_come_in_order(self):
        server = self.start()
        self.fill(server, 20000)
        big, small = b"GET /search?q=word%%20%d&limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400
        with server.dial() as connection:
            connection.sendall(b"".join(big % (number % 10) for number in range(small)))
            stream = connection.makefile("rb")
            for number in range(small):
                status, _, body = read_answer(stream)
                self.assertEqual(status, 200)
                self.assertTrue(json.loads(body)["results"][0].startswith(f"word {number % 10}"))

    def test_writes_before_a_bad_request_are_answered_first(self):
        server = self.start()
        body = b'{"word":"before"}'
        with server.dial() as connection:
            connection.sendall(b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
                               b"garbage\r\n\r\n" % (len(body), body))
            stream = connection.makefile("rb")
            self.assertEqual(read_answer(stream)[0], 201)
            self.assertEqual(read_answer(stream)[0], 400)
            self.assertEqual(stream.read(), b"")

    def test_an_export_that_fails_breaks_the_connection(self):
        server = self.start()
        self.fill(server, 10000)
        server.ask("POST", "/api/v1/words", {"word": "words with a\ttab"})
        for version in (b"1.0", b"1.1"):
            with server.dial() as connection:
                connection.sendall(b"GET /api/v1/export?format=tsv HTTP/%s\r\nHost: localhost\r\n\r\n" % version)
                with self.assertRaises((ConnectionResetError, ValueError)):
                    stream = connection.makefile("rb")
                    read_answer(stream)
                    stream.read()

    def test_an_export_that_fails_at_once_says_why(self):
        server = self.start()
        server.ask("POST", "/api/v1/words", {"word": "a\nb"})
        with server.dial() as connection:
            stream = connection.makefile("rb")
            for _ in range(2):
                connection.sendall(b"GET /api/v1/export?format=tsv HTTP/1.1\r\nHost: localhost\r\n\r\n")
                status, headers, body = read_answer(stream)
                problem = json.loads(body)
                self.assertEqual((status, problem["code"], problem["field"]),
                                 (400, "invalid_parameter", "format"))
                self.assertIn("ndjson", problem["detail"])
                self.assertEqual(headers["content-type"], "application/problem+json")
            connection.sendall(b"GET /api/v1/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertEqual(read_answer(stream)[0::2], (200, b'{"word":"a\\nb","score":1}\n'))

    def test_an_export_lets_others_have_their_turn(self):
        server = self.start("--threads", "1")
        self.fill(server, 40000)
        with server.dial() as export, server.dial() as other:
            for connection in (export, other):
                connection.sendall(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                self.assertEqual(read_answer(connection.makefile("rb"))[0], 200)
            # Stopped, so that it finds both requests in one turn.
            server.process.send_signal(signal.SIGSTOP)
            os.waitpid(server.process.pid, os.WUNTRACED)
            export.sendall(b"GET /api/v1/export?format=tsv HTTP/1.1\r\nHost: localhost\r\n\r\n")
            other.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.process.send_signal(signal.SIGCONT)
            metrics = read_answer(other.makefile("rb"))[2].decode()
            self.assertEqual(re.findall(r'_count\{route="export"\} (\d+)', metrics), ["0"])
            lines = read_answer(export.makefile("rb"))[2].count(b"\n")
        self.assertEqual(lines, 40000)
        metrics = server.ask("GET", "/metrics")[2].decode()
        self.assertEqual(re.findall(r'_count\{route="export"\} (\d+)', metrics), ["1"])

    def test_no_cached_answer_outlives_its_words(self):
        server = self.start("--threads", "1")
        server.ask("POST", "/api/v1/words", {"word": "gone", "ttl_ms": 400})
        self.assertEqual(server.get("/search?q=g")[1], {"results": ["gone"]})
        while server.get("/api/v1/count?q=g")[1]["count"] > 0:
            server.get("/search?q=g")
        self.assertEqual(server.get("/search?q=g")[1], {"results": []})

    IMPORT = (b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
              b"text/tab-separated-values\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue"
              b"\r\n\r\n")

    def begin(self, connection, head):
        """Sends the head of a request, and waits until the server is ready for its body."""
        connection.sendall(head)
        self.assertEqual(connection.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")

    def begin_import(self, connection, name, count):
        """Sends `count` lines and half of another one."""
        self.begin(connection, self.IMPORT)
        lines = b"".join(b"%s %d\t1\n" % (name, number) for number in range(count)) + b"half"
        connection.sendall(b"%x\r\n%s\r\n" % (len(lines), lines))

    def listens(self, server):
        try:
            server.dial().close()
        except ConnectionError:
            return False
        return True

    def read_to_end(self, connection):
        """All that comes, and whether the connection ended by a reset."""
        taken = b""
        try:
            while part := connection.recv(1 << 20):
                taken += part
        except ConnectionResetError:
            return taken, True
        return taken, False

    def test_a_stop_answers_imports_and_breaks_exports(self):
        server = self.start("--threads", "2")
        self.fill(server, 500000)
        with server.dial() as slow, server.dial() as quick, server.dial() as post, \
                server.dial() as done, socket.socket() as modern, socket.socket() as old:
            for connection in (modern, old):
                # A small window: what nobody reads does not fit into the system's buffers.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
                connection.settimeout(60)
                connection.connect(("127.0.0.1", server.port))
            self.begin_import(slow, b"slow", 1000)
            self.begin_import(quick, b"quick", 1000)
            self.begin(post, b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\n"
                       b"Content-Length: 20\r\nExpect: 100-continue\r\n\r\n")
            # One is small enough for the slowest machine to end it in time.
            for connection, prefix, version in ((modern, b"word", b"1.1"), (old, b"word", b"1.0"),
                                                (done, b"word%2049", b"1.1")):
                connection.sendall(b"GET /api/v1/export?format=tsv&q=%s HTTP/%s\r\n"
                                   b"Host: localhost\r\n\r\n" % (prefix, version))
                self.assertEqual(connection.recv(1), b"H")
            server.process.send_signal(signal.SIGTERM)
            self.wait_for(lambda: not self.listens(server))
            # Within its time an import comes to its end, and so does an export.
            quick.sendall(b"8\r\n way\t7\nx\r\n0\r\n\r\n")
            status, headers, body = read_answer(quick.makefile("rb"))
            self.assertEqual((status, json.loads(body)["imported"]), (200, 1002), body)
            self.assertEqual(headers["connection"], "close")
            taken, reset = self.read_to_end(done)
            self.assertFalse(reset)
            self.assertTrue(taken.endswith(b"\r\n0\r\n\r\n"))
            # One that goes on is told how far it came.
            status, headers, body = read_answer(slow.makefile("rb"))
            answer = json.loads(body)
            self.assertEqual((status, answer["code"]), (503, "not_ready"))
            self.assertEqual((answer["imported"], answer["failed"]), (1000, 0))
            self.assertEqual(answer["next_line"], 1001)
            self.assertIn("before line 1001", answer["detail"])
            self.assertIn("retry-after", headers)
            # Who still sends is not reset before it can have read that.
            slow.sendall(b"4\r\nmore\r\n")
            self.assertEqual(self.read_to_end(slow), (b"", False))
            status, _, body = read_answer(post.makefile("rb"))
            self.assertEqual((status, json.loads(body)["code"]), (503, "not_ready"))
            # Exports that nobody reads cannot be taken for whole ones.
            self.assertTrue(self.read_to_end(old)[1])
            taken, reset = self.read_to_end(modern)
            self.assertFalse(taken.endswith(b"\r\n0\r\n\r\n"))
        self.assertEqual(server.ended(), 0)
        server = self.start()
        self.assertEqual(server.get("/api/v1/count?q=slow")[1], {"count": 1000})
        self.assertEqual(server.get("/api/v1/count?q=half")[1], {"count": 1})

    def test_a_stop_waits_for_writes_of_clients_that_are_gone(self):
        for _ in range(5):
            server = self.start("--threads", "2")
            body = b"".join(b"left behind %d\t1\n" % number for number in range(30000))
            head = (b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                    b"text/tab-separated-values\r\nContent-Length: %d\r\n\r\n" % len(body))
            for _ in range(8):
                with server.dial() as connection:
                    connection.sendall(head + body)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                          struct.pack("ii", 1, 0))
            self.assertEqual(server.stop(), 0, server.log)
            self.assertIn("event=server.stopped memory_bytes=0", server.log)


if __name__ == "__main__":
    unittest.main()
