# shellcheck shell=bash
# Which Node.js, and where it comes from: the npm registry has each as a package.

default_node=24
declare -A lts=([argon]=4 [boron]=6 [carbon]=8 [dubnium]=10 [erbium]=12 [fermium]=14 [gallium]=16 [hydrogen]=18 [iron]=20 [jod]=22 [krypton]=24)

# $1: a file. Prints its first word that is no comment.
first_word() {
  sed -E 's/#.*//; s/^[[:space:]]+//; s/[[:space:]].*//; /^$/d' "$1" | head -n 1
}

# Sets node_said and node_file to what the project says of its Node.js outside of engines, and where.
find_node_file() {
  local file
  node_said=$(package volta.node) node_file="volta.node in package.json"
  for file in .nvmrc .node-version; do
    if [ -z "$node_said" ] && [ -f "$file" ]; then node_said=$(first_word "$file") node_file=$file; fi
  done
  if [ -z "$node_said" ] && [ -f .tool-versions ]; then
    node_said=$(sed -nE 's/^(nodejs|node)[[:space:]]+([^[:space:]#]+).*/\2/p' .tool-versions | head -n 1) node_file=.tool-versions
  fi
  if [ -z "$node_said" ] && [ -f mise.toml ]; then node_said=$(bp toml mise.toml tools.node "") node_file=mise.toml; fi
  if [ -z "$node_said" ]; then node_said=$(package devEngines.runtime.version) node_file="devEngines in package.json"; fi
  if [ -z "$node_said" ]; then node_file=""; fi
}

# $1: what nvm and its like take for a version. Prints a range, or `newest`.
node_range() {
  local said=${1,,}
  case $said in
    node | latest | current) echo newest ;;
    lts | "lts/*" | stable) echo "$default_node" ;;
    lts/*) echo "${lts[${said#lts/}]:-$1}" ;;
    v[0-9]*) echo "${said#v}" ;;
    *) echo "$1" ;;
  esac
}

# $1: a range; $versions: all there are. Prints the version to take: of several series the usual one, or one that is
# supported for long.
pick_node() {
  if [ "$1" = newest ]; then
    bp semver-max "*" <<<"$versions"
  else
    grep "^$default_node\." <<<"$versions" | bp semver-max "$1" 2>/dev/null ||
      grep -E '^[0-9]*[02468]\.' <<<"$versions" | bp semver-max "$1" 2>/dev/null || bp semver-max "$1" <<<"$versions" 2>/dev/null
  fi
}

# $1: a range that nothing fits, $2: where it is from.
no_such_node() {
  local like
  like=$(grep "^${1//[^0-9.]/}" <<<"$versions" | bp semver-max "*") || like=""
  if [ -z "$like" ]; then like=$(sed -nE 's/^[^0-9]*([0-9]+)\..*/\1/p' <<<"$1" | head -n 1) like=$(bp semver-max "$like" <<<"$versions" 2>/dev/null) || like=""; fi
  fail "no Node.js fits \"$1\" ($2); the newest is $(bp semver-max "*" <<<"$versions")${like:+, the nearest $like}"
}

# Sets version and why.
choose_node() {
  local range
  bp step "Choosing Node.js"
  versions=$(view "$runtime" versions | jq -r '.[]') || unanswered "which versions of Node.js there are"
  if [ -n "$node_said" ]; then
    range=$(node_range "$node_said") why="$node_file: $node_said"
    version=$(pick_node "$range") || no_such_node "$node_said" "$node_file"
    if [ -n "$engines" ] && ! bp semver-max "$engines" <<<"$version" >/dev/null 2>&1; then
      bp trouble "$node_file says Node.js $node_said, engines.node in package.json says $engines, and that decides: make them agree"
    else
      return 0
    fi
  fi
  if [ -n "$engines" ]; then
    range=$(node_range "$engines") why="engines.node in package.json: $engines"
    version=$(pick_node "$range") || no_such_node "$engines" "engines.node in package.json"
  else
    why="package.json has no engines.node"
    version=$(pick_node "$default_node")
  fi
}

# $1: a version. Fills the layer, and puts what addons in C++ are compiled against where npm finds it.
install_node() {
  local unpacked
  unpacked=$(mktemp -d)
  mkdir -p "$node/bin" "$tools/headers"
  fetch_package "$runtime@$1" "$unpacked"
  mv "$unpacked/bin/node" "$node/bin/node"
  chmod 755 "$node/bin/node"
  if [ -d "$unpacked/include" ]; then mv "$unpacked/include" "$tools/headers/"; fi
  find "$tools/headers" -path '*/openssl/archs/*' -prune ! -name 'linux-x86_64' ! -name 'linux-aarch64' -exec rm -rf {} +
  rm -rf "$unpacked"
}
