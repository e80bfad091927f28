# shellcheck shell=bash

# $1: what was tried. Says why it failed, by what Deno printed to the file $log, and ends the build.
explain() {
  bp explain "$log" "$CNB_BUILDPACK_DIR/rules.toml" "what=$1" "entry=$entry"
  exit 1
}
