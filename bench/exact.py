"""Every answer beside that of a naive model: sort, cut, done."""
import bisect
import heapq
import http.client
import json
import random
import urllib.parse
from dataclasses import dataclass

import machine

PREFIXES = 500 if machine.QUICK else 2000
PAGE, PAGES = 10, 3


@dataclass
class Result:
    prefixes: int
    asked: int = 0
    right: int = 0


def quote(text):
    return urllib.parse.quote(text, safe="")


def fold(word):
    """The first code point of the full case fold of each."""
    return word.lower() if word.isascii() else "".join(c.casefold()[:1] or c for c in word)


class Model:
    def __init__(self, path):
        with open(path, "rb") as file:
            lines = [line.rstrip(b"\n").split(b"\t") for line in file]
        words = [(fold(word.decode()), word.decode(), -float(score), line)
                 for line, (word, score) in enumerate(lines)]
        # Folded form, then the word that equals it, then bytes.
        words.sort(key=lambda w: (w[0].encode(), w[1] != w[0], w[1].encode()))
        self.words = [word[1] for word in words]
        self.folded = [word[0].encode() for word in words]
        order = sorted(range(len(words)), key=lambda i: words[i][2:])
        self.rank = [0] * len(words)
        for rank, index in enumerate(order):
            self.rank[index] = rank
        self.by_rank = order

    def range_of(self, prefix):
        prefix = fold(prefix).encode()
        low = bisect.bisect_left(self.folded, prefix)
        high = bisect.bisect_left(self.folded, prefix + b"\xff")
        return low, high

    def best(self, prefix, count):
        low, high = self.range_of(prefix)
        if low == 0 and high == len(self.words):
            return [self.words[i] for i in self.by_rank[:count]]
        return [self.words[self.by_rank[rank]]
                for rank in heapq.nsmallest(count, self.rank[low:high])]


class Client:
    def __init__(self, server, namespace):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self.namespace = namespace

    def get(self, path):
        self.connection.request("GET", f"{path}&ns={self.namespace}")
        reply = self.connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            machine.fail(f"{path}: {reply.status} {text[:300]}")
        return json.loads(text)

    def pages(self, query, sort):
        words, cursor = [], ""
        for _ in range(PAGES):
            page = self.get(f"/search?q={quote(query)}&sort={sort}&limit={PAGE}" +
                            (f"&cursor={quote(cursor)}" if cursor else ""))
            words += page["results"]
            cursor = page.get("next_cursor", "")
            if not cursor:
                break
        return words


def prefixes_of(model):
    chance = random.Random(7)
    found = {""}
    while len(found) < min(PREFIXES, len(model.words)):
        word = chance.choice(model.words)
        found.add(word[:chance.randint(1, 12)])
    return sorted(found)


def check(server, path, namespace):
    machine.say(f"exactness of {namespace}")
    model, client = Model(path), Client(server, namespace)
    result = Result(prefixes=0)
    count = PAGE * PAGES
    for prefix in prefixes_of(model):
        result.prefixes += 1
        low, high = model.range_of(prefix)
        expected = [
            (client.pages(prefix, "popularity:desc"), model.best(prefix, count)),
            (client.pages(prefix, "alphabetical:asc"), model.words[low:min(high, low + count)]),
            (client.pages(prefix, "alphabetical:desc"),
             model.words[max(low, high - count):high][::-1]),
            (client.get(f"/api/v1/count?q={quote(prefix)}")["count"], high - low),
        ]
        for got, wanted in expected:
            result.asked += 1
            result.right += got == wanted
            if got != wanted and result.asked - result.right == 1:
                machine.say(f"first difference: '{prefix}': {str(got)[:300]} not "
                            f"{str(wanted)[:300]}")
    return result
