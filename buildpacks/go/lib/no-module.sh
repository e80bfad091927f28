# shellcheck shell=bash disable=SC2034
# Apps without go.mod: programs that import nothing but Go's own packages and their own folders.

# Where the paths of Go's own packages begin.
go_packages='C|archive|bufio|bytes|cmp|compress|container|context|crypto|database|debug|embed|encoding|errors|expvar|flag|fmt|go|hash|html|image|index|io|iter|log|maps|math|mime|net|os|path|plugin|reflect|regexp|runtime|slices|sort|strconv|strings|structs|sync|syscall|testing|text|time|unicode|unique|unsafe|weak'

# Sets new_module to the module's path, which imports of the app's own folders begin with. Ends the build if the app needs modules
# of others.
find_module() {
  local file import folder others=()
  for file in Gopkg.lock Gopkg.toml glide.lock glide.yaml Godeps/Godeps.json vendor/vendor.json; do
    if [ -f "$file" ]; then
      fail "there is a $file, which Go no longer reads: run go mod init NAME and go mod tidy, and commit go.mod and go.sum"
    fi
  done
  new_module=app
  while read -r import; do
    if [[ ${import%%/*} =~ ^($go_packages)$ ]]; then continue; fi
    if [[ $import == .* ]]; then
      fail "there is no go.mod, and the app imports $import: run go mod init NAME, import NAME/${import##*./} instead, and commit go.mod"
    fi
    folder=$import
    # Of example.com/me/shop/words, the folder words is the app's own.
    while [[ $folder == */* && ! -d ${folder#*/} ]]; do folder=${folder#*/}; done
    if [[ $folder == */* ]]; then
      new_module=${import%"/${folder#*/}"}
    elif [[ ${import%%/*} == *.* ]]; then
      others+=("$import")
    fi
  done < <(find . \( -path ./vendor -o -name testdata -o -name node_modules -o -name '*_test.go' \) -prune -o -name '*.go' -exec cat {} + | imports | sort -u)
  if [ ${#others[@]} != 0 ]; then
    fail "there is no go.mod, and the app imports ${others[*]}: run go mod init NAME and go mod tidy, and commit go.mod and go.sum"
  fi
}

# Prints the paths that Go sources on standard input import.
imports() {
  awk '/^[ \t]*\/\// { next } /^import[ \t]*\(.*\)/ { print; next } /^import[ \t]*\(/ { many = 1; next } many && /^[ \t]*\)/ { many = 0 } many || /^import[ \t]/' | sed -nE 's/^[^"]*"([^"]+)".*/\1/p'
}
