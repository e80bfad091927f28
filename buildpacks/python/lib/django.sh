# shellcheck shell=bash disable=SC2154
# Django's static files.

# Prints the variable that the settings missed, by what Python, django-environ or decouple said.
missed_variable() {
  sed -nE "s/^KeyError: '([A-Za-z0-9_]+)'\$/\1/p; s/.*[Ss]et the ([A-Z0-9_]+) environment variable.*/\1/p
    s/^(decouple\.)?UndefinedValueError: ([A-Z0-9_]+) not found.*/\2/p; s/.*[Ee]nvironment variable \"?'?([A-Z0-9_]+)\"?'? (is )?(not set|missing|required).*/\1/p" \
    "$log" | head -n 1
}

# $1: the path of manage.py. Collects the static files into STATIC_ROOT, unless DISABLE_COLLECTSTATIC is set.
collect_static() {
  case ${DISABLE_COLLECTSTATIC:-0} in 0 | false | '') ;; *) bp detail "DISABLE_COLLECTSTATIC is set: static files are not collected" && return ;; esac
  # Settings often require config vars, which builds do not see; their values make no difference to static files.
  local values=() names=() name
  for name in SECRET_KEY DJANGO_SECRET_KEY; do
    if [ -z "${!name:-}" ]; then values+=("$name=only-for-collectstatic"); fi
  done
  if [ -z "${DATABASE_URL:-}" ]; then values+=("DATABASE_URL=sqlite:///:memory:"); fi
  bp step "Collecting Django's static files"
  until (cd "$(dirname "$1")" && env "${values[@]}" python manage.py collectstatic --noinput) >"$log" 2>&1; do
    if grep -qE 'without having set the STATIC_ROOT setting|Unknown command: .collectstatic' "$log"; then
      bp detail "The settings have no STATIC_ROOT: there is nothing to collect"
      return
    fi
    name=$(missed_variable)
    if [ -z "$name" ] || [[ " ${names[*]} " == *" $name "* ]] || [ ${#names[@]} -ge 20 ]; then
      not_collected "$name"
    fi
    names+=("$name") values+=("$name=1")
  done
  sed -nE 's/^([0-9]+ .*static files?.*)/       \1/p; s|'"$PWD"'/||' "$log"
  if [ ${#names[@]} -gt 0 ]; then bp detail "Builds see no config vars: these were set to 1, since the settings read them: ${names[*]}"; fi
}

# $1: a variable that was missed, or nothing. Ends the build.
not_collected() {
  local module
  tail -n 15 "$log"
  module=$(sed -nE "s/^ModuleNotFoundError: No module named '([^']+)'/\1/p" "$log" | tail -n 1)
  if [ -n "$module" ]; then
    fail "the settings import $module, which ${source:-no file} does not install: add its package"
  elif [ -n "$1" ]; then
    fail "the settings need $1 while building: give them a default for it, or set it for builds with config:set --build"
  elif grep -qE 'OperationalError|could not (translate|connect)|Connection refused' "$log"; then
    fail "collectstatic wants a database or another service, which builds have not: do not use it when a module is imported, or set DISABLE_COLLECTSTATIC=1 with config:set --build"
  elif grep -qE "MissingFileError|could not be found with|The file '.*' could not be found" "$log"; then
    fail "a static file that a style sheet or script names is not there: commit it, or correct the name (the lines above say which)"
  fi
  fail "collectstatic failed: the lines above say why; try python manage.py collectstatic on your machine, or set DISABLE_COLLECTSTATIC=1 with config:set --build"
}
