#!/bin/bash
# Measures the p99 latency of an app, and a push to it, on an idle machine and while another owner tries all the time, from $4 (4)
# clients, to pass the limits: more apps, ports, instances, tasks, config vars, memory, and pushes of a large file. Sends $1 (200)
# requests a second for $2 (15) seconds, in $3 (3) alternating rounds, and pushes in the middle. The demo must be running. Runs as
# root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
rate=${1:-200} seconds=${2:-15} rounds=${3:-3} clients=${4:-4}
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -- "-$pid" 2>/dev/null || true; done
  on_paas apps:list | awk '/^(bench-live|greedy-)/ { print $1 }' |
    while read -r app; do on_paas apps:destroy "$app" --force </dev/null >/dev/null; done
  on_paas users:remove greedy >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
# shellcheck disable=SC2086 # several words
as_greedy() { ssh $ssh_options -i "$work/theirs" -p 2222 paas@127.0.0.1 "$@" </dev/null; }
commit() {
  sed -i "s/version [0-9A-Za-z.-]*/version $2/" "$1/server.js"
  git -C "$1" -c user.name=Bench -c user.email=bench@example.org commit -qam "version $2"
}
ssh-keygen -q -t ed25519 -N '' -f "$work/theirs"
on_paas ssh-keys:add greedy <"$work/theirs.pub" >/dev/null
on_paas quota:set greedy apps=3 ports=5 instances=31 tasks=2 >/dev/null
for side in live greedy-0; do
  cp -a samples/node "$work/$side"
  git -C "$work/$side" init -q -b main
  git -C "$work/$side" add -A
  git -C "$work/$side" -c user.name=Bench -c user.email=bench@example.org commit -qm first
done
git -C "$work/live" remote add paas ssh://paas@127.0.0.1:2222/bench-live
git -C "$work/greedy-0" remote add paas ssh://paas@127.0.0.1:2222/greedy-0
push live "$state/id_ed25519"
push greedy-0 "$work/theirs"
url=$(on_paas url bench-live | head -n 1)
head -c 50000000 /dev/urandom >"$work/greedy-0/noise"
git -C "$work/greedy-0" add noise
git -C "$work/greedy-0" -c user.name=Bench -c user.email=bench@example.org commit -qm large

# $1: number of the client. Tries one limit after the other, without a pause, until it is killed.
be_greedy() {
  local n=0 value
  value=$(head -c 60000 /dev/zero | tr '\0' x)
  while true; do
    n=$((n + 1))
    as_greedy apps:create "greedy-$1-$n" || true
    as_greedy ps:scale greedy-0 web=100 || true
    as_greedy ps:scale greedy-0 "web=$((n % 2 * 30 + 1))" || true
    as_greedy ports:add greedy-0 "http:$((10900 + n % 90)):8080" || true
    as_greedy run:detached greedy-0 sleep 30 || true
    as_greedy config:set greedy-0 --no-restart "A$n=$value" || true
    as_greedy resource:limit greedy-0 --memory 64g || true
    GIT_SSH_COMMAND="ssh $ssh_options -i $work/theirs" git -C "$work/greedy-0" push -q paas "main:other-$1-$n" || true
  done
}
export -f as_greedy be_greedy
export ssh_options work
# $1: name of the measurement.
measure() {
  (
    sleep "$((seconds / 3))"
    commit "$work/live" "$1-$round"
    begun=$(now)
    push live "$state/id_ed25519"
    ms "$begun" "$(now)" >>"$work/$1.times"
  ) &
  chrt --fifo 1 /usr/bin/python3 benches/latency.py "$url" "$rate" "$seconds" | tee -a "$work/$1"
  wait $!
}
round=warm
measure warm >"$work/answer"
for round in $(seq "$rounds"); do
  echo "round $round, quiet:  $(measure quiet), push $(tail -n 1 "$work/quiet.times") ms"
  for client in $(seq "$clients"); do
    # In a process group of its own, so that its ssh is killed, too.
    setsid bash -c "be_greedy $client" >>"$work/greedy.log" 2>&1 &
    pids+=($!)
  done
  sleep 3
  echo "round $round, greedy: $(measure greedy), push $(tail -n 1 "$work/greedy.times") ms"
  for pid in "${pids[@]}"; do kill -- "-$pid"; done
  wait "${pids[@]}" 2>/dev/null || true
  pids=()
  # What was begun goes on without its clients.
  until on_paas ps:scale greedy-0 web=1 >/dev/null; do sleep 1; done
  while docker ps --format '{{.Names}}' | grep -q build-greedy; do sleep 0.1; done
  sleep 5
done
quiet=$(awk '{ print $NF }' "$work/quiet" | median) greedy=$(awk '{ print $NF }' "$work/greedy" | median)
echo "refusals: $(grep -c 'may have' "$work/greedy.log") of $(grep -c . "$work/greedy.log") lines"
echo "median p99: quiet $quiet ms, beside the greedy owner $greedy ms, ratio $(ratio "$greedy" "$quiet")"
echo "median push: quiet $(column quiet 1) ms, beside the greedy owner $(column greedy 1) ms, ratio $(ratio "$(column greedy 1)" "$(column quiet 1)")"
