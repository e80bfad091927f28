# shellcheck shell=bash
# Scripts of package.json, run while the app is built.

# Options of bp progress for the next command.
progress=()

# $1: what is done, in words; $2…: a command. Writes its output to the log, and shows it, and while there is none, that it still
# runs. Does not wait for background processes that it leaves behind. Reads progress.
watch_command() {
  local status=0 reader shown what=$1
  shift
  exec {shown}> >(tee "$log" | bp progress "${progress[@]}" "$what")
  reader=$!
  "$@" >&"$shown" 2>&1 {shown}>&- || status=$?
  exec {shown}>&-
  for _ in {1..30}; do
    if ! kill -0 "$reader" 2>/dev/null; then break; fi
    sleep 0.1
  done
  return $status
}

# $@: a command that runs scripts. Runs it as watch_command does. If a script installs the packages of another folder, it gets
# those that build them, too: NODE_ENV would leave them out.
run_with_all_packages() {
  NPM_CONFIG_PRODUCTION=false YARN_PRODUCTION=false npm_config_include=dev pnpm_config_production=false watch_command "$@"
}

# $1: a script of package.json. Ends the build if it fails.
run_script() {
  bp step "Running the script $1 of package.json"
  progress=()
  run_with_all_packages "The script $1 is running" "$manager" run "$1" || explain_script "$1"
}

# $1: a script. Runs it in each package of the workspace that has it. Ends the build if it fails.
run_workspace_scripts() {
  local command
  case $kind in
    npm) command=(npm run "$1" --workspaces --if-present) ;;
    yarn) command=(yarn workspaces run "$1") ;;
    berry) command=(yarn workspaces foreach --all --topological run "$1") ;;
    pnpm) command=(pnpm --recursive --if-present run "$1") ;;
    bun) command=(bun run --filter '*' "$1") ;;
  esac
  bp step "Running the script $1 in the packages of the workspace"
  progress=()
  run_with_all_packages "The script $1 is running" "${command[@]}" || explain_script "$1"
}
