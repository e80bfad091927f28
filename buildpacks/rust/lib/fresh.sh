# shellcheck shell=bash
# Gives source files dates by their contents. cargo goes by dates: it takes a file that is older than the last compilation for
# unchanged, but the dates of a build's files mean nothing.

# $1: a file. Writes the checksums of the app's files there.
list_sources() {
  find . \( -path ./.git -o -path ./target -o -name node_modules \) -prune -o \( -type f -o -type l \) -print0 | sort -z |
    xargs -0r sha256sum >"$1" 2>/dev/null || true
}

# $1: cargo's target folder, $2: the list of the build that made it, $3: the current list. Unchanged source files get an old date,
# all others one newer than anything compiled. A change of another file, and one that was added or removed, can matter to
# any crate (macros read migrations and templates): then all of the app's own crates are compiled.
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

# $1: cargo's target folder. Replaces its files, which are links to those of the cache, by copies: a build that writes into them
# and fails would damage the cache. Files that compilers replace as a whole stay links.
copy_linked_files() {
  local copies
  copies=$(mktemp)
  (cd "$1" && find . -type f -links +1 ! -name '*.rlib' ! -name '*.rmeta' ! -name '*.so' -print0 |
    tar -c --format=posix --null -T - -f "$copies" && tar -x -p -f "$copies")
  rm "$copies"
}
