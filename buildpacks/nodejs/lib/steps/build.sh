# shellcheck shell=bash
# Step 3: runs the scripts that build the app, with all packages installed in its folder. Without such scripts nothing is
# installed here.
#
# Reads what steps 1 and 2 set. Sets
#   has_packages   yes if the app, or a package of its workspace, has dependencies
#   packages_key   a key of what decides the packages of the image, without what scripts made in them: step 4 adds that
#   all_installed  yes if all packages are installed
#   module_folders, if all packages are installed: see find_modules
# and creates the file $stamp after all packages were installed, before scripts run.

build_app() {
  local install_scripts=() build_scripts=() workspace_build="" reinstall=""
  if [ -n "$(package scripts.heroku-prebuild)" ]; then
    need_tools
    run_script heroku-prebuild
  fi
  has_packages=$(package dependencies)$(package devDependencies)$(package optionalDependencies)$(package workspaces)
  if [ -f pnpm-workspace.yaml ]; then has_packages=yes; fi
  packages_key="3 $version $kind $(bp hash "${manifests[@]}" "${own_files[@]}" "${lock:-none}" .yarnrc .yarnrc.yml pnpm-workspace.yaml bunfig.toml) $settings"
  find_scripts
  all_installed=""
  if [ -n "$assets$reinstall$workspace_build" ] || [ $((${#install_scripts[@]} + ${#build_scripts[@]})) != 0 ]; then
    install_all_packages
    run_build_scripts
  fi
}

# Sets install_scripts (those that a package manager runs when it installs packages), build_scripts, workspace_build (yes if
# packages of the workspace have build scripts to run) and reinstall (yes if an installation makes files that no layer keeps).
find_scripts() {
  local script file
  for script in preinstall install postinstall prepare; do
    if [ -n "$(package "scripts.$script")" ]; then install_scripts+=("$script"); fi
  done
  # What packages of a workspace make when they are installed is in their folders.
  for file in "${manifests[@]}"; do
    if [ "$file" != ./package.json ] && grep -qsE '"(preinstall|install|postinstall|prepare)" *:' "$file"; then reinstall=yes; fi
  done
  if [ -n "$(package scripts.heroku-postbuild)" ]; then
    build_scripts=(heroku-postbuild)
  elif [ -n "$build_script" ]; then
    build_scripts=(build)
  fi
  if [ -n "$build_later" ] && [ ${#build_scripts[@]} != 0 ]; then
    write_make_assets "${build_scripts[0]}"
    build_scripts=()
  fi
  # The packages of a workspace have build scripts of their own, if the workspace has none for all.
  if [ -z "$build_script" ] && { [ -n "$(package workspaces)" ] || [ -s pnpm-workspace.yaml ]; }; then
    for file in "${manifests[@]}"; do
      if [ "${file##*/}" = package.json ] && [ "$file" != ./package.json ] && [ -n "$(bp json "$file" scripts.build "")" ]; then
        workspace_build=yes
      fi
    done
  fi
}

# $1: a script. Puts a command into a layer by which the buildpack of the app's language runs the script.
write_make_assets() {
  bp layer "$layers" later --build --key 1 >/dev/null
  mkdir -p "$layers/later/bin"
  printf '#!/bin/bash\nexec %q %q %q %q %q\n' "$here/lib/make-assets" "$kind" "$manager" "$version" "$1" >"$layers/later/bin/make-assets"
  chmod +x "$layers/later/bin/make-assets"
}

# Puts all packages into the app's folder, from the layer `all` if it is up to date. Sets install_scripts to those that are
# still to run.
install_all_packages() {
  local role=() all=$layers/all
  if [ -n "$assets" ]; then role=(--build); fi
  if [ "$(bp layer "$layers" all "${role[@]}" --cache --key "$packages_key")" = keep ] && [ -z "$reinstall" ]; then
    report_unchanged_packages
    find_modules "$all"
    cp -a "$all/." .
    rm -rf env.build
    # The scripts that an installation runs may make files of the app. Yarn 2 and newer does not run prepare then.
    if [ "$kind" = berry ]; then install_scripts=("${install_scripts[@]/prepare/}"); fi
  else
    bp step "Installing all packages of ${name:-the app} with ${titles[$manager]}, for the build"
    find "$all" -mindepth 1 -delete
    install_packages all
    find_modules .
    keep_modules cp "$all"
    if [ -f .yarn/install-state.gz ]; then mkdir -p "$all/.yarn" && cp .yarn/install-state.gz "$all/.yarn/"; fi
    # pnpm needs it to remove the development packages.
    if [ "$kind" = pnpm ] && [ -z "$lock" ] && [ -f pnpm-lock.yaml ]; then cp pnpm-lock.yaml "$all/"; fi
    if [ -n "$assets" ]; then bp env "$layers" all --build --prepend "PATH=$PWD/node_modules/.bin"; fi
    install_scripts=()
  fi
  all_installed=yes
}

report_unchanged_packages() {
  local files="package.json is"
  if [ -n "$lock" ]; then files="package.json and $lock are"; fi
  bp step "Using the packages of the last build: $files unchanged"
}

run_build_scripts() {
  local script
  touch "$stamp"
  sleep 0.01
  bp layer "$layers" caches --cache --key 1 >/dev/null
  restore_build_caches
  for script in "${install_scripts[@]}" "${build_scripts[@]}"; do
    if [ -z "$script" ] || [[ $(package "scripts.$script") == *only-allow* ]]; then continue; fi
    need_tools
    run_script "$script"
  done
  if [ -n "$workspace_build" ]; then
    need_tools
    run_workspace_scripts build
  fi
  keep_build_caches
}

# Folders in which build tools keep what speeds up the next build, in the app's folder or any package's.
build_caches=(.next/cache .nuxt/cache .turbo/cache .nx/cache .angular/cache .parcel-cache .svelte-kit/cache)

restore_build_caches() {
  if [ -n "$(ls -A "$layers/caches")" ]; then cp -a "$layers/caches/." .; fi
}

keep_build_caches() {
  local dir
  find "$layers/caches" -mindepth 1 -delete
  for dir in "${build_caches[@]}"; do
    while IFS= read -r -d '' dir; do
      mkdir -p "$layers/caches/$(dirname "$dir")"
      mv -T "$dir" "$layers/caches/$dir"
    done < <(find . -path '*/node_modules' -prune -o -type d -path "*/$dir" -printf '%P\0' -prune)
  done
}
