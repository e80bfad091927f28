# shellcheck shell=bash
# The dependencies in mix.lock, the compilation of the app, and the files that the image gets.

# Whether a dependency comes from the registry, for which mix needs Hex.
needs_hex() {
  grep -qsE '\{:hex,' mix.lock || grep -qsE '^[^#]*\{:[a-z0-9_]+, *"' mix.exs apps/*/mix.exs
}

get_dependencies() {
  local checksums tool
  bp layer "$layers" mix --cache --key "1 $version" >/dev/null
  export MIX_HOME=$layers/mix HEX_HOME=$layers/mix/hex MIX_ARCHIVES=$layers/mix/archives
  bp layer "$layers" compiled --cache --key "1 $version $otp $MIX_ENV $PWD" >/dev/null
  bp layer "$layers" deps --cache --key 1 >/dev/null
  if [ -n "$release" ]; then export MIX_BUILD_ROOT=$layers/compiled/build; fi
  if [ -d deps ] && [ -n "$(ls deps)" ]; then
    bp detail "Using the dependencies in deps/"
  elif [ -n "$release" ]; then
    export MIX_DEPS_PATH=$layers/deps/all
  fi
  # mix compares dates first and contents second, so all files get a new date.
  find . -path ./.git -prune -o -exec touch -h {} +
  if needs_hex; then
    for tool in hex rebar; do
      if ! mix "local.$tool" --force --if-missing >"$log" 2>&1; then
        tail -n 5 "$log"
        fail "mix cannot install ${tool}, since its server does not answer: push again when it does"
      fi
    done
  fi
  checksums="$MIX_ENV $(bp hash mix.lock mix.exs apps/*/mix.exs)"
  if [ "$(cat "$layers/deps/made-of" 2>/dev/null)" = "$checksums" ]; then
    if [ -f mix.lock ]; then bp step "Using the dependencies of the last build: mix.lock is unchanged"; fi
    return
  fi
  if [ -f mix.lock ]; then bp step "Getting the dependencies of mix.lock"; fi
  rm -f "$layers/deps/made-of"
  if ! mix deps.get --only "$MIX_ENV" --check-locked 2>&1 | tee "$log" | bp progress --hide '.*' --count '^\* Getting ' "Getting dependencies"; then explain "mix deps.get"; fi
  echo "$checksums" >"$layers/deps/made-of"
}

