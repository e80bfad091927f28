# shellcheck shell=bash
rules=$(dirname "${BASH_SOURCE[0]}")/../rules

# What a manager printed, without blank lines, its log file's name and its usage.
shown() {
  grep -vE '^ *$|npm (error|ERR!) *$|A complete log of this run|Log files were not written|npm (error|ERR!) 404 *(tarball, folder|Note that you can|$)|Waiting for the debugger' "$log" | sed '/Clean install a project/,$d' |
    tail -n 40 || true
}

# Of what a manager printed when all went well, what a developer wants to know.
shown_briefly() {
  case $kind in
    npm) shown ;;
    yarn | berry) grep -E '^Done |└? ?Done ' "$log" | tail -n 1 | sed -E 's/^.*: └ //' || true ;;
    pnpm) grep -E '^Done in|Ignored build scripts' "$log" | sed 's/│//g' || true ;;
    bun) grep -E 'packages? installed|no changes' "$log" || true ;;
  esac
}

# $1: the command that failed. Says why, by what it printed to the file $log, and ends the build.
explain_install() {
  shown
  bp explain "$log" "$rules/install.toml" "what=$1" "manager=$manager" "version=$version" "lock=${lock:-$(lock_name)}"
  exit 1
}

# $1: a script of package.json that failed. Says why, by what it printed to the file $log, and ends the build.
explain_script() {
  bp explain "$log" "$rules/script.toml" "script=$1" "manager=$manager" "version=$version" "lock=$(lock_name)"
  exit 1
}
