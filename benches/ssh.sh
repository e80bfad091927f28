#!/bin/bash
# Compares the round trip of a command, and a push of 200 MB, with OpenSSH on the same machine. The demo must be running.
# Both sides store the push with the same settings of git. Rounds alternate.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
rounds=${1:-9} pushes=${2:-3}
cleanup() {
  stop_sshd
  on_paas apps:destroy bench-ssh --force >/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
start_sshd
on_paas version >/dev/null && on_sshd true
for _ in $(seq "$rounds"); do
  a=$(now) && on_paas version >/dev/null && b=$(now) && on_sshd true && c=$(now)
  echo "$(ms "$a" "$b") $(ms "$b" "$c")" >>"$work/true.times"
done

on_paas apps:create bench-ssh >/dev/null
on_paas git:set bench-ssh deploy-branch never >/dev/null
git init -q -b main "$work/repo"
git init -q --bare -b main "$work/hand.git"
cp "$(sed -n 's/^data_dir = "\(.*\)"$/\1/p' "$state/paas.toml")/git/.gitconfig" "$work/hand.config"
sed -i '/hooksPath/d; /procReceiveRefs/d' "$work/hand.config"
cat "$work/hand.config" >>"$work/hand.git/config"
for _ in $(seq "$pushes"); do
  head -c 200000000 /dev/urandom >"$work/repo/blob"
  git -C "$work/repo" add -A
  git -C "$work/repo" -c core.compression=0 -c user.name=B -c user.email=b@example.org commit -qm blob
  git -C "$work/repo" remote remove paas 2>/dev/null || true
  git -C "$work/repo" remote add paas ssh://paas@127.0.0.1:2222/bench-ssh
  a=$(now) && push repo "$state/id_ed25519" && b=$(now)
  git -C "$work/repo" remote set-url paas "ssh://root@127.0.0.1:2299$work/hand.git"
  c=$(now) && push repo "$work/key" && d=$(now)
  echo "$(ms "$a" "$b") $(ms "$c" "$d")" >>"$work/push.times"
done
echo "a command:      paas $(column true 1) ms, OpenSSH $(column true 2) ms, ratio $(ratio "$(column true 1)" "$(column true 2)")"
echo "200 MB pushed:  paas $(column push 1) ms, OpenSSH $(column push 2) ms, ratio $(ratio "$(column push 1)" "$(column push 2)")"
