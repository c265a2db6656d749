#!/usr/bin/python3
"""Administration of a cluster that runs: nodes are drained, removed and given up, by command and by HTTP."""
import json
import re
import subprocess
import sys
import threading
import time
import unittest
from urllib.parse import quote

CLI = sys.argv.pop(1) if len(sys.argv) > 2 else "build/src/cmd/trifecta"

from cluster_test import ClusterTest, free_ports  # noqa: E402 (the programs come first)


class Traffic:
    """Writes and searches at some nodes, one after the other, until it is stopped; keeps what went wrong. A request of which nothing was
    done, for too few nodes seemed up, is made again, as its Retry-After says: on a machine that has no time for its nodes some seem
    down that are not."""

    made = 0

    def __init__(self, test, nodes, consistency="quorum"):
        self.test, self.nodes, self.consistency = test, nodes, consistency
        self.count, self.errors, self.ending = 0, [], threading.Event()
        self.slowest = self.refused = 0
        Traffic.made += 1
        self.name = f"traffic {Traffic.made}"
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ending.is_set():
            node = self.nodes[self.count % len(self.nodes)]
            word = f"{self.name} {self.count}."
            status, answer = self.until_taken(
                lambda node=node, word=word: self.test.write(node, word, self.count,
                                                             self.consistency))
            if status not in (200, 201):
                self.errors.append(answer)
            node = self.nodes[(self.count + 1) % len(self.nodes)]
            status, answer = self.until_taken(
                lambda node=node, word=word: node.get(f"/search?ns=test&q={quote(word)}&limit=1"
                                                      f"&consistency={self.consistency}"))
            if status != 200 or answer["results"] != [word]:
                self.errors.append((word, answer))
            self.count += 1

    def until_taken(self, request):
        began = time.monotonic()
        while True:
            status, answer = request()
            refused = status == 503 and answer["code"] in ("quorum_not_met", "no_healthy_owner")
            if not refused or time.monotonic() > began + 30:
                break
            self.refused += 1
            time.sleep(0.05)
        self.slowest = max(self.slowest, time.monotonic() - began)
        return status, answer

    def stop(self):
        """How many of each were done."""
        self.ending.set()
        self.thread.join()
        self.test.assertEqual(self.errors, [])
        return self.count


class AdminTest(ClusterTest):
    def admin(self, node, method, path, expected):
        """The answer to a command; of a refusal its code and detail."""
        status, _, body = node.ask(method, f"/api/v1/admin/{path}")
        answer = json.loads(body)
        self.assertEqual(status, expected, answer)
        return answer if status < 300 else (answer["code"], answer["detail"])

    def cli(self, node, *arguments):
        result = subprocess.run([CLI, "--url", f"http://127.0.0.1:{node.port}", *arguments],
                                capture_output=True, timeout=120, check=False, text=True)
        return result.returncode, result.stdout, result.stderr

    def end_of(self, node, job):
        """The job, once it has ended."""
        self.wait_for(lambda: self.admin(node, "GET", f"jobs/{job}", 200)["state"] != "running")
        return self.admin(node, "GET", f"jobs/{job}", 200)

    def members(self, node):
        return [each["id"] for each in node.get("/nodes")[1]["nodes"]]


