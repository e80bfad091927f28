# shellcheck shell=bash

# Says why Bundler failed, by what it printed to the file $log, and ends the build.
explain() {
  remove_headers
  bp explain "$log" "$here/rules/bundle.toml" "gemfile=$gemfile" "lock=$lock" "version=$version" "series=${version%.*}"
  exit 1
}

# Says why Rails did not compile assets, by what it printed to the file $log, and ends the build.
explain_rails() {
  bp explain "$log" "$here/rules/rails.toml" "gemfile=$gemfile" "env=$RAILS_ENV"
  exit 1
}
