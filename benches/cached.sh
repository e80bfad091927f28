#!/bin/bash
# Measures a change of one line, from `git push` until its image is on the engine: with buildpacks, pushed to the demo's
# server, which must be running; and by hand with the obvious Dockerfile (benches/dockerfiles), as a push over OpenSSH, a
# clone, and a cached `docker build` by the engine's own builder, because not every engine has BuildKit. Rounds alternate,
# with a pause before each, in which the server starts its standby container. Prints medians in seconds.
#
# usage: benches/cached.sh [rounds [sample...]]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
rounds=${1:-5} base=paas-bench/debian:13
shift || true
export DOCKER_BUILDKIT=0
cleanup() {
  stop_sshd
  on_paas apps:destroy packs --force >/dev/null 2>&1 || true
  docker rmi --force paas-bench/hand "$base" >/dev/null 2>&1 || true
  docker image prune --force --filter label=paas.bench >/dev/null
  rm -rf "$work"
}
trap cleanup EXIT
# shellcheck source=benches/base.sh
. benches/base.sh

# $1: sample. Prints its folder, the file to change, the text to replace, and the replacement.
about() {
  if [ "$1" = node ]; then printf '%s\n' samples/node server.js 'version 1' 'version 2'; return; fi
  python3 - "$1" <<'READ'
import sys, tomllib
sample = tomllib.load(open(f"tests/apps/{sys.argv[1]}.toml", "rb"))
change = sample["change"]
print(f"tests/apps/{sys.argv[1]}", change["file"], change["from"], change["to"], sep="\n")
READ
}
# $1: folder. Changes a line of the sample in $words to a text that it never had before.
change() {
  python3 - "$1" "$(now)" "${words[@]}" <<'CHANGE'
import pathlib, sys
folder, unique, sample, file, old, new = sys.argv[1:]
pathlib.Path(folder, file).write_text(pathlib.Path(sample, file).read_text().replace(old, f"{new} {unique}"))
CHANGE
}
commit() {
  change "$1"
  git -C "$1" add -A
  git -C "$1" -c user.name=Bench -c user.email=bench@example.org commit -qm change
}

by_packs() {
  local begun built tagged
  commit "$work/packs"
  sleep 4
  begun=$(now)
  push packs "$state/id_ed25519"
  built=$(now)
  tagged=$(docker events --since "${begun:0:10}.${begun:10}" --until "${built:0:10}.${built:10}" --filter type=image \
    --filter event=tag --format '{{.TimeNano}} {{.Actor.Attributes.name}}' | grep -m 1 '/packs:v' | cut -d ' ' -f 1)
  ms "$begun" "$tagged" >>"$work/packs.times"
}
by_hand() {
  local begun pushed
  commit "$work/hand"
  rm -rf "$work/checkout"
  sleep 4
  begun=$(now)
  push hand "$work/key"
  pushed=$(now)
  git clone -q "$work/hand.git" "$work/checkout"
  docker build --force-rm --label paas.bench --tag paas-bench/hand "$work/checkout" >"$work/build.log" 2>&1 ||
    { tail -n 20 "$work/build.log" >&2 && return 1; }
  echo "$(ms "$begun" "$(now)") $(ms "$pushed" "$(now)")" >>"$work/hand.times"
}
seconds() { awk "BEGIN { printf \"%.2f\", $1 / 1000 }"; }

start_sshd
echo '| sample | buildpacks: push to image | Dockerfile: push to image | of that clone and build | ratio | ratio to clone and build | MiB |'
echo '| --- | --- | --- | --- | --- | --- | --- |'
for dockerfile in benches/dockerfiles/*.Dockerfile; do
  name=$(basename "$dockerfile" .Dockerfile)
  if [ $# != 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
  mapfile -t words < <(about "$name")
  rm -rf "$work/packs" "$work/hand" "$work/hand.git" "$work"/*.times
  git init -q --bare -b main "$work/hand.git"
  for side in packs hand; do
    cp -a "${words[0]}" "$work/$side"
    git -C "$work/$side" init -q -b main
  done
  cp "$dockerfile" "$work/hand/Dockerfile"
  git -C "$work/packs" remote add paas ssh://paas@127.0.0.1:2222/packs
  git -C "$work/hand" remote add paas "ssh://root@127.0.0.1:2299$work/hand.git"
  # Warm-up: one round without a cache, one with it.
  for _ in 1 2; do
    by_packs
    by_hand
  done
  rm "$work"/*.times
  for _ in $(seq "$rounds"); do
    by_packs
    by_hand
  done
  packs=$(column packs 1) hand=$(column hand 1) build=$(column hand 2)
  echo "| $name | $(seconds "$packs") | $(seconds "$hand") | $(seconds "$build") | $(ratio "$packs" "$hand") |" \
    "$(ratio "$packs" "$build") | $(mib "$(docker images --format '{{.Repository}}:{{.Tag}}' | grep -m 1 '/packs:v')") /" \
    "$(mib paas-bench/hand) |"
  on_paas apps:destroy packs --force >/dev/null
done
