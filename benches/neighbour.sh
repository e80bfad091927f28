#!/bin/bash
# Measures the p99 latency of a live app on an idle machine, and beside a build that uses all resources it can get: one that
# writes and compresses large files, and one of many short processes. Sends $1 (200) requests a second for $2 (15) seconds,
# in $3 (3) alternating rounds. The demo must be running. Runs as root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
rate=${1:-200} seconds=${2:-15} rounds=${3:-3}
building=
cleanup() {
  if [ -n "$building" ]; then kill -- "-$building" 2>/dev/null || true; fi
  on_paas apps:destroy bench-live --force >/dev/null || true
  on_paas apps:destroy bench-heavy --force >/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

cp -a samples/node "$work/live"
mkdir "$work/heavy"
# shellcheck disable=SC2016 # for the shell of the build
declare -A heavy=(
  [files]='head -c 50000000 /dev/urandom >$TMPDIR/$n; gzip -c $TMPDIR/$n >$TMPDIR/$n.gz'
  [processes]='head -c 50000000 /dev/zero | gzip -c >/dev/null'
)
echo 'web: sleep 1' >"$work/heavy/Procfile"
for app in live heavy; do
  git -C "$work/$app" init -q -b main
  git -C "$work/$app" add -A
  git -C "$work/$app" -c user.name=Bench -c user.email=bench@example.org commit -qm first
  git -C "$work/$app" remote add paas "ssh://paas@127.0.0.1:2222/bench-$app"
done
push live "$state/id_ed25519"
url=$(on_paas url bench-live | head -n 1)

# $1: kind of heavy build. Commits it.
prepare() {
  cat >"$work/heavy/project.toml" <<TOML
[_]
schema-version = "0.2"
[[io.buildpacks.group]]
id = "bench/heavy"
[io.buildpacks.group.script]
api = "0.10"
shell = "/bin/bash"
inline = 'end=\$((SECONDS + 300)); for n in 1 2 3 4; do (while [ \$SECONDS -lt \$end ]; do ${heavy[$1]}; done) & done; wait'
TOML
  git -C "$work/heavy" add -A
  git -C "$work/heavy" -c user.name=Bench -c user.email=bench@example.org commit -q --allow-empty -m "$1"
}
# $1: name of the measurement. Requests are sent at a fixed rate, so that slow responses do not reduce the load; the client
# has real-time priority, as if it ran on another machine.
measure() {
  chrt --fifo 1 /usr/bin/python3 benches/latency.py "$url" "$rate" "$seconds" | tee -a "$work/$1"
}
for kind in "${!heavy[@]}"; do
  prepare "$kind"
  for round in $(seq "$rounds"); do
    echo "$kind, round $round, quiet:    $(measure quiet)"
    # In a process group of its own, so that git's ssh is killed, too.
    GIT_SSH_COMMAND="ssh $ssh_options -i $state/id_ed25519" setsid git -C "$work/heavy" push -q paas main 2>"$work/heavy.log" &
    building=$!
    until docker ps --format '{{.Names}}' | grep -q build-bench-heavy; do sleep 0.1; done
    sleep 2
    echo "$kind, round $round, building: $(measure building)"
    kill -- "-$building" || { cat "$work/heavy.log" >&2 && exit 1; }
    wait "$building" 2>/dev/null || true
    building=
    while docker ps --format '{{.Names}}' | grep -q build-bench-heavy; do sleep 0.1; done
  done
  quiet=$(awk '{ print $NF }' "$work/quiet" | median) loaded=$(awk '{ print $NF }' "$work/building" | median)
  echo "$kind, median p99: quiet $quiet ms, during the build $loaded ms, ratio $(ratio "$loaded" "$quiet")"
  rm "$work/quiet" "$work/building"
done
