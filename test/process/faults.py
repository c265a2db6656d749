#!/usr/bin/python3
"""A campaign: five nodes in namespaces of their own, on disks of their own, with faults for real.

    faults.py TRIFECTAD [SECONDS [SEED [KINDS [FLAG...]]]]

KINDS: of faults, with commas, or all; flags are for all nodes. That losses are seen is shown by nodes that acknowledge what they have not
synced: `faults.py TRIFECTAD 30 1 power --sync interval:2000` has to fail.

Nodes are killed and stopped, lose their power, their network in one direction or both, their packets, their bandwidth, their
room and their time, one or two such faults at once. Meanwhile two more nodes join, one is drained and another one is lost for good and
removed; and writers set, change, delete, add again and count
up words of their own, one request at a time, and read them at a quorum: what is read must be what was acknowledged, or may have been
done; searchers check the order of what they get. At the end all faults end, every word is compared, the best words are in order, and
all nodes must export the same. Prints one line; exits non-zero when anything is wrong. Needs root; removes all that it makes."""
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import network
import node_process
import wall_clock
from kills import Kills, Writer

NODES, WRITERS, SEARCHERS = 5, 6, 2
PEER_PORT = 7400
SEEDS = (0, 1)  # Stay members.
TURN_S = 1.0  # Between two faults, on average.
WHOLE_S = 240  # Until all is well again once all faults have ended.


class FaultNode(node_process.Server):
    """Talks to its node from inside its namespace."""

    def __init__(self, net, number, *arguments, **options):
        self.place = net.path_of(number)
        super().__init__(*arguments, before=net.before(number), **options)

    def dial(self):
        with network.inside(self.place):
            return super().dial()


def version_of(answer):
    """As a tuple that is ordered like versions."""
    return tuple(int(part) for part in re.split("[.@]", answer["version"]))


class History:
    """Of one word, written by one writer: what was acknowledged under which version, and what may have been done. The latter may
    still come about, with whatever version: a clock was ahead."""

    def __init__(self):
        self.newest, self.becomes, self.maybe, self.events = None, None, set(), []
        self.seen = (0, 0, 0)  # The newest version that was read.

    def note(self, status, becomes, version):
        self.events.append((status, becomes, version))

    def acknowledged(self, version, becomes):
        """What is wrong with that, or nothing."""
        before, self.newest, self.becomes = self.newest, version, becomes
        if before is not None and version <= before:
            return f"acknowledged as {version} after {before}"
        return None

    def is_possible(self, score, version):
        """`version`: None where there is no such word."""
        if version is not None:
            is_older, self.seen = version < self.seen, max(version, self.seen)
            if is_older:
                return False
        if score in self.maybe and (version is None or self.newest is None or version > self.newest):
            return True
        return score == self.becomes and version in (None, self.newest)

    def __str__(self):
        return f"newest {self.newest} {self.becomes}, perhaps {self.maybe}; {self.events[-8:]}"


