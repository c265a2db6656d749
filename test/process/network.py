"""A network of its own for nodes under test: a namespace for each, joined by a bridge in one more, where links are cut
in one direction or both, lose packets and grow slow; and disks that lose their power. Needs root.

What is made here carries the number of this process in its name and is removed by close(), also after a failure; what
a process that is gone left behind is removed by the next one."""
import contextlib
import ctypes
import os
import re
import subprocess
import tempfile

PREFIX = "trifecta"
NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <linux/sched.h>
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*command):
    """Errors: CalledProcessError, with what the command said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
    return done.stdout.decode()


def is_possible():
    """Why not, or nothing."""
    if os.geteuid() != 0:
        return "needs root, for namespaces and mounts"
    for tool in ("ip", "nft", "tc", "nsenter", "mkfs.ext4", "xfs_io", "mount"):
        if not any(os.access(os.path.join(path, tool), os.X_OK)
                   for path in os.environ["PATH"].split(":") + ["/usr/sbin", "/sbin"]):
            return f"there is no {tool}: scripts/setup faults"
    try:
        with tempfile.TemporaryDirectory() as folder:
            Network(1).close()
            Disk(folder, "probe").close()
    except (OSError, subprocess.CalledProcessError) as error:
        return f"not permitted here: {error}"
    return None


def namespaces():
    return os.listdir("/run/netns") if os.path.isdir("/run/netns") else []


def remove_left_behind():
    for name in namespaces():
        found = re.fullmatch(PREFIX + r"-(\d+)-\w+", name)
        if found and not os.path.exists(f"/proc/{found.group(1)}"):
            run("ip", "netns", "del", name)


@contextlib.contextmanager
def inside(path):
    """Sockets that this thread makes here belong to that namespace."""
    with open("/proc/thread-self/ns/net", encoding="ascii") as here, \
            open(path, encoding="ascii") as there:
        enter(there)
        try:
            yield
        finally:
            enter(here)


def enter(namespace):
    if LIBC.setns(namespace.fileno(), NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Nodes by number, from 0. Node N has the address 10.77.0.(N + 1)."""

    def __init__(self, count):
        remove_left_behind()
        self.count, self.cuts, self.losses, self.rates = 0, set(), {}, {}
        self.hub = self.name_of("hub")
        run("ip", "netns", "add", self.hub)
        self.in_hub("ip", "link", "add", "bridge", "type", "bridge")
        self.in_hub("ip", "link", "set", "bridge", "up")
        self.in_hub("nft", "add table bridge faults; add chain bridge faults links "
                           "{ type filter hook forward priority 0; }")
        for _ in range(count):
            self.add()

    @staticmethod
    def name_of(part):
        return f"{PREFIX}-{os.getpid()}-{part}"

    @staticmethod
    def address_of(number):
        return f"10.77.0.{number + 1}"

    def path_of(self, number):
        return f"/run/netns/{self.name_of(number)}"

    def in_hub(self, *command):
        return run("ip", "netns", "exec", self.hub, *command)

    def add(self):
        number, name = self.count, self.name_of(self.count)
        self.count += 1
        run("ip", "netns", "add", name)
        self.in_hub("ip", "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0",
                    "netns", name)
        self.in_hub("ip", "link", "set", f"v{number}", "master", "bridge", "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "addr", "add", f"{self.address_of(number)}/24", "dev", "eth0")
        run("ip", "-n", name, "link", "set", "eth0", "up")
        return number

    def before(self, number):
        """The command that runs what follows it as that node."""
        return "nsenter", f"--net={self.path_of(number)}"

    # --- Faults ---

    def apply(self):
        """All rules at once, so that one that ends never opens what another one still cuts."""
        rules = "flush chain bridge faults links;"
        for source, target in sorted(self.cuts):
            rules += (f'add rule bridge faults links iifname "v{source}" oifname "v{target}" drop;')
        for number, percent in self.losses.items():
            for side in ("iifname", "oifname"):
                rules += (f'add rule bridge faults links {side} "v{number}" '
                          f"numgen random mod 100 < {percent} drop;")
        self.in_hub("nft", rules)

    def cut(self, pairs):
        """What the first of each pair sends to the second is lost."""
        self.cuts |= set(pairs)
        self.apply()

    def mend(self, pairs):
        self.cuts -= set(pairs)
        self.apply()

    def lose(self, number, percent):
        """0: no more."""
        self.losses.pop(number, None)
        if percent > 0:
            self.losses[number] = percent
        self.apply()

    def slow(self, number, rate):
        """What comes to the node, in the words of tc ("1mbit"); None: as fast as it goes."""
        device = f"v{number}"
        if self.rates.pop(number, None) is not None:
            self.in_hub("tc", "qdisc", "del", "dev", device, "root")
        if rate is not None:
            self.in_hub("tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst",
                        "8kb", "latency", "400ms")
            self.rates[number] = rate

    def close(self):
        for name in namespaces():
            if name.startswith(f"{PREFIX}-{os.getpid()}-"):
                run("ip", "netns", "del", name)


class Disk:
    """A file system in a file, mounted at `path`, which can lose its power and fill up."""

    def __init__(self, folder, name, size_mb=640):
        self.image, self.path = os.path.join(folder, name + ".img"), os.path.join(folder, name)
        with open(self.image, "wb") as image:
            image.truncate(size_mb << 20)
        run("mkfs.ext4", "-q", "-m", "0", self.image)
        os.mkdir(self.path)
        self.mounted = False
        self.mount()

    def mount(self):
        run("mount", "-o", "loop", self.image, self.path)
        self.mounted = True

    def cut_power(self):
        """What was not synced is gone; whoever uses it gets errors from here on. Its processes must end before restore()."""
        run("xfs_io", "-x", "-c", "shutdown", self.path)

    def restore(self):
        self.close()
        self.mount()

    def fill(self):
        """Takes all room but a page or two."""
        with open(os.path.join(self.path, "ballast"), "wb") as ballast:
            free = os.statvfs(self.path)
            left = free.f_bavail * free.f_frsize
            while left >= 4096:
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, left)
                except OSError:
                    left //= 2
                    continue
                free = os.statvfs(self.path)
                left = min(left, free.f_bavail * free.f_frsize)

    def empty(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.path, "ballast"))

    def close(self):
        if self.mounted:
            run("umount", self.path)
        self.mounted = False
