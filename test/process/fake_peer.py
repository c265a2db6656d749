"""A peer that says what a test wants said: frames and messages of docs/format/peer_link.md and peer.md."""
import socket
import struct
import time

MAGIC = b"tripeer\n"
HELLO, REFUSE, URGENT = 1, 2, 3
TOPOLOGY, FETCH, MAP = 3, 1, 2


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


class Peer:
    """A connection to a node in plain text. It takes over what the node says of its cluster."""

    def __init__(self, address, number, incarnation=1):
        self.socket = socket.create_connection(address, timeout=30)
        self.stream = self.socket.makefile("rb")
        kind, hello = self.frame()
        assert kind == HELLO and hello.startswith(MAGIC)
        cluster, generation = struct.unpack_from("<QQ", hello, len(MAGIC) + 4)
        self.send(HELLO, MAGIC + struct.pack("<HHQQHQQHIQ", 1, 1, cluster, generation, number,
                                             incarnation, 1, 0, 1 << 20, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def send(self, kind, body):
        """In parts where it is longer than a frame."""
        for at in range(0, max(len(body), 1), 16384):
            part = body[at:at + 16384]
            head = struct.pack("<IBBH", len(part), kind, at + 16384 >= len(body), 0)
            self.socket.sendall(head + struct.pack("<I", crc32c(head + part)) + part)

    def frame(self):
        head = self.stream.read(12)
        size, kind = struct.unpack_from("<IB", head)
        return kind, self.stream.read(size)

    def tell(self, protocol, body):
        self.send(URGENT, struct.pack("<QB", int(time.time() * 1000), protocol) + body)

    def fetch_map(self):
        """The node's map, which is shorter than a frame."""
        self.tell(TOPOLOGY, bytes((FETCH, 0, 0)))
        while True:
            kind, body = self.frame()
            assert kind != REFUSE, body
            if kind == URGENT and body[8:10] == bytes((TOPOLOGY, MAP)):
                return body[10:]

    def tell_map(self, content):
        self.tell(TOPOLOGY, bytes((MAP,)) + content)
