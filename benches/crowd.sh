#!/bin/bash
# Measures the p99 latency of an app while clients of two other apps hold $1 (10000) idle connections and $2 (300) slow ones:
# heads and bodies of a byte a second, and responses that nobody reads. The router has one worker, so all share a thread. Sends
# 200 requests a second for $3 (10) seconds, in $4 (3) alternating rounds on loopback; prints the p99 of both and their ratio.
# PROFILE=debug takes a debug build of the router. The hard limit of file descriptors must be twice the number of connections.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
idle=${1:-10000} slow=${2:-300} seconds=${3:-10} rounds=${4:-3} profile=${PROFILE:-release}
ulimit -n "$(ulimit -Hn)"
cargo build --quiet --locked --example router_bench "--profile=${profile/debug/dev}"
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
pids=() crowd=
cleanup() {
  kill ${crowd:+"$crowd"} "${pids[@]}" 2>/dev/null || true
  wait || true
  rm -rf "$work"
}
trap cleanup EXIT

pairs=()
for n in 1 2 3; do
  /usr/bin/python3 benches/crowd.py serve "1809$n" &
  pids+=($!)
  pairs+=("127.0.0.1:1808$n" "127.0.0.1:1809$n")
done
mkdir "$work/data"
"$target/$profile/examples/router_bench" "$work/data" "${pairs[@]}" >"$work/router.log" 2>&1 &
router=$!
pids+=("$router")
until curl -fs -o "$work/answer" http://127.0.0.1:18083/; do sleep 0.1; done

# CPU time of the router, in clock ticks.
ticks() { sed 's/.*) //' "/proc/$router/stat" | awk '{ print $12 + $13 }'; }
# Waits, for at most a minute, until the router has filled the buffers of the clients that read nothing, and rests.
settle() {
  local before
  for _ in $(seq 30); do
    before=$(ticks)
    sleep 2
    if [ $(($(ticks) - before)) -lt "$(($(getconf CLK_TCK) / 10))" ]; then return; fi
  done
}
# $1: name of the measurement. The client has real-time priority, as if it ran on another machine.
measure() { chrt --fifo 1 /usr/bin/python3 benches/latency.py http://127.0.0.1:18083/ 200 "$seconds" | tee -a "$work/$1"; }
measure warm >"$work/answer"
for round in $(seq "$rounds"); do
  echo "round $round, quiet:  $(measure quiet)"
  /usr/bin/python3 benches/crowd.py hold "$idle" "$slow" 18081 18082 >"$work/crowd" &
  crowd=$!
  until grep -q ready "$work/crowd"; do kill -0 "$crowd"; sleep 0.1; done
  settle
  echo "round $round, crowd:  $(measure crowded)"
  kill "$crowd"
  wait "$crowd" || { cat "$work/crowd" "$work/router.log" >&2; exit 1; }
  crowd=
  settle
  echo "round $round, $(tail -n 1 "$work/crowd")"
done
quiet=$(awk '{ print $NF }' "$work/quiet" | median) crowded=$(awk '{ print $NF }' "$work/crowded" | median)
echo "median p99: quiet $quiet ms, beside $idle idle and $slow slow connections $crowded ms, ratio $(ratio "$crowded" "$quiet")"
