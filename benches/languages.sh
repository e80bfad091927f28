#!/bin/bash
# Measures for each sample of tests/apps the first build, a build without a change, a build after a change of one line, and
# the size of the image. Where benches/dockerfiles has an obvious Dockerfile on Debian, it also measures its image, and its
# cached build after the same change. Needs the files that `make demo` makes (or PAAS and PAAS_CONFIG), but no server.
#
# usage: benches/languages.sh [sample...]
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=benches/common.sh
. benches/common.sh
paas=${PAAS:-target/release/paas} base=paas-bench/debian:13 image=paas-bench/sample
export PAAS_CONFIG=${PAAS_CONFIG:-$state/paas.toml} XDG_CACHE_HOME=$work/cache DOCKER_BUILDKIT=0
# Builds run as another user, who needs access to the folder.
chmod 711 "$work"
cleanup() {
  docker rmi --force "$image" "$image-hand" "$base" >/dev/null 2>&1 || true
  docker image prune --force --filter label=paas.bench >/dev/null
  "$paas" purge --local || true
  rm -rf "$work"
}
trap cleanup EXIT

# shellcheck source=benches/base.sh
. benches/base.sh

# $1: name of the log, $@: the build. Prints its duration in seconds.
timed() {
  local begun log=$work/$1.log
  shift
  begun=$(now)
  "$@" >"$log" 2>&1 || { cat "$log" >&2 && return 1; }
  awk "BEGIN { printf \"%.1f\", $(ms "$begun" "$(now)") / 1000 }"
}

# $1: name, $2: folder, $3: language, $4: file to change, $5: text to replace, $6: replacement, $@: options of paas build.
row() {
  local name=$1 folder=$2 language=$3 first again changed hand="- | - | -" seconds
  rm -rf "$work/app"
  cp -a "$folder" "$work/app"
  local build=("$paas" build "$work/app" --tag "$image" "${@:7}")
  first=$(timed "$name" "${build[@]}" --clear-cache)
  again=$(timed "$name" "${build[@]}")
  local docker=(docker build --label paas.bench --tag "$image-hand" --file "benches/dockerfiles/$name.Dockerfile" "$work/app")
  if [ -f "benches/dockerfiles/$name.Dockerfile" ]; then timed "$name-hand" "${docker[@]}" >/dev/null; fi
  python3 - "$work/app/$4" "$5" "$6" <<'CHANGE'
import pathlib, sys
file = pathlib.Path(sys.argv[1])
file.write_text(file.read_text().replace(sys.argv[2], sys.argv[3]))
CHANGE
  changed=$(timed "$name" "${build[@]}")
  if [ -f "benches/dockerfiles/$name.Dockerfile" ]; then
    seconds=$(timed "$name-hand" "${docker[@]}")
    hand="$(mib "$image-hand") MiB | $seconds s | $(ratio "$changed" "$seconds") / $(ratio "$(mib "$image")" "$(mib "$image-hand")")"
  fi
  echo "| $language | $name | $first s | $again s | $changed s | $(mib "$image") MiB | $hand |"
}

# Makes the images of the stack, which all builds use.
timed shell "$paas" build tests/apps/shell --tag "$image" >/dev/null
cat <<'HEAD'
| language | sample | first build | unchanged | one line | image | Dockerfile's image | its one line | ratios (time / size) |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
HEAD
chosen=" $* "
if [ $# = 0 ] || [[ $chosen == *" node "* ]]; then row node samples/node nodejs server.js 'version 1' 'version 2'; fi
for sample in tests/apps/*.toml; do
  name=$(basename "$sample" .toml)
  if [ $# != 0 ] && [[ $chosen != *" $name "* ]]; then continue; fi
  mapfile -t -d '' words < <(python3 - "$sample" <<'READ'
import sys, tomllib
sample = tomllib.load(open(sys.argv[1], "rb"))
change = sample["change"]
words = [sample.get("dir", ""), sample["language"], change["file"], change["from"], change["to"]]
for name, value in {**sample.get("config", {}), **sample.get("build", {})}.items():
    words += ["--env", f"{name}={value}"]
print("\0".join(words), end="\0")
READ
  )
  # Only the folder that is built is copied, so the file's path begins there.
  row "$name" "tests/apps/$name/${words[0]}" "${words[1]}" "${words[2]#"${words[0]}"/}" "${words[@]:3}"
done
