"""The servers under test, all on loopback; each is ended by its process id, whatever happens."""
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time

import machine

REDISEARCH = "/usr/lib/redis/modules/redisearch.so"
running = []


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stop_all():
    for server in list(running):
        server.kill()


class Server:
    """A process on the servers' processor, with a directory and a port of its own."""

    def __init__(self, name, keep=False):
        self.name = name
        self.directory = os.path.join(machine.WORK, name)
        if not keep:
            shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory, exist_ok=True)
        self.port = free_port()
        self.process = None
        self.rusage = None

    def command(self):
        raise NotImplementedError

    def is_ready(self):
        raise NotImplementedError

    def start(self):
        """Seconds from the start of the process until it serves all its data."""
        with open(os.path.join(self.directory, "output.log"), "ab") as log:
            started = time.monotonic()
            self.process = subprocess.Popen(
                machine.pinned(machine.SERVER_CPU, self.command()), stdout=log, stderr=log,
                cwd=self.directory, env={**os.environ, **self.environment()})
        running.append(self)
        while not self.is_ready():
            if self.process.poll() is not None:
                machine.fail(f"{self.name} ended at once; see {log.name}")
            if time.monotonic() - started > 300:
                machine.fail(f"{self.name} is not ready after 300 s; see {log.name}")
            time.sleep(0.001)
        return time.monotonic() - started

    def environment(self):
        return {}

    def end(self, number):
        if self.process is None:
            return 0.0
        started = time.monotonic()
        self.process.send_signal(number)
        _, status, self.rusage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        running.remove(self)
        self.process = None
        return time.monotonic() - started

    def stop(self):
        return self.end(signal.SIGTERM)

    def kill(self):
        return self.end(signal.SIGKILL)

    def pids(self):
        return str(self.process.pid)

    def cpu_s(self):
        """Of the process and all its threads, while it runs."""
        return time.clock_gettime(~self.process.pid << 3 | 2)

    def memory_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def wait_idle(self, seconds_max=120):
        """Until background work is done: less than 3 % of a processor for two seconds."""
        end = time.monotonic() + seconds_max
        while time.monotonic() < end:
            before = self.cpu_s()
            time.sleep(2)
            if self.cpu_s() - before < 0.06:
                return
        machine.say(f"{self.name} still works after {seconds_max} s")

    def accepts(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Nginx(Server):
    """Answers every request with one body, in one process."""

    def __init__(self, body):
        super().__init__("nginx")
        folders = " ".join(f"{each}_temp_path {self.directory}/{each};" for each in
                           ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = body.replace("\\", "\\\\").replace("'", "\\'").replace("$", "")
        with open(os.path.join(self.directory, "nginx.conf"), "w", encoding="utf-8") as file:
            file.write(f"""master_process off; daemon off; pid {self.directory}/pid;
error_log {self.directory}/error.log; events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600; {folders}
server {{ listen 127.0.0.1:{self.port};
location / {{ default_type application/json; return 200 '{text}'; }} }} }}
""")

    def command(self):
        return ["nginx", "-c", os.path.join(self.directory, "nginx.conf")]

    def is_ready(self):
        return self.accepts()


class Redis(Server):
    def __init__(self, name, *options):
        super().__init__(name)
        self.options = list(options)

    def command(self):
        return ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir",
                self.directory, "--save", "", "--loadmodule", REDISEARCH] + self.options

    def ask(self, line):
        try:
            with socket.create_connection(("127.0.0.1", self.port)) as connection:
                connection.sendall(line.encode() + b"\r\n")
                return connection.recv(4096)
        except OSError:
            return b""

    def is_ready(self):
        return self.ask("PING").startswith(b"+PONG")

    def load(self, path, command="FT.SUGADD s {} {s}"):
        """Processor seconds for a file of words."""
        before = self.cpu_s()
        load(self, command, file=path, depth=256, requests=machine.line_count(path))
        return self.cpu_s() - before

    def save(self):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"SAVE\r\n")
            connection.recv(64)


class Trifecta(Server):
    def __init__(self, name):
        super().__init__(name)
        self.data = os.path.join(self.directory, "data")
        # One loop on one processor, as the peers have.
        self.settings = {"TRIFECTA_THREADS": os.environ.get("BENCH_THREADS", "1")}

    def command(self):
        return [os.path.join(machine.BUILD, "src/cmd/trifectad"), "--data", self.data, "--http",
                f"127.0.0.1:{self.port}"]

    def environment(self):
        return self.settings

    def is_ready(self):
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def get(self, path, connection=None):
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read()

    def load(self, path, namespace="default"):
        """Streams a file of words into the import; every line has to go in."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        with open(path, "rb") as file:
            connection.request("POST", f"/api/v1/import?ns={namespace}", body=file, headers={
                "Content-Type": "text/tab-separated-values",
                "Content-Length": str(os.path.getsize(path))})
            reply = connection.getresponse()
            text = reply.read()
        if reply.status != 200:
            machine.fail(f"import of {path}: {reply.status} {text[:300]}")
        return json.loads(text)

    def read_all(self, namespace="default"):
        """Touches every key and record, so that all pages are in memory."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        connection.request("GET", f"/api/v1/export?ns={namespace}&format=tsv")
        reply = connection.getresponse()
        lines = 0
        for block in iter(lambda: reply.read(1 << 20), b""):
            lines += block.count(b"\n")
        return lines

    def metrics(self):
        """Counters and gauges by name."""
        figures = json.loads(self.get("/api/v1/stats")[1])
        return {name: value for name, value in figures.items() if isinstance(value, int)}

    def disk_bytes(self):
        return sum(os.path.getsize(os.path.join(folder, file))
                   for folder, _, files in os.walk(self.data) for file in files)


def load(server, template, *, body=None, file=None, first_line=0, connections=1, depth=1,
         seconds=0.0, requests=0, cpu=None):
    """One run of the load generator; its figures."""
    mode = "resp" if isinstance(server, Redis) else "http"
    command = [machine.program("load"), "-m", mode, "-p", str(server.port), "-t", template, "-i",
               server.pids(), "-c", str(connections), "-d", str(depth), "-o", str(first_line)]
    command += ["-b", body] if body else []
    command += ["-f", file] if file else []
    command += ["-s", str(seconds)] if seconds else ["-n", str(requests)]
    figures = machine.figures_of(machine.output_of(
        machine.pinned(machine.CLIENT_CPU if cpu is None else cpu, command)))
    if figures["errors"] > 0:
        machine.fail(f"{server.name} answered {template} with errors")
    return figures


def cpu_s_of(rusage: resource.struct_rusage):
    return rusage.ru_utime + rusage.ru_stime
