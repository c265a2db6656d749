#!/usr/bin/python3
"""The command line client as a user meets it: what it sends, prints, and ends with."""
import json
import os
import pathlib
import pty
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

from fake_node import Node

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 else "build/src/cmd/trifecta"


def contents(directory):
    return {path.name: path.read_bytes() for path in pathlib.Path(directory).iterdir()
            if path.is_file()}


class CliTest(unittest.TestCase):
    def setUp(self):
        self.node = Node()

    def run_cli(self, *arguments, data=None, url=None, environment=None):
        environment = {"PATH": "/usr/bin:/bin", "TRIFECTA_URL": url or self.node.url,
                       **(environment or {})}
        return subprocess.run([PROGRAM, *arguments], input=data or b"", env=environment,
                              capture_output=True, timeout=30, check=False)

    def expect(self, code, output, *arguments, **options):
        result = self.run_cli(*arguments, **options)
        self.assertEqual((result.returncode, result.stdout), (code, output), result.stderr)
        return result.stderr

    def test_words_are_added_read_counted_and_deleted(self):
        self.expect(0, b"added trial\n", "add", "trial", "7.5")
        self.expect(0, b"updated trial\n", "add", "trial", "-2", "--tags", "a,b", "--ttl", "5m",
                    "--payload", "x")
        self.assertEqual(json.loads(self.node.seen[-1][4]),
                         {"word": "trial", "score": -2, "tags": ["a", "b"], "ttl_ms": 300000,
                          "payload": "x"})
        self.assertNotIn(b"\n", self.node.seen[-1][4])
        self.assertIn(b'\ntags        ["a","b"]\n', self.run_cli("get", "trial").stdout)
        self.expect(0, b"added triathlon\n", "add", "triathlon")
        self.expect(0, b"trial\ntriathlon\n", "search", "tri")
        self.expect(0, b"trial\t-2\ntriathlon\t1\n", "search", "tri", "--scores")
        self.expect(0, b"2\n", "count", "tri")
        self.expect(0, b"0\n", "count", "x")
        self.expect(0, b"3.5\n", "incr", "triathlon", "2.5")
        self.assertIn(b"score       3.5\n", self.run_cli("get", "triathlon").stdout)
        self.expect(0, b"deleted trial\n", "rm", "trial")
        self.expect(1, b"not found trial\n", "rm", "trial")
        self.assertEqual(self.expect(1, b"", "get", "trial"),
                         b"trifecta: Not found: there is no such word (not_found)\n")

    def test_any_bytes_are_a_word(self):
        self.expect(0, b"added a\xff&b\n", "add", b"a\xff&b")
        self.assertIn(b"a\xff&b", self.node.words)
        self.expect(0, b"a\xff&b\n", "search", b"a\xff&")
        self.assertIn(b"word        a\xff&b\n", self.run_cli("get", b"a\xff&b").stdout)

    def test_flags_reach_the_node(self):
        self.run_cli("--ns", "n", "search", "a b", "--limit=5", "--sort", "alphabetical:asc",
                     "--fuzzy", "1", "--tags-any", "x", "--consistency", "all")
        self.assertEqual(self.node.seen[-1][2], {
            "ns": b"n", "q": b"a b", "limit": b"5", "sort": b"alphabetical:asc", "fuzzy": b"1",
            "tags_any": b"x", "consistency": b"all"})

    def test_a_search_goes_on_to_the_end(self):
        self.node.words = {b"w%04d" % i: {"score": 1} for i in range(25)}
        every = b"".join(b"w%04d\n" % i for i in range(25))
        self.expect(0, every, "search", "w", "--all", "--limit", "10")
        self.expect(0, every, "search", "w", "--all")
        self.expect(0, every[60:120], "search", "w", "--cursor", "10")

    def test_json_is_the_answer_of_the_node(self):
        self.node.words = {b"a": {"score": 1}}
        result = self.run_cli("search", "--json")
        self.assertEqual(json.loads(result.stdout)["results"][0]["word"], "a")
        self.node.refuse = (503, "No quorum", "1 of 2", "quorum_not_met")
        result = self.run_cli("add", "a", "--json")
        self.assertEqual(result.returncode, 5)
        self.assertEqual(json.loads(result.stdout)["code"], "quorum_not_met")

    def test_exit_codes_tell_what_happened(self):
        for status, code in ((400, 1), (401, 4), (403, 4), (409, 1), (503, 5), (504, 5)):
            self.node.refuse = (status, "Refused", "so it is", "code")
            self.expect(code, b"", "count")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = "http://127.0.0.1:%d" % taken.getsockname()[1]
            self.expect(3, b"", "count", url=url)
            taken.listen()
            self.expect(5, b"", "count", "--timeout-ms", "50", url=url)
        self.expect(3, b"", "count", url="ftp://127.0.0.1/")

    def test_what_is_mistyped_is_told_with_the_nearest_name(self):
        for arguments, message in (
                (["serach"], "unknown command 'serach'; did you mean 'search'?"),
                (["search", "--limt", "3"], "unknown flag '--limt'; did you mean '--limit'?"),
                (["search", "--limit", "0"], "--limit: '0' is not a number from 1 to 1000"),
                (["search", "--limit"], "--limit needs a value (N)"),
                (["search", "a", "b"], "search: 'b' is too much; see trifecta search --help"),
                (["--json=1", "count"], "--json takes no value"),
                (["add"], "usage: trifecta add WORD [SCORE]"),
                (["add", "a", "inf"], "SCORE: 'inf' is not a finite number"),
                (["add", "a", "--ttl", "5y"],
                 "--ttl: '5y' is not a duration, as in 500ms, 30s, 5m, 2h or 7d"),
                (["watch"], "unknown command 'watch'; see --help"),
                (["import", "/dev/null"], "/dev/null: which format? --format ndjson, csv or tsv"),
                ([], "what is to be done? See trifecta --help")):
            self.assertEqual(self.expect(2, b"", *arguments),
                             b"trifecta: " + message.encode() + b"\n")
        self.assertEqual(self.node.seen, [])

    def test_an_authority_is_made_and_issues_for_nodes(self):
        with tempfile.TemporaryDirectory() as folder:
            ca = os.path.join(folder, "ca")
            made = self.run_cli("ca", "init", ca)
            self.assertEqual(made.returncode, 0, made.stderr)
            self.assertIn(b"role         authority\n", made.stdout)
            self.assertEqual(os.stat(ca).st_mode & 0o777, 0o700)
            self.assertEqual(os.stat(ca + "/ca.key").st_mode & 0o777, 0o600)
            issued = json.loads(self.run_cli("--json", "ca", "issue", ca, "n1", "--days", "30").stdout)
            self.assertEqual((issued["certificate"], issued["key"], issued["role"], issued["subject"]),
                             (ca + "/n1.crt", ca + "/n1.key", "node", "CN=n1"))
            self.assertEqual(os.stat(issued["key"]).st_mode & 0o777, 0o600)
            shown = json.loads(self.run_cli("ca", "show", ca + "/n1.crt", "--json").stdout)
            self.assertEqual(shown["file"], ca + "/n1.crt")
            self.assertEqual([each["sha256"] for each in shown["certificates"]], [issued["sha256"]])
            # Whole days that are left; a second may have passed.
            self.assertRegex(self.run_cli("ca", "show", ca + "/n1.crt").stdout,
                             rb"\((29|30) days\)\n")
            # Others read them alike.
            checked = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", ca + "/ca.crt",
                                      ca + "/n1.crt"], capture_output=True, check=False)
            self.assertEqual(checked.stdout, f"{ca}/n1.crt: OK\n".encode(), checked.stderr)

            # Nothing is overwritten, and what went wrong leaves nothing behind.
            before = contents(ca)
            os.mkdir(ca + "/taken.crt")
            for arguments, why in (
                    (["init", ca], "ca.crt: is there already; nothing is overwritten"),
                    (["issue", ca, "n1"], "n1.crt: is there already; nothing is overwritten"),
                    (["issue", ca, "taken"], "taken.crt: is there already; nothing is overwritten"),
                    (["issue", ca, "n2", "--days", "4000"], "expected a shorter time"),
                    (["issue", folder, "n2"], "ca.crt: cannot be read: No such file or directory"),
                    (["init", ca + "/n1.crt"], "ca.key: cannot be made: Not a directory"),
                    (["init", folder + "/a/b"], "/a/b: cannot be made: No such file or directory"),
                    (["show", ca + "/n1.key"], "n1.key: expected certificates in PEM"),
                    (["show", ca + "/none"], "none: cannot be read: No such file or directory")):
                self.assertIn(why.encode(), self.expect(1, b"", "ca", *arguments))
                failed = self.run_cli("--json", "ca", *arguments)
                self.assertEqual(failed.returncode, 1)
                self.assertIn(why, json.loads(failed.stdout)["detail"])
            os.rmdir(ca + "/taken.crt")
            self.assertEqual(contents(ca), before)
            for arguments in (["issue", ca, "a/b"], ["issue", ca, "ca"], ["issue", ca], ["make", ca],
                              ["show", ca, "x"], ["show", ca, "--days", "3"],
                              ["init", ca, "--days", "0"]):
                self.expect(2, b"", "ca", *arguments)

    def test_help_and_completions_know_every_command(self):
        text = self.run_cli("--help").stdout
        for name in (b"search", b"import", b"bench", b"completion", b"--url"):
            self.assertIn(name, text)
        self.assertIn(b"--consistency", self.run_cli("incr", "--help").stdout)
        self.assertEqual(self.run_cli("help").stdout, text)
        self.assertEqual(self.run_cli("help", "incr").stdout, self.run_cli("incr", "--help").stdout)
        for shell in ("bash", "zsh", "fish"):
            script = self.run_cli("completion", shell)
            self.assertEqual(script.returncode, 0)
            self.assertIn(b"export", script.stdout)
        script = self.run_cli("completion", "bash").stdout + (
            b"\nCOMP_WORDS=(trifecta search --li); COMP_CWORD=2; _trifecta; echo ${COMPREPLY[@]}"
            b"\nCOMP_WORDS=(trifecta se); COMP_CWORD=1; _trifecta; echo ${COMPREPLY[@]}")
        done = subprocess.run(["bash"], input=script, capture_output=True, check=True)
        self.assertEqual(done.stdout, b"--limit\nsearch\n")

    def test_a_file_that_is_not_there_is_named(self):
        for name in ("nowhere", "nowhere.tsv"):
            self.assertEqual(self.expect(1, b"", "import", name),
                             b"trifecta: %s: No such file or directory\n" % name.encode())
        self.assertEqual(self.node.seen, [])

    def test_files_are_imported_and_exported(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "words.tsv")
            with open(path, "wb") as file:
                file.write(b"".join(b"word%d\t%d\n" % (i, i) for i in range(20000)))
            self.expect(0, b"20000 imported, 0 failed\n", "import", path)
            self.assertEqual(self.node.seen[-1][3], "text/tab-separated-values")
            target = os.path.join(directory, "out.tsv")
            self.expect(0, b"20000 exported\n", "export", "--format", "tsv", "--output", target)
            with open(target, "rb") as file:
                self.assertEqual(len(file.readlines()), 20000)

            self.node.break_after = 5
            self.expect(3, b"", "export", "--format", "tsv", "--output", target + "2")
            self.assertEqual(sorted(os.listdir(directory)), ["out.tsv", "words.tsv"])
        result = self.run_cli("export", "--format", "tsv", "--prefix", "word1999")
        self.assertEqual(result.returncode, 3)
        self.assertIn(b"the export is incomplete", result.stderr)
        self.assertIn(b"--format ndjson holds every word", result.stderr)

    def test_lines_that_failed_are_told_by_number(self):
        messages = self.expect(1, b"2 imported, 1 failed\n", "import", "--format", "tsv", "-",
                               data=b"a\t1\nb\tbad\nc\n")
        self.assertEqual(messages, b"-:2: not a number (invalid_score)\n")
        self.expect(1, b"", "import", "/nowhere/a.csv")

    def test_nodes_and_ring_show_the_cluster(self):
        result = self.run_cli("nodes")
        self.assertEqual(result.returncode, 0)
        lines = result.stdout.decode().splitlines()
        self.assertEqual(lines[0], "cluster 0123456789abcdef, map 7: 3 nodes")
        self.assertEqual(lines[2].split(), ["*", "1", "127.0.0.1:7401", "east", "active", "alive",
                                            "2"])
        self.assertEqual(lines[4].split()[4:], ["down", "2", "leaves"])
        result = self.run_cli("ring")
        self.assertEqual(result.returncode, 0)
        lines = result.stdout.decode().splitlines()
        self.assertEqual([line.split() for line in lines], [
            ["cluster", "0123456789abcdef,", "map", "7:", "2", "ranges"],
            ["from", "1", "2", "3"],
            ["(start)", "#", "#", ".", "stable"],
            ["default/m", "#", "+", "-", "filling"],
            ["node", "3", "is", "down,", "and", "active", "by", "the", "map"]])
        shown = json.loads(self.run_cli("ring", "--json").stdout)
        self.assertEqual(shown["ranges"][1]["next"], [1, 2])

    def test_status_shows_readiness_and_figures(self):
        self.node.words = {b"a": {"score": 1}}
        result = self.run_cli("status")
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, rb"(?s)ready +yes\nstore\.words +1\n")
        result = self.run_cli("status", "--json")
        self.assertEqual((result.returncode, json.loads(result.stdout)),
                         (0, {"ready": True, "reasons": [], "store": {"words": 1}}))
        self.node.unready = ["it stops"]
        result = self.run_cli("status", "--json")
        self.assertEqual((result.returncode, json.loads(result.stdout)),
                         (1, {"ready": False, "reasons": ["it stops"], "store": {"words": 1}}))
        result = self.run_cli("status")
        self.assertRegex(result.stdout, rb"(?s)ready +no\nreason +it stops\nstore\.words +1\n")

    def test_a_bench_measures(self):
        self.node.words = {b"a": {"score": 1}}
        result = self.run_cli("bench", "--duration", "1", "--connections", "2", "--depth", "2",
                              "--json", "a", "b")
        self.assertEqual(result.returncode, 0, result.stderr)
        figures = json.loads(result.stdout)
        self.assertGreater(figures["requests"], 10)
        self.assertEqual(figures["errors"], 0)
        self.assertLessEqual(figures["p50_us"], figures["p999_us"])
        self.node.refuse = (429, "Slow down", "too many", "rate_limited")
        self.assertEqual(self.run_cli("bench", "--duration", "1").returncode, 1)

    def test_an_interrupt_ends_with_130(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = "http://127.0.0.1:%d" % silent.getsockname()[1]
            with subprocess.Popen([PROGRAM, "--url", url, "count"]) as process:
                with silent.accept()[0]:
                    time.sleep(0.1)
                    process.send_signal(signal.SIGINT)
                    self.assertEqual(process.wait(10), 130)

    def on_terminal(self, arguments, keys, environment):
        """Runs on a pseudo terminal, types `keys`, and gives what was shown and the code."""
        child, terminal = pty.fork()
        if child == 0:
            os.execve(PROGRAM, [PROGRAM, *arguments],
                      {"PATH": "/usr/bin:/bin", "TERM": "dumb", "TRIFECTA_HISTORY": "",
                       "TRIFECTA_URL": self.node.url, **environment})
        shown = b""
        os.write(terminal, keys)
        while True:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                data = b""
            if not data:
                break
            shown += data
        return shown, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def test_a_terminal_gets_a_prompt(self):
        with tempfile.TemporaryDirectory() as directory:
            history = os.path.join(directory, "history")
            shown, code = self.on_terminal(
                [], b"add 'two words' 3\nsearch two --scores\nserach\nexit\n",
                {"TRIFECTA_HISTORY": history})
            self.assertEqual(code, 0)
            self.assertIn(b"added two words", shown)
            self.assertIn(b"did you mean 'search'", shown)
            self.assertEqual(self.node.words, {b"two words": {"score": 3}})
            with open(history, "rb") as file:
                self.assertIn(b"serach", file.read())

    def test_a_terminal_is_not_commanded_by_words(self):
        self.node.words = {b"a\x1b[2Jb\xc2\x9b": {"score": 1}}
        shown, _ = self.on_terminal(["search", "a"], b"", {"NO_COLOR": "1"})
        self.assertEqual(shown.strip(), b"a\\x1b[2Jb\\xc2\\x9b")
        shown, _ = self.on_terminal(["search", "a"], b"", {})
        self.assertEqual(shown.strip(), b"\x1b[1ma\x1b[0m\\x1b[2Jb\\xc2\\x9b")


if __name__ == "__main__":
    unittest.main()
