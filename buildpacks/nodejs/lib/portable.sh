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

# $1: commands, $2: a file. Whether they make the file, or look whether it is there: `[ -f .env ] || cp .env.example .env`.
makes_itself() {
  local name=${2//./\\.}
  [[ $1 =~ (^|[^[:alnum:]_-])(cp|mv|ln|touch|test|\[)\ [^\;\&\|]*$name([^[:alnum:]._-]|$) || $1 =~ \>\ *$name([^[:alnum:]._-]|$) ]]
}

# $1: commands. Makes the files with variables that they name (.env, .env.production) and the repository lacks: most tools refuse to
# run without them.
make_env_files() {
  local word words file
  read -ra words <<<"${1//[;&|()\"\'$'\n']/ }"
  # It reads this file if it is told no other.
  if [[ $1 =~ (^|[^a-z-])env-cmd\  ]] && [[ $1 != *env-cmd\ -f* ]]; then words+=(.env); fi
  for word in "${words[@]}"; do
    file=${word#--env-file=} file=${file#--env=}
    if [[ ! $file =~ ^(\./)?([A-Za-z0-9_-]+/)*\.env(\.[a-z]+)*$ ]] || [ -e "$file" ] || [ ! -d "$(dirname "$file")" ]; then continue; fi
    if makes_itself "$1" "$file"; then continue; fi
    : >"$file"
    bp detail "$file, which a command reads, is not in the repository: an empty one is made, since config vars (config:set) have the values"
  done
}