class FaultWriter(Writer):
    """Reads its words at a quorum, between writes."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.wrong, self.read_count = [], 0

    def change(self, word, becomes, method, target, body=None):
        if self.words and self.random.random() < 0.3:
            self.look(self.random.choice(list(self.words)))
        history = self.words.setdefault(word, History())
        status, answer = self.ask(method, target, body)
        if status in (200, 201):
            version = version_of(answer)
            history.note(status, becomes, version)
            wrong = history.acknowledged(version, becomes)
            if wrong is not None:
                self.wrong.append(f"{word}: {wrong}: {history}")
            self.acked += 1
            return
        self.failed += 1
        history.note(status, becomes, None)
        if status != 503 or answer["code"] == "overloaded":
            history.maybe.add(becomes)

    def look(self, word):
        status, answer = self.ask("GET", f"/api/v1/words?ns=test&word={word}&consistency=quorum")
        if status in (200, 404):
            self.read_count += 1
            self.check(word, status, answer)

    def check(self, word, status, answer):
        score, version = (answer["score"], version_of(answer)) if status == 200 else (None, None)
        history = self.words[word]
        if not history.is_possible(score, version):
            self.wrong.append(f"{word} was read as {score}, {version}: {history}")


class Searcher(threading.Thread):
    """The best words under a prefix, of any node: in order, and each once."""

    def __init__(self, test, seed):
        super().__init__()
        self.test, self.random = test, random.Random(seed)
        self.wrong, self.answered, self.failed, self.ends = [], 0, 0, False

    def run(self):
        while not self.ends:
            node = self.random.choice(list(self.test.nodes.values()) or [None])
            prefix = self.random.choice(("", "w", "w1", "w2-", "w3-1"))
            try:
                status, _, body = node.ask("GET", f"/api/v1/search?ns=test&q={prefix}&limit=50")
                results = json.loads(body)["results"] if status == 200 else None
            except (OSError, AttributeError, ValueError):
                results = None
            if results is None:
                self.failed += 1
                time.sleep(0.01)
                continue
            self.answered += 1
            scores = [-each["score"] for each in results]
            words = [each["word"] for each in results]
            if scores != sorted(scores) or len(set(words)) != len(words) or \
                    not all(word.startswith(prefix) for word in words):
                self.wrong.append(f"{prefix}: {results}")
            time.sleep(0.02)


class Faults(Kills):
    seconds, seed, kinds, flags = 60, 1, "all", ()

    def setUp(self):
        super().setUp()
        self.net, self.disks, self.clocks = None, [], {}
        self.failed_starts, self.retired = [], set()
        self.net = network.Network(0)
        self.chance = random.Random(self.seed)

    def tearDown(self):
        try:
            for server in self.servers:
                if server.process.poll() is None:
                    server.process.send_signal(signal.SIGCONT)
                    server.stop(signal.SIGKILL)
            for disk in self.disks:
                disk.close()
        finally:
            if self.net is not None:
                self.net.close()
        super().tearDown()

    def wait_for(self, condition):
        """Longer than elsewhere: who was silent was suspended, and moves had to wait."""
        end = time.monotonic() + WHOLE_S
        while not condition():
            if time.monotonic() > end:
                self.fail(self.picture())
            time.sleep(0.2)

    def picture(self):
        """What each node says of itself."""
        lines = ["it did not happen"]
        for number, node in sorted(self.nodes.items()):
            _, ready = node.get("/ready")
            _, nodes = node.get("/nodes")
            wrote = self.write(node, "whole", consistency="all")
            lines.append(f"node {number}: {ready} {nodes} {wrote}")
            lines += node.log.splitlines()[-10:]
        return "\n".join(lines + self.failed_starts)

    # --- Nodes ---

    def add_node(self):
        number = self.net.add()
        self.disks.append(network.Disk(self.folder, f"d{number}"))
        self.start_node(number)

    def numbers(self):
        return [number for number in range(len(self.disks)) if number not in self.retired]

    def start_node(self, number, *flags, seeds=None):
        seeds = seeds or SEEDS
        join = ",".join(f"{self.net.address_of(seed)}:{PEER_PORT}" for seed in seeds)
        environment = {"TRIFECTA_PEER_INSECURE": "true"}
        if number in self.clocks:
            environment |= self.clocks[number].environment
        server = FaultNode(self.net, number, os.path.join(self.disks[number].path, "data"),
                           "--peer", f"{self.net.address_of(number)}:{PEER_PORT}",
                           "--zone", f"z{number % 3}", "--join", join, *flags, *self.flags,
                           environment=environment)
        self.servers.append(server)
        if server.port is None:  # Its disk is full, or gone: it is started again later.
            self.failed_starts.append(f"node {number}: exit {server.ended()}: {server.log[-1000:]}")
        else:
            self.nodes[number] = server

    def end_node(self, number):
        node = self.nodes.pop(number, None)
        if node is not None:
            node.stop(signal.SIGKILL)

    # --- Members: each gives what it waits for, which says whether it is done ---

    def ask_any(self, method, target, avoided=None):
        """(status, answer) of any node that says something."""
        for number, node in self.chance.sample(sorted(self.nodes.items()), len(self.nodes)):
            if number == avoided:
                continue
            try:
                status, _, body = node.ask(method, target)
            except OSError:
                continue
            if status != 0:
                return status, json.loads(body)
        return 0, None

    def change_join(self):
        self.add_node()
        return lambda: True

    def pick_member(self):
        """One that may go, and its id."""
        number = self.chance.choice([each for each in self.numbers() if each not in SEEDS])
        if number not in self.nodes:
            return None, None
        status, answer = self.ask_any("GET", "/nodes")
        address = f"{self.net.address_of(number)}:{PEER_PORT}"
        ids = [each["id"] for each in answer["nodes"] if each["address"] == address] \
            if status == 200 else []
        return (number, ids[0]) if ids else (None, None)

    def change_drain(self):
        number, node = self.pick_member()
        status = 0 if number is None else self.ask_any("POST", f"/api/v1/admin/drain?node={node}")[0]
        if status not in (200, 202):
            return None

        def is_done():
            status, answer = self.ask_any("GET", "/nodes", number)
            if status != 200 or node in [each["id"] for each in answer["nodes"]]:
                return False
            self.retire(number)
            return True
        return is_done

    def change_remove(self):
        number, node = self.pick_member()
        if number is None:
            return None
        self.retire(number)
        return lambda: self.ask_any("POST", f"/api/v1/admin/remove?node={node}")[0] in (200, 202)

    def retire(self, number):
        self.retired.add(number)
        self.end_node(number)

    # --- Faults: each gives what ends it, or nothing ---

    def fault_kill(self):
        numbers = self.chance.sample(self.numbers(), self.chance.choice((1, 1, 1, 2, NODES - 1)))
        for number in numbers:
            self.end_node(number)
        return lambda: self.start_all(numbers)

    def start_all(self, numbers):
        for number in numbers:
            if number not in self.nodes and number not in self.retired:
                self.start_node(number)

    def fault_power(self):
        numbers = self.chance.sample(self.numbers(), self.chance.choice((1, 1, 2, NODES - 1)))
        for number in numbers:
            self.disks[number].cut_power()
        for number in numbers:
            self.end_node(number)
            self.disks[number].restore()
        return lambda: self.start_all(numbers)

    def fault_stop(self):
        number = self.pick()
        if number is None:
            return None
        process = self.nodes[number].process
        process.send_signal(signal.SIGSTOP)
        return lambda: process.send_signal(signal.SIGCONT)

    def pick(self):
        return self.chance.choice(sorted(self.nodes)) if self.nodes else None

    def all_pairs(self, some, others):
        return [(a, b) for a in some for b in others if a != b]

    def fault_cut(self):
        everybody = list(range(self.net.count))
        some = self.chance.sample(everybody, self.chance.choice((1, 1, 2)))
        others = [number for number in everybody if number not in some]
        pairs = self.chance.choice((self.all_pairs(some, others),  # They are mute, ...
                                    self.all_pairs(others, some),  # ... deaf, ...
                                    self.all_pairs(some, others) + self.all_pairs(others, some)))
        self.net.cut(pairs)
        return lambda: self.net.mend(pairs)

    def fault_pair(self):
        pair = self.chance.sample(range(self.net.count), 2)
        pairs = [tuple(pair)] + ([tuple(reversed(pair))] if self.chance.random() < 0.5 else [])
        self.net.cut(pairs)
        return lambda: self.net.mend(pairs)

    def fault_loss(self):
        number = self.chance.randrange(self.net.count)
        self.net.lose(number, self.chance.choice((5, 20, 50)))
        return lambda: self.net.lose(number, 0)

    def fault_slow(self):
        number = self.chance.randrange(self.net.count)
        self.net.slow(number, self.chance.choice(("256kbit", "1mbit")))
        return lambda: self.net.slow(number, None)

    def fault_full(self):
        number = self.chance.randrange(len(self.disks))
        self.disks[number].fill()
        return lambda: self.disks[number].empty()

    def fault_clock(self):
        if not self.clocks:
            return None
        number = self.chance.choice(sorted(self.clocks))
        self.clocks[number].set(self.chance.choice((-3600, -4, -1, 1, 4, 3600)))
        return lambda: self.clocks[number].set(0)

    # --- The story ---

    def play(self, until):
        kinds = [("kill", 3), ("power", 2), ("stop", 2), ("cut", 3), ("pair", 2), ("loss", 1),
                 ("slow", 1), ("full", 1), ("clock", 1)]
        if self.kinds != "all":
            kinds = [kind for kind in kinds if kind[0] in self.kinds.split(",")]
        names, weights = zip(*kinds)
        counts, ends = {}, []
        begins = time.monotonic()
        changes = ["join", "drain", "remove", "join"]
        is_done = None  # Of the change that is under way.
        while (now := time.monotonic()) < until:
            for end in [end for end in ends if end[0] <= now]:
                ends.remove(end)
                end[2]()
            due = begins + (until - begins) * (NODES - len(changes)) / (NODES + 1)
            if is_done is not None or now >= due:
                is_done = self.go_on(changes, is_done)
            if len(ends) < 2:
                name = self.chance.choices(names, weights)[0]
                busy = name in [end[1] for end in ends]
                end = None if busy else getattr(self, f"fault_{name}")()
                if end is not None:
                    counts[name] = counts.get(name, 0) + 1
                    ends.append((now + self.chance.uniform(0.2, 6), name, end))
            time.sleep(self.chance.uniform(0, 2 * TURN_S))
        for end in ends:
            end[2]()
        self.start_all(self.numbers())
        # What the faults left no time for.
        end = time.monotonic() + WHOLE_S
        while is_done is not None or changes:
            is_done = self.go_on(changes, is_done)
            if time.monotonic() > end:
                self.fail(f"{changes} is left. {self.picture()}")
            time.sleep(0.2)
        return counts

    def go_on(self, changes, is_done):
        """With the change that is under way, or the next one."""
        if is_done is not None:
            return None if is_done() else is_done
        is_done = getattr(self, f"change_{changes[0]}")() if changes else None
        if is_done is not None:
            changes.pop(0)
        return is_done

    def runTest(self):
        for number in range(NODES):
            if number == 2 and wall_clock.is_possible():
                self.clocks[number] = wall_clock.WallClock(os.path.join(self.folder, f"clock{number}"))
            self.add_node()
        self.wait_until_whole()
        writers = [FaultWriter(self, f"w{number}", self.seed * 100 + number)
                   for number in range(WRITERS)]
        searchers = [Searcher(self, self.seed * 100 + 50 + number) for number in range(SEARCHERS)]
        for thread in writers + searchers:
            thread.start()
        try:
            counts = self.play(time.monotonic() + self.seconds)
        finally:
            for thread in writers + searchers:
                thread.ends = True
            for thread in writers + searchers:
                thread.join()
        healing = time.monotonic()
        self.wait_until_whole()
        healing = time.monotonic() - healing
        for writer in writers:
            for word in writer.words:
                status, answer = self.nodes[SEEDS[0]].get(
                    f"/api/v1/words?ns=test&word={word}&consistency=quorum")
                writer.check(word, status, answer)
        wrong = [line for thread in writers + searchers for line in thread.wrong]
        wrong += [line for writer in writers for line in self.compare_counters(writer)]
        wrong += [line for writer in writers for line in self.compare_best(writer)]
        same = self.are_equal()
        faults = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        print(f"seed {self.seed}: {self.seconds} s, {faults}; "
              f"{sum(writer.acked for writer in writers)} acknowledged, "
              f"{sum(writer.failed for writer in writers)} failed or unknown, "
              f"{sum(writer.read_count for writer in writers)} read, "
              f"{sum(searcher.answered for searcher in searchers)} searches answered, "
              f"{sum(searcher.failed for searcher in searchers)} not; whole after {healing:.0f} s; {len(wrong)} wrong, "
              f"replicas {'equal' if same else 'differ'}")
        self.assertEqual((wrong[:20], same), ([], True))

    def compare_best(self, writer):
        """The best words of a writer, in order, where it is known what each is."""
        status, answer = self.nodes[0].get(
            f"/api/v1/search?ns=test&q={writer.name}-&limit=1000&consistency=quorum")
        if status != 200:
            yield f"{writer.name}: {answer}"
            return
        told = [each["word"] for each in answer["results"]]
        scores = {word: self.read(self.nodes[1], word)
                  for word in list(writer.words) + list(writer.counters)}
        there = {word for word, score in scores.items() if score is not None}
        if set(told) != there:
            yield f"{writer.name}: search and reads differ in {set(told) ^ there}"
        known = [-scores[word] for word in told if scores.get(word) is not None]
        if known != sorted(known):
            yield f"{writer.name}: not in order: {told}"


def main():
    why_not = network.is_possible()
    if why_not is not None:
        print(f"faults: {why_not}", file=sys.stderr)
        return 77  # Meson takes it for skipped.
    if len(sys.argv) > 1:
        Faults.seconds = int(sys.argv[1])
    if len(sys.argv) > 2:
        Faults.seed = int(sys.argv[2])
    if len(sys.argv) > 3:
        Faults.kinds, Faults.flags = sys.argv[3], sys.argv[4:]
    result = node_process.unittest.TextTestRunner(verbosity=0).run(Faults())
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
