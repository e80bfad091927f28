# shellcheck shell=bash
# The package managers as programs: which version of each, where they are installed, what they have downloaded.

# Whether the programs are in $tools: they are unpacked there at most once.
tools_unpacked=""
# Whether packages were downloaded, so that the cache has to be written again.
downloaded=""

# Sets bun_named to the version of Bun that a file for it names, and the file, with a tab between.
find_bun_version() {
  bun_named=$(bp named-version .bun-version --tool bun) || [ $? = 1 ] || exit 1
  # That is what is installed anyway.
  if [[ $bun_named == latest* ]]; then bun_named=""; fi
}

# $1: npm, yarn, berry, pnpm or bun. Prints the versions of it that the app asks for, each with its source after a tab, the first
# of which decides.
asked_versions() {
  local tool=${1/berry/yarn} version
  if [ "$1" = "$kind" ]; then
    case $manager_range in latest | '') ;; *) printf '%s\t%s\n' "$manager_range" "packageManager in package.json" ;; esac
    version=$(package "volta.$tool")
    if [ -n "$version" ]; then printf '%s\t%s\n' "$version" "volta.$tool in package.json"; fi
  fi
  if [ "$1" = bun ] && [ -n "$bun_named" ]; then echo "$bun_named"; fi
}

# $1: npm, yarn, berry, pnpm or bun. Prints what engines in package.json asks for, if anything, as asked_versions does.
engine_version() {
  local tool=${1/berry/yarn}
  if [ -n "$(package "engines.$tool")" ]; then printf '%s\t%s\n' "$(package "engines.$tool")" "engines.$tool in package.json"; fi
}

# Reports what the app says about versions of its package managers that is not a version.
report_unreadable_versions() {
  local tool asked source
  for tool in "${managers[@]}"; do
    while IFS=$'\t' read -r asked source; do
      if is_range "$asked"; then break; fi
      bp trouble "\"$asked\" is not a version ($source): the default version of ${titles[${tool/berry/yarn}]} is used"
    done < <(asked_versions "$tool" && engine_version "$tool")
  done
}

# $1: npm, yarn, berry, pnpm or bun. Prints the version or range to install if the app asks for none, and the reason, with a tab
# between.
default_version() {
  local wanted="" major=${version%%.*}
  case $1 in
    npm)
      # 5 is the first that reads lock files, and does not run on the first versions of Node.js 4.
      if [ "$major" -lt 6 ] && [ -z "$lock" ]; then wanted=3; elif [ "$major" -lt 6 ]; then wanted=5; elif [ "$major" -lt 14 ]; then wanted=6; elif [ "$major" -lt 18 ]; then wanted=8; elif [ "$major" -lt 24 ]; then wanted=10; else wanted=11; fi
      wanted+=$'\t'"the default for Node.js $major"
      ;;
    yarn) wanted=1$'\t'"yarn.lock has version 1" ;;
    berry)
      case $(sed -nE '/^__metadata:/,/^$/ s/^ +version: *"?([0-9]+).*/\1/p' yarn.lock 2>/dev/null) in
        [1-4]) wanted=2 ;; 5) wanted="3.0 - 3.1" ;; 6) wanted=3 ;; *) wanted=4 ;;
      esac
      wanted+=$'\t'"from yarn.lock"
      ;;
    pnpm)
      case $(sed -nE "s/^lockfileVersion: *'?([0-9.]+).*/\1/p" pnpm-lock.yaml 2>/dev/null) in
        5.[0-3]) wanted=6 ;; 5.*) wanted=7 ;; 6.*) wanted=8 ;;
        *)
          # pnpm 9 runs the scripts of all packages; later ones those that the project names, and in other files.
          wanted=10
          if [ -f pnpm-lock.yaml ] && [ -z "$(package pnpm.onlyBuiltDependencies)" ] && ! grep -qsE '^(onlyBuilt|ignoredBuilt|overrides|patched|nodeLinker|publicHoist)' pnpm-workspace.yaml; then wanted=9; fi
          if grep -qsE '^allowBuilds:' pnpm-workspace.yaml; then wanted=11; fi
          ;;
      esac
      wanted+=$'\t'"from pnpm-lock.yaml"
      ;;
    bun) wanted="*"$'\t'"the newest" ;;
  esac
  if [[ $wanted == *lock* ]] && { [ "$1" != "$kind" ] || [ -z "$lock" ]; }; then wanted="${wanted%%$'\t'*}"$'\t'"the default"; fi
  echo "$wanted"
}

