# shellcheck shell=bash
# The variables that frameworks read, and what Rails prepares for production.

set_up_environment() {
  set_variable gems RACK_ENV "${RACK_ENV:-production}"
  set_variable gems APP_ENV "${APP_ENV:-$RACK_ENV}"
  if locked railties; then
    set_variable gems RAILS_ENV "${RAILS_ENV:-production}"
    bp env "$layers" gems --launch --default RAILS_LOG_TO_STDOUT=enabled
    bp env "$layers" gems --launch --default RAILS_SERVE_STATIC_FILES=enabled
  fi
  # With fewer arenas, the threads of a server hold less memory that they no longer need.
  bp env "$layers" gems --launch --default MALLOC_ARENA_MAX=2
}

# $@: a command. Runs it with placeholders for the secrets and the database, which an app has only when it runs.
rails_task() {
  local adapter=sqlite3
  if locked pg; then adapter=postgresql; elif locked mysql2; then adapter=mysql2; elif locked trilogy; then adapter=trilogy; fi
  local url=$adapter://user:password@127.0.0.1/not-there-while-building
  if [ "$adapter" = sqlite3 ]; then url=sqlite3::memory:; fi
  # As long as those that `rails secret` prints, since apps check that.
  local secret
  secret=$(sha512sum <<<"not-there-while-building-$PPID" | cut -d ' ' -f 1)
  SECRET_KEY_BASE_DUMMY=${SECRET_KEY_BASE_DUMMY:-1} SECRET_KEY_BASE=${SECRET_KEY_BASE:-$secret} \
    DATABASE_URL=${DATABASE_URL:-$url} RAILS_LOG_TO_STDOUT=1 DISABLE_SPRING=1 bundle exec "$@"
}

prepare_rails() {
  local before kept=$layers/assets
  bp step "Preparing Rails $(sed -nE 's/^    railties \(([^)]*)\)/\1/p' "$lock") for $RAILS_ENV"
  if [ ! -f config/master.key ] && [ ! -f "config/credentials/$RAILS_ENV.key" ]; then
    bp detail "When it runs, Rails needs the config var RAILS_MASTER_KEY (the contents of config/master.key) or SECRET_KEY_BASE"
  fi
  if compgen -G 'public/assets/.sprockets-manifest-*.json' >/dev/null || [ -f public/assets/.manifest.json ] || compgen -G 'public/assets/manifest-*.json' >/dev/null; then
    bp detail "Using the compiled assets in public/assets"
  elif [ ! -d app/assets ] || ! { locked sprockets-rails || locked propshaft || locked vite_rails || locked shakapacker || locked webpacker; }; then
    bp detail "There are no assets to compile"
  else
    bp detail "Compiling assets"
    bp layer "$layers" assets --cache --key "1 $(bp hash "$lock")" >/dev/null
    mkdir -p tmp "$kept/cache"
    rm -rf tmp/cache
    cp -a "$kept/cache" tmp/cache
    before=$(mktemp)
    if ! rails_task rake assets:precompile 2>&1 | tee "$log" | bp progress --hide '.*' "Compiling assets"; then
      # Lines of stack traces in gems do not help the developer.
      grep -vE '^ *(from )?/layers/' "$log" | head -n 30 || true
      explain_rails
    fi
    rm -rf "$kept/cache"
    if [ -d tmp/cache/assets ]; then mkdir "$kept/cache" && cp -a tmp/cache/assets "$kept/cache/"; fi
    # Sprockets gives files the dates of their sources, but cannot change when it wrote them.
    if [ -z "$(find public -type f -cnewer "$before" -print -quit 2>/dev/null)" ]; then
      bp trouble "rake assets:precompile made no files in public: pages that refer to assets will not find them; look at config/initializers/assets.rb and app/assets/config/manifest.js"
    fi
    make_assets_reproducible
  fi
  if locked bootsnap; then
    # Bootsnap's cache goes by dates, and all files of the image have this one.
    rm -rf tmp/cache
    find . "$gems" -exec touch -h -d @315532801 {} +
    bundle exec bootsnap precompile --gemfile app/ lib/ config/ >"$log" 2>&1 || true
    rm -rf tmp/cache/bootsnap/load-path-cache*
    find tmp/cache -mindepth 1 -maxdepth 1 ! -name 'bootsnap*' -exec rm -rf {} + 2>/dev/null || true
  else
    rm -rf tmp/cache
  fi
  # The secret of the build must not be the app's.
  rm -rf log/*.log node_modules tmp/local_secret.txt
  mkdir -p tmp/pids log storage
}

# Makes compiled assets the same in every build: Sprockets gives its manifest a random name, and dates to the files in it.
make_assets_reproducible() {
  local list
  if [ ! -d public ]; then return; fi
  for list in public/assets/.sprockets-manifest-*.json; do
    [ -f "$list" ] || continue
    sed -i -E 's/"mtime":"[^"]*"/"mtime":"1980-01-01T00:00:01+00:00"/g' "$list"
    mv "$list" "public/assets/.sprockets-manifest-$(md5sum <"$list" | cut -c 1-32).json"
  done
  find public -name '*.gz' | while IFS= read -r list; do
    if [ -f "${list%.gz}" ]; then gzip -9 -n -c "${list%.gz}" >"$list"; fi
  done
}
