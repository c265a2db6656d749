#!/usr/bin/python3
"""The server as clients and operators meet it: words, imports, kills, settings."""
import base64
import email.utils
import json
import os
import re
import signal
import socket
import threading
import time
import unittest

import openapi
from node_process import NodeTest, Server, read_answer


class ServerTest(NodeTest):
    # --- The description for programs ---

    def test_what_openapi_json_says_of_each_operation_is_so(self):
        """Each is asked once, with the examples for all its parameters; nothing else comes back than it says."""
        server = self.start()
        for operation, status in openapi.ask_all(server):
            # A node alone is in no cluster, and says so.
            alone = operation["tags"][0] in ("cluster", "administration")
            self.assertIn(status, (404, 409) if alone else (200, 201), operation["operationId"])

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

    def test_a_write_is_seen_by_every_connection_at_once(self):
        server = self.start("--threads", "2")
        with server.dial() as reader:
            stream = reader.makefile("rb")
            for number in range(100):
                server.ask("POST", "/api/v1/words", {"word": f"x{number}", "score": number})
                reader.sendall(b"GET /search?q=x&limit=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
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

    def test_one_bad_line_in_a_long_import_is_the_only_one_missing(self):
        """In chunks cut anywhere, over several submissions."""
        server = self.start()
        count, bad = 300000, 150001
        lines = [b"line %06d\t%d\n" % (number, number) for number in range(1, count + 1)]
        lines[bad - 1] = b"line %06d\tbad\n" % bad
        body = b"".join(lines)
        with server.dial() as connection:
            connection.sendall(b"POST /api/v1/import HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                               b"text/tab-separated-values\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 77777):
                part = body[at:at + 77777]
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
            connection.sendall(b"0\r\n\r\n")
            status, _, answer = read_answer(connection.makefile("rb"))
        self.assertEqual(status, 207)
        self.assertEqual(json.loads(answer), {"imported": count - 1, "failed": 1, "errors": [
            {"line": bad, "code": "invalid_score", "detail": "a finite decimal number was expected"}]})
        self.assertEqual(server.get("/api/v1/count?q=")[1], {"count": count - 1})
        # Equal scores would stand in the order of their lines; here the last is the best.
        self.assertEqual(server.get("/search?q=&limit=1")[1]["results"], [f"line {count:06}"])

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
                        connection.sendall(b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\n"
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
        self.assertIn("clean_stop=true", server.log)
        self.assertIn("replayed_batches=0", server.log)
        self.assertEqual(server.get("/search?q=word&limit=1000"), before)
        server.stop(signal.SIGKILL)
        self.assertIn("clean_stop=false", self.start().log)

    def test_every_answer_says_what_time_it_is_a_kept_one_too(self):
        def date(answer):
            return email.utils.parsedate_to_datetime(answer[1]["date"]).timestamp()

        server = self.start()
        begun = int(time.time())
        kind = [("Content-Type", "text/tab-separated-values")]
        first = date(server.ask("GET", "/search?q=x"))
        for answer in (server.ask("POST", "/api/v1/words", {"word": "w"}),
                       server.ask("POST", "/api/v1/words", b"{"), server.ask("GET", "/nope"),
                       server.ask("POST", "/api/v1/import", b"a\t1\n", kind),
                       server.ask("GET", "/api/v1/export"), server.send(b"GARBAGE\r\n\r\n")):
            self.assertLessEqual(begun, date(answer))
            self.assertLessEqual(date(answer), time.time() + 1)
        # The same search until the second has changed: all but the first are kept answers.
        first = date(server.ask("GET", "/search?q=x"))
        self.wait_for(lambda: date(server.ask("GET", "/search?q=x")) > first)
        hits = re.search(r"cache_hits_total (\d+)", server.ask("GET", "/metrics")[2].decode())
        self.assertGreater(int(hits.group(1)), 0)

    # --- Pages of other sites ---

    def test_a_page_of_another_site_changes_nothing(self):
        server = self.start()
        self.assertEqual(server.ask("POST", "/api/v1/words", {"word": "kept"})[0], 201)
        evil = [("Origin", "http://evil.example"), ("Content-Type", "text/plain")]
        import_kind = [*evil[:1], ("Content-Type", "application/x-ndjson")]
        for method, target, body, headers in (
                ("POST", "/api/v1/words", {"word": "planted"}, evil),
                ("POST", "/api/v1/words/increment", {"word": "kept"}, evil),
                ("DELETE", "/api/v1/words?word=kept", None, evil),
                ("POST", "/api/v1/import", b'{"word":"planted"}\n', import_kind)):
            status, got, body = server.ask(method, target, body, headers)
            self.assertEqual((status, json.loads(body)["code"]), (403, "cross_site"))
            self.assertEqual(got["content-type"], "application/problem+json")
        self.assertEqual(server.get("/api/v1/count")[1], {"count": 1})
        own = [("Origin", "http://localhost"), ("Content-Type", "text/plain")]
        self.assertEqual(server.ask("POST", "/api/v1/words", {"word": "own"}, own)[0], 201)

    def test_a_name_that_is_not_ours_gets_no_answer(self):
        def ask(server, host, expected):
            raw = f"GET /search?q=secret HTTP/1.1\r\nHost: {host}\r\n\r\n"
            # Twice: the second answer may be a kept one.
            for _ in range(2):
                self.assertEqual(server.send(raw.encode())[0], expected, host)

        server = self.start()
        self.assertEqual(server.ask("POST", "/api/v1/words", {"word": "secret"})[0], 201)
        for host in ("localhost:99", "127.0.0.1", f"[::1]:{server.port}"):
            ask(server, host, 200)
        ask(server, "evil.example", 403)
        server.stop()
        server = self.start("--allowed-hosts", "search.example, Other.example")
        ask(server, "search.example", 200)
        ask(server, "other.example:443", 200)
        ask(server, "evil.example", 403)
        server.stop()
        # Beyond loopback nobody knows all names, unless they are told.
        server = self.start("--http", "0.0.0.0:0", "--require-auth", "false")
        ask(server, "any.example", 200)
        server.stop()
        server = self.start("--http", "0.0.0.0:0", "--require-auth", "false", "--allowed-hosts",
                            "search.example")
        ask(server, "any.example", 403)
        ask(server, "search.example", 200)

    # --- Settings ---

    def write_settings(self, *lines):
        path = os.path.join(self.folder, "trifecta.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def reload(self, server, expected):
        """Sends SIGHUP and waits for a new line of the log that holds `expected`."""
        before = server.log.count(expected)
        server.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: server.log.count(expected) > before)

    def test_a_hangup_reloads_limits_and_the_log_level(self):
        path = self.write_settings("max_body_bytes: 1MiB", "threads: 2")
        server = self.start("--config", path, "--max-url-bytes", "1KiB")
        body = {"word": "w", "payload": "p" * 2000}
        self.assertEqual(server.ask("POST", "/api/v1/words", body)[0], 201)
        with server.dial() as connection:
            self.write_settings("max_body_bytes: 1KiB", "threads: 1", "max_url_bytes: 512",
                                "log_level: info")
            self.reload(server, "event=config.reloaded")
            # A connection that was open goes by the new limits too.
            connection.sendall(b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000\r\n"
                               b"\r\n")
            self.assertEqual(read_answer(connection.makefile("rb"))[0], 413)
        self.assertEqual(server.ask("POST", "/api/v1/words", body)[0], 413)
        # Flags stay; what needs a restart is named.
        self.assertEqual(server.ask("GET", "/live?" + "x" * 700)[0], 200)
        self.assertIn("event=config.needs_restart setting=threads", server.log)
        self.assertNotIn("setting=max_", server.log)

        self.write_settings("log_level: error")
        self.assertNotIn("level=error", server.log)
        server.process.send_signal(signal.SIGHUP)
        self.wait_for(lambda: server.ask("POST", "/api/v1/words", body)[0] == 200)
        self.assertEqual(server.stop(), 0)
        self.assertNotIn("event=server.stopped", server.log)

    def test_a_bad_file_on_reload_changes_nothing(self):
        path = self.write_settings("max_body_bytes: 1KiB")
        server = self.start("--config", path, "--log-format", "json")
        for line, place, part in (("max_connections: many", ":2:18: ", "many"),
                                  ("max_conections: 5", ":2:1: ", "max_connections"),
                                  ("a: [", ":", "")):
            self.write_settings("max_body_bytes: 16MiB", line)
            self.reload(server, "config.reload_failed")
            logged = json.loads(server.log.splitlines()[-1])
            self.assertEqual(logged["level"], "error")
            self.assertIn(path + place, logged["reason"])
            self.assertIn(part, logged["reason"])
        os.remove(path)
        self.reload(server, "config.reload_failed")
        self.assertEqual(server.ask("POST", "/api/v1/words", b" " * 2000)[0], 413)
        self.write_settings("max_body_bytes: 16MiB")
        self.reload(server, "config.reloaded")
        self.assertEqual(server.ask("POST", "/api/v1/words", b" " * 2000)[0], 400)

    def test_bad_settings_and_addresses_stop_the_start(self):
        code, log = self.refused("--thraeds", "2")
        self.assertEqual(code, 2)
        self.assertIn("threads", log)
        for flags, answer in ((("--require-auth", "true"), "there are no keys yet"),
                              (("--http", "0.0.0.0:0"), "beyond loopback"),
                              (("--join", "127.0.0.1:7400", "--peer", "10.0.0.1:7400"), "plain text")):
            code, log = self.refused(*flags)
            self.assertEqual(code, 2)
            self.assertIn(answer, log)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = Server(self.data, "--http", f"127.0.0.1:{taken.getsockname()[1]}")
            self.assertIsNone(server.port)
            self.assertEqual(server.ended(), 1)
            self.assertIn("in use", server.log)


if __name__ == "__main__":
    unittest.main()
