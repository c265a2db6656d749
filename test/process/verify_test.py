#!/usr/bin/python3
"""`trifecta verify` on real directories: sound, killed, damaged, in use, not ours, read-only."""
import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

CLIENT, SERVER = sys.argv.pop(1), sys.argv.pop(1)
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if not name.startswith("TRIFECTA_")}


class VerifyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="trifecta-verify-")
        self.data = os.path.join(self.folder, "data")
        self.addCleanup(shutil.rmtree, self.folder)

    # --- A node, and what it leaves ---

    def start(self):
        node = subprocess.Popen([SERVER, "--data", self.data, "--http", "127.0.0.1:0"],
                                stderr=subprocess.PIPE, env=ENVIRONMENT)
        self.addCleanup(self.stop, node, signal.SIGKILL)
        for line in node.stderr:
            found = re.search(rb"event=server\.started .*http=[^ ]*:(\d+)", line)
            if found:
                return node, "http://127.0.0.1:" + found.group(1).decode()
        self.fail("the node did not start")

    def stop(self, node, number=signal.SIGTERM):
        if node.returncode is None:
            node.send_signal(number)
            node.stderr.read()
            node.wait(timeout=60)
        node.stderr.close()

    def client(self, url, *arguments, text=None):
        result = subprocess.run([CLIENT, "--url", url, *arguments], input=text,
                                stdout=subprocess.PIPE, env=ENVIRONMENT, check=True, timeout=60)
        return result.stdout

    def fill(self, url, first, count):
        lines = "".join(f"word {first + i}\t{i}\n" for i in range(count))
        self.client(url, "import", "-", "--format", "tsv", text=lines.encode())

    def make(self):
        """A packed trie, some of whose words died since; a log; all of it by a clean stop or two."""
        node, url = self.start()
        self.fill(url, 0, 5000)
        self.stop(node)
        node, url = self.start()
        self.fill(url, 4000, 3000)
        self.client(url, "rm", "word 7", "word 4321")
        self.stop(node)

    def names(self, start):
        return sorted(name for name in os.listdir(self.data) if name.startswith(start))

    def flip(self, name, at):
        with open(os.path.join(self.data, name), "r+b") as file:
            file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 4]))

    # --- What verification says ---

    def verify(self, *flags, data=None):
        before = self.stamp()
        result = subprocess.run([CLIENT, "verify", data or self.data, *flags], timeout=120,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
                                check=False)
        self.assertEqual(self.stamp(), before)
        return result.returncode, result.stdout.decode(), result.stderr.decode()

    def stamp(self):
        """What must not change: names, sizes, contents' and names' times."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            state = os.stat(folder)
            found[folder] = (state.st_mtime_ns, state.st_mode)
            for name in names:
                state = os.stat(os.path.join(folder, name))
                found[name] = (state.st_size, state.st_mtime_ns, state.st_ino, state.st_mode)
        return found

    def refusal(self, expected, data=None):
        code, out, error = self.verify(data=data)
        self.assertEqual((code, out), (1, ""))
        self.assertIn(data or self.data, error)
        self.assertIn(expected, error)
        code, out, error = self.verify("--json", data=data)
        self.assertEqual((code, error), (1, ""))
        answer = json.loads(out)
        self.assertEqual(answer["ok"], False)
        if data is None or os.path.isdir(data):
            self.assertIn(expected, answer["detail"])

    def test_a_sound_directory_is_described(self):
        self.make()
        code, out, error = self.verify()
        self.assertEqual((code, error), (0, ""))
        self.assertTrue(out.endswith("no damage\n"), out)
        for expected in (*self.names("run-"), *self.names("overlay-"), "manifest-", "words",
                         "default:word 0 to default:word"):
            self.assertIn(expected, out)
        code, out, _ = self.verify("--json")
        answer = json.loads(out)
        self.assertEqual((code, answer["ok"], answer["findings"]), (0, True, []))
        self.assertEqual(answer["totals"]["words"], 7000 - 2)
        self.assertEqual(answer["log"]["replay_records"], 0)
        self.assertEqual({file["name"] for file in answer["files"]}, set(os.listdir(self.data)))
        tries = [file for file in answer["files"] if file["kind"] == "packed trie"]
        self.assertEqual(sum(file["words"] for file in tries), 7000 - 2)
        self.assertEqual(tries[0]["first"], {"ns": "default", "word": "word 0"})

    def test_a_kill_leaves_no_damage(self):
        self.make()
        node, url = self.start()
        self.fill(url, 8000, 10)
        self.client(url, "add", "last")
        self.stop(node, signal.SIGKILL)
        code, out, _ = self.verify("--json")
        answer = json.loads(out)
        self.assertEqual((code, answer["ok"]), (0, True))
        self.assertGreaterEqual(answer["log"]["replay_records"], 11)
        # What a crash leaves behind is a note.
        with open(os.path.join(self.data, "run-%020d.tri" % 999), "wb") as file:
            file.write(b"half of")
        code, out, _ = self.verify()
        self.assertEqual(code, 0)
        self.assertIn("1 left behind by a crash", out)
        code, out, _ = self.verify("--verbose")
        self.assertEqual(code, 0)
        self.assertIn("note: run-%020d.tri" % 999, out)

    def test_damage_is_named_all_at_once(self):
        self.make()
        run, overlay, manifest = (self.names(kind)[0] for kind in ("run-", "overlay-", "manifest-"))
        self.flip(run, 5000)
        self.flip(overlay, 20)
        code, out, error = self.verify()
        self.assertEqual((code, error), (1, ""))
        self.assertRegex(out, rf"damage: {run} at byte 4096 \(page 1\): page 1: checksum \w+, "
                              r"expected \w+")
        self.assertIn(f"damage: {overlay} at byte ", out)
        self.assertTrue(out.endswith("2 damaged places\n"), out)
        self.flip(manifest, 20)
        code, out, _ = self.verify("--json")
        answer = json.loads(out)
        self.assertEqual((code, answer["ok"]), (1, False))
        self.assertEqual({finding["file"] for finding in answer["findings"]
                          if finding["kind"] == "damage"}, {run, overlay, manifest})
        self.assertEqual([finding["page"] for finding in answer["findings"]
                          if finding["file"] == run], [1])

    def test_missing_files_are_named(self):
        self.make()
        run = self.names("run-")[0]
        os.remove(os.path.join(self.data, run))
        code, out, _ = self.verify()
        self.assertEqual(code, 1)
        self.assertIn(f"damage: {run}: is missing", out)
        self.assertTrue(out.endswith("1 damaged place\n"), out)

    def test_what_is_no_store_is_refused(self):
        missing = os.path.join(self.folder, "nowhere")
        self.refusal("no such directory", data=missing)
        os.mkdir(self.data)
        self.refusal("no store in it")
        with open(os.path.join(self.data, "letters.txt"), "w", encoding="utf-8") as file:
            file.write("mine")
        self.refusal("letters.txt is not a file of trifecta")
        self.refusal("not a directory", data=os.path.join(self.data, "letters.txt"))

    def test_a_newer_format_is_refused(self):
        self.make()
        identity = os.path.join(self.data, "trifecta.id")
        with open(identity, "rb") as file:
            text = file.read()
        with open(identity, "wb") as file:
            file.write(text.replace(b"format 1", b"format 9"))
        self.refusal("newer format")

    def test_a_directory_in_use_is_refused_and_a_reader_keeps_a_node_out(self):
        self.make()
        node, _ = self.start()
        result = subprocess.run([CLIENT, "verify", self.data], stderr=subprocess.PIPE,
                                stdout=subprocess.PIPE, env=ENVIRONMENT, check=False)
        self.assertEqual((result.returncode, result.stdout), (1, b""))
        self.assertIn(b"A node runs on it", result.stderr)
        self.stop(node)
        with open(os.path.join(self.data, "LOCK"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self.assertEqual(self.verify()[0], 0)
            result = subprocess.run([SERVER, "--data", self.data, "--http", "127.0.0.1:0"],
                                    stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
            self.assertEqual(result.returncode, 1)
            self.assertIn(b"trifecta verify", result.stderr)

    def test_a_directory_that_may_only_be_read_is_checked(self):
        self.make()
        for name in os.listdir(self.data):
            os.chmod(os.path.join(self.data, name), 0o400)
        os.chmod(self.data, 0o500)
        self.addCleanup(os.chmod, self.data, 0o700)
        self.assertEqual(self.verify()[0], 0)

    def test_nothing_is_made_where_there_is_no_lock(self):
        self.make()
        os.remove(os.path.join(self.data, "LOCK"))
        self.assertEqual(self.verify()[0], 0)
        self.assertFalse(os.path.exists(os.path.join(self.data, "LOCK")))

    def test_usage_and_help(self):
        result = subprocess.run([CLIENT, "verify"], stderr=subprocess.PIPE, env=ENVIRONMENT,
                                check=False)
        self.assertEqual((result.returncode, result.stderr),
                         (2, b"trifecta: usage: trifecta verify DIR\n"))
        result = subprocess.run([CLIENT, "verify", "--help"], stdout=subprocess.PIPE,
                                env=ENVIRONMENT, check=True)
        self.assertIn(b"--verbose", result.stdout)

    def test_a_terminal_sees_a_bar(self):
        self.make()
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen([CLIENT, "verify", self.data], stderr=theirs,
                                   stdout=subprocess.PIPE, env=ENVIRONMENT)
        os.close(theirs)
        out = process.communicate(timeout=60)[0]
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # The other end is closed.
            pass
        os.close(ours)
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"MiB", shown)
        self.assertNotIn(b"MiB", out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
