# shellcheck shell=bash
# Reports the output of package managers and scripts: of failures with their cause, by the rules in ../rules.

rules=${BASH_SOURCE[0]%/*}/../rules

# Prints the log of a package manager without blank lines, names of its log files and usage texts.
show_log() {
  grep -vE '^ *$|npm (error|ERR!) *$|A complete log of this run|Log files were not written|npm (error|ERR!) 404 *(tarball, folder|Note that you can|$)|Waiting for the debugger' "$log" | sed '/Clean install a project/,$d' |
    tail -n 40 || true
}

# Prints the lines of the log that matter after a successful installation.
show_install_summary() {
  case $kind in
    npm) show_log ;;
    yarn | berry) grep -E '^Done |└? ?Done ' "$log" | tail -n 1 | sed -E 's/^.*: └ //' || true ;;
    pnpm) grep -E '^Done in|Ignored build scripts' "$log" | sed 's/│//g' || true ;;
    bun) grep -E 'packages? installed|no changes' "$log" || true ;;
  esac
}

# $1: the command that failed. Says why, by what it printed to the file $log, and ends the build.
explain_install() {
  show_log
  bp explain "$log" "$rules/install.toml" "what=$1" "manager=$manager" "version=$version" "lock=${lock:-$(lock_name)}" \
    "unset=$unset_names" "unset_in=$unset_in" "foreign=$foreign" "foreign_of=$foreign_of"
  exit 1
}

# $1: a script of package.json that failed. Says why, by what it printed to the file $log, and ends the build.
explain_script() {
  bp explain "$log" "$rules/script.toml" "script=$1" "manager=$manager" "version=$version" "lock=${lock:-$(lock_name)}" "locked=$(if [ -f "${lock:-$(lock_name)}" ]; then echo yes; fi)" \
    "unset=${unset_names:-}" "unset_in=${unset_in:-}"
  exit 1
}
