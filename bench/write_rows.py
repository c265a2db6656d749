"""Durable writes, one word a request, beside the disk's own floor and Redis."""
import os

import machine
from machine import Samples, say
from servers import Redis, Trifecta, load
from tables import Row, plain_table, table, write

WORDS = 227_000
SHAPES = [(1, 1), (32, 1), (32, 16)]
ADD = "FT.SUGADD s {} {s}"


class Writer:
    """Takes words that are not stored yet, burst after burst."""

    def __init__(self, name, server, template, body=None):
        self.name, self.server, self.template, self.body = name, server, template, body
        self.next_line = 0

    def burst(self, samples, shape):
        figures = load(self.server, self.template, body=self.body,
                       file=machine.fetched("npm.new"), first_line=self.next_line,
                       connections=shape[0], depth=shape[1], seconds=machine.BURST_S)
        self.next_line += int(figures["requests"])
        samples.add((self.name,) + shape, figures)


def redis_with(name, *options):
    redis = Redis("redis-" + name, *options)
    redis.start()
    redis.load(machine.subset("npm", WORDS))
    return redis


def rows_of(get, floor):
    ours, always = "trifecta POST", "Redis always"
    one, wide, deep = SHAPES

    def times(shape, other):
        return get(ours, shape) / get(other, shape)

    return [
        Row(11, "1 connection: writes/s : append + fdatasync", get(ours, one) / floor, 0.8, 1.1,
            text=f"Redis {get(always, one) / floor:.2f}"),
        Row(12, "32 x 1: writes/s : Redis always", times(wide, always), 2, 2.7,
            text=f"Redis without a log {get('Redis none', wide) / get(always, wide):.2f}"),
        Row(13, "32 x 16: writes/s : Redis always", times(deep, always), 1.3, 1.7,
            text=f"Redis without a log {get('Redis none', deep) / get(always, deep):.2f}"),
        Row(14, "32 x 1, HTTP POST : Redis always over its own protocol", times(wide, always),
            1.5, 2.5),
    ]


def run():
    durable = ("--appendonly", "yes", "--appendfsync", "always",
               "--auto-aof-rewrite-percentage", "0")
    trifecta = Trifecta("trifecta-writes")
    trifecta.start()
    trifecta.load(machine.subset("npm", WORDS))
    trifecta.wait_idle()
    writers = [
        Writer("Redis always", redis_with("always", *durable), ADD),
        Writer("Redis none", redis_with("none", "--appendonly", "no"), ADD),
        Writer("trifecta POST", trifecta, "/api/v1/words", '{"word":"{}","score":{s}}'),
    ]
    samples = Samples()
    for index in range(machine.ROUNDS):
        say(f"writes, round {index + 1} of {machine.ROUNDS}")
        floor = machine.output_of([machine.program("sync_floor"),
                                   os.path.join(machine.WORK, "sync_floor"),
                                   str(machine.BURST_S)])
        samples.add("floor", machine.figures_of(floor))
        for shape in SHAPES:
            for writer in writers:
                writer.burst(samples, shape)

    def get(name, shape, key="per_s"):
        return samples.get((name,) + shape, key)

    floor = samples.get("floor", "append_per_s")
    names = [writer.name for writer in writers]
    absolute = plain_table(
        ["writer"] + [f"{c} x {d}" for c, d in SHAPES],
        [[name] + [f"{get(name, shape):.0f}/s, {get(name, shape, 'server_us'):.1f}, "
                   f"{get(name, shape, 'p50_us'):.0f}" for shape in SHAPES] for name in names] +
        [["append + fdatasync", f"{floor:.0f}/s", "", ""],
         ["the same in place", f"{samples.get('floor', 'in_place_per_s'):.0f}/s", "", ""]])
    write("writes", table(rows_of(get, floor)) +
          "\nWrites/s, server CPU in us per write, p50 in us:\n\n" + absolute)
