# shellcheck shell=bash
# Step 1: determines what the app is, and which versions, package manager and start command it asks for.
#
# Reads the build plan ($plan), package.json, lock files, files that name versions, the Procfile, app.json and
# BP_NODE_PROJECT_PATH. Sets
#   assets           yes if an app in another language only needs what the build script makes: Node.js, the package manager
#                    and the packages are then there while later buildpacks build, and are in no image
#   build_later      yes if the buildpack of that language runs the build script itself, by make-assets
#   name, engines    name and engines.node of package.json
#   manager, kind, lock, manager_range, manager_hash     the package manager: see choose_manager
#   unset_names, unset_in        variables that the package manager's configuration lacks: see find_unset_variables
#   foreign, foreign_of          what a lock file of another system lacks: see find_foreign_lock
#   node_request, node_source                            the version of Node.js: see find_node_request
#   version          the version of Node.js, for now the default one: step 2 chooses it
#   settings         a checksum of the variables that decide which packages are installed
#   manifests        the files that decide it, besides the lock file
#   own_files        the files of packages that are folders of the app
#   build_script     the command of the build script
#   start            the command of the start script
#   procfile_web     the line web of the Procfile
#   launch_managers  the package managers that run when the app starts
#   bun_is_runtime   yes if Bun runs the app
#   bun_only         yes if, besides, nothing needs Node.js
#   managers         the package managers to install

determine_app() {
  read_package_json
  if plan_has 'build = false'; then
    bp step "Installing no packages: no script in package.json builds this site"
    exit
  fi
  fix_windows_paths
  fix_script_shell
  make_env_files "$(expand_scripts "npm run prebuild ; npm run build ; npm run heroku-postbuild ; npm run prestart ; npm start ; $(cat Procfile 2>/dev/null)")"
  assets="" build_later=""
  if plan_has 'role = "assets"'; then assets=yes; fi
  if plan_has 'when = "later"'; then build_later=yes; fi
  name=$(package name)
  engines=$(package engines.node)
  choose_manager
  find_unset_variables
  find_foreign_lock
  find_node_request
  find_bun_version
  version=$default_node
  remove_committed_modules
  find_manifests
  settings=$(package_settings)
  determine_start
}

# $1: a key with its value. Whether the build plan has it.
plan_has() {
  [[ $'\n'$plan =~ $'\n'\ *"$1" ]]
}

remove_committed_modules() {
  if [ -n "$(find . -name node_modules -prune -print -quit)" ]; then
    bp trouble "node_modules is in the repository and is ignored: only the packages that a package.json names are installed; run git rm -r --cached node_modules"
    find . -name node_modules -prune -exec rm -rf {} +
  fi
}

# Sets manifests and own_files.
find_manifests() {
  mapfile -d '' manifests < <(find . -name node_modules -prune -o -path ./.yarn/cache -prune -o \( -name package.json -o -name '*.prisma' -o \
    -name '.npmrc' -o -path './patches/*' -o -path './.yarn/*' -o -name '.pnpmfile.*js' \) -type f -print0 | sort -z)
  mapfile -d '' own_files < <(files_of_own_packages)
}

# Sets build_script, start, procfile_web, and what follows from them. Ends the build of an app that cannot start.
determine_start() {
  local file workspace_starts="" tool
  build_script=$(package scripts.heroku-postbuild)
  if [ -z "$build_script" ]; then build_script=$(package scripts.build); fi
  start=$(script_text . start)
  procfile_web=""
  if [ -f Procfile ]; then procfile_web=$(grep -E '^web *:' Procfile || true); fi
  if [ -n "$(package workspaces)" ] || [ -f pnpm-workspace.yaml ]; then
    workspace_starts=$(for file in "${manifests[@]}"; do case $file in */package.json) bp json "$file" scripts.start "" ;; esac; done)
  fi
  if [ -n "${BP_NODE_PROJECT_PATH:-}" ] && [ ! -f "$BP_NODE_PROJECT_PATH/package.json" ]; then
    fail "BP_NODE_PROJECT_PATH is $BP_NODE_PROJECT_PATH, a folder without a package.json: correct it (config:set --build)"
  fi
  launch_managers=() bun_is_runtime="" bun_only=""
  if [ -z "$assets" ]; then
    if [ ! -f Procfile ] && { [ -z "$start" ] || is_for_development "$start"; }; then refuse_adapter .; fi
    if [ ! -f Procfile ] && [ -z "$start$workspace_starts$build_script" ] && ! usual_program . >/dev/null; then nothing_to_start; fi
    if [[ $start =~ (^|\ )pm2\ start\  ]] && [[ $start != *--no-daemon* ]]; then
      fail "pm2 start runs the app in the background and ends: use pm2-runtime instead, or start the program itself"
    fi
    find_launch_managers "$start $workspace_starts"
  fi
  # Bun is the runtime if it is what starts the app, and the only one if nothing asks for Node.js.
  if [ "$manager" = bun ] && { [[ " ${launch_managers[*]} " == *" bun "* ]] || [ -z "$start$build_script$engines$node_request" ]; }; then
    bun_is_runtime=yes
    if [[ " ${launch_managers[*]} " != *" bun "* ]]; then launch_managers+=(bun); fi
    if [ -z "$assets$engines$node_request" ] && [[ $build_script =~ ^(bun (--bun|build|run [^ ]+\.[jt]sx?|[^ ]+\.[jt]sx?)|$) ]] &&
      [[ $start =~ ^([A-Z_]+=[^ ]+ )*(bunx? --bun|bun (run )?(--[a-z-]+ )*[^ ]+\.[jt]sx?|$) ]]; then bun_only=yes; fi
  fi
  managers=()
  for tool in berry bun npm pnpm yarn; do
    if [[ " $kind ${launch_managers[*]/#"$manager"/$kind} " == *" $tool "* ]]; then managers+=("$tool"); fi
  done
  report_unreadable_versions
}
