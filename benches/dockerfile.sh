#!/bin/bash
# Measures a one-line change of an app with a Dockerfile on a large base, from `git push` until the new version responds and
# the old one is gone: with paas (the demo must be running), to which the base is offered, and by hand on the same base
# (push over OpenSSH, clone, the engine's cached `docker build`, run, wait, kill the old container). Rounds alternate, with a
# pause before each, in which the server starts its standby container.
#
# usage: benches/dockerfile.sh [rounds [MiB of the base]]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
rounds=${1:-9} size=${2:-577} base=paas-bench/large:1
export DOCKER_BUILDKIT=0
cleanup() {
  stop_sshd
  docker ps --all --quiet --filter label=paas.bench | xargs -r docker rm --force >/dev/null
  on_paas apps:destroy bench-docker --force >/dev/null 2>&1 || true
  on_paas images:withdraw "$base" >/dev/null 2>&1 || true
  docker rmi --force paas-bench:new paas-bench/debian:large "$base" >/dev/null 2>&1 || true
  docker image prune --force --filter label=paas.bench >/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
answers() { until curl -fs --max-time 2 "$1" 2>/dev/null | grep -qx "version $2"; do sleep 0.005; done; }
commit() {
  echo "version $2" >"$1/index.html"
  git -C "$1" add -A
  git -C "$1" -c user.name=Bench -c user.email=bench@example.org commit -qm "version $2"
}

echo '-----> A base image' >&2
mkdir "$work/base"
mmdebstrap --quiet --variant=minbase --include=python3 trixie - |
  docker import --change 'LABEL paas.bench=1' - paas-bench/debian:large >/dev/null
small=$(mib paas-bench/debian:large)
[ "$size" -gt "$small" ] || { echo "a base of less than $small MiB cannot be made" >&2 && exit 1; }
head -c "$(((size - small) << 20))" /dev/urandom >"$work/base/filler"
printf 'FROM paas-bench/debian:large\nCOPY filler /opt/filler\n' >"$work/base/Dockerfile"
docker build -q -t "$base" "$work/base" >/dev/null
rm -r "$work/base"
on_paas images:offer "$base" >/dev/null

start_sshd
git init -q --bare -b main "$work/hand.git"
for side in paas hand; do
  git init -q -b main "$work/$side"
  cat >"$work/$side/Dockerfile" <<DOCKERFILE
FROM $base
LABEL paas.bench=1
WORKDIR /srv
RUN python3 -m compileall -q /usr/lib/python3 || true
COPY . .
CMD exec python3 -m http.server "\${PORT:-8080}"
DOCKERFILE
  commit "$work/$side" first
done
git -C "$work/paas" remote add paas ssh://paas@127.0.0.1:2222/bench-docker
git -C "$work/hand" remote add paas "ssh://root@127.0.0.1:2299$work/hand.git"
push paas "$state/id_ed25519"
push hand "$work/key"
url=$(on_paas url bench-docker | head -n 1)
old=
by_hand() {
  local begun pushed built port container
  commit "$work/hand" "$1"
  begun=$(now)
  push hand "$work/key"
  rm -rf "$work/checkout" && git clone -q "$work/hand.git" "$work/checkout"
  pushed=$(now)
  docker build -q --force-rm -t paas-bench:new "$work/checkout" >/dev/null 2>"$work/build.log"
  built=$(now)
  container=$(docker run --detach --label paas.bench --env PORT=8080 --publish 127.0.0.1::8080 paas-bench:new)
  port=$(docker port "$container" 8080 | head -n 1)
  answers "http://$port" "$1"
  [ -z "$old" ] || docker rm --force "$old" >/dev/null
  old=$container
  echo "$(ms "$begun" "$(now)") $(ms "$pushed" "$(now)") $(ms "$pushed" "$built")" >>"$work/hand.times"
}
alternate
push=$(column paas 1) all=$(column hand 1) swap=$(column hand 2)
cat <<REPORT
Medians of $rounds rounds, in ms, on a base of $(mib "$base") MiB:
  by hand: $all from git push; $swap of it are the cached docker build ($(column hand 3)) and the swap
  paas:    the push ends after $push; the new version answers after $(column paas 2)
  paas / by hand: $(ratio "$push" "$all"); paas / build and swap alone: $(ratio "$push" "$swap")
The server's own log of the last builds:
$(grep 'built app=bench-docker' "$state/server.log" | tail -n 3)
REPORT
