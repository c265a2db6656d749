"""The engine's table: one structure in one process and one thread, beside libraries."""
import os
import re

import machine
from machine import Samples, say
from servers import Trifecta
from tables import Row, plain_table, table, write

SETS = {"words": 663_473, "npm": 227_000, "paths": 500_000}
if machine.QUICK:
    SETS = {"words": 100_000, "npm": 100_000, "paths": 100_000}
ROUNDS = 1 if machine.QUICK else min(3, machine.ROUNDS)
TOP_WORDS = 200_000 if machine.QUICK else 1_000_000
AMPLIFIED_WORDS = 200_000 if machine.QUICK else 1_000_000
AMPLIFIED_MEMORY = 64 << 20  # A memory trie then holds a quarter of the set: many flushes.
OVERWRITES = 10


def measure(samples):
    scratch = os.path.join(machine.WORK, "engine")
    for index in range(ROUNDS):
        for name, words in SETS.items():
            say(f"engine, round {index + 1} of {ROUNDS}: {name}")
            file = machine.subset(name, words)
            for command in (["engine_rows", file], ["engine_peers", file, scratch]):
                samples.add(name, machine.figures_of(run(command)))


def run(command):
    return machine.output_of(machine.pinned(machine.CLIENT_CPU,
                                            [machine.program(command[0])] + command[1:]))


def top_rows():
    """Figures of engine_query: the mean of a prefix length, the worst over lengths 0 to 20."""
    say("engine: queries over layers")
    worst = {}
    for line in run(["engine_query", machine.subset("npm", TOP_WORDS)]).splitlines():
        found = re.match(r"(memory|packed|eight)(, equal)?\s+(best 10|count|first 10)\s.*worst "
                         r"([\d.]+)", line)
        if found:
            worst[found.group(1), bool(found.group(2)), found.group(3)] = float(found.group(4))
    names = {"packed": ("packed", 5), "memory": ("in memory", 4),
             "eight": ("over 8 packed tries, 30 % overwritten", 8)}
    rows = [Row(6, f"top 10, worst prefix length 0 to 20, {TOP_WORDS} words, {text}",
                worst[key, False, "best 10"], target, less=True, unit=" us",
                text=f"all scores equal: {worst[key, True, 'best 10']:.1f}")
            for key, (text, target) in names.items()]
    rows.append(Row(7, "count under a prefix, over 8 packed tries, worst length",
                    worst["eight", False, "count"], 2, less=True, unit=" us"))
    return rows


def size_rows(get, mean):
    targets = {"words": 0.90, "npm": 0.95, "paths": 0.92}
    rows = [Row(1, f"key index : libmarisa, 3 tries, {name}",
                get(name, "index_bytes") / get(name, "marisa_bytes"), target, less=True,
                text=f"{get(name, 'index_bytes'):.2f} : {get(name, 'marisa_bytes'):.2f} bytes")
            for name, target in targets.items()]
    rows.append(Row(2, "index, scores and exact bests : libmarisa and a u32 array, mean",
                    mean(lambda n: get(n, "scored_bytes") / (get(n, "marisa_bytes") + 4)), 0.80,
                    less=True, text=", ".join(f"{name} {get(name, 'scored_bytes'):.2f} bytes"
                                              for name in targets)))
    for name, target in (("words", 0.65), ("npm", 0.65), ("paths", 0.85)):
        rows.append(Row(3, f"all in with versions : RocksDB's file (LZ4), {name}",
                        get(name, "all_bytes") / get(name, "rocksdb_bytes"), target, less=True,
                        text=f"{get(name, 'all_bytes'):.1f} : "
                             f"{get(name, 'rocksdb_bytes'):.1f} bytes"))
    return rows


def time_rows(get):
    rows = []
    for name in SETS:
        rows.append(Row(4, f"exact lookup : libmarisa, {name}",
                        get(name, "lookup_ns") / get(name, "marisa_lookup_ns"), 0.6, less=True,
                        text=f"{get(name, 'lookup_ns'):.0f} ns"))
    for peer, target in (("marisa", 0.25), ("lmdb", 1.0), ("rocksdb", 0.15)):
        for name in SETS:
            rows.append(Row(5, f"full scan : {peer}, {name}",
                            get(name, "scan_ns") / get(name, peer + "_scan_ns"), target,
                            less=True, text=f"{get(name, 'scan_ns'):.1f} ns a key"))
    return rows


