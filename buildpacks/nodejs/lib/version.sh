# shellcheck shell=bash
# Which Node.js the app asks for, and its installation. The npm registry has each version as a package.

# The series for an app that asks for none.
default_node=24
declare -A lts=([argon]=4 [boron]=6 [carbon]=8 [dubnium]=10 [erbium]=12 [fermium]=14 [gallium]=16 [hydrogen]=18 [iron]=20 [jod]=22 [krypton]=24)

# $1: a file. Prints its first word outside of comments.
first_word() {
  sed -E 's/#.*//; s/^[[:space:]]+//; s/[[:space:]].*//; /^$/d' "$1" | head -n 1
}

# Sets node_request to the version of Node.js that a file other than engines in package.json asks for, and node_source to that
# file; both are empty if none does.
find_node_request() {
  local file
  node_request=$(package volta.node) node_source="volta.node in package.json"
  for file in .nvmrc .node-version; do
    if [ -z "$node_request" ] && [ -f "$file" ]; then node_request=$(first_word "$file") node_source=$file; fi
  done
  if [ -z "$node_request" ] && [ -f .tool-versions ]; then
    node_request=$(sed -nE 's/^(nodejs|node)[[:space:]]+([^[:space:]#]+).*/\2/p' .tool-versions | head -n 1) node_source=.tool-versions
  fi
  if [ -z "$node_request" ] && [ -f mise.toml ]; then node_request=$(bp toml mise.toml tools.node "") node_source=mise.toml; fi
  if [ -z "$node_request" ]; then node_request=$(package devEngines.runtime.version) node_source="devEngines in package.json"; fi
  if [ -z "$node_request" ]; then node_source=""; fi
}

# $1: a version as nvm and similar tools write it. Prints a range, or `newest`.
node_range() {
  local request=${1,,}
  case $request in
    node | latest | current) echo newest ;;
    lts | "lts/*" | stable) echo "$default_node" ;;
    lts/*) echo "${lts[${request#lts/}]:-$1}" ;;
    v[0-9]*) echo "${request#v}" ;;
    *) echo "$1" ;;
  esac
}

# $1: a range; $versions: all published versions. Prints the version to use: where several series fit, one of the default
# series, else of one with long-term support.
pick_node() {
  if [ "$1" = newest ]; then
    bp semver-max "*" <<<"$versions"
  else
    grep "^$default_node\." <<<"$versions" | bp semver-max "$1" 2>/dev/null ||
      grep -E '^[0-9]*[02468]\.' <<<"$versions" | bp semver-max "$1" 2>/dev/null || bp semver-max "$1" <<<"$versions" 2>/dev/null
  fi
}

# $1: a range that no version matches, $2: its source. Ends the build.
no_such_node() {
  local closest
  closest=$(grep "^${1//[^0-9.]/}" <<<"$versions" | bp semver-max "*") || closest=""
  if [ -z "$closest" ]; then closest=$(sed -nE 's/^[^0-9]*([0-9]+)\..*/\1/p' <<<"$1" | head -n 1) closest=$(bp semver-max "$closest" <<<"$versions" 2>/dev/null) || closest=""; fi
  fail "no version of Node.js matches \"$1\" ($2): the newest is $(bp semver-max "*" <<<"$versions")${closest:+, the closest $closest}"
}

# Sets version and reason.
choose_node() {
  local range versions
  bp step "Choosing Node.js"
  versions=$(view "$runtime" versions | jq -r '.[]') || registry_failed "the versions of Node.js"
  if [ -n "$node_request" ]; then
    range=$(node_range "$node_request") reason="$node_source: $node_request"
    version=$(pick_node "$range") || no_such_node "$node_request" "$node_source"
    if [ -n "$engines" ] && ! bp semver-max "$engines" <<<"$version" >/dev/null 2>&1; then
      bp trouble "$node_source asks for Node.js $node_request, but engines.node in package.json asks for $engines, which is used: make them agree"
    else
      return 0
    fi
  fi
  if [ -n "$engines" ]; then
    range=$(node_range "$engines") reason="engines.node in package.json: $engines"
    version=$(pick_node "$range") || no_such_node "$engines" "engines.node in package.json"
  else
    reason="package.json has no engines.node"
    version=$(pick_node "$default_node")
  fi
}

# $1: a version. Fills the layer node, and puts the headers that C++ addons are compiled with where npm finds them.
install_node() {
  local unpacked
  unpacked=$(mktemp -d)
  mkdir -p "$layers/node/bin" "$tools/headers"
  fetch_package "$runtime@$1" "$unpacked"
  mv "$unpacked/bin/node" "$layers/node/bin/node"
  chmod 755 "$layers/node/bin/node"
  if [ -d "$unpacked/include" ]; then mv "$unpacked/include" "$tools/headers/"; fi
  find "$tools/headers" -path '*/openssl/archs/*' -prune ! -name 'linux-x86_64' ! -name 'linux-aarch64' -exec rm -rf {} +
  rm -rf "$unpacked"
}
