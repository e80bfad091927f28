# shellcheck shell=bash
# Scripts of package.json, run while the app is built.

# $@: a command. Shows its output and writes it to the log. Does not wait for background processes that it leaves behind.
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

# $1: a script of package.json. Ends the build if it fails.
run_script() {
  bp step "Running the script $1 of package.json"
  watch_command "$manager" run "$1" || explain_script "$1"
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
  watch_command "${command[@]}" || explain_script "$1"
}
