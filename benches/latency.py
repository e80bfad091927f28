"""Asks a URL at a fixed rate over kept connections and prints median and p99 of the latency, in milliseconds.

The time counts from when a request was due, so that waiting behind a slow one counts too. One thread: threads would wait
for each other's interpreter. Usage: latency.py URL RATE SECONDS
"""

import selectors
import socket
import sys
import time
import urllib.parse

CONNECTIONS = 8


def main() -> None:
    """Sends each request when it is due, on the connection that is free for the longest."""
    url, rate, seconds = urllib.parse.urlsplit(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    request = f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\n\r\n".encode()
    selector = selectors.SelectSelector()
    free = [socket.create_connection((url.hostname, url.port)) for _ in range(CONNECTIONS)]
    for connection in free:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
    begin = time.monotonic() + 0.2
    due = [begin + n / rate for n in range(int(rate * seconds))]
    latencies: list[float] = []
    asked: dict[socket.socket, float] = {}
    received = dict.fromkeys(free, b"")
    count = len(due)
    due.reverse()
    while len(latencies) < count:
        while due and free and due[-1] <= time.monotonic():
            connection = free.pop(0)
            asked[connection] = due.pop()
            received[connection] = b""
            connection.sendall(request)
        wait = max(0.0, due[-1] - time.monotonic()) if due and free else None
        for key, _ in selector.select(wait):
            connection = key.fileobj
            chunk = connection.recv(65536)
            received[connection] += chunk
            head, end, body = received[connection].partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if not chunk or end and not (length and head.startswith(b"HTTP/1.1 200")):
                sys.exit(f"not an answer: {head[:200]!r}")
            if end and len(body) >= int(length[0].split(b":")[1]):
                latencies.append(time.monotonic() - asked.pop(connection))
                free.append(connection)
    latencies.sort()
    print(f"median {1000 * latencies[len(latencies) // 2]:.2f} p99 {1000 * latencies[len(latencies) * 99 // 100]:.2f}")


main()
