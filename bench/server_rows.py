"""The server's rows: searches, memory, loading, restarts, exactness, beside nginx and Redis."""
import json
import random

import exact
import machine
from machine import Samples, say
from servers import Nginx, Redis, Trifecta, cpu_s_of, load
from tables import Row, plain_table, table, write

SUGGEST = "FT.SUGGET s {} MAX 10 WITHSCORES"
SEARCH = "/search?q={}"
SHAPES = [(1, 1, True), (32, 1, False), (32, 16, False)]  # Connections, depth, same processor.
NPM_WORDS = 227_000 if machine.QUICK else 4_000_000
PATHS_WORDS = 200_000 if machine.QUICK else 2_000_000
HOT_COUNT = 64


class Store:
    """One data set in Redis and in trifecta, and what loading it has cost."""

    def __init__(self, name, words):
        self.name = name
        self.tsv = machine.subset(name, words)
        self.count = machine.line_count(self.tsv)
        self.figures = {}
        self.redis = Redis("redis-" + name, "--appendonly", "no")
        self.trifecta = Trifecta("trifecta-" + name)

    def load_redis(self):
        say(f"redis: {self.count} words of {self.name}")
        redis, figures = self.redis, self.figures
        redis.start()
        empty = redis.memory_bytes()
        figures["redis cpu"] = redis.load(self.tsv) / self.count * 1e6
        figures["redis memory"] = (redis.memory_bytes() - empty) / self.count
        redis.save()
        redis.kill()
        figures["redis restart"] = redis.start()

    def load_trifecta(self):
        """Loading counts until the clean stop has written everything to packed tries."""
        say(f"trifecta: {self.count} words of {self.name}")
        trifecta, figures = self.trifecta, self.figures
        trifecta.start()
        trifecta.stop()
        start_cpu = cpu_s_of(trifecta.rusage)
        trifecta.start()
        empty = trifecta.memory_bytes()
        trifecta.load(self.tsv)
        figures["memory after load"] = (trifecta.memory_bytes() - empty) / self.count
        figures["stop"] = trifecta.stop()
        figures["cpu"] = (cpu_s_of(trifecta.rusage) - start_cpu) / self.count * 1e6
        figures["restart"] = trifecta.start()
        trifecta.wait_idle()
        if trifecta.read_all() != self.count:
            machine.fail(f"{self.name}: the export does not hold every word")
        figures["memory"] = (trifecta.memory_bytes() - empty) / self.count
        figures["disk"] = trifecta.disk_bytes() / self.count

    def kill_and_restart(self):
        say(f"trifecta: kill -9 after loading {self.name}")
        killed = Trifecta("trifecta-killed")
        killed.start()
        killed.load(self.tsv)
        self.figures["log"] = killed.metrics().get("log_replay_bytes", 0)
        killed.kill()
        self.figures["restart after kill"] = killed.start()
        if killed.read_all() != self.count:
            machine.fail(f"{self.name}: words are missing after kill -9")
        killed.kill()


def reply_body(trifecta, queries):
    """An answer of the mean size of ours, for nginx."""
    with open(queries, encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.rstrip("\n") for line in file]
    bodies = [trifecta.get("/search?q=" + exact.quote(query.encode("utf-8", "surrogateescape")))[1]
              for query in random.Random(1).sample(lines, 300)]
    mean = sum(len(body) for body in bodies) / len(bodies)
    return min(bodies, key=lambda body: abs(len(body) - mean)).decode()


