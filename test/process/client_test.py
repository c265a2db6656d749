#!/usr/bin/python3
"""The client library, through its examples and a program of all calls: against nodes that misbehave, and a real cluster."""
import json
import re
import socketserver
import subprocess
import sys
import threading
import unittest

TRIFECTAD, SUGGEST, TALLY, CALLS = sys.argv[1:5] if len(sys.argv) > 4 else (
    "build/src/cmd/trifectad", "build/examples/suggest", "build/examples/tally",
    "build/test/process/client_calls")
sys.argv[1:] = [TRIFECTAD, *sys.argv[5:]]

from cluster_test import ClusterTest as Cluster  # It takes the program off the arguments.

FOUND = (200, {"results": [{"word": "trial", "score": 2}]})
ADDED = (200, {"word": "x", "score": 1})
BUSY = (503, {"code": "quorum_not_met", "detail": "too few are up"})
BREAK, HANG = "break", "hang"


class Fake(socketserver.ThreadingTCPServer):
    """Answers requests for words one after the other as it is told, then as at the end; all other paths are 404."""
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *answers):
        super().__init__(("127.0.0.1", 0), Connection)
        self.answers, self.asked, self.lock = list(answers), [], threading.Lock()
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self.thread.start()

    def next_answer(self, line):
        with self.lock:
            if " /nodes" in line:
                return 404, {"code": "not_found"}
            self.asked.append(line)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self):
        self.over.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


class Connection(socketserver.StreamRequestHandler):
    def handle(self):
        while line := self.rfile.readline().decode():
            size = 0
            while (header := self.rfile.readline()) not in (b"\r\n", b""):
                name, _, value = header.decode().partition(":")
                size = int(value) if name.lower() == "content-length" else size
            self.rfile.read(size)
            answer = self.server.next_answer(line)
            if answer == HANG:
                self.server.over.wait()
            if answer in (BREAK, HANG):
                return
            status, body = answer[0], json.dumps(answer[1]).encode()
            self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


