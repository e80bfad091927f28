# shellcheck shell=bash
# Dependencies as mix.lock names them, the app compiled, and what of it gets into the image.

# Whether a package of the registry is wanted, for which mix needs a part of its own.
needs_hex() {
  grep -qsE '\{:hex,' mix.lock || grep -qsE '^[^#]*\{:[a-z0-9_]+, *"' mix.exs apps/*/mix.exs
}

get_dependencies() {
  local sums tool
  bp layer "$layers" mix --cache --key "1 $version" >/dev/null
  export MIX_HOME=$layers/mix HEX_HOME=$layers/mix/hex MIX_ARCHIVES=$layers/mix/archives
  bp layer "$layers" compiled --cache --key "1 $version $otp $MIX_ENV $PWD" >/dev/null
  bp layer "$layers" deps --cache --key 1 >/dev/null
  if [ -n "$release" ]; then export MIX_BUILD_ROOT=$layers/compiled/build; fi
  if [ -d deps ] && [ -n "$(ls deps)" ]; then
    bp detail "Dependencies come from deps/"
  elif [ -n "$release" ]; then
    export MIX_DEPS_PATH=$layers/deps/all
  fi
  # Mix goes by dates first, and by contents then.
  find . -path ./.git -prune -o -exec touch -h {} +
  if needs_hex; then
    for tool in hex rebar; do
      if ! mix "local.$tool" --force --if-missing >"$log" 2>&1; then
        tail -n 5 "$log"
        fail "mix's own ${tool} cannot be installed, since its server does not answer; push again when it does"
      fi
    done
  fi
  sums="$MIX_ENV $(bp hash mix.lock mix.exs apps/*/mix.exs)"
  if [ "$(cat "$layers/deps/made-of" 2>/dev/null)" = "$sums" ]; then
    if [ -f mix.lock ]; then bp step "Using the dependencies of the last build: mix.lock is unchanged"; fi
    return
  fi
  if [ -f mix.lock ]; then bp step "Getting the dependencies of mix.lock"; fi
  rm -f "$layers/deps/made-of"
  if ! mix deps.get --only "$MIX_ENV" --check-locked >"$log" 2>&1; then explain "mix deps.get"; fi
  echo "$sums" >"$layers/deps/made-of"
}

