#!/bin/bash
# Measures an update of the operating system of a number of apps (copies of the Node.js sample): by rebase, and by building
# each again without a cache. The demo must be running. Prints both durations in milliseconds, and the ratio.
#
# usage: benches/rebase.sh [apps]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
apps=${1:-20} base=paas-bench/base:run
cleanup() {
  for n in $(seq "$apps"); do on_paas apps:destroy "rebase-$n" --force >/dev/null 2>&1 || true; done
  on_paas stacks:remove bench >/dev/null 2>&1 || true
  docker rmi --force "$base" "$base-build" >/dev/null 2>&1 || true
  docker image prune --force --filter label=paas.bench >/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

# A stack of two images, as an operator would create it.
cache=$(sed -n 's/^cache_dir *= *"\(.*\)"/\1/p' .demo/paas.toml)
tars=$(find "${cache:-/var/cache/paas/stacks}" -name run.tar -printf '%h\n' | head -n 1)
import() { docker import --change 'LABEL paas.bench=1' --change 'USER 1000:1000' "$1" "$2" >/dev/null; }
import "$tars/run.tar" "$base"
import "$tars/build.tar" "$base-build"
on_paas stacks:create bench --run-image "$base" --build-image "$base-build"

cp -a samples/node "$work/app"
git -C "$work/app" init -q -b main
git -C "$work/app" add -A
git -C "$work/app" -c user.name=Bench -c user.email=bench@example.org commit -qm first
for n in $(seq "$apps"); do
  on_paas apps:create "rebase-$n" >/dev/null
  on_paas apps:stack "rebase-$n" bench >/dev/null
  git -C "$work/app" remote remove paas 2>/dev/null || true
  git -C "$work/app" remote add paas "ssh://paas@127.0.0.1:2222/rebase-$n"
  push app "$state/id_ed25519"
  echo "       pushed $n of $apps" >&2
done

printf 'FROM %s\nCOPY patched /etc/patched\n' "$base" >"$work/Dockerfile"
date >"$work/patched"
docker build -q --label paas.bench -t "$base" "$work" -f "$work/Dockerfile" >/dev/null
on_paas stacks:update bench
begun=$(now)
on_paas apps:rebase --all --stack bench
rebased=$(ms "$begun" "$(now)")

date >"$work/patched"
docker build -q --label paas.bench -t "$base" "$work" -f "$work/Dockerfile" >/dev/null
on_paas stacks:update bench >/dev/null
for n in $(seq "$apps"); do on_paas builds:clear-cache "rebase-$n" >/dev/null; done
begun=$(now)
# Two at a time, like the rebase.
for n in $(seq "$apps"); do
  if [ "$n" -gt 2 ]; then wait -n; fi
  on_paas ps:rebuild "rebase-$n" >/dev/null &
done
wait
rebuilt=$(ms "$begun" "$(now)")
echo "$apps apps: rebased in $rebased ms, rebuilt in $rebuilt ms, ratio $(ratio "$rebased" "$rebuilt")"