class Searches:
    """Bursts in turns, the same queries for everybody."""

    def __init__(self, npm, paths, nginx):
        self.npm, self.paths, self.nginx = npm, paths, nginx
        self.samples = Samples()
        self.hits = {}
        self.next_lines = {}
        drawn = machine.fetched("npm.q")
        self.queries = {
            "drawn": drawn,
            "distinct": machine.distinct("npm-once.q", drawn),
            "hot": machine.first_lines("npm-hot.q", drawn, HOT_COUNT),
        }

    def burst(self, name, server, template, queries, shape):
        """Goes on in the file where the last burst on it ended: no query comes again soon."""
        connections, depth, same = shape
        counts = isinstance(server, Trifecta)
        before = server.metrics() if counts else {}
        first_line = self.next_lines.get((server, queries), 0)
        figures = load(server, template, file=queries, first_line=first_line,
                       connections=connections, depth=depth, seconds=machine.BURST_S,
                       cpu=machine.SAME if same else machine.CLIENT_CPU)
        self.next_lines[server, queries] = first_line + int(figures["requests"])
        self.samples.add((name,) + shape, figures)
        if counts:
            after = server.metrics()
            hits, misses = self.hits.get(name, (0, 0))
            self.hits[name] = (hits + after["cache_hits"] - before["cache_hits"],
                               misses + after["cache_misses"] - before["cache_misses"])

    def round(self):
        npm, drawn = self.npm, self.queries["drawn"]
        for shape in SHAPES:
            self.burst("nginx", self.nginx, SEARCH, drawn, shape)
            self.burst("PING", npm.redis, "PING", drawn, shape)
            self.burst("ZRANGEBYLEX", npm.redis, "ZRANGEBYLEX z [{} + LIMIT 0 10", drawn, shape)
            for name in ("drawn", "distinct"):
                self.burst("RediSearch " + name, npm.redis, SUGGEST, self.queries[name], shape)
            for name in ("drawn", "distinct", "hot"):
                self.burst("trifecta " + name, npm.trifecta, SEARCH, self.queries[name], shape)
        self.costs()

    def costs(self):
        shape = (32, 1, False)
        paths = machine.distinct("paths-once.q40", machine.fetched("paths.q40"))
        names = machine.distinct("npm-once.q40", machine.fetched("npm.q40"))
        self.burst("RediSearch paths", self.paths.redis, SUGGEST, paths, shape)
        self.burst("trifecta paths", self.paths.trifecta, SEARCH, paths, shape)
        self.burst("trifecta names", self.npm.trifecta, SEARCH, names, shape)
        self.burst("trifecta equal", self.npm.trifecta, SEARCH + "&ns=equal",
                   self.queries["distinct"], shape)

    def get(self, name, key, shape=(32, 1, False)):
        return self.samples.get((name,) + shape, key)

    def tail(self, name, shape):
        return self.get(name, "p99_us", shape) / self.get(name, "p50_us", shape)

    def hit_rate(self, name):
        hits, misses = self.hits[name]
        return hits / (hits + misses) if hits + misses else 0


def search_rows(s):
    """Each row as the queries are drawn, with the answer cache helping as it does then, and
    again with each query once, so that it hardly ever does."""
    rows = []
    wide, deep, alone = (32, 1, False), (32, 16, False), (1, 1, True)
    for name, note in (("drawn", f"cache hits {s.hit_rate('trifecta drawn'):.0%}"),
                       ("distinct", f"each once: cache hits {s.hit_rate('trifecta distinct'):.0%}")):
        ours, peer = "trifecta " + name, "RediSearch " + name

        def times(key, shape, other):
            return s.get(ours, key, shape) / s.get(other, key, shape)

        label = f"; {note}"
        rows += [
            Row(1, "32 x 1: requests/s : RediSearch" + label, times("per_s", wide, peer), 8, 10,
                text=f"PING itself {s.get('PING', 'per_s', wide) / s.get(peer, 'per_s', wide):.2f}"),
            Row(1, "32 x 1: requests/s : PING" + label, times("per_s", wide, "PING"), 0.7, 0.9),
            Row(2, "32 x 1: server CPU per request : RediSearch" + label,
                times("server_us", wide, peer), 0.13, 0.10, less=True,
                text=f"PING itself "
                     f"{s.get('PING', 'server_us', wide) / s.get(peer, 'server_us', wide):.2f}"),
            Row(3, "32 x 16: requests/s : RediSearch" + label, times("per_s", deep, peer), 25, 50,
                text=f"PING itself {s.get('PING', 'per_s', deep) / s.get(peer, 'per_s', deep):.1f}"),
            Row(3, "32 x 16: requests/s : ZRANGEBYLEX" + label,
                times("per_s", deep, "ZRANGEBYLEX"), 2, 4),
            Row(4, "32 x 1: requests/s : nginx" + label, times("per_s", wide, "nginx"), 0.9, 1.0),
            Row(4, "32 x 1: server CPU per request : nginx" + label,
                times("server_us", wide, "nginx"), 1.15, 0.9, less=True),
            Row(5, "32 x 16: requests/s : nginx" + label, times("per_s", deep, "nginx"), 2, 5),
            Row(6, "1 connection, same CPU: p50 : PING" + label, times("p50_us", alone, "PING"),
                1.25, 1.1, less=True),
            Row(6, "1 connection, same CPU: p99 : p50" + label, s.tail(ours, alone), 2, 1.3,
                less=True, text=f"PING {s.tail('PING', alone):.2f}"),
        ]
    rows.sort(key=lambda row: row.number)
    return rows


