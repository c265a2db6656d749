"""A wall clock that a test sets for one process, by libfaketime."""
import glob
import os
import subprocess

import node_process

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")


def is_possible():
    """Not where the library is missing, or the program's sanitizer must be loaded before any other."""
    if not LIBRARIES:
        return False
    try:
        subprocess.run([node_process.PROGRAM, "--version"], env={"LD_PRELOAD": LIBRARIES[0]},
                       capture_output=True, check=True, timeout=5)
    except subprocess.SubprocessError:
        return False
    return True


class WallClock:
    """Follows the file at `path`; `environment` is for the process."""

    def __init__(self, path):
        self.path = path
        self.environment = {"LD_PRELOAD": LIBRARIES[0], "FAKETIME_TIMESTAMP_FILE": path,
                            "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        self.set(0)

    def set(self, seconds):
        """So much ahead of the machine's clock."""
        with open(self.path + ".new", "w", encoding="ascii") as clock:
            clock.write(f"{seconds:+.1f}s\n")
        os.rename(self.path + ".new", self.path)