# $1: npm, yarn, berry, pnpm or bun. Prints the range of versions to install and the reason, separated by a tab.
wanted_version() {
  local asked source wanted engines
  while IFS=$'\t' read -r asked source; do
    if is_range "$asked"; then printf '%s\t%s\n' "$asked" "$source" && return; fi
  done < <(asked_versions "$1")
  wanted=$(default_version "$1")
  engines=$(package "engines.${1/berry/yarn}")
  # A range in engines that includes the default version does not change it.
  if [ -n "$engines" ] && is_range "$engines" && [[ $1 != berry || ! -f yarn.lock ]]; then
    if ! view "${registry_packages[$1]}" versions | jq -r '.[]' | bp semver-max "${wanted%%$'\t'*}" 2>/dev/null | bp semver-max "$engines" >/dev/null 2>&1; then
      wanted=$engines$'\t'"engines.${1/berry/yarn} in package.json"
    fi
  fi
  echo "$wanted"
}

# $1: npm, yarn, berry, pnpm or bun. Installs it into $tools, and reports the version.
install_tool() {
  local to=$tools/${1/berry/yarn} range why requested file name=$1
  mkdir -p "$to/bin" "$to/lib"
  file=$(sed -nE 's/^yarnPath: *"?([^"]+)"?/\1/p' .yarnrc.yml 2>/dev/null || true)
  if [ "$1" = berry ] && [ -n "$file" ]; then
    [ -f "$file" ] || fail ".yarnrc.yml names $file, which is not in the repository: commit it, or remove yarnPath"
    # shellcheck disable=SC2016 # The script expands them.
    printf '#!/bin/bash\nexec node "%s" "$@"\n' "$PWD/$file" >"$to/bin/yarn"
    chmod 755 "$to/bin/yarn"
    bp detail "Using Yarn from $file"
    return
  fi
  IFS=$'\t' read -r range why < <(wanted_version "$1")
  requested=$range
  if ! [[ $range =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
    range=$(view "${registry_packages[$1]}" versions | jq -r '.[]' | bp semver-max "$range") ||
      fail "no version of ${name/berry/yarn} matches \"$requested\" ($why): correct it, or remove it"
  fi
  bp detail "Installing ${titles[${name/berry/yarn}]} $range ($why)"
  case $1 in
    npm)
      fetch_package "npm@$range" "$to/lib"
      for name in npm npx; do ln -s "../lib/bin/$name-cli.js" "$to/bin/$name"; done
      ;;
    yarn | berry)
      fetch_package "${registry_packages[$1]}@$range" "$to/lib"
      if [ "$1" = berry ]; then check_hash "$to/lib/bin/yarn.js"; fi
      chmod 755 "$to/lib/bin/yarn.js"
      for name in yarn yarnpkg; do ln -s ../lib/bin/yarn.js "$to/bin/$name"; done
      ;;
    pnpm)
      fetch_package "pnpm@$range" "$to/lib"
      for name in pnpm pnpx; do
        file=$(cd "$to/lib" && ls "bin/$name".?js)
        chmod 755 "$to/lib/$file"
        ln -s "../lib/$file" "$to/bin/$name"
      done
      if [ "${range%%.*}" -ge 12 ]; then
        # From this version on pnpm is a binary, which looks for its scripts beside it.
        fetch_package "$pnpm_exe@$range" "$to/exe"
        mv "$to/exe/pnpm" "$to/lib/pnpm"
        rm -rf "$to/exe" "$to/bin/pnpx"
        ln -sf ../lib/pnpm "$to/bin/pnpm"
        # shellcheck disable=SC2016 # The script expands them.
        printf '#!/bin/bash\nexec "${0%%/*}/pnpm" dlx "$@"\n' >"$to/bin/pnpx"
        chmod 755 "$to/bin/pnpx"
      fi
      ;;
    bun)
      fetch_package "${registry_packages[bun]}@$range" "$to/lib"
      mv "$to/lib/bin/bun" "$to/bin/bun"
      chmod 755 "$to/bin/bun"
      ln -s bun "$to/bin/bunx"
      rm -rf "$to/lib"
      ;;
  esac
}

# Unpacks the package managers and the downloads of earlier builds, unless that is done.
need_tools() {
  if [ -n "$tools_unpacked" ]; then return; fi
  tools_unpacked=yes
  if [ -n "$tools_cached" ]; then tar -xf "$layers/tools/files.tar" -C "$tools"; fi
  mkdir -p "$tools/cache" "$tools/python/distutils"
  # The node-gyp of older packages imports distutils, which newer Pythons no longer have.
  unzip -qj /usr/share/python-wheels/setuptools-*.whl setuptools/_distutils/__init__.py setuptools/_distutils/version.py \
    -d "$tools/python/distutils" 2>/dev/null || true
  if [ -f "$layers/downloads/files.tar" ]; then tar -xf "$layers/downloads/files.tar" -C "$tools/cache"; fi
}

# Writes the downloads into the cache, for the next build.
keep_downloads() {
  if [ -z "$downloaded" ]; then return; fi
  # The cache only grows, with versions that no longer are in use: past a size it starts again.
  if [ "$(du -sm "$tools/cache" | cut -f 1)" -gt 2000 ]; then rm -f "$layers/downloads/files.tar" && return; fi
  tar -cf "$layers/downloads/files.tar" -C "$tools/cache" .
}
