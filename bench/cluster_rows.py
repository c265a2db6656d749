"""Reads of a cluster's members beside those of a node alone: at an owner, and through a node that owns nothing.

Three members with two copies of each word, on the servers' processor together, so that what is measured is
work and not how much of it goes side by side. The words are the repository's own: no data set is fetched."""
import json
import os
import random
import time

import machine
from machine import Samples, say
from servers import Trifecta, free_port, load
from tables import Row, plain_table, table, write

MEMBERS, COPIES = 3, 2
SHAPES = [(1, 1), (32, 1), (32, 16)]
SUFFIXES = 4 if machine.QUICK else 12
QUERY_COUNT = 100_000
SEARCH = "/search?q={}"
NAMES = {"alone": "a node alone", "owner": "an owner", "other": "a member that owns nothing"}


class Member(Trifecta):
    """`members` are all of them; each counts the processor time of all."""

    def __init__(self, number, peers, members):
        super().__init__(f"member-{number}")
        self.number, self.peers, self.members = number, peers, members
        self.settings["TRIFECTA_REPLICATION_FACTOR"] = str(COPIES)
        self.settings["TRIFECTA_K_FACTOR"] = "0"  # One range: who owns it stays who owns it.

    def command(self):
        return super().command() + ["--peer", self.peers[self.number], "--zone", f"z{self.number}",
                                    "--join", self.peers[0]]

    def pids(self):
        return ",".join(str(member.process.pid) for member in self.members)

    def ranges(self):
        status, body = self.get("/nodes/all/ranges")
        return json.loads(body)["ranges"] if status == 200 else []

    def is_settled(self):
        ranges = self.ranges()
        return ranges != [] and all(each["stage"] == "stable" and len(each["owners"]) == COPIES
                                    for each in ranges)

    def id(self):
        return next(node["id"] for node in json.loads(self.get("/nodes")[1])["nodes"]
                    if node["self"])

    def counted(self):
        return json.loads(self.get("/api/v1/count?q=")[1])["count"]


def wait_for(condition, what):
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            machine.fail(f"{what} takes longer than two minutes")
        time.sleep(0.1)


def make_words():
    """The places' names, as they are and with a number: one set of words for everybody."""
    path = os.path.join(machine.WORK, f"cluster-{SUFFIXES}.tsv")
    chance, words = random.Random(1), []
    with open(os.path.join(machine.ROOT, "data", "places.ndjson"), encoding="utf-8") as file:
        for line in file:
            place = json.loads(line)
            words += [(place["word"] + (f" {i}" if i else ""), place["score"] // (1 + i))
                      for i in range(SUFFIXES)]
    words = list(dict(words).items())
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{word}\t{score}\n" for word, score in words)
    drawn = chance.choices(words, weights=[score for _, score in words], k=QUERY_COUNT)
    queries = os.path.join(machine.WORK, f"cluster-{SUFFIXES}.q")
    with open(queries, "w", encoding="utf-8") as file:
        file.writelines(word[:chance.randint(1, 8)] + "\n" for word, _ in drawn)
    return path, len(words), queries


def start_members():
    peers = [f"127.0.0.1:{free_port()}" for _ in range(MEMBERS)]
    members = []
    for number in range(MEMBERS):
        members.append(Member(number, peers, members))
        members[-1].start()
    wait_for(members[-1].is_settled, "placing the ranges")
    return members


def roles(members):
    """An owner of all ranges, and a member that owns none."""
    owners = [set(each["owners"]) for each in members[0].ranges()]
    first = [member for member in members if all(member.id() in each for each in owners)]
    others = [member for member in members if not any(member.id() in each for each in owners)]
    if not first or not others:
        machine.fail(f"no member owns all ranges, or each owns one: {owners}")
    return first[0], others[0]


def check_path(figures, before, member, local):
    """What was measured has to be what the row says."""
    after = member.metrics()
    name = "reads_local" if local else "reads_coordinated"
    if after[name] - before[name] < figures["requests"]:
        machine.fail(f"{member.name}: not all reads were {name}")


def measure(servers, queries):
    samples, next_line = Samples(), {}
    for index in range(machine.ROUNDS):
        say(f"reads in a cluster, round {index + 1} of {machine.ROUNDS}")
        for kind, file in queries.items():
            for shape in SHAPES:
                for name, server in servers.items():
                    before, at = server.metrics(), next_line.get((name, kind), 0)
                    figures = load(server, SEARCH, file=file, first_line=at,
                                   connections=shape[0], depth=shape[1], seconds=machine.BURST_S)
                    next_line[name, kind] = at + int(figures["requests"])
                    if name != "alone":
                        check_path(figures, before, server, name == "owner")
                    samples.add((name, kind) + shape, figures)
    return samples


def ratio_rows(samples, queries):
    rows = []
    for kind in queries:
        for connections, depth in SHAPES:
            def get(name, key, shape=(kind, connections, depth)):
                return samples.get((name,) + shape, key)

            def ratio(of, to, key):
                return get(of, key) / get(to, key)

            label = f"{connections} x {depth}, {kind}"
            for of, to, least in (("owner", "alone", None), ("other", "owner", 2.2)):
                rows.append(Row(17 if of == "owner" else 18,
                                f"{label}: CPU of all members per read, {NAMES[of]} : {NAMES[to]}",
                                ratio(of, to, "server_us"), least, less=True,
                                text=f"p50 {ratio(of, to, 'p50_us'):.2f}, "
                                     f"p99 {ratio(of, to, 'p99_us'):.2f}"))
    rows.sort(key=lambda row: row.number)
    return rows


def figures_table(samples, queries):
    lines = []
    for kind in queries:
        for shape in SHAPES:
            for name, title in NAMES.items():
                def get(key, of=(name, kind) + shape):
                    return samples.get(of, key)
                lines.append([f"{shape[0]} x {shape[1]}, {kind}", title, f"{get('per_s') / 1e3:.1f} k",
                              f"{get('server_us'):.1f}", f"{get('p50_us'):.0f}",
                              f"{get('p99_us'):.0f}"])
    return plain_table(["reads", "at", "a second", "CPU us", "p50 us", "p99 us"], lines)


def run():
    words, count, drawn = make_words()
    queries = {"drawn": drawn, "each once": machine.distinct(f"cluster-{SUFFIXES}-once.q", drawn)}
    alone = Trifecta("alone")
    alone.start()
    alone.load(words)
    members = start_members()
    members[0].load(words)
    for member in members:
        wait_for(lambda member=member: member.counted() == count, "copying the words")
    owner, other = roles(members)
    for server in (alone, owner, other):
        server.wait_idle()
    servers = {"alone": alone, "owner": owner, "other": other}
    samples = measure(servers, queries)
    about = "".join(f"* {line}\n" for line in machine.description()[:2])
    write("cluster", f"{about}\n{count} words, {MEMBERS} members, {COPIES} copies.\n\n" +
          table(ratio_rows(samples, queries)) + "\n" + figures_table(samples, queries))
