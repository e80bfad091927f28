"""Idle and slow clients of an app, and the instance that they use, for benches/crowd.sh.

crowd.py serve PORT                    an instance on 127.0.0.1: GET / (short), GET /large (16 MiB), POST (reads the body)
crowd.py hold IDLE SLOW PORT [PORT …]  holds IDLE connections without a request, and SLOW that send a head or a body of a byte
                                       a second or do not read their response; prints a line when all are there, and
                                       on SIGTERM how many there are. One that the router closes is opened again.
"""

import asyncio
import selectors
import signal
import socket
import sys
import time
from collections import deque

PART = bytes(64 << 10)
PARTS = 256
ADDRESSES = 16
# In this time the responses that nobody reads fill the kernel's buffers, and stop.
SETTLE_SECONDS = 6.0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.lower().split(b"\r\n")
            length = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
            await reader.readexactly(sum(length))
            if lines[0].startswith(b"get /large "):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (PARTS * len(PART)))
                for _ in range(PARTS):
                    writer.write(PART)
                    await writer.drain()
            else:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\nhello, world")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def serve(port: int) -> None:
    """Serve until the process is killed."""
    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


class Client:
    """One connection of the crowd."""

    FIRST = {
        "idle": b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "head": b"GET / HTTP/1.1\r\nhost: a\r\nx: ",
        "body": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n",
        "deaf": b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n",
    }

    def __init__(self, kind: str, number: int, port: int) -> None:
        """Describe the connection; `open` makes it."""
        self.kind, self.source, self.port = kind, f"127.0.1.{number % ADDRESSES + 1}", port
        self.socket: socket.socket | None = None

    def open(self, selector: selectors.BaseSelector) -> None:
        """Connect, and send what comes first."""
        one = socket.socket()
        if self.kind == "deaf":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.bind((self.source, 0))
        one.connect(("127.0.0.1", self.port))
        one.sendall(self.FIRST[self.kind])
        one.setblocking(False)
        self.socket = one
        if self.kind != "deaf":
            selector.register(one, selectors.EVENT_READ, self)

    def close(self, selector: selectors.BaseSelector) -> None:
        """The router has closed the connection."""
        if self.socket and self.kind != "deaf":
            selector.unregister(self.socket)
        if self.socket:
            self.socket.close()
        self.socket = None

    def tick(self, selector: selectors.BaseSelector) -> bool:
        """What the client does each second. Returns whether it had to connect again."""
        if not self.socket:
            self.open(selector)
            return True
        if self.kind in ("head", "body"):
            try:
                self.socket.send(b"x")
            except OSError:
                self.close(selector)
        return False


def hold(idle: int, slow: int, ports: list[int]) -> None:
    """Hold the connections until SIGTERM."""
    kinds = ["idle"] * idle + [("head", "body", "deaf")[n % 3] for n in range(slow)]
    clients = [Client(kind, n, ports[n % len(ports)]) for n, kind in enumerate(kinds)]
    selector = selectors.DefaultSelector()
    for client in clients:
        client.open(selector)
    again = 0

    def end(*_: object) -> None:
        held = sum(client.socket is not None for client in clients)
        print(f"held {held} of {len(clients)} connections, {again} opened again", flush=True)
        sys.exit(0 if held > 0.99 * len(clients) else "the router does not keep them")

    signal.signal(signal.SIGTERM, end)
    # Each sends once a second, at a moment of its own.
    slow_clients = [client for client in clients if client.kind != "idle"]
    moving = deque(slow_clients)
    due = time.monotonic()
    settled = due + SETTLE_SECONDS
    while True:
        if settled and time.monotonic() >= settled:
            print("ready", flush=True)
            settled = 0.0
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            try:
                open_still = bool(key.fileobj.recv(65536))
            except OSError:
                open_still = False
            if not open_still:
                key.data.close(selector)
                if key.data.kind == "idle":
                    moving.append(key.data)
        while time.monotonic() >= due:
            due += 1 / len(slow_clients)
            client = moving.popleft()
            again += client.tick(selector)
            if client.kind != "idle":
                moving.append(client)


if sys.argv[1] == "serve":
    asyncio.run(serve(int(sys.argv[2])))
else:
    hold(int(sys.argv[2]), int(sys.argv[3]), [int(port) for port in sys.argv[4:]])
