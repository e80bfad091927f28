# shellcheck shell=bash disable=SC2154
# Django's static files.

# Prints the variable that the settings missed, by what Python, django-environ or decouple said. Django, whose settings fail, does not
# find its command either.
missed_variable() {
  sed -nE "s/^KeyError: '([A-Za-z0-9_]+)'\$/\1/p; s/.*[Ss]et the ([A-Z0-9_]+) environment variable.*/\1/p
    s/^(decouple\.)?UndefinedValueError: ([A-Z0-9_]+) not found.*/\2/p; s/.*[Ee]nvironment variable \"?'?([A-Z0-9_]+)\"?'? (is )?(not set|missing|required).*/\1/p" \
    "$log" | grep -vx collectstatic | head -n 1 || true
}

# $1: the path of manage.py. Collects the static files into STATIC_ROOT.
collect_static() {
  # Settings often require config vars, which builds do not see; their values make no difference to static files.
  local values=() names=() name
  for name in SECRET_KEY DJANGO_SECRET_KEY; do
    # Settings may check that a key is long and made of many characters.
    if [ -z "${!name:-}" ]; then values+=("$name=only-for-collectstatic-bcdfghjkmpqruvwxyzBCDFGHJKLMNPQRSTVWXYZ0123456789"); fi
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
  local stand_ins=("${values[@]%%=*}") refused=() name
  for name in "${stand_ins[@]}"; do
    if grep -qw -- "$name" "$log"; then refused+=("$name"); fi
  done
  tail -n 15 "$log"
  bp explain "$log" "$here/rules/collectstatic.toml" "source=${source:-}" "variable=$1" "refused=$(list_words "${refused[@]}")" \
    "stand_ins=$(list_words "${stand_ins[@]}")"
  exit 1
}

# $1: the path of manage.py. Prints the settings that wsgi.py or asgi.py names, if manage.py names others: those for development.
served_settings() {
  local file pattern="s/^[^#]*DJANGO_SETTINGS_MODULE['\"][^A-Za-z_'\"]*['\"]([A-Za-z0-9_.]+)['\"].*/\1/p" own served
  own=$(sed -nE "$pattern" "$1" | head -n 1)
  file=$(find "$(dirname "$1")" -maxdepth 3 \( -name wsgi.py -o -name asgi.py \) | sort -r | head -n 1)
  if [ -z "$own" ] || [ -z "$file" ]; then return; fi
  served=$(sed -nE "$pattern" "$file" | head -n 1)
  if [ "$served" != "$own" ]; then echo "$served"; fi
}

# $1: the path of manage.py. Collects the static files with the settings that the server uses; if these do not work here, with those
# that manage.py names. Does nothing if DISABLE_COLLECTSTATIC is set.
collect_as_served() {
  local served
  case ${DISABLE_COLLECTSTATIC:-0} in 0 | false | '') ;; *) bp detail "DISABLE_COLLECTSTATIC is set: static files are not collected" && return ;; esac
  served=$(served_settings "$1")
  if [ -z "$served" ] || [ -n "${DJANGO_SETTINGS_MODULE:-}" ]; then
    collect_static "$1"
  elif (DJANGO_SETTINGS_MODULE=$served && export DJANGO_SETTINGS_MODULE && collect_static "$1") >"$work/served" 2>&1; then
    cat "$work/served"
    bp detail "Used the settings $served, as the server does; those that manage.py names are for development"
  elif (collect_static "$1") >"$work/own" 2>&1; then
    cat "$work/own"
    bp trouble "the static files are collected with the settings that manage.py names: the server's settings, $served, do not work in a build ($(grep '^ *!' "$work/served" | tail -n 1 | sed 's/^ *! *//'))"
  else
    cat "$work/served"
    exit 1
  fi
}
