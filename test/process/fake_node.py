"""A node that keeps words in a dictionary: enough of the HTTP interface to test the client."""
import base64
import http.server
import json
import threading
import urllib.parse


def bytes_of(value):
    """The bytes of a string, or of {"base64": ...}."""
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value.encode()


def json_of(data):
    """The reverse."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def member(number, health="alive", **more):
    return {"id": number, "address": f"127.0.0.1:740{number}", "zone": "east", "state": "active",
            "health": health, "leaving": False, "self": number == 1, "ranges": 2, **more}


NODES = {"cluster": "0123456789abcdef", "generation": 1, "map": 7,
         "nodes": [member(1), member(2), member(3, "down", leaving=True)]}
RANGES = {"cluster": "0123456789abcdef", "generation": 1, "map": 7, "ranges": [
    {"low": "", "high": "default\0m", "stage": "stable", "owners": [1, 2]},
    {"low": "default\0m", "high": "", "stage": "filling", "owners": [1, 3], "next": [1, 2]}]}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while True:
            size = int(self.rfile.readline(), 16)
            data += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return data

    def answer(self, status, document, kind="application/json"):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def problem(self, status, title, detail, code):
        self.answer(status, {"type": "about:blank", "title": title, "status": status,
                             "detail": detail, "code": code}, "application/problem+json")

    def handle_any(self):
        target = urllib.parse.urlsplit(self.path)
        pairs = urllib.parse.parse_qsl(target.query, True, encoding="latin-1")
        self.query = {name: value.encode("latin-1") for name, value in pairs}
        self.data = self.body()
        node = self.server.node
        node.seen.append((self.command, target.path, self.query,
                          self.headers.get("Content-Type"), self.data))
        if node.refuse is not None:
            return self.problem(*node.refuse)
        names = {
            ("GET", "/search"): self.search, ("GET", "/api/v1/search"): self.search,
            ("GET", "/api/v1/count"): self.count, ("GET", "/api/v1/words"): self.get,
            ("POST", "/api/v1/words"): self.add, ("DELETE", "/api/v1/words"): self.remove,
            ("POST", "/api/v1/words/increment"): self.increment,
            ("POST", "/api/v1/import"): self.take, ("GET", "/api/v1/export"): self.give,
            ("GET", "/ready"): self.ready,
            ("GET", "/nodes"): lambda: self.answer(200, NODES),
            ("GET", "/nodes/all/ranges"): lambda: self.answer(200, RANGES),
            ("GET", "/api/v1/stats"): lambda: self.answer(200, {"store": {"words": len(node.words)}}),
        }
        handler = names.get((self.command, target.path))
        if handler is None:
            return self.problem(404, "Not found", "no such route", "not_found")
        return handler()

    do_GET = do_POST = do_DELETE = handle_any

    def ready(self):
        reasons = self.server.node.unready
        self.answer(503 if reasons else 200, {"status": "not ready" if reasons else "ready",
                                              "reasons": reasons})

    def matching(self):
        prefix = self.query.get("q", b"")
        return sorted(word for word in self.server.node.words if word.startswith(prefix))

    def search(self):
        words = self.matching()
        start = int(self.query.get("cursor", b"0"))
        end = start + int(self.query.get("limit", b"10"))
        size = len(self.query.get("q", b""))
        if self.path.startswith("/search"):
            results = [json_of(word) for word in words[start:end]]
        else:
            results = [{"word": json_of(word), "score": self.server.node.words[word]["score"],
                        "match": [0, size]} for word in words[start:end]]
        answer = {"results": results}
        if end < len(words):
            answer["next_cursor"] = str(end)
        self.answer(200, answer)

    def count(self):
        self.answer(200, {"count": len(self.matching())})

    def get(self):
        entry = self.server.node.words.get(self.query["word"])
        if entry is None:
            return self.problem(404, "Not found", "there is no such word", "not_found")
        return self.answer(200, {"word": json_of(self.query["word"]), **entry})

    def add(self):
        request = json.loads(self.data)
        word = bytes_of(request.pop("word"))
        new = word not in self.server.node.words
        self.server.node.words[word] = {"score": 1, **request}
        self.answer(201 if new else 200, {"message": "stored", "version": "1.0@1", "acks": 1})

    def remove(self):
        word = bytes_of(json.loads(self.data)["word"])
        self.answer(200, {"deleted": self.server.node.words.pop(word, None) is not None})

    def increment(self):
        request = json.loads(self.data)
        entry = self.server.node.words.setdefault(bytes_of(request["word"]), {"score": 0})
        entry["score"] += request.get("by", 1)
        self.answer(200, {"score": entry["score"]})

    def take(self):
        errors = []
        imported = 0
        for number, line in enumerate(self.data.splitlines(), 1):
            word, _, score = line.partition(b"\t")
            if not word or score == b"bad":
                errors.append({"line": number, "code": "invalid_score", "detail": "not a number"})
                continue
            self.server.node.words[word] = {"score": float(score or 1)}
            imported += 1
        self.answer(207 if errors else 200,
                    {"imported": imported, "failed": len(errors), "errors": errors})

    def give(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number, word in enumerate(self.matching()):
            if self.server.node.break_after == number:
                self.close_connection = True
                return
            line = word + b"\t%g\n" % self.server.node.words[word]["score"]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Clients that go away early are part of the tests."""


class Node:
    """Listens on a free port of loopback until the process ends."""

    def __init__(self):
        self.words, self.seen, self.refuse, self.break_after = {}, [], None, None
        self.unready = []  # Reasons.
        server = Server(("127.0.0.1", 0), Handler)
        server.node = self
        self.url = "http://127.0.0.1:%d" % server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
