# shellcheck shell=bash
# cargo goes by dates: what is older than its last compilation is taken for unchanged. A build's files have no dates worth
# the name, so they get some, by their contents.

# $1: a file for the list. Writes what the app's files contain.
list_sources() {
  find . \( -path ./.git -o -path ./target -o -name node_modules \) -prune -o \( -type f -o -type l \) -print0 | sort -z |
    xargs -0r sha256sum >"$1" 2>/dev/null || true
}

# $1: cargo's target folder, $2: the list of the build that made it, $3: the list of now. Source files that are as they
# were become old; all others newer than anything that was compiled. A file of another kind, or one that came or went,
# can matter to any crate (migrations and templates that macros read): then all of the app's own crates are compiled.
date_sources() {
  local now newest
  now=$(date +%s)
  newest=$(find "$1" -type f -printf '%T@\n' 2>/dev/null | sort -n | tail -n 1)
  newest=${newest%%.*}
  if [ "${newest:-0}" -ge "$now" ]; then now=$((newest + 1)); fi
  find . -path ./.git -prune -o -exec touch -h -d "@$now" {} +
  if [ -f "$2" ] && cmp -s <(grep -v '\.rs$' "$2") <(grep -v '\.rs$' "$3") && cmp -s <(cut -c 67- "$2") <(cut -c 67- "$3"); then
    find . -path ./.git -prune -o -type d -exec touch -d @1000000000 {} +
    comm -12 <(sort "$2") <(sort "$3") | cut -c 67- | tr '\n' '\0' | xargs -0r touch -h -d @1000000000
  fi
}

# $1: cargo's target folder. Its files are the cache's own (links to them), so that a build that writes into them and fails
# would leave a cache that says one thing and is another. What compilers replace as a whole may stay linked.
own_target() {
  local copies
  copies=$(mktemp)
  (cd "$1" && find . -type f -links +1 ! -name '*.rlib' ! -name '*.rmeta' ! -name '*.so' -print0 |
    tar -c --format=posix --null -T - -f "$copies" && tar -x -p -f "$copies")
  rm "$copies"
}
