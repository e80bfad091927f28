"""Asks a URL at a fixed rate over kept connections and prints median and p99 of the latency, in milliseconds.

The time counts from when a request was due, so that waiting behind a slow one counts too. Usage: latency.py URL RATE SECONDS
"""

import http.client
import sys
import threading
import time
import urllib.parse

CONNECTIONS = 8


def ask(host: str, port: int, due: list[float], latencies: list[float]) -> None:
    """Sends each request when it is due."""
    connection = http.client.HTTPConnection(host, port, timeout=30)
    for moment in due:
        time.sleep(max(0.0, moment - time.monotonic()))
        connection.request("GET", "/")
        connection.getresponse().read()
        latencies.append(time.monotonic() - moment)


def main() -> None:
    """Spreads the requests over the connections."""
    url, rate, seconds = urllib.parse.urlsplit(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    begin = time.monotonic() + 0.2
    due = [begin + n / rate for n in range(int(rate * seconds))]
    latencies: list[float] = []
    threads = [
        threading.Thread(target=ask, args=(url.hostname, url.port, due[n::CONNECTIONS], latencies))
        for n in range(CONNECTIONS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies.sort()
    print(f"median {1000 * latencies[len(latencies) // 2]:.2f} p99 {1000 * latencies[len(latencies) * 99 // 100]:.2f}")


main()