def run(program, urls, argument, lines=""):
    done = subprocess.run([program, ",".join(urls), argument], input=lines, text=True, timeout=60,
                          capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr


class Repeats(unittest.TestCase):
    def fake(self, *answers):
        fake = Fake(*answers)
        self.addCleanup(fake.close)
        return fake

    def test_a_read_goes_on_to_another_node(self):
        for first in (BREAK, BUSY, HANG, (504, {"code": "timeout"})):
            bad, good = self.fake(first), self.fake(FOUND)
            for urls in ((bad.url, good.url), (good.url, bad.url)):
                self.assertEqual(run(SUGGEST, urls, "tri"), (0, "trial\t2\n", ""), first)
            self.assertTrue(bad.asked)

    def test_a_write_that_may_have_been_done_is_not_repeated(self):
        bad, other = self.fake(BREAK), self.fake(BREAK)
        code, output, errors = run(TALLY, (bad.url, other.url), "1", "x\n")
        self.assertEqual((code, output), (0, "0 done, 1 unknown, 0 failed\n"), errors)
        self.assertEqual(len(bad.asked + other.asked), 1)

    def test_nor_is_one_whose_503_may_have_come_after_it(self):
        for code in ("read_only", "overloaded", "of_a_proxy"):
            bad = self.fake((503, {"code": code}))
            _, output, errors = run(TALLY, (bad.url, bad.url), "1", "x\n")
            self.assertEqual(output, "0 done, 1 unknown, 0 failed\n", errors)
            self.assertEqual(len(bad.asked), 1)

    def test_nor_on_a_connection_that_was_kept(self):
        node = self.fake(ADDED, BREAK)
        code, output, errors = run(TALLY, (node.url,), "1", "x\nx\n")
        self.assertEqual((code, output), (0, "1 done, 1 unknown, 0 failed\n"), errors)
        self.assertEqual(len(node.asked), 2)

    def test_a_write_that_was_refused_for_now_goes_on_to_another_node(self):
        busy, good = self.fake(BUSY), self.fake(ADDED)
        code, output, errors = run(TALLY, (busy.url, good.url), "1", "x\nx\nx\n")
        self.assertEqual((code, output), (0, "3 done, 0 unknown, 0 failed\n"), errors)
        self.assertEqual(len(good.asked), 3)
        self.assertTrue(busy.asked)

    def test_where_nobody_listens_nothing_was_done(self):
        gone = Fake(ADDED)
        gone.close()
        good = self.fake(ADDED)
        self.assertEqual(run(TALLY, (gone.url, good.url), "1", "x\nx\n")[1], "2 done, 0 unknown, 0 failed\n")
        code, output, errors = run(TALLY, (gone.url,), "1", "x\n")
        self.assertEqual((code, output), (1, "0 done, 0 unknown, 1 failed\n"))
        self.assertIn("unreachable", errors)

    def test_what_is_no_node_is_told(self):
        for answer in ((200, {"results": 1}), (200, [1]), (200, {"results": [{"word": 1}]}), (500, {}), (302, {})):
            code, output, errors = run(SUGGEST, (self.fake(answer).url,), "tri")
            self.assertEqual((code, output), (1, ""), answer)
            self.assertIn("protocol", errors)


class Nodes(Cluster):
    def urls(self):
        return [f"http://127.0.0.1:{node.port}" for node in self.nodes.values()]

    def reads(self):
        """How many reads owners answered by themselves, and how many were forwarded."""
        figures = [node.get("/api/v1/stats")[1] for node in self.nodes.values()]
        return [sum(each[name] for each in figures) for name in ("reads_local", "reads_coordinated")]

    def test_requests_go_to_owners(self):
        self.start_cluster(4)
        for number in range(5):
            self.assertLess(self.write(self.nodes[0], f"trial {number}", number, "all", "default")[0], 300)
        # The fourth has none of the words, or the test would show nothing.
        status, answer = self.nodes[0].get("/search/nodes?q=trial")
        self.assertEqual((status, {len(each["owners"]) for each in answer["ranges"]}), (200, {3}))
        before = self.reads()
        urls = self.urls()
        for number in range(12):
            # The first of equals is asked first: each comes first in turn.
            first = number % len(urls)
            code, output, errors = run(SUGGEST, urls[first:] + urls[:first], "Trial")
            self.assertEqual((code, output.split("\n")[0]), (0, "trial 4\t4"), errors)
        self.assertEqual([now - then for now, then in zip(self.reads(), before)], [12, 0])

    def test_every_call_does_what_its_header_says(self):
        alone = self.start()
        self.start_cluster(3)
        for urls in ([f"http://127.0.0.1:{alone.port}/"], self.urls()):
            done = subprocess.run([CALLS, *urls], capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), urls)

    def test_a_node_is_killed_while_calls_go_on(self):
        self.start_cluster(3)
        process = subprocess.Popen([TALLY, ",".join(self.urls()), "4"], stdin=subprocess.PIPE, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        total = 0

        def feed(count):
            nonlocal total
            for _ in range(count):
                process.stdin.write(f"word {total % 7}\n")
                total += 1
            process.stdin.flush()

        feed(400)
        self.wait_for(lambda: self.read_tally(0) > 0)
        self.kill(2)
        feed(400)
        output, errors = process.communicate()
        done, unknown, failed = map(int, re.findall(r"\d+", output))
        self.assertEqual((failed, done + unknown), (0, total), errors)
        self.assertGreater(done, 500, errors)  # Also after the kill.
        counted = sum(self.read_tally(number) for number in range(7))
        self.assertTrue(done <= counted <= done + unknown, (done, counted, unknown))

    def read_tally(self, number):
        status, answer = self.nodes[0].get(f"/api/v1/words?ns=tally&word=word+{number}&consistency=quorum")
        return answer["score"] if status == 200 else 0


if __name__ == "__main__":
    del Cluster
    unittest.main(verbosity=2)
