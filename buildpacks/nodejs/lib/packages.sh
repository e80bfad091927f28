# shellcheck shell=bash
# The app's packages: what decides which are installed, and how each package manager installs them.

# Prints a checksum of the variables that tell package managers and packages what to install, if any are set.
package_settings() {
  local name settings="" known='^(npm_config|pnpm_config|yarn|bun|puppeteer|cypress|playwright|prisma|electron|sharp)_'
  for name in $(compgen -e); do
    if [[ ${name,,} =~ $known || ${name,,} =~ ^[a-z_]+_skip_[a-z_]*(download|install)$ ]]; then settings+="$name=${!name@Q} "; fi
  done
  if [ -n "$settings" ]; then sha256sum <<<"$settings"; fi
}

# Prints the files of packages that are folders of the app, which most package managers copy; each path ends with a zero
# byte.
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

# Sets the variables that tell the package manager where to keep downloads, to be quiet and to ask nothing.
set_manager_environment() {
  export npm_config_cache=$tools/cache/npm npm_config_nodedir=$tools/headers npm_config_progress=false npm_config_audit=false
  export npm_config_fund=false npm_config_update_notifier=false npm_config_loglevel=error npm_config_logs_max=0
  export PYTHONPATH=$tools/python${PYTHONPATH:+:$PYTHONPATH}
  export YARN_CACHE_FOLDER=$tools/cache/yarn DISABLE_OPENCOLLECTIVE=1 ADBLOCK=1 DO_NOT_TRACK=1
  # Builds run no browser tests.
  export CYPRESS_INSTALL_BINARY=${CYPRESS_INSTALL_BINARY-0}
  if [ "$kind" = berry ]; then
    unset YARN_CACHE_FOLDER
    export YARN_GLOBAL_FOLDER=$tools/cache/berry YARN_ENABLE_TELEMETRY=0 YARN_ENABLE_PROGRESS_BARS=0 YARN_IGNORE_PATH=1
    if [ ! -d .yarn/cache ]; then export YARN_ENABLE_GLOBAL_CACHE=1; fi
    # An app that works with Plug'n'Play works with node_modules, too.
    if ! grep -qsE '^nodeLinker: *"?(node-modules|pnpm)' .yarnrc.yml; then export YARN_NODE_LINKER=node-modules; fi
    if [ -n "${HTTPS_PROXY:-}" ]; then export YARN_HTTPS_PROXY=$HTTPS_PROXY; fi
    if [ -n "${HTTP_PROXY:-}" ]; then export YARN_HTTP_PROXY=$HTTP_PROXY; fi
  elif [ "$kind" = pnpm ]; then
    local setting
    unset npm_config_loglevel
    # Newer versions read variables of another name.
    for setting in store_dir="$tools/cache/pnpm" package_import_method=copy modules_cache_max_age=0 verify_deps_before_run=false \
      manage_package_manager_versions=false pm_on_fail=ignore; do
      export "npm_config_$setting" "pnpm_config_$setting"
    done
  elif [ "$kind" = bun ]; then
    export BUN_INSTALL_CACHE_DIR=$tools/cache/bun
  fi
}

# $@: a command of the package manager. Writes what it prints to the log, and shows every ten seconds how far it is.
run_installation() {
  local status=0
  progress=(--hide '.*')
  case $kind in
    # At this level npm prints a line for each download.
    npm) progress+=(--count '^npm (http|HTTP) .*GET 200 .*\.tgz' --of "$(jq '.packages // {} | length' "${lock:-/dev/null}" 2>/dev/null || true)") ;;
    yarn) progress+=(--show '^\[[0-9]+/[0-9]+\] (.*)') ;;
    berry) progress+=(--show 'YN[0-9]+: [^A-Za-z]*(.*)') ;;
    pnpm) progress+=(--show '^Progress: (.*)') ;;
  esac
  (
    export CI=${CI:-true}
    if [ "$kind" = npm ]; then export npm_config_loglevel=http; fi
    watch_command "Installing packages" "$@"
  ) || status=$?
  sed -i -E '/^npm (http|notice|warn|WARN)/d' "$log"
  return $status
}

# $1: all, or production. Installs the packages into the app's folder, as the lock file says if there is one. Does
# nothing for an app without packages.
install_packages() {
  local command
  if [ -z "$lock" ] && [ -z "$has_packages" ]; then return; fi
  need_tools
  downloaded=yes
  if [ -z "$lock" ]; then
    bp trouble "there is no $(lock_name): commit one, so that every build installs the same versions"
  fi
  case $kind in
    npm)
      command=(npm ci)
      if [ -z "$lock" ]; then command=(npm install --no-package-lock); fi
      # npm 6 does not know the first option; the second is what it has instead.
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
  if ! run_installation "${command[@]}"; then
    grep -qE 'EAI_AGAIN|ETIMEDOUT|ESOCKETTIMEDOUT|ECONNRESET|socket hang up' "$log" || explain_install "${command[*]}"
    bp detail "The registry did not answer in time: retrying once"
    run_installation "${command[@]}" || explain_install "${command[*]}"
  fi
  show_install_summary
  if [ "$kind" = berry ] && [ "$1" = production ]; then remove_development_packages; fi
}

# Removes the development packages from node_modules. What the build made there stays.
remove_development_packages() {
  local command=()
  case $kind in
    npm) command=(npm prune --omit=dev --production --ignore-scripts) ;;
    yarn)
      command=(yarn install --production --ignore-scripts --prefer-offline --non-interactive --no-progress)
      if [ -n "$lock" ]; then command+=(--frozen-lockfile); else command+=(--no-lockfile); fi
      ;;
    berry)
      if ! yarn workspaces focus --help >/dev/null 2>&1; then
        bp detail "This version of Yarn cannot remove development packages: add the plugin workspace-tools, or use Yarn 4"
        return
      fi
      export YARN_ENABLE_SCRIPTS=0
      command=(yarn workspaces focus --all --production)
      ;;
    pnpm)
      command=(pnpm install --prod --frozen-lockfile --prefer-offline --ignore-scripts)
      ;;
    bun)
      # Bun has no command for that: it installs again, and what the build made in node_modules is put back.
      local made
      made=$(mktemp)
      if [ -f "$stamp" ] && [ ${#module_folders[@]} != 0 ]; then
        find "${module_folders[@]}" -cnewer "$stamp" -type f ! -path '*/node_modules/.cache/*' ! -path '*/node_modules/.vite/*' -print0 | tar -cf "$made" --null -T -
      fi
      remove_modules
      command=(bun install --production --no-progress)
      if [ -n "$lock" ]; then command+=(--frozen-lockfile); else command+=(--no-save); fi
      # The app's own scripts have run already, and may need the packages that are no longer installed.
      cp -p package.json "$tools/package.json"
      jq 'del(.scripts)' "$tools/package.json" >package.json
      run_installation "${command[@]}" || explain_install "${command[*]}"
      cp -p "$tools/package.json" package.json
      if [ -s "$made" ]; then tar -xf "$made"; fi
      rm "$made"
      return
      ;;
  esac
  run_installation "${command[@]}" || { show_log && fail "${command[*]} failed: the lines above say why"; }
  unset YARN_ENABLE_SCRIPTS
}
