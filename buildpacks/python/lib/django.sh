# shellcheck shell=bash
# Django's static files.

# $1: where manage.py is. Gathers the static files into STATIC_ROOT, unless DISABLE_COLLECTSTATIC says no.
collect_static() {
  case ${DISABLE_COLLECTSTATIC:-0} in 0 | false | '') ;; *) bp detail "DISABLE_COLLECTSTATIC is set: static files are not collected" && return ;; esac
  local placeholders=() name
  # Settings commonly insist on these; their values make no difference to static files.
  for name in SECRET_KEY DJANGO_SECRET_KEY; do
    if [ -z "${!name:-}" ]; then placeholders+=("$name=only-for-collectstatic"); fi
  done
  if [ -z "${DATABASE_URL:-}" ]; then placeholders+=("DATABASE_URL=sqlite:///:memory:"); fi
  bp step "Collecting Django's static files"
  if (cd "$(dirname "$1")" && env "${placeholders[@]}" python manage.py collectstatic --noinput) >"$log" 2>&1; then
    sed -nE 's/^([0-9]+ .*static files?.*)/       \1/p; s|'"$PWD"'/||' "$log"
    return
  fi
  if grep -qE 'STATIC_ROOT|Unknown command:? .collectstatic' "$log" && ! grep -q Traceback <(grep -v ImproperlyConfigured "$log" | grep -E '^(KeyError|ImportError)'); then
    bp detail "there is no STATIC_ROOT in the settings: nothing to collect"
    return
  fi
  tail -n 15 "$log"
  name=$(sed -nE "s/^KeyError: '([A-Z0-9_]+)'\$/\1/p; s/.*Set the ([A-Z0-9_]+) environment variable.*/\1/p; s/^(decouple\.)?UndefinedValueError: ([A-Z0-9_]+) not found.*/\2/p" "$log" | head -n 1)
  if [ -n "$name" ]; then
    fail "the settings need $name while building: give them a default for it, or set it (or DISABLE_COLLECTSTATIC=1) for builds in project.toml"
  fi
  fail "collectstatic failed: the lines above say why; try python manage.py collectstatic on your machine, or set DISABLE_COLLECTSTATIC=1 for builds"
}
