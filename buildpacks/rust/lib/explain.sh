# shellcheck shell=bash

# Says why cargo failed, by what it printed to the file $log, and ends the build.
explain() {
  bp explain "$log" "$CNB_BUILDPACK_DIR/rules.toml" "version=$version" "series=${version%.*}"
  exit 1
}