compile() {
  bp step "Compiling for $MIX_ENV"
  if ! mix do deps.compile + compile 2>&1 | tee "$log" |
    { grep --line-buffered -E '^(==> |Generated )' || true; } | bp progress "Compiling"; then
    explain "mix compile"
  fi
  if grep -qE '"assets\.deploy"|: *assets\.deploy' mix.exs apps/*/mix.exs 2>/dev/null; then
    bp step "Making assets (assets.deploy)"
    if [ -f assets/package-lock.json ]; then
      npm ci --prefix assets --no-audit --no-fund >"$log" 2>&1 || { tail -n 20 "$log"; fail "npm ci in assets/ failed: the lines above say why; correct it and push again"; }
    fi
    mix assets.deploy >"$log" 2>&1 || explain "mix assets.deploy"
    rm -rf assets/node_modules
    # The manifest has dates in it.
    find . -name cache_manifest.json -path '*/static/*' -exec sed -i -E 's/"mtime": ?[0-9]+/"mtime":0/g' {} +
  elif [ -d priv/static ] && grep -qs ':phoenix,' mix.exs; then
    mix phx.digest >"$log" 2>&1 || true
    find . -name cache_manifest.json -path '*/static/*' -exec sed -i -E 's/"mtime": ?[0-9]+/"mtime":0/g' {} +
  fi
}

report_phoenix_vars() {
  grep -qsE ':phoenix,' mix.exs apps/*/mix.exs || return 0
  local wanted=SECRET_KEY_BASE
  if grep -qsE ':(ecto_sql|postgrex|myxql)' mix.exs apps/*/mix.exs; then wanted="$wanted, DATABASE_URL"; fi
  bp detail "When it runs, Phoenix needs the config vars $wanted (mix phx.gen.secret prints a secret) and PHX_HOST (its domain)"
}

make_release() {
  local made=$TMPDIR/release name names=() procfile_web
  bp step "Making a release"
  if ! mix release ${MIX_RELEASE:+"$MIX_RELEASE"} --overwrite --path "$made" >"$log" 2>&1; then explain "mix release"; fi
  while IFS= read -r name; do
    if [ -x "$made/releases/$(cut -d ' ' -f 2 "$made/releases/start_erl.data")/elixir" ] && grep -q RELEASE_NAME "$made/bin/$name"; then names+=("$name"); fi
  done < <(find "$made/bin" -maxdepth 1 -type f ! -name '*.bat' -printf '%f\n' | LC_ALL=C sort)
  [ ${#names[@]} != 0 ] || fail "mix release made no program: does include_executables_for in mix.exs lack :unix?"
  name=${names[0]}
  remove_cookie "$made"
  procfile_web=$(grep -sE '^web *:' Procfile || true)
  report_phoenix_vars

  # The app's folder: the release, and links for commands of a Procfile.
  find . -mindepth 1 -maxdepth 1 ! -name Procfile ! -name .profile ! -name app.json -exec rm -rf {} +
  cp -a "$made/." .
  rm -rf "$made"
  # A layer of the image for the virtual machine, since most changes do not touch it.
  printf '[[slices]]\npaths = ["erts-*/**"]\n' >>"$layers/launch.toml"
  mkdir -p _build/prod/rel
  ln -s ../../.. "_build/prod/rel/$name"
  bp layer "$layers" settings --launch --key 1 >/dev/null
  set_variables
  # Instances cannot reach each other, so Erlang's distribution would not work.
  bp env "$layers" settings --launch --default RELEASE_DISTRIBUTION=none
  if [ -n "$procfile_web" ]; then return; fi
  bp process "$layers" web --default -- "bin/$name" start
  bp detail "web runs: bin/$name start"
}

# Sets the variables that every app reads when it runs.
set_variables() {
  bp env "$layers" settings --launch --default PHX_SERVER=true
  bp env "$layers" settings --launch --default LANG=C.UTF-8
  bp env "$layers" settings --launch --default MIX_ENV="$MIX_ENV"
}

# $1: a release. Removes its cookie, a secret that must not be in the image: each container makes one, unless RELEASE_COOKIE is
# set.
remove_cookie() {
  local env
  if [ -n "${RELEASE_COOKIE:-}" ] || ! grep -qE '^[^#]*\bcookie:' mix.exs; then
    rm -f "$1/releases/COOKIE"
    for env in "$1"/releases/*/env.sh; do
      # shellcheck disable=SC2016 # The shell of the release expands them.
      printf '%s\n' 'if [ ! -e "$RELEASE_ROOT/releases/COOKIE" ] && [ -z "${RELEASE_COOKIE:-}" ]; then' \
        '  (umask 077; od -An -N 24 -t x1 /dev/urandom | tr -d " \n" >"$RELEASE_ROOT/releases/COOKIE")' 'fi' | cat - "$env" >"$env.new"
      mv "$env.new" "$env"
    done
  fi
  find "$1" -name '*.bat' -delete
}

# Puts into the image what mix needs, for an app whose Procfile runs mix.
keep_mix() {
  bp detail "The Procfile runs mix: the image gets Elixir and the sources (without a Procfile it would get only a release)"
  bp layer "$layers" settings --launch --key 1 >/dev/null
  # The layer of the last image is not here, only its metadata.
  rm -rf "$layers/settings"
  mkdir "$layers/settings"
  cp -a "$MIX_HOME" "$layers/settings/mix"
  rm -rf "$layers/settings/mix/hex/packages" "$layers/settings/mix/hex/cache.ets" "$layers/settings/mix/hex/hex.config"
  set_variables
  bp env "$layers" settings --launch --default MIX_HOME="$layers/settings/mix"
  report_phoenix_vars
}
