# shellcheck shell=bash disable=SC2154

# Prints the variables that files about packages read and that are not set, with commas between them.
unset_variables() {
  local name names=()
  while read -r name; do
    if [ -z "${!name+set}" ]; then names+=("$name"); fi
  done < <(find . \( -path ./.git -o -name node_modules -o -name .venv \) -prune -o -type f \( -name '*requirements*' -o -path '*/requirements/*' \
    -o -name Pipfile -o -name pyproject.toml -o -name uv.toml -o -name pip.conf \) -exec sed -E 's/(^|[[:space:]])#.*//' {} + | grep -oE '\$\{[A-Za-z_][A-Za-z0-9_]*\}' | tr -d '${}' | sort -u)
  list_words "${names[@]}"
}

# $@: words. Prints them with commas between them.
list_words() {
  local IFS=,
  sed 's/,/, /g' <<<"$*"
}

# Prints the variables in which the manager reads the access to package indexes.
access_variables() {
  local name prefix=UV_INDEX_
  case $manager in
    uv) name=$(project tool.uv.index) ;;
    poetry) name=$(project tool.poetry.source) prefix=POETRY_HTTP_BASIC_ ;;
    *) name='' ;;
  esac
  name=$(jq -r 'first(.[].name // empty) | ascii_upcase | gsub("[^A-Z0-9]"; "_")' <<<"${name:-[]}" 2>/dev/null || true)
  if [ -n "$name" ]; then
    echo "as $prefix${name}_USERNAME and $prefix${name}_PASSWORD"
  else
    echo "in the URL of PIP_EXTRA_INDEX_URL or UV_INDEX"
  fi
}

# Says why the packages could not be installed, by what was printed to the file $log, and ends the build; or begins it
# again with Debian 12's Python, where that may have what the stack's lacks and nothing asks for another.
explain() {
  local try_older=yes status=0
  if [ -n "$asked" ] || [ "$version" != "$own" ] || ! allowed "$debian12"; then try_older=no; fi
  bp explain "$log" "$here/rules/install.toml" "source=$source" "version=$version" "arch=$CNB_TARGET_ARCH" \
    "try_older=$try_older" "unset=$(unset_variables)" "access=$(access_variables)" "series=${own%.*}" "older_series=${debian12%.*}" || status=$?
  if [ "$status" = 3 ]; then
    touch "$layers/older/yes"
    PYTHON_SETTINGS=$settings exec "$here/bin/build" "${arguments[@]}"
  fi
  exit 1
}
