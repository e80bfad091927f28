# shellcheck shell=bash
# Installs the packages of composer.lock with Composer, which changes neither composer.json nor composer.lock.

run_composer() {
  local intl=() modules
  # Composer needs intl, which the app may not have.
  modules=$(basename "$(echo "$php"/usr/lib/php/2*)")
  if ! grep -qx intl <<<"$(php -m)"; then intl=(-d "extension=$composer/usr/lib/php/$modules/intl.so"); fi
  LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$(echo "$composer"/usr/lib/*-linux-gnu) php "${intl[@]}" -d include_path="$composer/usr/share/php" \
    -d memory_limit=-1 "$composer/usr/bin/composer" "$@"
}

needs_packages() {
  [ "$(jq '[.require // {} | objects | keys[] | select(contains("/"))] | length' composer.json)" != 0 ]
}

# Ends the build if the text of the lock file shows that it cannot be used.
check_lock() {
  local missing folder
  [ -f composer.json ] || return 0
  if [ ! -f composer.lock ]; then
    if [ ! -f vendor/autoload.php ] && needs_packages; then
      fail "there is no composer.lock: run composer update, and commit composer.lock, so that every build uses the same packages"
    fi
    return
  fi
  missing=$(jq -r --slurpfile lock composer.lock '[$lock[0].packages[]? | .name, (.provide, .replace | objects | keys[])] as $there |
    .require // {} | objects | keys[] | select(contains("/")) | select(ascii_downcase | IN($there[] | ascii_downcase) | not)' composer.json | head -n 1)
  if [ -n "$missing" ]; then
    fail "composer.json and composer.lock do not agree ($missing is not in composer.lock): run composer update $missing, and commit composer.lock"
  fi
  while IFS= read -r folder; do
    [ -d "$folder" ] || fail "composer.json takes a package from a folder that is not in the repository ($folder): commit it, or take the package from another source"
  done < <(jq -r '.packages[]?.dist | objects | select(.type == "path") | .url' composer.lock)
}

install_packages() {
  composer=$layers/composer
  if [ ! -f composer.lock ] && [ -f vendor/autoload.php ]; then
    bp detail "Using the packages in vendor/: there is no composer.lock"
    return
  fi
  if [ "$(bp layer "$layers" composer --cache --key "3 $CNB_TARGET_DISTRO_VERSION $series")" = remake ]; then
    { bp apt "$layers" composer --build composer >"$log" &&
      if [ ${#older[@]} != 0 ]; then bp apt "$layers" composer --build "${older[@]}" php-common=bookworm "php$series-intl" >"$log"; fi; } ||
      fail "Composer cannot be installed: the line above says why; push again"
    # Composer runs with the app's PHP.
    rm -rf "$composer/etc" "$composer/lib" "$composer/var" "$composer/usr/sbin"
    find "$composer/usr/bin" -mindepth 1 ! -name composer -delete
    find "$composer/usr/share/php" -name autoload.php -exec sed -i "s,'/usr/share/php/,'$composer/usr/share/php/," {} +
  fi
  bp layer "$layers" downloads --cache --key 1 >/dev/null
  export COMPOSER_CACHE_DIR=$layers/downloads/files COMPOSER_HOME=$TMPDIR/composer COMPOSER_NO_INTERACTION=1
  export COMPOSER_ROOT_VERSION=${COMPOSER_ROOT_VERSION:-dev-main} APP_ENV=${APP_ENV:-prod} GIT_TERMINAL_PROMPT=0
  if [ -f artisan ]; then APP_ENV=production; fi
  local sums locked=yes message="Installing the packages of composer.lock"
  sums=$(bp hash composer.lock)
  if [ ! -f composer.lock ]; then
    locked=''
    message="Writing the autoloader: composer.json requires no packages"
  elif [ "$(cat "$layers/downloads/made-of" 2>/dev/null)" = "$sums" ]; then
    message="Using the packages of the last build: composer.lock is unchanged"
  fi
  bp step "$message"
  # shellcheck disable=SC2153 # choose_extensions sets it.
  if ! composer_install "${ignored[@]}"; then
    # Packages whose range excludes a newer PHP mostly work with it.
    if grep -q 'your php version' "$log" && [ ${#ignored[@]} = 0 ] && composer_install --ignore-platform-req=php+; then
      bp trouble "packages in composer.lock do not name PHP $version as supported and are installed nevertheless: run composer update"
    else
      explain
    fi
  fi
  if [ -z "$locked" ]; then
    rm -f composer.lock
  elif [ "$(bp hash composer.lock)" != "$sums" ]; then
    fail "Composer changed composer.lock: run composer update --lock, and commit it"
  else
    rm -f "$layers/downloads/made-of"
    echo "$sums" >"$layers/downloads/made-of"
  fi
  if [ -n "$(bp json composer.json scripts.compile "")" ]; then
    bp step "Running the script compile of composer.json"
    run_composer run-script --no-dev --no-interaction --no-ansi compile 2>&1 | tee "$log" || explain
  fi
  # A layer of the image of its own, since most changes do not touch it.
  if [ -d vendor ]; then printf '[[slices]]\npaths = ["vendor/**"]\n' >>"$layers/launch.toml"; fi
}

# $@: options. Runs composer install and shows its output without the lines about each package.
composer_install() {
  run_composer install --no-dev --prefer-dist --optimize-autoloader --no-interaction --no-progress --no-ansi "$@" 2>&1 | tee "$log" |
    bp progress --count '^  - (Installing|Extracting|Downloading)' --hide '^(Installing dependencies|Verifying lock|Nothing to|Package operations|  - (Downloading|Installing|Syncing)|Generating|Generated|[0-9]+ packages? you are|Use the .composer fund|Composer is operating|No composer.lock|Loading composer|Updating dependencies|Lock file operations|Writing lock|Do not run|Discovering|INFO|[ .]*(DONE|✓)|> )|^ *$|\.\. DONE$|Failed to download .* from dist|Now trying to download from source' "Installing packages" ||
    [ "${PIPESTATUS[0]}" = 0 ]
}
