#!/usr/bin/python3
"""Data directories that cannot be used, or only in part: each is named, none is harmed."""
import json
import os
import re
import shlex
import shutil
import subprocess
import unittest

from node_process import NodeTest


class DirectoryTest(NodeTest):
    def test_a_directory_in_use_is_refused(self):
        self.start()
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn("another trifectad is running", log)

    def test_a_directory_that_is_not_ours_is_left_alone(self):
        os.mkdir(self.data)
        stranger = os.path.join(self.data, "letters.txt")
        with open(stranger, "w", encoding="utf-8") as file:
            file.write("mine")
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn("letters.txt", log)
        with open(stranger, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")
        self.assertEqual(os.listdir(self.data), ["letters.txt"])

    def test_damage_is_found_named_and_never_served(self):
        server = self.start()
        self.fill(server, 20000)
        self.assertEqual(server.stop(), 0)
        run = next(name for name in os.listdir(self.data) if name.startswith("run-"))
        with open(os.path.join(self.data, run), "r+b") as file:
            file.seek(os.path.getsize(file.name) // 4)  # Among the keys.
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
        server = self.start()
        refused = 0
        for number in range(10, 100):
            status, answer = server.get(f"/search?q=word%20{number}&limit=1000")
            refused += status != 200
            for word in answer.get("results", []):
                self.assertTrue(re.fullmatch(f"word {number}[0-9]*", word), word)
        self.assertGreater(refused, 0)
        self.wait_for(lambda: run in json.dumps(server.get("/ready")[1]))
        self.assertEqual(server.get("/ready")[0], 503)
        self.wait_for(lambda: f"level=error event=store.damaged file={run} " in server.log)
        self.assertEqual(server.log.count("event=store.damaged"), 1)
        self.assertEqual(server.ask("POST", "/api/v1/words", {"word": "new one"})[0], 201)
        self.assertEqual(server.get("/search?q=new")[0], 200)

    def stopped_store(self, words=100):
        """A directory that holds words, and nobody that uses it."""
        server = self.start()
        self.fill(server, words)
        self.assertEqual(server.stop(), 0)

    def files(self):
        """What is in the directory: {name: bytes}."""
        found = {}
        for name in os.listdir(self.data):
            with open(os.path.join(self.data, name), "rb") as file:
                found[name] = file.read()
        return found

    def change(self, part, change):
        """Rewrites the file that `part` is in the name of; gives that name."""
        name = next(name for name in sorted(os.listdir(self.data)) if part in name)
        path = os.path.join(self.data, name)
        with open(path, "rb") as file:
            content = change(file.read())
        with open(path, "wb") as file:
            file.write(content)
        return name

    def test_a_newer_format_is_not_touched(self):
        self.stopped_store()
        name = self.change("trifecta.id", lambda text: text.replace(b"format 1", b"format 2"))
        before = self.files()
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn(name, log)
        self.assertRegex(log, "newer|later")
        self.assertEqual(self.files(), before)

    def test_damage_that_stops_the_start_is_named_and_left_alone(self):
        def flip(content):
            middle = len(content) // 2
            return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:]

        for part, change in (("trifecta.id", flip), ("manifest-", lambda bytes_: bytes_[:30]),
                             ("manifest-", lambda bytes_: b"")):
            shutil.rmtree(self.data, ignore_errors=True)
            self.stopped_store()
            name = self.change(part, change)
            before = self.files()
            code, log = self.refused()
            self.assertEqual(code, 1)
            self.assertIn("event=store.open_failed", log)
            self.assertIn(name, log)
            self.assertEqual(self.files(), before)

    def test_a_file_that_is_missing_is_named(self):
        self.stopped_store(20000)
        run = next(name for name in os.listdir(self.data) if name.startswith("run-"))
        os.remove(os.path.join(self.data, run))
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn(run, log)

    def test_a_path_that_is_no_directory_is_named(self):
        with open(self.data, "w", encoding="utf-8") as file:
            file.write("a file")
        code, log = self.refused()
        self.assertEqual(code, 1)
        self.assertIn(self.data, log)
        code, log = self.refused("--data", os.path.join(self.data, "below"))
        self.assertEqual(code, 1)
        self.assertIn("below", log)
        self.assertIn("not a directory", log)
        code, log = self.refused("--data", os.path.join(self.folder, "no", "such"))
        self.assertEqual(code, 1)
        self.assertIn("does not exist", log)

    # --- Devices, in a mount namespace of the server's own: they go when it ends ---

    def on_device(self, mount):
        """A command that mounts for the server alone, which it then runs."""
        before = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]
        tried = subprocess.run([*before, "true"], stderr=subprocess.PIPE, check=False)
        if tried.returncode != 0:
            self.skipTest("mounting is not permitted here: " + tried.stderr.decode().strip())
        return before

    def test_a_directory_that_is_read_only_is_named_and_left_alone(self):
        self.stopped_store()
        quoted = shlex.quote(self.data)
        before = self.on_device(f"mount --bind {quoted} {quoted} && "
                                f"mount -o remount,bind,ro {quoted}")
        files = self.files()
        code, log = self.refused(before=before)
        self.assertEqual(code, 1)
        self.assertIn(self.data, log)
        self.assertRegex(log, "read.only")
        self.assertEqual(self.files(), files)

    def test_a_job_that_fails_is_logged_once_and_comes_again(self):
        server = self.start("--memory-limit", "64MiB")
        # Where the files of the first two attempts would be.
        for number in (1, 2):
            os.mkdir(os.path.join(self.data, "run-%020d.tri" % number))
        self.fill(server, 600000)  # More than a memory trie takes: it is flushed.
        flushes = re.compile(r"^trifecta_flushes_total [1-9]", re.M)
        self.wait_for(lambda: flushes.search(server.ask("GET", "/metrics")[2].decode()))
        # The second time was no news.
        failures = re.findall(r"level=warn event=store\.job_failed job=flush status=\S+\n",
                              server.log)
        self.assertEqual(len(failures), 1, server.log)
        self.assertEqual(server.get("/api/v1/count")[1], {"count": 600000})
        self.assertEqual(server.stop(), 0)
        for number in (1, 2):
            os.rmdir(os.path.join(self.data, "run-%020d.tri" % number))
        self.assertEqual(self.start().get("/api/v1/count")[1], {"count": 600000})

    def test_a_full_device_refuses_words_takes_deletes_and_recovers(self):
        os.mkdir(self.data)
        device = os.path.join(self.folder, "device")
        os.mkdir(device)
        before = self.on_device(f"mount -t tmpfs -o size=300m none {shlex.quote(device)}")
        server = self.start("--data", os.path.join(device, "data"), before=before)
        self.fill(server, 100)

        # As the server sees it.
        ballast = f"/proc/{server.process.pid}/root{device}/ballast"
        free = os.statvfs(os.path.dirname(ballast))
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - (100 << 20))

        def put():
            return server.ask("POST", "/api/v1/words", {"word": "new", "score": 1})

        self.wait_for(lambda: put()[0] == 507)
        status, _, body = put()
        self.assertEqual((status, json.loads(body)["code"]), (507, "disk_full"))
        status, ready = server.get("/ready")
        self.assertEqual(status, 200)  # It answers searches.
        self.assertIn("full", json.dumps(ready))
        self.assertEqual(server.log.count("level=warn event=store.disk_full free_bytes="), 1)
        self.assertIn("only deletions are taken", json.loads(body)["detail"])
        kind = [("Content-Type", "text/tab-separated-values")]
        status, _, body = server.ask("POST", "/api/v1/import", b"new one\t1\n", kind)
        self.assertEqual(status, 207)
        self.assertEqual(json.loads(body)["errors"][0]["code"], "disk_full")
        self.assertEqual(server.get("/search?q=word%205&limit=1")[0], 200)
        status, _, body = server.ask("DELETE", "/api/v1/words?word=word%205")
        self.assertTrue(status == 200 and json.loads(body)["deleted"])

        os.remove(ballast)
        self.wait_for(lambda: put()[0] in (200, 201))
        self.assertEqual(server.get("/ready")[0], 200)
        self.assertEqual(server.stop(), 0)
        self.assertEqual(server.log.count("level=info event=store.disk_has_room "), 1)


if __name__ == "__main__":
    unittest.main()
