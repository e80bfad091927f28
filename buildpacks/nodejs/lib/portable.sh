# shellcheck shell=bash
# What scripts of package.json take for granted on the developer's machine, and builds do not have.

# Replaces the backslashes of Windows in paths of scripts: a shell takes them out.
fix_windows_paths() {
  local path='(?<before>^|[ =])(?<path>(\\.{0,2}[A-Za-z0-9_.@-]*\\\\)(([A-Za-z0-9_@-][A-Za-z0-9_.@-]*|\\.\\.)\\\\)*[A-Za-z0-9_@-][A-Za-z0-9_.@-]*\\.(m|c)?(js|ts)x?)(?= |$)' found
  found=$(jq -r "[.scripts // {} | .[] | strings | scan(\"$path\") | .[1]] | unique | join(\", \")" package.json 2>/dev/null) || return 0
  if [ -z "$found" ]; then return; fi
  bp trouble "scripts in package.json have paths of Windows ($found): they are built with / instead of \\; correct package.json"
  jq ".scripts |= map_values(if type == \"string\" then gsub(\"$path\"; .before + (.path | gsub(\"\\\\\\\\\"; \"/\"))) else . end)" package.json >package.json.fixed
  cat package.json.fixed >package.json
  rm package.json.fixed
  read_package_json
}

# Takes the shell that runs scripts out of the package manager's configuration if it is not here.
fix_script_shell() {
  local file key shell
  for file in .npmrc .yarnrc pnpm-workspace.yaml; do
    [ -f "$file" ] || continue
    key='script-shell[[:space:]]*[= ]'
    if [ $file = pnpm-workspace.yaml ]; then key='scriptShell[[:space:]]*:'; fi
    shell=$(sed -nE "s/^[[:space:]]*$key[[:space:]]*//p" "$file" | tail -n 1 | sed -E "s/^\"([^\"]*)\".*/\1/; s/^'([^']*)'.*/\1/; s/[[:space:]]+[;#].*//; s/[[:space:]]+$//")
    if [ -z "$shell" ] || command -v "$shell" >/dev/null; then continue; fi
    bp trouble "$file names a shell for scripts that is not here ($shell): sh runs them; remove the line"
    sed -i -E "/^[[:space:]]*$key/d" "$file"
  done
}

# $1: commands. Makes the files with variables that they read (.env, .env.production) and the repository lacks: most tools refuse to run
# without them.
make_env_files() {
  local file
  while IFS= read -r file; do
    : >"$file"
    bp detail "$file, which a command reads, is not in the repository: an empty one is made, since config vars (config:set) have the values"
  done < <(bp env-files "$1")
}
