# shellcheck shell=bash
# What frameworks want to be told, and what Rails prepares for production.

set_up_environment() {
  setting gems RACK_ENV "${RACK_ENV:-production}"
  setting gems APP_ENV "${APP_ENV:-$RACK_ENV}"
  if locked railties; then
    setting gems RAILS_ENV "${RAILS_ENV:-production}"
    bp env "$layers" gems --launch --default RAILS_LOG_TO_STDOUT=enabled
    bp env "$layers" gems --launch --default RAILS_SERVE_STATIC_FILES=enabled
  fi
  # Fewer arenas: threads of a server would otherwise hold what they once needed.
  bp env "$layers" gems --launch --default MALLOC_ARENA_MAX=2
}

# Rails for a command of the build: it may be asked for secrets and a database that are there only when it runs.
rails_task() {
  local adapter=sqlite3
  if locked pg; then adapter=postgresql; elif locked mysql2; then adapter=mysql2; elif locked trilogy; then adapter=trilogy; fi
  local url=$adapter://user:password@127.0.0.1/not-there-while-building
  if [ "$adapter" = sqlite3 ]; then url=sqlite3::memory:; fi
  SECRET_KEY_BASE_DUMMY=${SECRET_KEY_BASE_DUMMY:-1} SECRET_KEY_BASE=${SECRET_KEY_BASE:-not-there-while-building-$PPID} \
    DATABASE_URL=${DATABASE_URL:-$url} RAILS_LOG_TO_STDOUT=1 DISABLE_SPRING=1 bundle exec "$@"
}

prepare_rails() {
  local kept=$layers/assets
  bp step "Preparing Rails $(sed -nE 's/^    railties \(([^)]*)\)/\1/p' "$lock") for $RAILS_ENV"
  if [ ! -f config/master.key ] && [ ! -f "config/credentials/$RAILS_ENV.key" ]; then
    bp detail "When it runs, Rails wants the config var RAILS_MASTER_KEY (the contents of config/master.key) or SECRET_KEY_BASE"
  fi
  if compgen -G 'public/assets/.sprockets-manifest-*.json' >/dev/null || [ -f public/assets/.manifest.json ] || compgen -G 'public/assets/manifest-*.json' >/dev/null; then
    bp detail "The assets are in the repository already (public/assets)"
  elif [ ! -d app/assets ] || ! { locked sprockets-rails || locked propshaft || locked vite_rails || locked shakapacker || locked webpacker; }; then
    bp detail "There are no assets to compile"
  else
    bp detail "Compiling assets"
    bp layer "$layers" assets --cache --key "1 $(bp hash "$lock")" >/dev/null
    mkdir -p tmp "$kept/cache"
    rm -rf tmp/cache
    cp -a "$kept/cache" tmp/cache
    if ! rails_task rake assets:precompile >"$log" 2>&1; then
      # What gems called each other is of no use to the developer.
      grep -vE '^ *(from )?/layers/' "$log" | head -n 30 || true
      explain_rails
    fi
    rm -rf "$kept/cache"
    if [ -d tmp/cache/assets ]; then mkdir "$kept/cache" && cp -a tmp/cache/assets "$kept/cache/"; fi
    still_assets
  fi
  if locked bootsnap; then
    # Files have one date in the image: a cache that is made with it is true there.
    rm -rf tmp/cache
    find . "$gems" -exec touch -h -d @315532801 {} +
    bundle exec bootsnap precompile --gemfile app/ lib/ config/ >"$log" 2>&1 || true
    rm -rf tmp/cache/bootsnap/load-path-cache*
    find tmp/cache -mindepth 1 -maxdepth 1 ! -name 'bootsnap*' -exec rm -rf {} + 2>/dev/null || true
  else
    rm -rf tmp/cache
  fi
  # A secret of the build is none of the app.
  rm -rf log/*.log node_modules tmp/local_secret.txt
  mkdir -p tmp/pids log storage
}

# Sprockets gives its list a random name, and dates to what it compiled.
still_assets() {
  local list
  for list in public/assets/.sprockets-manifest-*.json; do
    [ -f "$list" ] || continue
    sed -i -E 's/"mtime":"[^"]*"/"mtime":"1980-01-01T00:00:01+00:00"/g' "$list"
    mv "$list" "public/assets/.sprockets-manifest-$(md5sum <"$list" | cut -c 1-32).json"
  done
  find public -name '*.gz' | while IFS= read -r list; do
    if [ -f "${list%.gz}" ]; then gzip -9 -n -c "${list%.gz}" >"$list"; fi
  done
}
