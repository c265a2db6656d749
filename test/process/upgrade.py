#!/usr/bin/python3
"""A rolling upgrade: nodes of an earlier program are ended one after the other and go on with this one, under load.

    upgrade.py TRIFECTAD EARLIER_TRIFECTAD [SEED]

Writers set, change, delete and count up words of their own at all nodes that run; what is there at the end must be what
was acknowledged, or may have been done, and all nodes must export the same. While two programs are at work each node
reads what the others wrote. Prints one line; exits non-zero when anything is wrong."""
import sys
import threading

import node_process
from kills import Kills, Writer

WRITERS = 4
LATEST = node_process.PROGRAM


class Upgrade(Kills):
    earlier, seed = None, 1

    def replace(self, number):
        """Ends the node as an administrator would, and starts it anew with this program."""
        node = self.nodes.pop(number)
        self.assertEqual(node.stop(), 0, node.log)
        node_process.PROGRAM = LATEST
        self.start_node(number, seeds=())
        self.wait_until_whole()

    def look_across(self, round_number):
        """What was written at each node is read at all others, at `one` after a write to all owners."""
        for number, node in self.nodes.items():
            word = f"round {round_number} of {number}"
            status, answer = self.write(node, word, round_number + 1, "all")
            self.assertIn(status, (200, 201), answer)
            for other in self.nodes.values():
                self.assertEqual(self.read(other, word, "one"), round_number + 1)

    def runTest(self):
        node_process.PROGRAM = self.earlier
        self.start_cluster(3)
        writers = [Writer(self, f"w{number}", self.seed * 100 + number)
                   for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        self.look_across(0)
        for number in range(3):
            self.replace(number)
            self.look_across(number + 1)
            threading.Event().wait(1)  # Under load.
        for writer in writers:
            writer.ends = True
        for writer in writers:
            writer.join()
        self.wait_until_whole()
        wrong = [line for writer in writers for line in self.compare(writer)]
        same = self.are_equal()
        acked = sum(writer.acked for writer in writers)
        failed = sum(writer.failed for writer in writers)
        print(f"seed {self.seed}: 3 nodes upgraded, {acked} acknowledged, {failed} failed or unknown, "
              f"{len(wrong)} wrong, replicas {'equal' if same else 'differ'}")
        self.assertEqual((wrong, same), ([], True))


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    Upgrade.earlier = sys.argv[1]
    if len(sys.argv) > 2:
        Upgrade.seed = int(sys.argv[2])
    result = node_process.unittest.TextTestRunner(verbosity=0).run(Upgrade())
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
