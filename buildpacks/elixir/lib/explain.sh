# shellcheck shell=bash

# $1: what was tried. Says why it failed, by what mix printed to the file $log, and ends the build.
explain() {
  tail -n 25 "$log"
  bp explain "$log" "$here/rules.toml" "what=$1" "version=$version"
  exit 1
}