compile() {
  bp step "Compiling for $MIX_ENV"
  if ! mix do deps.compile + compile 2>&1 | tee "$log" | grep --line-buffered -E '^(==> |Generated )' &&
    [ "${PIPESTATUS[0]}" != 0 ]; then
    explain "mix compile"
  fi
  if grep -qE '"assets\.deploy"|: *assets\.deploy' mix.exs apps/*/mix.exs 2>/dev/null; then
    bp step "Making assets (assets.deploy)"
    if [ -f assets/package-lock.json ]; then
      npm ci --prefix assets --no-audit --no-fund >"$log" 2>&1 || { tail -n 20 "$log"; fail "npm ci in assets/ failed: the lines above say why; correct it and push again"; }
    fi
    mix assets.deploy >"$log" 2>&1 || explain "mix assets.deploy"
    rm -rf assets/node_modules
    # A list with dates in it.
    find . -name cache_manifest.json -path '*/static/*' -exec sed -i -E 's/"mtime": ?[0-9]+/"mtime":0/g' {} +
  elif [ -d priv/static ] && grep -qs ':phoenix,' mix.exs; then
    mix phx.digest >"$log" 2>&1 || true
    find . -name cache_manifest.json -path '*/static/*' -exec sed -i -E 's/"mtime": ?[0-9]+/"mtime":0/g' {} +
  fi
}

tell_phoenix() {
  grep -qsE ':phoenix,' mix.exs apps/*/mix.exs || return 0
  local wanted=SECRET_KEY_BASE
  if grep -qsE ':(ecto_sql|postgrex|myxql)' mix.exs apps/*/mix.exs; then wanted="$wanted, DATABASE_URL"; fi
  bp detail "When it runs, Phoenix wants the config vars $wanted (mix phx.gen.secret prints a secret) and PHX_HOST (its domain)"
}

make_release() {
  local made=$TMPDIR/release name names=() told
  bp step "Making a release"
  if ! mix release ${MIX_RELEASE:+"$MIX_RELEASE"} --overwrite --path "$made" >"$log" 2>&1; then explain "mix release"; fi
  while IFS= read -r name; do
    if [ -x "$made/releases/$(cut -d ' ' -f 2 "$made/releases/start_erl.data")/elixir" ] && grep -q RELEASE_NAME "$made/bin/$name"; then names+=("$name"); fi
  done < <(find "$made/bin" -maxdepth 1 -type f ! -name '*.bat' -printf '%f\n' | LC_ALL=C sort)
  [ ${#names[@]} != 0 ] || fail "mix release made no program: does mix.exs leave executables_for :unix out?"
  name=${names[0]}
  settle_release "$made"
  told=$(grep -sE '^web *:' Procfile || true)
  tell_phoenix

  # The app's folder: the release, and what a Procfile may name.
  find . -mindepth 1 -maxdepth 1 ! -name Procfile ! -name .profile ! -name app.json -exec rm -rf {} +
  cp -a "$made/." .
  rm -rf "$made"
  # The virtual machine is an image's layer of its own: it is the same after most changes.
  printf '[[slices]]\npaths = ["erts-*/**"]\n' >>"$layers/launch.toml"
  mkdir -p _build/prod/rel
  ln -s ../../.. "_build/prod/rel/$name"
  bp layer "$layers" settings --launch --key 1 >/dev/null
  set_variables
  # Instances do not reach each other: Erlang's own ports would lead nowhere.
  bp env "$layers" settings --launch --default RELEASE_DISTRIBUTION=none
  if [ -n "$told" ]; then return; fi
  bp process "$layers" web --default -- "bin/$name" start
  bp detail "web runs: bin/$name start"
}

# What every app is told when it runs.
set_variables() {
  bp env "$layers" settings --launch --default PHX_SERVER=true
  bp env "$layers" settings --launch --default LANG=C.UTF-8
  bp env "$layers" settings --launch --default MIX_ENV="$MIX_ENV"
}

# $1: a release. Its cookie is a secret, and not the image's: each container makes one, unless RELEASE_COOKIE says which.
settle_release() {
  local env
  if [ -n "${RELEASE_COOKIE:-}" ] || ! grep -qE '^[^#]*\bcookie:' mix.exs; then
    rm -f "$1/releases/COOKIE"
    for env in "$1"/releases/*/env.sh; do
      # shellcheck disable=SC2016 # The release's own shell reads these.
      printf '%s\n' 'if [ ! -e "$RELEASE_ROOT/releases/COOKIE" ] && [ -z "${RELEASE_COOKIE:-}" ]; then' \
        '  (umask 077; od -An -N 24 -t x1 /dev/urandom | tr -d " \n" >"$RELEASE_ROOT/releases/COOKIE")' 'fi' | cat - "$env" >"$env.new"
      mv "$env.new" "$env"
    done
  fi
  find "$1" -name '*.bat' -delete
}

# The Procfile runs mix.
keep_mix() {
  bp detail "The Procfile runs mix: the image gets Elixir and the sources (without a Procfile it would get a release only)"
  bp layer "$layers" settings --launch --key 1 >/dev/null
  # What the last image has of it is not here.
  rm -rf "$layers/settings"
  mkdir "$layers/settings"
  cp -a "$MIX_HOME" "$layers/settings/mix"
  rm -rf "$layers/settings/mix/hex/packages" "$layers/settings/mix/hex/cache.ets" "$layers/settings/mix/hex/hex.config"
  set_variables
  bp env "$layers" settings --launch --default MIX_HOME="$layers/settings/mix"
  tell_phoenix
}
