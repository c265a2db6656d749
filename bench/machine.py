"""What all measurements share: settings, pins, data sets, medians, facts of the machine."""
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
BUILD = os.path.join(ROOT, os.environ.get("BENCH_BUILD", "build-bench"))
CACHE = os.environ.get("TRIFECTA_DATA_CACHE", os.path.expanduser("~/.cache/trifecta"))
WORK = os.path.join(BUILD, "work")  # Data sets cut to size, and the files of all servers.

QUICK = os.environ.get("BENCH_QUICK", "") not in ("", "0")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3" if QUICK else "5"))
BURST_S = float(os.environ.get("BENCH_BURST_S", "0.3" if QUICK else "0.7"))

# Servers on one processor and the client on another: where the scheduler puts the two would
# otherwise decide a round trip (9 or 80 us). SAME: no wake-up crosses processors at all.
SERVER_CPU, CLIENT_CPU = 0, min(1, os.cpu_count() - 1)
SAME = SERVER_CPU
CASE_MIXES = 8


def say(text):
    print("bench: " + text, flush=True)


def fail(text):
    sys.exit("bench: " + text)


def program(name):
    return os.path.join(BUILD, "bench", name)


def pinned(cpu, command):
    return ["taskset", "-c", str(cpu)] + command


def output_of(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        fail("failed: " + " ".join(command))
    return done.stdout


def figures_of(line):
    """"name=value name=value" as a dictionary."""
    return {name: float(value) for name, value in re.findall(r"(\S+)=(\S+)", line)}


class Samples:
    """Figures by name over rounds; what is asked for is the median."""

    def __init__(self):
        self.values = {}

    def add(self, name, figures):
        for key, value in figures.items():
            self.values.setdefault((name, key), []).append(value)

    def get(self, name, key):
        return statistics.median(self.values[name, key])

    def has(self, name, key):
        return (name, key) in self.values


# --- Data sets ---


def fetched(name):
    return os.path.join(CACHE, name)


def line_count(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def subset(name, count):
    """A set cut to about `count` words, evenly over the file; the whole if it is smaller."""
    source = fetched(name + ".tsv")
    stride = max(1, line_count(source) // count)
    if stride == 1:
        return source
    return derived(f"{name}-{count}.tsv", source,
                   lambda lines: (line for i, line in enumerate(lines) if i % stride == 0))


def derived(name, source, change):
    path = os.path.join(WORK, name)
    if not os.path.exists(path):
        with open(source, "rb") as lines, open(path + ".part", "wb") as out:
            out.writelines(change(lines))
        os.rename(path + ".part", path)
    return path


def equal_scores(name, source):
    return derived(f"{name}-{line_count(source)}-equal.tsv", source,
                   lambda lines: (line.split(b"\t")[0] + b"\t1\n" for line in lines))


def distinct(name, source):
    """Each query once, in several mixes of case: the answers are the same, and the answer
    cache, which knows a request by its bytes, hardly ever holds one."""
    def change(lines):
        once = list(dict.fromkeys(lines))
        chance = random.Random(1)
        mixes = [bytes(byte ^ 32 if chr(byte).isascii() and chr(byte).isalpha() and
                       chance.random() < 0.5 else byte for byte in line)
                 for _ in range(CASE_MIXES) for line in once]
        return dict.fromkeys(once + mixes)
    return derived(name, source, change)


def first_lines(name, source, count):
    return derived(name, source, lambda lines: [next(lines) for _ in range(count)])


# --- The machine ---


def first_match(path, pattern, fallback):
    try:
        with open(path, encoding="utf-8") as file:
            found = re.search(pattern, file.read())
            return found.group(1).strip() if found else fallback
    except OSError:
        return fallback


def version_of(command):
    if shutil.which(command[0]) is None:
        return "none"
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    found = re.search(r"\d+\.\d+(\.\d+)*", done.stdout)
    return found.group(0) if found else "unknown"


def package_version(name):
    done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout or "none"


def description():
    cpu = first_match("/proc/cpuinfo", r"model name\s*:\s*(.*)", "unknown processor")
    memory = int(first_match("/proc/meminfo", r"MemTotal:\s*(\d+)", "0")) // 1024
    commit = output_of(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]).strip()
    packages = ["librocksdb-dev", "liblmdb-dev", "libmarisa-dev", "redis-redisearch"]
    return [
        f"{cpu}, {os.cpu_count()} processors, {memory} MiB of memory, Linux {os.uname().release}",
        f"trifecta {commit}, gcc {version_of(['gcc', '-dumpfullversion'])} -O3",
        f"nginx {version_of(['nginx', '-v'])}, redis {version_of(['redis-server', '--version'])}, "
        + ", ".join(f"{each.replace('-dev', '')} {package_version(each)}" for each in packages),
    ]


def circumstances():
    """When, how long and among how busy neighbours a part was measured."""
    return (time.strftime("Measured %Y-%m-%d %H:%M UTC, ", time.gmtime()) +
            f"{ROUNDS} rounds of {BURST_S} s bursts, load average before {os.getloadavg()[0]:.1f}.")
