#!/usr/bin/python3
"""Nodes as members of a cluster: processes on loopback that are killed and started again."""
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
import unittest
from urllib.parse import quote

import fake_peer
import openapi
import wall_clock
from node_process import NodeTest, Server, read_answer


# All of 127.0.0.0/8 is loopback: nodes of tests that run at the same time meet at no port, also while one is down.
PID = os.getpid()
HOST = f"127.{1 + (PID >> 16) % 254}.{PID >> 8 & 255}.{PID & 255}"


def free_ports(count):
    """Ports below those that the system gives to connections, or one of these may have them before their node does."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as bounds:
        end = int(bounds.read().split()[0])
    ports = []
    while len(ports) < count:
        port = random.randrange(end // 2, end)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        if port not in ports:
            ports.append(port)
    return ports


class ClusterTest(NodeTest):
    """`nodes` by number, from 0; each has a peer port and a directory of its own."""

    def setUp(self):
        super().setUp()
        self.nodes, self.peers = {}, []
        self.environment = {}  # On top, for the next node.

    def folder_of(self, number):
        return os.path.join(self.folder, f"n{number}")

    def start_node(self, number, *flags, seeds=None):
        if seeds is None:
            seeds = range(len(self.peers))
        flags = ["--peer", f"{HOST}:{self.peers[number]}", "--zone", f"z{number}", *flags]
        if seeds:
            flags += ["--join", ",".join(f"{HOST}:{self.peers[seed]}" for seed in seeds)]
        server = Server(self.folder_of(number), *flags, environment=self.environment)
        self.servers.append(server)
        self.nodes[number] = server
        return server

    def start_cluster(self, count):
        self.peers = free_ports(count)
        for number in range(count):
            self.start_node(number, seeds=(0,))
        self.wait_until_whole()

    def kill(self, number):
        self.nodes.pop(number).stop(signal.SIGKILL)

    def wait_until_ready(self):
        for node in self.nodes.values():
            self.wait_for(lambda node=node: node.ask("GET", "/ready")[0] == 200)

    def wait_until_whole(self):
        """Every word has three owners, or as many as there are nodes, and nothing moves."""
        self.wait_until_ready()
        for node in self.nodes.values():
            self.wait_for(lambda node=node: self.owner_counts(node) == {min(3, len(self.nodes))})
            # Who has started serves when it has heard from the others.
            self.wait_for(lambda node=node: self.write(node, "whole", consistency="all")[0] < 300)

    def owner_counts(self, node):
        """Of the ranges; None for those that move."""
        status, answer = node.get("/nodes/all/ranges")
        return {len(each["owners"]) if each["stage"] == "stable" else None
                for each in answer["ranges"]} if status == 200 else set()

    def write(self, node, word, score=1, consistency="quorum", ns="test"):
        status, _, body = node.ask("POST", f"/api/v1/words?ns={ns}&consistency={consistency}",
                                   {"word": word, "score": score})
        return status, json.loads(body)

    def read(self, node, word, consistency="quorum"):
        """The score; None where there is no such word."""
        status, answer = node.get(f"/api/v1/words?ns=test&word={quote(word)}"
                                  f"&consistency={consistency}")
        self.assertIn(status, (200, 404), answer)
        return answer["score"] if status == 200 else None

    def export(self, node, consistency="one", ns="test"):
        status, _, body = node.ask("GET", f"/api/v1/export?ns={ns}&consistency={consistency}")
        self.assertEqual(status, 200, body)
        return body


class Life(ClusterTest):
    def test_one_node_is_killed_and_nobody_notices(self):
        self.start_cluster(3)
        for number in range(30):
            status, answer = self.write(self.nodes[number % 3], f"before {number}", number)
            self.assertEqual(status, 201, answer)
            self.assertGreaterEqual(answer["acks"], 2)
            self.assertEqual(self.read(self.nodes[(number + 1) % 3], f"before {number}"), number)

        self.kill(2)
        for number in range(30):
            writer, reader = self.nodes[number % 2], self.nodes[(number + 1) % 2]
            self.assertEqual(self.write(writer, f"after {number}", number)[0], 201)
            self.assertEqual(self.read(reader, f"after {number}"), number)
            self.assertEqual(self.read(reader, f"before {number}"), number)
            status, _, _ = writer.ask("DELETE", f"/api/v1/words?ns=test&word=before+{number}")
            self.assertEqual(status, 200)
            self.assertIsNone(self.read(reader, f"before {number}"))
            status, _, body = writer.ask("POST", "/api/v1/words/increment?ns=test",
                                         {"word": "counter", "by": 2})
            self.assertEqual(json.loads(body)["score"], 2 * number + 2)

        # It has missed all of that; nobody writes any more, and it catches up.
        node = self.start_node(2, seeds=())
        self.wait_until_ready()
        whole = self.export(self.nodes[0], "quorum")
        self.wait_for(lambda: self.export(node) == whole)
        self.assertEqual(self.read(node, "counter", "one"), 60)
        self.assertIsNone(self.read(node, "before 3", "one"))

    def test_one_that_hangs_holds_nobody_up(self):
        self.start_cluster(3)
        for hung in range(3):
            self.nodes[hung].process.send_signal(signal.SIGSTOP)
            others = [self.nodes[number] for number in range(3) if number != hung]
            for number in range(10):
                word = f"word {hung} {number}"
                status, answer = self.write(others[number % 2], word, number)
                self.assertEqual(status, 201, answer)
                self.assertGreaterEqual(answer["acks"], 2)
                self.assertEqual(self.read(others[(number + 1) % 2], word), number)
                self.assertIsNotNone(self.read(others[number % 2], "whole", "one"))
            self.nodes[hung].process.send_signal(signal.SIGCONT)
            self.wait_until_whole()
        whole = self.export(self.nodes[0], "quorum")
        for node in self.nodes.values():
            self.wait_for(lambda node=node: self.export(node) == whole)

    def test_all_nodes_are_killed_and_nothing_is_lost(self):
        self.start_cluster(3)
        for number in range(60):
            self.assertEqual(self.write(self.nodes[number % 3], f"word {number}", number)[0], 201)
        for number in range(3):
            self.kill(number)
        # One alone cannot know whether the others went on without it.
        node = self.start_node(0, seeds=())
        self.wait_for(lambda: "whether anything has changed" in str(node.get("/ready")))
        self.assertEqual(node.ask("GET", "/ready")[0], 503)
        status, answer = node.get("/api/v1/words?ns=test&word=word+1&consistency=one")
        self.assertIn(status, (503, 504), answer)
        for number in range(1, 3):
            self.start_node(number, seeds=())
        self.wait_until_whole()
        for number in range(60):
            self.assertEqual(self.read(self.nodes[number % 3], f"word {number}"), number)

    def test_nodes_that_are_told_the_same_found_one_cluster(self):
        self.peers = free_ports(3)
        for number in range(3):
            self.start_node(number)
        self.wait_until_whole()
        founded = [number for number in range(3) if "cluster.founded" in self.nodes[number].log]
        self.assertEqual(founded, [0])

    def test_nodes_stop_when_they_are_told_and_keep_their_ids(self):
        self.start_cluster(2)
        self.assertEqual(self.write(self.nodes[0], "kept", 7)[0], 201)
        for number in range(2):
            self.assertEqual(self.nodes.pop(number).stop(), 0)
        for number in range(2):
            log = self.start_node(number).log
            self.assertRegex(log, rf"cluster\.member.* node={number + 1} boot=2 ")
            self.assertNotIn("cluster.founded", log)
            self.assertIn("clean_stop=true", log)
        self.wait_until_ready()
        self.wait_for(lambda: self.read(self.nodes[1], "kept", "all") == 7)

    def test_a_node_alone_becomes_the_first_of_a_cluster(self):
        self.peers = free_ports(2)
        node = self.start_node(0, seeds=())
        self.assertEqual(self.write(node, "old", 3)[0], 201)
        self.assertNotIn("cluster.", node.log)
        self.assertNotIn("cluster_node", node.get("/api/v1/stats")[1])
        status, answer = node.get("/nodes")
        self.assertEqual((status, answer["detail"]), (404, "the node is alone: it is in no cluster"))
        self.assertEqual(self.nodes.pop(0).stop(), 0)
        self.start_node(0)
        self.start_node(1)
        self.wait_until_whole()
        self.wait_for(lambda: self.read(self.nodes[1], "old", "one") == 3)


class Requests(ClusterTest):
    def test_imports_walks_and_exports_are_alike_at_every_node(self):
        count = 5000
        self.start_cluster(3)
        lines = "".join(f"word {number}\t{number % 997}\n" for number in range(count))
        # The later line of a word counts, whether it is one of those that go together or not.
        lines = "word 9\t7000\nword 8\t1\nword 8\t6000\n" + lines + "word 7\t5000\n"
        lines = lines.replace("word 8\t8\n", "")
        status, _, body = self.nodes[1].ask(
            "POST", "/api/v1/import?ns=bulk&consistency=all", lines.encode(),
            [("Content-Type", "text/tab-separated-values")])
        self.assertEqual((status, json.loads(body)["imported"]), (200, count + 3))

        whole = self.export(self.nodes[0], ns="bulk")
        self.assertEqual(len(whole.splitlines()), count)
        for node in self.nodes.values():
            self.assertEqual(node.get("/api/v1/count?ns=bulk&q=word"), (200, {"count": count}))
            self.assertEqual(self.export(node, ns="bulk"), whole)
            status, answer = node.get("/search?ns=bulk&q=WORD&limit=2")
            self.assertEqual(answer["results"], ["word 8", "word 7"])
            self.assertEqual(node.get("/api/v1/words?ns=bulk&word=word+9")[1]["score"], 9)

        # Each page from another node, in each order.
        for sort in ("popularity:desc", "alphabetical:asc", "alphabetical:desc"):
            seen, cursor, page = [], "", 0
            while cursor is not None:
                status, answer = self.nodes[page % 3].get(
                    f"/search?ns=bulk&q=word+1&limit=300&sort={sort}{cursor}")
                self.assertEqual(status, 200, answer)
                seen += answer["results"]
                cursor = answer.get("next_cursor")
                cursor = None if cursor is None else f"&cursor={cursor}"
                page += 1
            self.assertEqual(len(seen), 1111)
            self.assertEqual(set(seen), {f"word {number}" for number in range(count)
                                         if str(number).startswith("1")})

    def test_the_cluster_shows_itself(self):
        self.start_cluster(2)
        node = self.nodes[1]
        self.wait_for(lambda: self.ranges_of(node, 2) == [("", "", [1, 2])])
        self.assertEqual(self.ranges_of(node, "all"), [("", "", [1, 2])])
        status, answer = node.get("/nodes")
        self.assertEqual((status, answer["generation"]), (200, 1))
        shown = [(each["id"], each["zone"], each["self"], each["health"], each["ranges"])
                 for each in answer["nodes"]]
        self.assertEqual(shown, [(1, "z0", False, "alive", 1), (2, "z1", True, "alive", 1)])
        status, found = node.get("/search/nodes?ns=test&q=tri")
        self.assertEqual((status, found["ranges"][0]["owners"]), (200, [1, 2]))
        self.assertEqual((found["ranges"][0]["low"], found["ranges"][0]["high"]), ("", ""))
        for path in ("/nodes/3/ranges", "/nodes/0/ranges", "/nodes/x/ranges", "/nodes//ranges",
                     "/nodes/70000/ranges", "/nodes/1/2/ranges"):
            self.assertEqual(node.get(path)[0], 404, path)
        self.assertEqual(node.get("/nodes?q=a")[0], 400)
        figures = node.get("/api/v1/stats")[1]
        self.assertEqual((figures["cluster_node"], figures["cluster_members"],
                          figures["cluster_ranges"], figures["peers_connected"]), (2, 2, 1, 1))
        self.assertGreater(figures["peers_sent_bytes"], 0)
        self.assertIn(b"\ntrifecta_cluster_members 2\n", node.ask("GET", "/metrics")[2])
        self.assertEqual(node.ask("POST", "/nodes/1/ranges", {})[0], 405)
        self.kill(0)
        self.wait_for(lambda: node.get("/nodes")[1]["nodes"][0]["health"] == "down")

    def ranges_of(self, node, which):
        status, answer = node.get(f"/nodes/{which}/ranges")
        self.assertEqual(status, 200)
        return [(each["low"], each["high"], each["owners"]) for each in answer["ranges"]
                if each["stage"] == "stable"]

    def test_members_answer_as_they_describe_it(self):
        """But for what would make them fewer."""
        self.start_cluster(3)
        fewer = ("drain", "remove", "replace", "recover")
        for operation, status in openapi.ask_all(self.nodes[0], without=fewer):
            ended = operation["operationId"] == "cancelJob"  # There may be nothing to cancel.
            self.assertIn(status, (200, 409) if ended else (200, 201, 202), operation["operationId"])

    def test_pipelined_writes_of_one_word_take_effect_in_their_order(self):
        self.start_cluster(4)  # One does not own the word: it hands each write to another.
        for node in self.nodes.values():
            requests = b""
            for score in range(40):
                body = json.dumps({"word": "pipelined", "score": score}).encode()
                requests += (b"POST /api/v1/words?ns=test HTTP/1.1\r\nHost: localhost\r\n"
                             b"Content-Length: %d\r\n\r\n" % len(body)) + body
            with node.dial() as connection:
                connection.sendall(requests + b"GET /api/v1/words?ns=test&word=pipelined&"
                                              b"consistency=quorum HTTP/1.1\r\nHost: localhost\r\n"
                                              b"Connection: close\r\n\r\n")
                answers = b"".join(iter(lambda: connection.recv(65536), b""))
            self.assertEqual(answers.count(b"HTTP/1.1 20"), 41, answers)
            self.assertIn(b'"score":39,', answers[answers.rindex(b"HTTP/1.1"):])

    def test_pipelined_reads_are_answered_in_their_order(self):
        self.start_cluster(4)  # One does not own the words: it asks others, several reads at once.
        for number in range(30):
            self.assertEqual(self.write(self.nodes[0], f"word {number}", number, "all")[0], 201)
        targets = [f"/api/v1/words?ns=test&word=word+{number}" for number in range(30)]
        targets += [f"/search?ns=test&q=word+{number}&limit=3" for number in range(10)]
        targets += ["/search?ns=test&q=word&limit=1000", "/api/v1/count?ns=test&q=word", "/live",
                    "/api/v1/words?ns=test&word=none", "/search?limit=0", "/nothing", "/nodes/x/ranges",
                    "/api/v1/export?ns=test&q=word+2", "/api/v1/search?ns=test&q=w&cursor=AAAA"]
        chance = random.Random(1)
        for node in self.nodes.values():
            wanted = {target: self.told(node.ask("GET", target)) for target in targets}
            for consistency in ("", "&consistency=quorum"):
                order = chance.choices(targets, k=200)
                requests = b""
                for target in order:
                    more = consistency if "ns=test" in target else ""
                    requests += f"GET {target}{more} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                    if chance.random() < 0.1:
                        body = b'{"word":"between","score":1}'
                        requests += (b"POST /api/v1/words?ns=other HTTP/1.1\r\nHost: localhost\r\n"
                                     b"Content-Length: %d\r\n\r\n" % len(body)) + body
                with node.dial() as connection:
                    sender = threading.Thread(target=connection.sendall, args=(requests,))
                    sender.start()
                    stream = connection.makefile("rb")
                    for target in order:
                        answer = self.told(read_answer(stream))
                        while "acks" in answer[1]:
                            answer = self.told(read_answer(stream))
                        self.assertEqual(answer, wanted[target], target)
                    sender.join()
            # Who goes before its answers come leaves nothing behind.
            for _ in range(20):
                with node.dial() as connection:
                    connection.sendall(requests[:chance.randrange(len(requests))])
            connection = node.dial()
            connection.sendall(b"".join(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                                        for target in targets[:40]))
            connection.shutdown(socket.SHUT_WR)
            stream = connection.makefile("rb")
            for target in targets[:40]:
                self.assertEqual(self.told(read_answer(stream)), wanted[target])
            self.assertEqual(stream.read(), b"")
            connection.close()
            self.wait_for(lambda node=node: node.get("/api/v1/stats")[1]["connections"] == 1)

    def told(self, answer):
        """Status and body, without what differs each time."""
        status, _, body = answer
        try:
            body = json.loads(body)
        except ValueError:
            return status, body.decode()
        if isinstance(body, dict):
            for volatile in ("took_us", "request_id"):
                body.pop(volatile, None)
        return status, body

    def test_who_brings_a_token_reads_what_was_written(self):
        self.start_cluster(3)
        token = None
        for score in range(1, 9):
            # An owner that hangs while the others take the write knows nothing of it when it goes on.
            writer, reader = self.nodes[score % 3], self.nodes[(score + 1) % 3]
            reader.process.send_signal(signal.SIGSTOP)
            headers = [] if token is None else [("X-Trifecta-Token", token)]
            status, given, body = writer.ask(
                "POST", "/api/v1/words?ns=test&consistency=quorum",
                {"word": f"token {score // 2}", "score": score}, headers)
            reader.process.send_signal(signal.SIGCONT)
            self.assertIn(status, (200, 201), body)
            token = given["x-trifecta-token"]
            status, _, body = reader.ask(
                "GET", f"/api/v1/words?ns=test&word=token+{score // 2}&consistency=one", None,
                [("X-Trifecta-Token", token)])
            self.assertEqual(status, 200, body)
            self.assertEqual(json.loads(body)["score"], score)
        altered = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
        for method, body in (("GET", None), ("DELETE", None), ("POST", {"word": "a"})):
            for bad in (altered + "A", "!", ""):
                target = "/api/v1/words?ns=test" + ("" if method == "POST" else "&word=a")
                status, _, answer = self.nodes[0].ask(method, target, body,
                                                      [("X-Trifecta-Token", bad)])
                self.assertEqual((status, json.loads(answer)["field"]),
                                 (400, "X-Trifecta-Token"), bad)

    def test_too_few_nodes_are_an_error_that_says_so(self):
        self.start_cluster(3)
        self.assertEqual(self.write(self.nodes[0], "here", 1, "all")[0], 201)
        self.kill(1)
        self.kill(2)
        node = self.nodes[0]
        for number in (2, 3):
            self.wait_for(lambda number=number: f"peer.lost node={number}" in node.log)
        status, headers, _ = node.ask("POST", "/api/v1/words?ns=test", {"word": "refused"})
        self.assertEqual((status, headers["retry-after"]), (503, "1"))
        self.assertEqual(self.read(node, "here", "one"), 1)
        status, answer = node.get("/api/v1/words?ns=test&word=here&consistency=all")
        self.assertEqual((status, answer["code"]), (503, "quorum_not_met"))


class OwnReads(ClusterTest):
    """Reads that an owner answers from its own view, and all others."""

    READS = ("/search?ns=test&q=word", "/search?ns=test&q=WORD+1&limit=3&sort=alphabetical:asc",
             "/api/v1/search?ns=test&q=word&limit=20", "/api/v1/count?ns=test&q=w",
             "/api/v1/words?ns=test&word=word+7", "/api/v1/words?ns=test&word=none")

    def figures(self, node):
        answer = node.get("/api/v1/stats")[1]
        return answer["reads_local"], answer["reads_coordinated"]

    def count_reads(self, node, read):
        """What `read` gives, and how many reads it took: answered from the own view, and others."""
        before = self.figures(node)
        given = read()
        return given, tuple(now - then for now, then in zip(self.figures(node), before))

    def answer(self, node, target, headers=()):
        status, _, body = node.ask("GET", target, None, headers)
        answer = json.loads(body)
        for volatile in ("took_us", "request_id"):
            answer.pop(volatile, None)
        return status, answer

    def write_words(self, count):
        for number in range(count):
            self.assertEqual(self.write(self.nodes[0], f"word {number}", number, "all")[0], 201)

    def answers_itself(self, node):
        _, (local, _) = self.count_reads(node, lambda: self.read(node, "word 7", "one"))
        return local == 1

    def test_an_owner_answers_by_itself_as_a_quorum_would(self):
        self.start_cluster(3)
        self.write_words(40)
        for node in self.nodes.values():
            for target in self.READS:
                # The second time from the answer cache, where that has it.
                for _ in range(2):
                    at_one, counted = self.count_reads(node, lambda: self.answer(node, target))
                    self.assertEqual(counted, (1, 0), target)
                others, counted = self.count_reads(
                    node, lambda: self.answer(node, target + "&consistency=quorum"))
                self.assertEqual(counted, (0, 1), target)
                self.assertEqual(at_one, others)
        self.assertIn(b"\ntrifecta_reads_local_total ", node.ask("GET", "/metrics")[2])

        # Cursors go both ways.
        for first, second in (("one", "quorum"), ("quorum", "one")):
            pages = [f"/search?ns=test&q=word&limit=4&sort={sort}" for sort in
                     ("popularity:desc", "alphabetical:asc", "alphabetical:desc")]
            for page in pages:
                cursor = self.answer(node, f"{page}&consistency={first}")[1]["next_cursor"]
                self.assertEqual(
                    self.answer(node, f"{page}&cursor={cursor}&consistency={first}"),
                    self.answer(node, f"{page}&cursor={cursor}&consistency={second}"))

        # An answer that is kept is none to who brings a token, and none after a write.
        target = "/search?ns=test&q=word&limit=1"
        for score in range(100, 110):
            _, given, _ = self.nodes[0].ask("POST", "/api/v1/words?ns=test&consistency=quorum",
                                            {"word": f"word of {score}", "score": score})
            token = [("X-Trifecta-Token", given["x-trifecta-token"])]
            for node in self.nodes.values():
                self.assertEqual(self.answer(node, target, token)[1]["results"],
                                 [f"word of {score}"])
            self.assertEqual(self.answer(self.nodes[0], target)[1]["results"],
                             [f"word of {score}"])

    def test_an_owner_exports_by_itself(self):
        self.start_cluster(4)
        count = 40000
        lines = "".join(f"long enough to fill pages {number}\t{number}\n" for number in range(count))
        status, _, body = self.nodes[0].ask("POST", "/api/v1/import?ns=bulk&consistency=all",
                                            lines.encode(),
                                            [("Content-Type", "text/tab-separated-values")])
        self.assertEqual((status, json.loads(body)["imported"]), (200, count))
        whole = self.export(self.nodes[0], "quorum", "bulk")
        self.assertEqual(len(whole.splitlines()), count)
        self.assertGreater(len(whole), 1 << 20)
        owners = self.ranges_of(self.nodes[0])
        for number, node in self.nodes.items():
            given, (local, coordinated) = self.count_reads(node,
                                                           lambda: self.export(node, ns="bulk"))
            self.assertEqual(given, whole)
            self.assertEqual((local > 10, coordinated), (True, 0) if number + 1 in owners
                             else (False, count // 1000))
            _, (local, _) = self.count_reads(node, lambda: self.export(node, "quorum", "bulk"))
            self.assertEqual(local, 0)
            status, _, body = node.ask("GET", "/api/v1/export?ns=none")
            self.assertEqual((status, body), (200, b""))
        # What the format does not hold is said at once.
        self.assertEqual(self.write(node, "a\ttab", 1, "all", "tabs")[0], 201)
        for node in self.nodes.values():
            self.wait_for(lambda node=node: node.get("/api/v1/count?ns=tabs&q=")[1]["count"] == 1)
            status, answer = node.get("/api/v1/export?ns=tabs&format=tsv")
            self.assertEqual((status, answer["field"]), (400, "format"))

    def test_reads_are_right_while_nodes_come_and_go(self):
        self.start_cluster(3)
        self.write_words(60)
        reads = 0

        def read_all():
            """Any node, any moment: what was written at all owners is there."""
            nonlocal reads
            for node in list(self.nodes.values()):
                number = reads % 60
                reads += 1
                self.assertEqual(self.read(node, f"word {number}", "one"), number)
                status, answer = node.get("/api/v1/count?ns=test&q=word&consistency=one")
                self.assertEqual((status, answer), (200, {"count": 60}))
            return True

        self.peers += free_ports(2)
        for number in (3, 4):
            node = self.start_node(number, seeds=(0,))
            del self.nodes[number]
            self.wait_for(lambda: read_all() and node.ask("GET", "/ready")[0] == 200)
            self.nodes[number] = node
            self.wait_for(lambda: read_all() and self.owner_counts(node) == {3})
        owners = self.ranges_of(node)
        local = {number for number, node in self.nodes.items() if self.answers_itself(node)}
        self.assertEqual(local, {owner - 1 for owner in owners})
        self.assertLess(len(local), len(self.nodes)) # Others ask them.

        killed = min(local)
        self.kill(killed)
        for _ in range(20):
            for number, node in self.nodes.items():
                self.assertEqual(self.read(node, "word 7", "one"), 7)
                self.assertEqual(self.answers_itself(node), number in local)
        status, answer = self.write(self.nodes[max(local)], "word while it is away", 1)
        self.assertEqual(status, 201, answer)
        node = self.start_node(killed, seeds=())
        # It answers nothing before it knows that nothing has changed, and by and by what it missed as well.
        self.wait_until_ready()
        self.wait_for(lambda: self.answers_itself(node))
        self.wait_for(lambda: self.read(node, "word while it is away", "one") == 1)

    def ranges_of(self, node):
        status, answer = node.get("/nodes/all/ranges")
        self.assertEqual((status, len(answer["ranges"])), (200, 1))
        return answer["ranges"][0]["owners"]


@unittest.skipUnless(wall_clock.is_possible(), "needs libfaketime, and no sanitizer")
class Clocks(ClusterTest):
    """One of three nodes has a wall clock that the test sets."""

    def setUp(self):
        super().setUp()
        self.clock = wall_clock.WallClock(os.path.join(self.folder, "clock"))

    def start_node(self, number, *flags, seeds=None):
        self.environment = self.clock.environment if number == 2 else {}
        return super().start_node(number, *flags, seeds=seeds)

    def figure(self, node, name):
        return node.get("/api/v1/stats")[1][name]

    def is_off(self, node):
        """As it said last."""
        return node.log.rfind("event=clock.off") > node.log.rfind("event=clock.right")

    def stamp(self, word):
        """Written at the node with that clock: (who stamped it, seconds ahead of the machine's time)."""
        status, answer = self.write(self.nodes[2], word)
        self.assertIn(status, (200, 201), answer)
        milliseconds, _, rest = answer["version"].partition(".")
        return int(rest.partition("@")[2]), int(milliseconds) / 1000 - time.time()

    def test_a_clock_that_is_an_hour_off_stamps_nothing_and_is_told_of(self):
        self.start_cluster(3)
        node = self.nodes[2]
        own = self.figure(node, "cluster_node")
        for seconds in (3600, -3600):
            self.clock.set(seconds)
            self.wait_for(lambda: self.is_off(node))
            self.assertAlmostEqual(self.figure(node, "clock_skew_ms"), 3600_000, delta=60_000)
            for number in range(20):  # A jump is not followed.
                self.assertLess(abs(self.stamp(f"word {number}")[1]), 60)
                self.assertEqual(self.read(self.nodes[0], f"word {number}"), 1)
            # A start has no time before the jump to go on from.
            self.assertEqual(node.stop(), 0)
            node = self.start_node(2, seeds=())
            self.wait_for(lambda: node.ask("GET", "/ready")[0] == 200)
            self.wait_for(lambda: "event=clock.off" in node.log)
            self.assertEqual(self.figure(node, "clock_stamps"), 0)
            stamped_by, ahead = self.stamp(f"after {seconds}")
            self.assertNotEqual(stamped_by, own)
            self.assertLess(abs(ahead), 60)
            self.clock.set(0)
            self.wait_for(lambda: self.figure(node, "clock_stamps") == 1)
            self.wait_for(lambda: self.stamp("right again")[0] == own)
            self.wait_for(lambda: not self.is_off(node))


@unittest.skipUnless(wall_clock.is_possible(), "needs libfaketime, and no sanitizer")
class Months(ClusterTest):
    """The clock of all nodes is the test's."""

    def setUp(self):
        super().setUp()
        self.clock = wall_clock.WallClock(os.path.join(self.folder, "clock"))
        self.environment = self.clock.environment

    def test_who_was_away_for_months_brings_nothing_back(self):
        """Deletions are kept for ten days, and then for as long as a member may not know them."""
        self.start_cluster(3)
        deleted, kept = [f"deleted {n}" for n in range(40)], [f"kept {n}" for n in range(40)]
        for word in deleted + kept:
            self.assertEqual(self.write(self.nodes[0], word, 1, "all")[0], 201)
        self.assertEqual(self.nodes.pop(2).stop(), 0)
        for word in deleted:
            status, _, body = self.nodes[0].ask("DELETE", f"/api/v1/words?ns=test&word={quote(word)}")
            self.assertEqual((status, json.loads(body)["deleted"]), (200, True), body)
        for word in kept:
            self.assertEqual(self.write(self.nodes[1], word, 2)[0], 200)
        self.clock.set(90 * 24 * 3600)
        for number in (0, 1):  # None follows a jump while it runs.
            self.assertEqual(self.nodes.pop(number).stop(), 0)
        for number in (0, 1):
            self.start_node(number)
        self.wait_until_ready()
        status, answer = self.write(self.nodes[0], "months later")
        self.assertEqual(status, 201, answer)
        self.assertGreater(int(answer["version"].partition(".")[0]) / 1000 - time.time(), 80 * 24 * 3600)
        # As long as a sweep of what is old enough would take, if there were one.
        self.wait_for(lambda: self.nodes[0].get("/api/v1/stats")[1]["uptime_seconds"] >= 5)
        self.start_node(2)
        self.wait_until_whole()
        expected = b"".join(b'{"word":"%s","score":2}\n' % word.encode() for word in sorted(kept))
        expected += b'{"word":"months later","score":1}\n{"word":"whole","score":1}\n'
        for node in self.nodes.values():
            self.wait_for(lambda node=node: self.export(node) == self.export(self.nodes[0], "all"))
            self.assertEqual(self.export(node), expected)


class Refused(ClusterTest):
    def refuse(self, number, *flags, seeds=None):
        server = self.start_node(number, *flags, seeds=seeds)
        self.nodes.pop(number)
        self.assertIsNone(server.port, server.log)
        return server.ended(), server.log

    def test_what_a_node_may_not_be_told(self):
        self.peers = free_ports(2)
        for address, why in (("10.0.0.1", "beyond loopback nodes speak TLS"),
                             ("0.0.0.0", "the other nodes are told this address")):
            for seeds in (None, ()):
                code, log = self.refuse(0, "--peer", f"{address}:7400", seeds=seeds)
                self.assertEqual(code, 2)
                self.assertIn("--peer: peer: " + why, log)
        code, log = self.refuse(0, "--node-id", "4")
        self.assertIn("each node is given its id", log)
        with socket.create_server((HOST, self.peers[0])):
            code, log = self.refuse(0)
        self.assertEqual(code, 1)
        self.assertIn("choose another with --peer", log)

    def test_words_of_a_node_alone_are_not_taken_into_another_cluster(self):
        self.peers = free_ports(2)
        node = self.start_node(1, seeds=())
        self.assertEqual(self.write(node, "own")[0], 201)
        self.assertEqual(self.nodes.pop(1).stop(), 0)
        code, log = self.refuse(1, seeds=(0,))
        self.assertEqual(code, 1)
        self.assertIn("the directory holds words of its own", log)

    def test_a_copy_of_a_directory_is_kept_away(self):
        self.start_cluster(2)
        self.assertEqual(self.nodes.pop(1).stop(), 0)
        copy = os.path.join(self.folder, "copy")
        shutil.copytree(self.folder_of(1), copy)
        self.start_node(1)
        self.wait_until_whole()
        twin = Server(copy, "--peer", f"{HOST}:{free_ports(1)[0]}")
        self.servers.append(twin)
        self.wait_for(lambda: "is one data directory a copy of the other?" in twin.log)
        status, answer = self.write(twin, "of the copy")
        self.assertIn(status, (503, 504), answer)
        for number in range(20):
            status, answer = self.write(self.nodes[number % 2], f"word {number}", 1, "all")
            self.assertEqual((status, answer["acks"]), (201, 2))

    def test_a_peer_that_tells_of_maps_that_are_none_or_old_is_not_believed(self):
        self.start_cluster(2)
        node, address = self.nodes[0], (HOST, self.peers[0])
        liar = 77  # An id that the map does not know yet may be a new member's.
        with fake_peer.Peer(address, liar) as peer:
            old = peer.fetch_map()
        self.peers += free_ports(1)
        self.start_node(2, seeds=(0,))
        self.wait_until_whole()
        invalid = node.get("/api/v1/stats")[1]["cluster_invalid_messages"]
        lies = 0
        with fake_peer.Peer(address, liar) as peer:
            new = peer.fetch_map()
            self.assertNotEqual(old, new)
            for size in range(len(new)):
                peer.tell_map(new[:size])
                lies += 1
            peer.tell_map(new + b"\0")
            peer.tell_map(b"\xff" * 10000)
            lies += 2
            peer.tell_map(old)
            # The answer comes after all of that was looked at, and before others could mend it.
            self.assertNotEqual(peer.fetch_map(), old)
        self.wait_for(lambda: node.get("/api/v1/stats")[1]["cluster_invalid_messages"] == invalid + lies)
        self.assertEqual(len(node.get("/nodes")[1]["nodes"]), 3)
        for number, each in self.nodes.items():
            status, answer = self.write(each, f"word {number}", 1, "all")
            self.assertEqual((status, answer["acks"]), (201, 3))

    def test_a_member_of_one_cluster_is_none_of_another(self):
        self.peers = free_ports(2)
        for number in range(2):
            self.start_node(number, seeds=(number,))
        self.wait_until_ready()
        self.assertEqual(self.write(self.nodes[0], "of the first")[0], 201)
        self.nodes.pop(1).stop()
        node = self.start_node(1, seeds=(0,))
        self.wait_until_ready()
        self.assertNotIn("cluster.joins", node.log)
        self.assertIsNone(self.read(node, "of the first", "all"))


if __name__ == "__main__":
    unittest.main()
