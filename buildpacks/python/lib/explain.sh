# shellcheck shell=bash disable=SC2154

# Says why the packages could not be installed, by what was printed to the file $log, and ends the build; or begins it
# again with Debian 12's Python, where that may have what the stack's lacks and nothing asks for another.
explain() {
  local try_older=yes status=0
  if [[ -n $asked && $own. == "$minor."* ]] || [ "$version" != "$own" ] || ! allowed "$debian12"; then try_older=no; fi
  bp explain "$log" "$here/rules/install.toml" "source=$source" "version=$version" "arch=$CNB_TARGET_ARCH" \
    "try_older=$try_older" "series=${own%.*}" "older_series=${debian12%.*}" || status=$?
  if [ "$status" = 3 ]; then
    touch "$layers/older/yes"
    PYTHON_SETTINGS=$settings exec "$here/bin/build" "${arguments[@]}"
  fi
  exit 1
}
