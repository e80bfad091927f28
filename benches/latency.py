"""Sends requests to a URL at a fixed rate over persistent connections; prints median and p99 latency in milliseconds.

A request's latency begins when it is due, so it includes waiting for a free connection. There is one thread, because
threads would wait for each other's interpreter lock. Usage: latency.py URL RATE SECONDS
"""

import selectors
import socket
import sys
import time
import urllib.parse

CONNECTIONS = 8


def main() -> None:
    """Send each request when it is due, on the connection that has been idle for the longest time."""
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
    begun: dict[socket.socket, float] = {}
    received = dict.fromkeys(free, b"")
    count = len(due)
    due.reverse()
    while len(latencies) < count:
        while due and free and due[-1] <= time.monotonic():
            connection = free.pop(0)
            begun[connection] = due.pop()
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
                sys.exit(f"not a valid response: {head[:200]!r}")
            if end and len(body) >= int(length[0].split(b":")[1]):
                latencies.append(time.monotonic() - begun.pop(connection))
                free.append(connection)
    latencies.sort()
    print(f"median {1000 * latencies[len(latencies) // 2]:.2f} p99 {1000 * latencies[len(latencies) * 99 // 100]:.2f}")


main()
