# shellcheck shell=bash

# Says why Composer failed, by what it printed to the file $log, and ends the build.
explain() {
  bp explain "$log" "$here/rules.toml" "version=$version" "series=${version%.*}"
  exit 1
}