def memory_rows(get):
    rows = []
    for name in SETS:
        rate = get(name, "insert_per_s")
        rows.append(Row(8, f"memory trie: bytes per word with version and score, {name}",
                        get(name, "memory_bytes"), 70, 50, less=True))
        rows.append(Row(8, f"memory trie: inserts/s, {name}", rate / 1e6, unit=" M",
                        text=f"{rate / get(name, 'map_insert_per_s'):.2f} of std::map, "
                             f"{rate / get(name, 'lmdb_insert_per_s'):.2f} of LMDB"))
    return rows


def inserts_rows(samples):
    """Through the engine with its log, synced in the background: what an import does."""
    name, words = "npm", SETS["npm"]
    file = machine.subset(name, words)
    for _ in range(ROUNDS):
        trifecta = Trifecta("trifecta-inserts")
        trifecta.settings["TRIFECTA_SYNC"] = "interval:1000"
        trifecta.start()
        before = trifecta.cpu_s()
        trifecta.load(file)
        samples.add("server", {"insert_per_s": words / (trifecta.cpu_s() - before)})
        trifecta.kill()
    rate = samples.get("server", "insert_per_s")
    return [Row(9, f"inserts with log, no sync, by CPU time, through HTTP : {peer}, npm",
                rate / samples.get(name, key + "_insert_per_s"), target)
            for peer, key, target in (("RocksDB", "rocksdb", 3), ("LMDB", "lmdb", 2))]


def amplification_row(name, target):
    """The counters of the server: log and files, against keys, scores and versions.

    Flushes and compactions take part: the set is several times what a memory trie may hold."""
    say(f"engine: {AMPLIFIED_WORDS} words of {name} overwritten {OVERWRITES} times")
    source = machine.subset(name, AMPLIFIED_WORDS)
    trifecta = Trifecta("trifecta-overwrites")
    trifecta.settings["TRIFECTA_MEMORY_LIMIT"] = str(AMPLIFIED_MEMORY)
    trifecta.start()
    for time in range(OVERWRITES):
        trifecta.load(machine.derived(
            f"{name}-overwrite-{time}.tsv", source,
            lambda lines, add=time: (b"%s\t%d\n" % (line.split(b"\t")[0], i % 1000 + add)
                                     for i, line in enumerate(lines))))
    trifecta.wait_idle()
    figures = trifecta.metrics()
    trifecta.stop()  # Flushes what is in memory still; the new file counts too.
    trifecta.start()
    files = figures["file_written_bytes"] + max(
        0, trifecta.metrics()["file_bytes"] - figures["file_bytes"])
    trifecta.stop()
    written = figures["log_written_bytes"] + files
    return Row(10, f"bytes written : user bytes, overwritten ten times, {name}",
               written / figures["user_bytes"], target, less=True,
               text=f"log {figures['log_written_bytes'] / 2**20:.0f}, files "
                    f"{files / 2**20:.0f} MiB in {figures['flushes']} flushes and "
                    f"{figures['compactions']} compactions, the last flush included")


def deleted_rows(samples):
    say("engine: a million deleted under a prefix")
    for _ in range(ROUNDS):
        samples.add("deleted", machine.figures_of(run(["engine_rows", "deleted"])))
    return [Row(11, f"1 M deleted under a prefix, 2 alive: {what} : without the deleted",
                samples.get("deleted", f"deleted_{what}_us") /
                samples.get("deleted", f"never_{what}_us"), 1.5, less=True,
                text=f"{samples.get('deleted', f'deleted_{what}_us'):.2f} us")
            for what in ("search", "count", "scan")]


def run_part():
    samples = Samples()
    measure(samples)

    def mean(figure):
        return sum(figure(name) for name in SETS) / len(SETS)

    rows = size_rows(samples.get, mean) + time_rows(samples.get) + top_rows()
    rows += memory_rows(samples.get) + inserts_rows(samples)
    rows += [amplification_row("npm", 4.5), amplification_row("paths", 2.7)]
    rows += deleted_rows(samples)
    rates = plain_table(["inserts/s, M", "std::map", "LMDB", "RocksDB with log"],
                        [[name] + [f"{samples.get(name, key + '_insert_per_s') / 1e6:.2f}"
                                   for key in ("map", "lmdb", "rocksdb")] for name in SETS])
    sizes = ", ".join(f"{name} {words}" for name, words in SETS.items())
    write("engine", f"Words at most: {sizes}.\n\n" + table(rows) + "\n" + rates)
