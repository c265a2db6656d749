#!/usr/bin/python3
"""A campaign: kills nodes of a cluster while words are written, and counts what was lost.

    kills.py TRIFECTAD [CYCLES [SEED]]

Each cycle kills one node, two or all of three with SIGKILL and starts them again a moment later. Writers set
new words, change and delete old ones and count up, each its own words, one request at a time; they note
what was acknowledged, and what may have been done. At the end every word is read at a quorum and compared
with that, and all nodes must export the same. Prints one line; exits non-zero when anything is wrong."""
import json
import random
import signal
import sys
import threading
import time

import node_process
from cluster_test import ClusterTest

WRITERS, WORDS = 6, 200


class Writer(threading.Thread):
    """`words`: what each may be now, as a set; None: there is no such word."""

    def __init__(self, test, name, seed):
        super().__init__()
        self.test, self.name, self.random = test, name, random.Random(seed)
        self.words, self.counters, self.acked, self.failed = {}, {}, 0, 0
        self.ends = False

    def ask(self, method, target, body=None):
        """(status, answer), status 0 when there was none."""
        node = self.random.choice(list(self.test.nodes.values()) or [None])
        try:
            status, _, answer = node.ask(method, target, body)
            return status, json.loads(answer) if status else None
        except (OSError, AttributeError, ValueError):
            time.sleep(0.01)  # Others are served meanwhile.
            return 0, None

    def run(self):
        score = 0
        while not self.ends:
            score += 1
            word = f"{self.name}-{self.random.randrange(WORDS)}"
            if self.random.random() < 0.2:
                self.count(f"{self.name}-counter-{self.random.randrange(5)}")
            elif self.random.random() < 0.3:
                self.change(word, None, "DELETE", f"/api/v1/words?ns=test&word={word}")
            else:
                self.change(word, score, "POST", "/api/v1/words?ns=test",
                            {"word": word, "score": score})

    def change(self, word, becomes, method, target, body=None):
        status, answer = self.ask(method, target, body)
        before = self.words.get(word, {None})
        if status in (200, 201):
            self.words[word] = {becomes}
            self.acked += 1
        elif status == 503 and answer["code"] != "overloaded":
            self.failed += 1  # Nothing was done.
        else:
            self.words[word] = before | {becomes}
            self.failed += 1

    def count(self, word):
        status, answer = self.ask("POST", "/api/v1/words/increment?ns=test", {"word": word})
        least, most = self.counters.get(word, (0, 0))
        if status in (200, 201):
            self.counters[word] = least + 1, most + 1
            self.acked += 1
        elif status == 503 and answer["code"] != "overloaded":
            self.failed += 1
        else:
            self.counters[word] = least, most + 1
            self.failed += 1


class Kills(ClusterTest):
    cycles, seed = 10, 1

    def runTest(self):
        chance = random.Random(self.seed)
        self.start_cluster(3)
        writers = [Writer(self, f"w{number}", self.seed * 100 + number)
                   for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for _ in range(self.cycles):
            time.sleep(chance.uniform(0.2, 2))
            victims = chance.sample(range(3), chance.choice((1, 1, 1, 2, 3)))
            for number in victims:
                self.nodes.pop(number).stop(signal.SIGKILL)
            time.sleep(chance.uniform(0, 1.5))
            for number in victims:
                self.start_node(number, seeds=())
        for writer in writers:
            writer.ends = True
        for writer in writers:
            writer.join()
        self.wait_until_whole()
        wrong = [line for writer in writers for line in self.compare(writer)]
        same = self.are_equal()
        acked = sum(writer.acked for writer in writers)
        failed = sum(writer.failed for writer in writers)
        print(f"seed {self.seed}: {self.cycles} kill cycles, {acked} acknowledged, {failed} failed or "
              f"unknown, {len(wrong)} wrong, replicas {'equal' if same else 'differ'}")
        self.assertEqual((wrong, same), ([], True))

    def compare(self, writer):
        for word, may_be in writer.words.items():
            score = self.read(self.nodes[0], word)
            if score not in may_be:
                yield f"{word} is {score}, may be {may_be}"
        yield from self.compare_counters(writer)

    def compare_counters(self, writer):
        for word, (least, most) in writer.counters.items():
            score = self.read(self.nodes[1], word) or 0
            if not least <= score <= most:
                yield f"{word} counts {score}, from {least} to {most} were added"

    def are_equal(self):
        for _ in range(120):
            if len({self.export(node) for node in self.nodes.values()}) == 1:
                return True
            time.sleep(0.5)
        return False


def main():
    if len(sys.argv) > 1:
        Kills.cycles = int(sys.argv[1])
    if len(sys.argv) > 2:
        Kills.seed = int(sys.argv[2])
    test = Kills()
    result = node_process.unittest.TextTestRunner(verbosity=0).run(test)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
