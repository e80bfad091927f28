# To be sourced by the benchmarks that compare the demo's server with OpenSSH on this machine.
# shellcheck shell=bash disable=SC2034,SC2154
state=$PWD/.demo work=$(mktemp -d)
ssh_options="-F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=$work/known"
# shellcheck disable=SC2086 # several words
on_paas() { ssh $ssh_options -i "$state/id_ed25519" -p 2222 paas@127.0.0.1 "$@"; }
# shellcheck disable=SC2086
on_sshd() { ssh $ssh_options -i "$work/key" -p 2299 root@127.0.0.1 "$@"; }
now() { date +%s%N; }
ms() { echo $((($2 - $1) / 1000000)); }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
column() { awk "{ print \$$2 }" "$work/$1.times" | median; }
# $1: an image.
mib() { docker image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f", $1 / 1048576 }'; }
ratio() { awk "BEGIN { printf \"%.2f\", $1 / $2 }"; }

# $1: folder, $2: key. Pushes main.
push() {
  GIT_SSH_COMMAND="ssh $ssh_options -i $2" git -C "$work/$1" push -q paas main 2>"$work/push.log" ||
    { cat "$work/push.log" >&2 && return 1; }
}

# Starts an OpenSSH server for the benchmark, on loopback.
start_sshd() {
  ssh-keygen -q -t ed25519 -N '' -f "$work/host"
  ssh-keygen -q -t ed25519 -N '' -f "$work/key"
  cp "$work/key.pub" "$work/authorized"
  mkdir -p /run/sshd
  "$(command -v sshd || echo /usr/sbin/sshd)" -f /dev/null -h "$work/host" -o ListenAddress=127.0.0.1 -o Port=2299 \
    -o PidFile="$work/sshd.pid" -o AuthorizedKeysFile="$work/authorized" -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes
}
stop_sshd() { if [ -f "$work/sshd.pid" ]; then kill "$(<"$work/sshd.pid")"; fi; }

# $1: version. Pushes a change to paas; notes when the push has ended and when the new version responds. The benchmark has
# `commit`, `answers`, and the app's $url.
with_paas() {
  local begun live
  commit "$work/paas" "$1"
  begun=$(now)
  push paas "$state/id_ed25519" &
  answers "$url" "$1"
  live=$(now)
  wait $!
  echo "$(ms "$begun" "$(now)") $(ms "$begun" "$live")" >>"$work/paas.times"
}
# $rounds of the benchmark's `by_hand` and of `with_paas`, alternating, after a warm-up. In the pauses the server starts its
# standby container.
alternate() {
  local round
  by_hand warm
  with_paas warm
  rm "$work"/*.times
  for round in $(seq "$rounds"); do
    sleep 4
    by_hand "h$round"
    sleep 4
    with_paas "p$round"
  done
}
