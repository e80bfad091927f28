#!/bin/bash
# Measures a one-line change of the Node.js sample, from `git push` until the new version responds: with paas (the demo must
# be running), and by hand (push over OpenSSH, cached `docker build`, run, wait, remove the old container). Rounds alternate,
# with a pause before each, in which the server starts its standby container.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
rounds=${1:-9}
cleanup() {
  stop_sshd
  docker ps --all --quiet --filter label=paas.bench | xargs -r docker rm --force >/dev/null
  docker rmi --force paas-bench:new >/dev/null 2>&1 || true
  docker image prune --force --filter label=paas.bench >/dev/null
  on_paas apps:destroy bench --force >/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
answers() { until curl -fs --max-time 2 "$1" 2>/dev/null | grep -q "version $2,"; do sleep 0.005; done; }
commit() {
  sed -i "s/version [0-9A-Za-z.-]*/version $2/" "$1/server.js"
  git -C "$1" -c user.name=Bench -c user.email=bench@example.org commit -qam "version $2"
}

# By hand: an OpenSSH server for pushes, and a base image with Node.js and the packages.
start_sshd
git init -q --bare -b main "$work/hand.git"
for side in paas hand; do
  cp -a samples/node "$work/$side"
  git -C "$work/$side" init -q -b main
  git -C "$work/$side" add -A
  git -C "$work/$side" -c user.name=Bench -c user.email=bench@example.org commit -qm first
done
git -C "$work/paas" remote add paas ssh://paas@127.0.0.1:2222/bench
git -C "$work/hand" remote add paas "ssh://root@127.0.0.1:2299$work/hand.git"
push paas "$state/id_ed25519"
push hand "$work/key"
url=$(on_paas url bench | head -n 1)
base=$(docker ps --filter label=paas.app=bench --format '{{.Image}}' | head -n 1)
printf 'FROM %s\nCOPY package.json package-lock.json ./\nCOPY . .\n' "$base" >"$work/Dockerfile"
old=
by_hand() {
  local a b c d e f container port
  commit "$work/hand" "$1"
  a=$(now)
  push hand "$work/key"
  b=$(now)
  rm -rf "$work/checkout" && git clone -q "$work/hand.git" "$work/checkout"
  docker build -q --label paas.bench -t paas-bench:new -f "$work/Dockerfile" "$work/checkout" >/dev/null 2>"$work/build.log"
  c=$(now)
  container=$(docker run --detach --label paas.bench --env PORT=8080 --publish 127.0.0.1::8080 paas-bench:new)
  d=$(now)
  port=$(docker port "$container" 8080 | head -n 1)
  answers "http://$port" "$1"
  e=$(now)
  [ -z "$old" ] || docker stop --time 10 "$old" >/dev/null
  [ -z "$old" ] || docker rm "$old" >/dev/null
  f=$(now)
  old=$container
  echo "$(ms "$a" "$f") $(ms "$a" "$e") $(ms "$a" "$b") $(ms "$b" "$c") $(ms "$c" "$d") $(ms "$d" "$e") $(ms "$e" "$f")" >>"$work/hand.times"
}
alternate
hand=$(column hand 2) paas=$(column paas 2)
cat <<REPORT
Medians of $rounds rounds, in ms, from \`git push\`:
  by hand: the new version answers after $hand, the old is gone after $(column hand 1)
           (push $(column hand 3), clone and build $(column hand 4), run $(column hand 5), wait $(column hand 6), remove $(column hand 7))
  paas:    the new version answers after $paas, the push ends after $(column paas 1)
  paas / by hand: $(ratio "$paas" "$hand")
The server's own log of the last builds:
$(grep 'built app=bench' "$state/server.log" | tail -n 3)
REPORT
