# shellcheck shell=bash
# Which Node.js the app asks for, and its installation. The npm registry has each version as a package.

# The series for an app that asks for none.
default_node=24
declare -A lts=([argon]=4 [boron]=6 [carbon]=8 [dubnium]=10 [erbium]=12 [fermium]=14 [gallium]=16 [hydrogen]=18 [iron]=20 [jod]=22 [krypton]=24)

# $1: a range of versions. Whether it is one.
is_range() {
  local status=0
  bp semver-max "$1" </dev/null >/dev/null 2>&1 || status=$?
  [ "$status" != 2 ]
}

# $1: runtime or packageManager, $2: a pattern. Prints the name and the version of the first that devEngines in package.json names
# and whose name fits, with a tab between.
dev_engine() {
  local key
  for key in "devEngines.$1" "devEngines.$1".{0..3}; do
    if [[ $(package "$key.name") =~ ^($2)$ ]]; then
      printf '%s\t%s\n' "$(package "$key.name")" "$(package "$key.version")"
      return
    fi
  done
}

# Sets node_request to the version of Node.js that a file other than engines in package.json asks for, and node_source to that
# file; both are empty if none does.
find_node_request() {
  local named
  node_request=$(package volta.node) node_source="volta.node in package.json"
  if [ -z "$node_request" ]; then
    named=$(bp named-version .nvmrc .node-version --tool nodejs node) || [ $? = 1 ] || exit 1
    IFS=$'\t' read -r node_request node_source <<<"$named"
  fi
  if [ -z "$node_request" ]; then
    IFS=$'\t' read -r _ node_request < <(dev_engine runtime node) || true
    node_source="devEngines in package.json"
  fi
  if [ -z "$node_request" ]; then node_source=""; fi
  # An array, or a text, as old packages have it.
  if [ -n "$(package engines)" ] && [[ $(package engines) != yes || -n $(package engines.0) ]]; then
    bp trouble "engines in package.json is not an object and is ignored: write \"engines\": {\"node\": \"$default_node.x\"}"
  fi
}

# $1: a version as nvm and similar tools write it. Prints a range, or `newest`.
node_range() {
  local request=${1,,}
  case $request in
    node | latest | current) echo newest ;;
    lts | "lts/*" | stable) echo "$default_node" ;;
    lts/-[12]) echo $((default_node - 2 * ${request#lts/-})) ;;
    lts[/-]?*) echo "${lts[${request#lts?}]:-$1}" ;;
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
  is_range "$(node_range "$1")" || fail "\"$1\" is not a version of Node.js ($2): write a number or a range there, such as $default_node or ^$default_node.1"
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
    if [ ! -f package.json ]; then reason="the default, since there is no package.json"; fi
    version=$(pick_node "$default_node")
  fi
}

# $1: a version. Fills the layer node, and puts the headers that C++ addons are compiled with where npm finds them.
install_node() {
  local unpacked
  unpacked=$(mktemp -d)
  mkdir -p "$layers/node/bin" "$tools/headers"
  fetch_package "$runtime@$1" "$unpacked"
  # Some old versions are an archive in the package.
  if compgen -G "$unpacked/node-v*.tar.gz" >/dev/null; then tar -xzf "$unpacked"/node-v*.tar.gz -C "$unpacked" --strip-components=1 --no-same-owner; fi
  [ -f "$unpacked/bin/node" ] || fail "the npm package of Node.js $1 does not contain it: ask for another version of the same series"
  mv "$unpacked/bin/node" "$layers/node/bin/node"
  chmod 755 "$layers/node/bin/node"
  # From 26 on it needs one that the run image lacks.
  bp libraries "$layers" node "$layers/node/bin" || [ $? = 1 ]
  if [ -d "$unpacked/include" ]; then mv "$unpacked/include" "$tools/headers/"; fi
  find "$tools/headers" -path '*/openssl/archs/*' -prune ! -name 'linux-x86_64' ! -name 'linux-aarch64' -exec rm -rf {} +
  rm -rf "$unpacked"
}
