# shellcheck shell=bash
# Step 4: determines what the app runs, and puts the packages that it needs for that into a layer of the image.
#
# Reads what the earlier steps set, BP_NODE_PROJECT_PATH, and what the build has made. Sets
#   project_dir  the folder of the package to run
#   start        the command to run there, unless the Procfile has a line web
#   candidates   the folders of the packages that could be run, one a line

prepare_image() {
  local image_packages=production
  determine_command
  choose_image_packages
  if [[ $start == *"node .next/standalone/"* ]]; then complete_standalone_server; fi
  # Scripts may have made files in node_modules.
  if [ -n "$all_installed" ]; then packages_key+=" $(made_in_modules "$stamp")"; fi
  if [ "$image_packages" = none ]; then
    remove_modules
    if [ -n "$assets" ]; then link_modules "$layers/all"; fi
  else
    fill_modules_layer
    link_modules "$layers/modules"
  fi
  if [ -n "$(package scripts.heroku-cleanup)" ] && [ -z "$assets" ]; then
    need_tools
    bp step "Running the script heroku-cleanup of package.json"
    progress=()
    watch_command "The script heroku-cleanup is running" "$manager" run heroku-cleanup || explain_script heroku-cleanup
  fi
  check_prisma_client
}

# Sets project_dir, start and candidates.
determine_command() {
  local pattern='^(.*next start.*) (-p|--port)[ =][0-9]+(.*)$'
  project_dir=${BP_NODE_PROJECT_PATH:-.} candidates=""
  if [ -n "$assets$procfile_web" ]; then return; fi
  find_start "$project_dir" || true
  if [ -z "$start" ] && [ "$project_dir" = . ]; then
    candidates=$(startable_packages)
    if [ -n "$candidates" ] && [[ $candidates != *$'\n'* ]]; then
      project_dir=$candidates
      find_start "$project_dir" || true
    fi
  fi
  # The router sends requests to $PORT.
  if [[ $start =~ $pattern ]]; then start="${BASH_REMATCH[1]} -p \$PORT${BASH_REMATCH[3]}"; fi
}

# Sets image_packages to none, production or all.
choose_image_packages() {
  local commands="" tool why
  if [ -n "$assets" ]; then
    image_packages=none
  elif [ ! -f Procfile ] && [[ $start == "node .output/"* || $start == *"node .next/standalone/"* ]]; then
    # The framework has copied those that its server needs.
    image_packages=none
  else
    if [ -f Procfile ]; then commands=$(cut -d : -f 2- Procfile); fi
    tool=$(development_tool "$project_dir" "$(expand_scripts "$start $commands")")
    if why=$(unpruned); then
      image_packages=all
      bp detail "The development packages stay in the image ($why)"
      return
    fi
    if [ -n "$tool" ]; then
      image_packages=all
      bp trouble "$tool is used when the app starts, but belongs to a development package: all of those stay in the image; move it to dependencies"
    fi
  fi
}

# Prints the variable that keeps the development packages in the image, as on Heroku; fails if none is set.
unpruned() {
  local setting
  for setting in NPM_CONFIG_PRODUCTION=false YARN_PRODUCTION=false YARN2_SKIP_PRUNING=true PNPM_SKIP_PRUNING=true; do
    if [ "$(printenv "${setting%=*}")" = "${setting#*=}" ]; then echo "$setting" && return; fi
  done
  [ "$NODE_ENV" != production ] && echo "NODE_ENV=$NODE_ENV"
}

# Next.js does not copy the files that browsers ask for into the folder of its standalone server.
complete_standalone_server() {
  local server from_to
  server=${start##*node } server=$(dirname "$server")
  for from_to in "public $server/public" ".next/static $server/.next/static"; do
    if [ -d "$project_dir/${from_to% *}" ]; then
      mkdir -p "$project_dir/${from_to#* }" && cp -a "$project_dir/${from_to% *}/." "$project_dir/${from_to#* }"
    fi
  done
}

# Puts the packages of the image into the layer modules, unless it has them; no node_modules is left in the app's folder.
fill_modules_layer() {
  local modules=$layers/modules own_bin=""
  if [ "$(bp layer "$layers" modules --launch --cache --key "$packages_key $image_packages $project_dir")" = keep ]; then
    if [ -n "$all_installed" ]; then
      remove_modules
    else
      report_unchanged_packages
    fi
    find_modules "$modules"
    return
  fi
  if [ -z "$all_installed" ]; then
    if [ -n "$lock$has_packages" ]; then bp step "Installing packages of ${name:-the app} with ${titles[$manager]}"; fi
    install_packages "$image_packages"
    find_modules .
  elif [ "$image_packages" = production ] && [ -n "$lock$has_packages" ]; then
    bp step "Removing the development packages"
    need_tools
    remove_development_packages
  fi
  keep_modules mv "$modules"
  if [ "$project_dir" != . ]; then own_bin=$PWD/$project_dir/node_modules/.bin:; fi
  bp env "$layers" modules --launch --prepend "PATH=${own_bin}$PWD/node_modules/.bin"
}

check_prisma_client() {
  if { [ -d node_modules/.prisma ] || compgen -G 'node_modules/.pnpm/@prisma+client*' >/dev/null; } &&
    grep -qs "did not initialize yet" node_modules/.prisma/client/index.js node_modules/.pnpm/@prisma+client*/node_modules/.prisma/client/index.js; then
    bp trouble "the Prisma client is not generated, and fails as soon as it is used: add \"postinstall\": \"prisma generate\" to the scripts of package.json"
  fi
}