def cost_rows(s):
    def cpu(name):
        return s.get(name, "server_us")

    return [
        Row(7, "paths, prefixes 1..40, each once: server CPU per request : RediSearch",
            cpu("trifecta paths") / cpu("RediSearch paths"), 0.015, 0.008, less=True,
            text=f"{cpu('trifecta paths'):.1f} : {cpu('RediSearch paths'):.0f} us"),
        Row(8, "cost of a query, each once: paths : npm, prefixes 1..40",
            cpu("trifecta paths") / cpu("trifecta names"), 1.5, 1.2, less=True,
            text=f"cache hits {s.hit_rate('trifecta paths'):.0%} and "
                 f"{s.hit_rate('trifecta names'):.0%}"),
        Row(8, "cost of a query, each once: all scores equal : real scores",
            cpu("trifecta equal") / cpu("trifecta distinct"), 1.5, 1.2, less=True),
    ]


def data_rows(store):
    f = store.figures
    rows = [
        Row(10, f"memory per word after restart and a full read, {store.name} : RediSearch",
            f["memory"] / f["redis memory"], 0.6, 0.35, less=True,
            text=f"{f['memory']:.0f} : {f['redis memory']:.0f} bytes; right after the load "
                 f"{f['memory after load']:.0f}; on disk {f['disk']:.0f}"),
        Row(15, f"bulk load, server CPU per word until all is flushed, {store.name} : RediSearch",
            f["cpu"] / f["redis cpu"], 1.0, 0.4, less=True,
            text=f"{f['cpu']:.2f} : {f['redis cpu']:.2f} us"),
        Row(16, f"restart to ready after a clean stop, {store.name} : Redis from its RDB",
            f["restart"] / f["redis restart"], 0.3, 0.02, less=True,
            text=f"{f['restart'] * 1e3:.0f} : {f['redis restart'] * 1e3:.0f} ms"),
    ]
    if "restart after kill" in f:
        rows.append(Row(16, f"restart to ready after kill -9 at the end of the load, {store.name}",
                        None, text=f"{f['restart after kill'] * 1e3:.0f} ms with "
                                   f"{f['log'] / 2**20:.0f} MiB of log"))
    return rows


def ceiling_table(s):
    names = ["nginx", "PING", "ZRANGEBYLEX", "RediSearch drawn", "RediSearch distinct",
             "trifecta drawn", "trifecta distinct", "trifecta hot"]
    rows = []
    for name in names:
        cells = [name]
        for shape in SHAPES:
            cells.append(f"{s.get(name, 'per_s', shape) / 1e3:.1f} k, "
                         f"{s.get(name, 'server_us', shape):.2f}, "
                         f"{s.get(name, 'p50_us', shape):.0f}")
        rows.append(cells)
    return plain_table(["server", "1 x 1, same CPU", "32 x 1", "32 x 16"], rows)


def run():
    npm, paths = Store("npm", NPM_WORDS), Store("paths", PATHS_WORDS)
    for store in (npm, paths):
        store.load_redis()
        store.load_trifecta()
    npm.kill_and_restart()
    npm.redis.load(npm.tsv, "ZADD z 0 {}")
    equal = machine.equal_scores(npm.name, npm.tsv)
    npm.trifecta.load(equal, "equal")
    npm.trifecta.stop()
    npm.trifecta.start()
    npm.trifecta.wait_idle()

    checked = [exact.check(npm.trifecta, npm.tsv, "default"),
               exact.check(npm.trifecta, equal, "equal")]
    nginx = Nginx(reply_body(npm.trifecta, machine.fetched("npm.q")))
    nginx.start()
    searches = Searches(npm, paths, nginx)
    for index in range(machine.ROUNDS):
        say(f"searches, round {index + 1} of {machine.ROUNDS}")
        searches.round()

    rows = search_rows(searches) + cost_rows(searches)
    rows.append(Row(9, "equal to a naive model: best in pages, alphabetical both ways, counts",
                    100 * sum(each.right for each in checked) /
                    sum(each.asked for each in checked), 100, unit=" %",
                    text=f"{sum(each.asked for each in checked)} answers over "
                         f"{sum(each.prefixes for each in checked)} prefixes"))
    rows += data_rows(npm) + data_rows(paths)
    rows.sort(key=lambda row: row.number)
    write("server", f"npm: {npm.count} words, paths: {paths.count} words.\n\n" + table(rows))
    write("ceiling", "Requests/s, server CPU in us per request, p50 in us:\n\n" +
          ceiling_table(searches))
    return json.dumps({store.name: store.figures for store in (npm, paths)})
