# shellcheck shell=bash
# Step 5: puts the package managers that run when the app does, or when a later buildpack builds, into layers, and declares
# the process web. Sets nothing.

launch() {
  find_launch_managers "$start"
  if [ -n "$assets" ]; then
    launch_managers=("$manager")
  elif [ -n "$lock" ] && [[ " ${launch_managers[*]} " != *" $manager "* ]]; then
    # Programs of the app, and commands that are run in its image, may call it.
    launch_managers+=("$manager")
  fi
  add_launch_managers
  keep_downloads
  remove_manager_files
  report_foreign_lock
  if [ -z "$assets$procfile_web" ]; then declare_web; fi
}

# Puts each of launch_managers into a layer.
add_launch_managers() {
  local role=--launch tool setting
  if [ -n "$assets" ]; then role=--build; fi
  for tool in "${launch_managers[@]}"; do
    if [ "$(bp layer "$layers" "$tool" $role --cache --key "$tools_key")" != remake ]; then continue; fi
    need_tools
    # It was not known before the build if the command of the start script was replaced.
    if [ ! -d "$tools/$tool" ]; then install_tool "${tool/#"$manager"/$kind}"; fi
    cp -a "$tools/$tool/." "$layers/$tool/"
    if [ "$tool" = bun ]; then set_launch_environment bun; fi
    if [ "$tool" = pnpm ]; then
      for setting in npm_config_verify_deps_before_run pnpm_config_verify_deps_before_run; do
        bp env "$layers" pnpm --default "$setting=false"
      done
    elif [ "$tool" = yarn ] && [ "$kind" = berry ] && [ -z "$assets" ]; then
      # Yarn itself would look for files of the installation that are not kept.
      rm -rf "$layers/yarn/lib" "$layers/yarn/bin"
      install -D -m 755 "$here/lib/yarn-run.js" "$layers/yarn/bin/yarn"
    fi
  done
}

# Removes the files of package managers from the app's folder that only an installation needs.
remove_manager_files() {
  if [ "$kind" = berry ]; then
    rm -rf .yarn/{cache,unplugged,install-state.gz,build-state.yml}
    if [ -d .yarn ]; then rmdir --ignore-fail-on-non-empty .yarn; fi
    if [ -n "${YARN_NODE_LINKER:-}" ]; then
      rm -f .pnp.*
      # Some commands are `node -r ./.pnp.cjs …`.
      if grep -qsF .pnp.cjs Procfile - <<<"$start"; then echo '// node_modules has the packages.' >.pnp.cjs; fi
    fi
    if [ -z "$lock" ]; then rm -f yarn.lock; fi
  elif [ "$kind" = pnpm ] && [ -z "$lock" ]; then
    rm -f pnpm-lock.yaml
  fi
}

# Declares the process web. Ends the build if there is no command for it, unless the app has a Procfile.
declare_web() {
  if [ -n "$start" ]; then
    if [ "$project_dir" != . ]; then
      bp process "$layers" web --default --shell --dir "$PWD/$project_dir" -- "$start"
      bp detail "web runs in $project_dir: $start"
    else
      bp process "$layers" web --default --shell -- "$start"
      bp detail "web runs: $start"
    fi
  elif [ -f Procfile ]; then
    return
  elif [[ $candidates == *$'\n'* ]]; then
    fail "several packages can be started (${candidates//$'\n'/, }): choose one in a Procfile with a line web: COMMAND, or for this app with config:set --build BP_NODE_PROJECT_PATH=FOLDER"
  else
    nothing_to_start
  fi
}