class Drain(AdminTest):
    def test_a_node_is_drained_while_others_serve(self):
        self.start_cluster(3)
        first, second, third = (self.nodes[number] for number in range(3))
        for number in range(30):
            self.assertEqual(self.write(third, f"kept {number}", number)[0], 201)

        # What makes no sense changes nothing.
        for method, path, status, code, words in (
                ("POST", "drain?node=9", 404, "not_found", "there is no node 9"),
                ("POST", "drain?node=x", 400, "invalid_parameter", "a whole number"),
                ("POST", "drain?force=true", 400, "unknown_parameter", "not known"),
                ("POST", "remove", 400, "missing_field", "node is missing"),
                ("POST", "remove?node=1", 409, "conflict", "cannot remove itself"),
                ("POST", "remove?node=3", 409, "conflict", "node 3 is up: drain it"),
                ("POST", "remove?node=3&force=yes", 400, "invalid_parameter", "true or false"),
                ("POST", "recover?force=true", 400, "missing_field", "lost is missing"),
                ("POST", "recover?lost=2,3&force=true", 409, "conflict", "node 2 is up"),
                ("POST", "recover?lost=9", 404, "not_found", "there is no node 9"),
                ("POST", "recover?lost=3,2", 400, "invalid_parameter", "ascending"),
                ("GET", "jobs/drain-3", 404, "not_found", "no such job"),
                ("GET", "jobs/drain", 404, "not_found", "no such job"),
                ("GET", "jobs/repair-2-1", 404, "not_found", "node 2"),
                ("DELETE", "jobs/drain-3", 404, "not_found", "no such job"),
                ("GET", "drain", 405, "method_not_allowed", "Allow"),
                ("POST", "promote", 404, "not_found", "no such route")):
            answer = self.admin(first, method, path, status)
            self.assertEqual(answer[0], code, path)
            self.assertIn(words, answer[1], path)
        self.assertEqual(self.members(first), [1, 2, 3])
        status, _, body = first.ask("POST", "/api/v1/admin/drain", {"node": 3})
        self.assertEqual((status, json.loads(body)["code"]), (400, "bad_request"))

        # A drain that is cancelled leaves everything as it was; what has ended cannot be cancelled.
        job = self.admin(first, "POST", "drain?node=3", 202)
        self.assertEqual((job["id"], job["state"]), ("drain-3", "running"))
        self.assertIn("2 of the 3 copies", job["warning"])
        self.assertEqual(self.admin(first, "POST", "drain?node=3", 202)["id"], "drain-3")
        self.assertEqual(self.admin(first, "DELETE", "jobs/drain-3", 200)["state"], "cancelled")
        self.assertIn("has ended", self.admin(first, "DELETE", "jobs/drain-3", 409)[1])
        self.wait_until_whole()
        self.assertEqual(self.members(first), [1, 2, 3])

        job = self.admin(third, "POST", "repair", 202)
        self.assertEqual((job["node"], job["total"], job["unit"]), (3, 2, "nodes"))
        self.assertEqual(self.end_of(third, job["id"])["state"], "done")

        # By command, to the end, while the others serve.
        traffic = Traffic(self, [first, second])
        code, out, _ = self.cli(first, "drain", "3")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^drain-3 +done +1 of 1 ranges\n$")
        self.assertGreater(traffic.stop(), 10)
        answer = second.get("/nodes")[1]
        self.assertEqual([each["id"] for each in answer["nodes"]], [1, 2])
        self.assertEqual((answer["replication_factor"], answer["effective_replication_factor"]),
                         (3, 2))
        for number in range(30):
            self.assertEqual(self.read(second, f"kept {number}", "all"), number)
        self.wait_for(lambda: "member of its cluster no more" in str(third.get("/ready")))

        # It is none of them any more after a start either, and serves nothing of what it had.
        self.assertEqual(self.nodes.pop(2).stop(), 0)
        stale = self.start_node(2, seeds=(0,))
        self.wait_for(lambda: "member of its cluster no more" in str(stale.get("/ready")))
        self.assertIn(self.write(stale, "stale")[0], (503, 504))
        self.assertEqual(self.admin(stale, "POST", "drain?node=1", 503)[0], "not_ready")
        self.assertEqual(self.write(first, "as before", 1, "all")[0], 201)
        self.nodes.pop(2)

        # Two at once: one of them is the last that stays.
        answers = []
        threads = [threading.Thread(target=lambda node=node, at=at: answers.append(
            node.ask("POST", f"/api/v1/admin/drain?node={at}")[0::2]))
                   for node, at in ((first, 1), (second, 2))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answers.sort()
        self.assertEqual([status for status, _ in answers], [202, 409], answers)
        self.assertIn("no member would stay", json.loads(answers[1][1])["detail"])
        leaves = json.loads(answers[0][1])["node"]
        stays = [first, second][2 - leaves]
        self.assertEqual(self.end_of(stays, f"drain-{leaves}")["state"], "done")
        self.assertEqual(self.read(stays, "as before", "all"), 1)
        self.assertIn("no member would stay", self.admin(stays, "POST", "drain", 409)[1])


class Loss(AdminTest):
    def test_nodes_that_are_lost_are_removed_and_given_up(self):
        self.start_cluster(3)
        first, second = self.nodes[0], self.nodes[1]
        for number in range(30):
            self.assertEqual(self.write(second, f"kept {number}", number)[0], 201)
        self.kill(2)
        self.wait_for(lambda: "peer.lost node=3" in first.log)
        self.assertIn("node 3 is down", self.admin(first, "POST", "drain?node=3", 409)[1])
        self.assertIn("suffice",
                      self.admin(first, "POST", "recover?lost=3&force=true", 409)[1])
        code, out, error = self.cli(second, "remove", "3", "--json")
        self.assertEqual(code, 0, error)
        job = json.loads(out)
        self.assertEqual((job["id"], job["state"], job["progress"]), ("remove-3", "done", 1))
        self.assertEqual(self.members(first), [1, 2])
        self.assertEqual(self.admin(first, "GET", "jobs/remove-3", 200)["state"], "done")
        self.assertIn("has ended", self.admin(first, "DELETE", "jobs/remove-3", 409)[1])
        self.assertEqual(self.write(first, "after", 1, "all")[0], 201)

        # Its directory is of no use any more; an empty one joins.
        stale = self.start_node(2, seeds=(0,))
        self.wait_for(lambda: "member of its cluster no more" in str(stale.get("/ready")))
        self.nodes.pop(2).stop()
        self.peers.append(free_ports(1)[0])
        self.start_node(3, seeds=(0,))
        self.wait_until_whole()
        self.assertEqual(self.members(first), [1, 2, 4])
        self.assertEqual(self.end_of(first, "join-4")["state"], "done")

        # Another weight, and nobody to take anything; a node in the place of one that is lost.
        code, out, error = self.cli(first, "rebalance", "4", "--weight", "250")
        self.assertEqual((code, error), (0, ""))
        self.assertRegex(out, r"^rebalance-\d+ +done ")
        self.assertEqual([each["weight"] for each in first.get("/nodes")[1]["nodes"]],
                         [100, 100, 250])
        self.assertIn("together", self.admin(first, "POST", "rebalance?node=4", 400)[1])
        self.assertIn("own place", self.admin(first, "POST", "replace?node=4&with=4", 409)[1])
        self.assertIn("no node 9", self.admin(first, "POST", "replace?node=4&with=9", 404)[1])
        self.assertIn("with is missing", self.admin(first, "POST", "replace?node=4", 400)[1])
        self.kill(3)
        self.wait_for(lambda: "peer.lost node=4" in first.log)
        self.assertIn("cannot take the place",
                      self.admin(first, "POST", "replace?node=2&with=4", 409)[1])
        self.peers.append(free_ports(1)[0])
        self.start_node(4, seeds=(0,))
        self.wait_for(lambda: self.members(first) == [1, 2, 4, 5])
        code, out, error = self.cli(first, "replace", "4", "5")
        self.assertEqual((code, error), (0, ""))
        self.assertRegex(out, r"^remove-4 +done ")
        self.wait_until_whole()
        self.assertEqual(self.members(first), [1, 2, 5])

        # Two of three registrars are lost: nothing can be decided until they are given up.
        self.kill(1)
        self.kill(4)
        for number in (2, 5):
            self.wait_for(lambda number=number: f"peer.lost node={number}" in first.log)
        answer = self.admin(first, "POST", "remove?node=2&force=true", 503)
        self.assertEqual(answer[0], "quorum_not_met")
        self.assertIn("1 of 3 registrars are up", answer[1])
        code, _, error = self.cli(first, "recover", "5", "2")
        self.assertEqual(code, 1)
        self.assertIn("gives up 2 nodes", error)
        self.assertEqual(first.get("/nodes")[1]["generation"], 1)
        code, out, error = self.cli(first, "recover", "5", "2", "--force")
        self.assertEqual((code, error), (0, ""))
        self.assertRegex(out, r"^generation 2 begins with map \d+; 0 ranges begin empty\n$")
        for number in (2, 5):
            self.assertEqual(self.end_of(first, f"remove-{number}")["state"], "done")
        self.assertEqual(self.members(first), [1])
        for number in range(30):
            self.assertEqual(self.read(first, f"kept {number}", "all"), number)
        self.assertEqual(self.write(first, "after", 2, "all")[0], 200)

        # The new generation starts, and takes others in.
        self.assertEqual(self.nodes.pop(0).stop(), 0)
        first = self.start_node(0, seeds=())
        self.peers.append(free_ports(1)[0])
        self.start_node(5, seeds=(0,))
        self.wait_until_whole()
        self.assertEqual(self.members(first), [1, 6])
        self.assertEqual(self.read(self.nodes[5], "after", "all"), 2)
        code, out, _ = self.cli(first, "jobs")
        self.assertEqual(code, 0)
        self.assertIn("join-6", out)
        self.assertEqual(self.cli(first, "jobs", "drain/3")[0], 2)
        self.assertEqual(self.cli(first, "jobs", "drain-1")[0], 1)


class Handover(AdminTest):
    def test_a_node_that_is_told_to_end_is_missed_by_nobody(self):
        self.start_cluster(4)  # One owns nothing: it hands each write to another, and asks others.
        for number in (2, 0, 1, 3):
            node = self.nodes.pop(number)
            traffic = [Traffic(self, [other]) for other in self.nodes.values() for _ in range(2)]
            self.wait_for_more(traffic)
            self.assertEqual(node.stop(), 0)
            # One that it has not dialled again since a restart is not told.
            told = int(re.search(r"cluster\.goes told=(\d)", node.log).group(1))
            self.assertGreater(told, 0)
            self.assertNotIn("cluster.went_unheard", node.log)
            heard = [f"peer.goes node={number + 1}" in other.log for other in self.nodes.values()]
            self.assertGreaterEqual(sum(heard), told)
            self.wait_for_more(traffic)
            node = self.start_node(number, seeds=())
            self.wait_for(lambda node=node: node.get("/ready")[0] == 200)
            self.wait_for_more(traffic)
            slowest = max(each.slowest for each in traffic)
            count = sum(each.stop() for each in traffic)
            print(f"node {number + 1} stopped and started: {count} writes and as many searches at "
                  f"the others, the slowest took {slowest * 1000:.0f} ms, "
                  f"{sum(each.refused for each in traffic)} were refused first", file=sys.stderr)
        self.wait_until_whole()
        whole = self.export(self.nodes[0], "quorum")
        for node in self.nodes.values():
            self.wait_for(lambda node=node: self.export(node) == whole)

    def wait_for_more(self, traffic):
        """Each has gone on."""
        counts = [each.count + 15 for each in traffic]
        self.wait_for(lambda: all(each.count > count for each, count in zip(traffic, counts)))

    def test_what_a_client_asked_the_node_itself_is_done(self):
        self.start_cluster(2)
        node = self.nodes[1]
        requests = b""
        for number in range(200):
            body = json.dumps({"word": f"last {number}"}).encode()
            requests += (b"POST /api/v1/words?ns=test HTTP/1.1\r\nHost: localhost\r\n"
                         b"Content-Length: %d\r\n\r\n" % len(body)) + body
        with node.dial() as connection:
            connection.sendall(requests)
            answers = connection.recv(1)
            self.assertEqual(self.nodes.pop(1).stop(), 0)
            answers += b"".join(iter(lambda: connection.recv(65536), b""))
        done = answers.count(b"HTTP/1.1 201")
        self.assertGreater(done, 0)
        self.assertEqual(answers.count(b"HTTP/1.1 "), done)
        for number in range(done):
            self.assertEqual(self.read(self.nodes[0], f"last {number}", "one"), 1)


if __name__ == "__main__":
    unittest.main()
