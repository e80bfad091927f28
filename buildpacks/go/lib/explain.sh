# shellcheck shell=bash

# $1: what was tried. Says why it failed, by what Go printed to the file $log, and ends the build.
explain() {
  bp explain "$log" "$CNB_BUILDPACK_DIR/rules.toml" "what=$1"
  exit 1
}
