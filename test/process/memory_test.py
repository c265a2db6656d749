#!/usr/bin/python3
"""What many clients can make a server take: never much more memory than memory_limit."""
import json
import os
import re
import threading
import unittest

from node_process import NodeTest, read_answer

LIMIT = 64 << 20
# Beyond the limit, as docs/reference/limits.md says: for the process, and for each thread.
CONSTANT, EACH_THREAD = 32 << 20, 16 << 20
SANITIZED = "ASAN_OPTIONS" in os.environ or "TSAN_OPTIONS" in os.environ


class MemoryTest(NodeTest):
    def start_small(self):
        server = self.start("--memory-limit", "64MiB", "--threads", "2", "--max-body-bytes", "16MiB")
        self.most = 0
        self.watching = True
        self.watcher = threading.Thread(target=self.watch, args=(server,))
        self.watcher.start()
        self.addCleanup(self.end_watch)
        return server

    def watch(self, server):
        """Memory of its own: pages of data files do not count."""
        while self.watching:
            try:
                with open(f"/proc/{server.process.pid}/status", encoding="utf-8") as file:
                    found = re.search(r"RssAnon:\s*(\d+) kB", file.read())
                    self.most = max(self.most, int(found.group(1)) << 10)
            except (OSError, AttributeError):
                return
            threading.Event().wait(0.01)

    def end_watch(self):
        self.watching = False
        self.watcher.join()

    def kept_within_limit(self, server):
        self.end_watch()
        if not SANITIZED:
            self.assertLess(self.most, LIMIT + CONSTANT + 2 * EACH_THREAD)
        # And everything comes back.
        self.wait_for(lambda: server.get("/search?q=&limit=1")[0] == 200)
        self.assertEqual(server.ask("POST", "/api/v1/words", {"word": "after"})[0], 201)
        self.assertEqual(server.stop(), 0)

    def refused(self, server):
        """Whether new work is refused now; then it says when to come back."""
        status, headers, body = server.ask("GET", "/search?q=&limit=1")
        if status == 200:
            return False
        self.assertEqual(status, 503)
        self.assertEqual(json.loads(body)["code"], "overloaded")
        self.assertEqual(headers["retry-after"], "1")
        return True

    def test_answers_that_nobody_reads(self):
        server = self.start_small()
        for number in range(200):
            server.ask("POST", "/api/v1/words", {"word": f"w{number}", "payload": "p" * 60000})
        clients = []
        self.addCleanup(lambda: [client.close() for client in clients])
        while not self.refused(server):
            client = server.dial()
            clients.append(client)
            client.sendall(b"GET /api/v1/search?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            self.assertLess(len(clients), 2000)
        # Far over the limit no connection is taken, which lasts for as long as answers are being made.
        self.wait_for(lambda: server.get("/live")[0] == 200)
        self.wait_for(lambda: server.get("/api/v1/stats")[1].get("memory_bytes", 0) >= LIMIT * 3 // 4)
        for client in clients:
            client.close()
        self.kept_within_limit(server)

    def test_bodies_that_do_not_end(self):
        server = self.start_small()
        clients, refusals = [], 0
        for _ in range(60):
            client = server.dial()
            clients.append(client)
            try:
                client.sendall(b"POST /api/v1/words HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16000000\r\n"
                               b"\r\n" + b" " * 4000000)
            except OSError:
                refusals += 1  # It is no longer read.
        for client in clients:
            client.settimeout(10)
            refusals += read_answer(client.makefile("rb"))[0] in (408, 503)
            client.close()
        self.assertGreater(refusals, 0)
        self.kept_within_limit(server)

    def test_imports_beyond_the_limit_wait_or_are_refused_and_those_begun_are_whole(self):
        server = self.start_small()
        count, payload = 400, "p" * 20000
        lines = b"".join(json.dumps({"word": f"w{number}", "payload": payload}).encode() + b"\n"
                         for number in range(count))
        answers, lock = {}, threading.Lock()

        def upload(number):
            kind = (b"Content-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n" % len(lines))
            with server.dial() as client:
                try:
                    client.sendall(b"POST /api/v1/import?ns=n%d HTTP/1.1\r\nHost: localhost\r\n" % number +
                                   kind + lines)
                except OSError:
                    pass
                status, _, body = read_answer(client.makefile("rb"))
                with lock:
                    answers[number] = status, body

        threads = [threading.Thread(target=upload, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done = [number for number, (status, _) in answers.items() if status == 200]
        self.assertGreater(len(done), 4)
        self.assertEqual({status for status, _ in answers.values()} - {200, 503, 0}, set())
        self.wait_for(lambda: server.get("/search?q=&limit=1")[0] == 200)
        for number in done:
            self.assertEqual(server.get(f"/api/v1/count?ns=n{number}")[1], {"count": count})
        self.kept_within_limit(server)


if __name__ == "__main__":
    unittest.main()
