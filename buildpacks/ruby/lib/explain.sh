# shellcheck shell=bash

# Says why Bundler failed, by what it printed to the file $log, and ends the build.
explain() {
  remove_headers
  bp explain "$log" "$here/rules/bundle.toml" "gemfile=$gemfile" "lock=$lock" "version=$version" "series=${version%.*}" \
    "unset=$(unset_variables)" "credential=$(credential_variable)"
  exit 1
}

# Says why Rails did not compile assets, by what it printed to the file $log, and ends the build.
explain_rails() {
  local sealed=''
  if [ -z "${RAILS_MASTER_KEY:-}" ] && [ ! -f config/master.key ] && { [ -f config/credentials.yml.enc ] || [ -f "config/credentials/$RAILS_ENV.yml.enc" ]; }; then sealed=yes; fi
  bp explain "$log" "$here/rules/rails.toml" "gemfile=$gemfile" "env=$RAILS_ENV" "sealed=$sealed"
  exit 1
}

# Prints the variables in addresses in the Gemfile that have no default and are not set, with =VALUE and a space between.
unset_variables() {
  local name list=""
  while IFS= read -r name; do
    if [ -z "${!name:-}" ]; then list+="${list:+=VALUE }$name"; fi
  done < <(sed -E 's/#[^{].*//' "$gemfile" | grep -E '://|^ *source' | grep -oE "ENV(\[|\.fetch\()['\"][A-Za-z_][A-Za-z0-9_]*['\"][])]( *\|\|)?" | grep -v '||' | sed -E "s/.*['\"]([A-Za-z_0-9]+)['\"].*/\1/" | sort -u)
  echo "$list"
}

# Prints the variable by which Bundler reads the login of the gem server that asks for one, as its message names it.
credential_variable() {
  local host
  host=$(sed -nE 's#.*(Authentication is required for|Bad username or password for) (https?://)?([^/ ]*[A-Za-z0-9]).*#\3#p' "$log" | head -n 1)
  host=${host^^} host=${host//./__} host=${host//-/___}
  echo "${host:+BUNDLE_$host}"
}
