# shellcheck shell=bash
# Installs the gems of the lock file with Bundler, which changes neither the Gemfile nor the lock file.

# Ends the build if the text of the lock file shows that it cannot be used.
check_lock() {
  local platforms folder
  if [ ! -f "$lock" ]; then
    fail "there is no $lock: run bundle install, and commit $lock, so that every build uses the same gems"
  elif grep -qE '^(<<<<<<<|=======|>>>>>>>)' "$lock"; then
    fail "$lock contains merge conflict markers: keep one side, run bundle install, and commit it"
  fi
  platforms=$(sed -n '/^PLATFORMS/,/^$/ s/^  //p' "$lock")
  local ours=x86_64-linux
  if [ "$CNB_TARGET_ARCH" = arm64 ]; then ours=aarch64-linux; fi
  if [ -n "$platforms" ] && ! grep -qE "^(ruby|$ours(-gnu)?|linux)$" <<<"$platforms"; then
    fail "$lock is for other platforms only (${platforms//$'\n'/, }): run bundle lock --add-platform $ours, and commit $lock"
  fi
  while IFS= read -r folder; do
    [ -d "$folder" ] || fail "$gemfile takes a gem from a folder that is not in the repository ($folder): commit it, or take the gem from another source"
  done < <(sed -n '/^PATH$/,/^$/ s/^  remote: //p' "$lock")
}

install_gems() {
  local api checksums without=${BUNDLE_WITHOUT:-development:test} state bundled
  if [ -d .bundle ]; then
    bp detail "The settings in .bundle/ are ignored: set config vars such as BUNDLE_WITHOUT instead"
    rm -rf .bundle
  fi
  if [ -d vendor/bundle ]; then
    bp trouble "the installed gems in vendor/bundle are ignored: git rm -r --cached vendor/bundle (vendor/cache may stay)"
    rm -rf vendor/bundle
  fi
  bundled=$(sed -n '/^BUNDLED WITH/{n;s/ //g;p}' "$lock")
  bp detail "Using Bundler $(bundle --version | cut -d ' ' -f 3)${bundled:+ ($lock was written by $bundled)}"
  api=$(ruby -e 'print RbConfig::CONFIG["ruby_version"]')
  # A change of the key empties the layer; one of the lock file alone only updates it.
  state=$(bp layer "$layers" gems --launch --build --cache --key "1 $api $without")
  rm -rf "$gems/env" "$gems/env.launch"
  set_variable gems BUNDLE_GEMFILE "$PWD/$gemfile"
  set_variable gems BUNDLE_PATH "$gems"
  set_variable gems BUNDLE_WITHOUT "$without"
  set_variable gems BUNDLE_DEPLOYMENT 1
  set_variable gems BUNDLE_VERSION system
  if [ -n "${any_ruby:-}" ]; then set_variable gems PAAS_ANY_RUBY 1; fi
  export BUNDLE_JOBS=${BUNDLE_JOBS:-$(nproc)} BUNDLE_RETRY=2 BUNDLE_APP_CONFIG=$work/bundle BUNDLE_SILENCE_ROOT_WARNING=1
  export BUNDLE_DISABLE_VERSION_CHECK=1 BUNDLE_IGNORE_MESSAGES=1 BUNDLE_USER_HOME=$work/bundler GIT_TERMINAL_PROMPT=0
  # Gems with a path are files of the app, and not installed: Bundler itself notices when they change.
  checksums=$(bp hash "$gemfile" "$lock" Aptfile $(gem_archives vendor/cache))
  if [ "$state" = keep ] && [ "$(cat "$gems/made-of" 2>/dev/null)" = "$checksums" ]; then
    bp step "Using the gems of the last build: $lock is unchanged"
  else
    bp step "Installing the gems of $lock (without $without)"
    # It is a link to the cache of the last successful build: that must not record what this build may fail to install.
    rm -f "$gems/made-of"
    add_headers
    if ! bundle_install; then explain; fi
    remove_headers
    bundle clean >"$log" 2>&1 || true
    tidy_gems
    echo "$checksums" >"$gems/made-of"
  fi
  # The gems are installed, so their archives are no longer needed.
  rm -rf vendor/cache
  if [ -d vendor ]; then rmdir --ignore-fail-on-non-empty vendor; fi
}

# $1: a folder. Prints the archives of gems in it.
gem_archives() {
  if [ -d "$1" ]; then find "$1" -name '*.gem' | LC_ALL=C sort; fi
}

bundle_install() {
  if compgen -G 'vendor/cache/*.gem' >/dev/null; then
    bp detail "Using the gems in vendor/cache"
    if bundle install --local --quiet >"$log" 2>&1; then return; fi
    bp detail "vendor/cache is incomplete: downloading the other gems"
  fi
  bundle install 2>&1 | tee "$log" |
    bp progress --count '^(Fetching|Installing) ' --of "$(grep -cE '^    [^ ]+ \([^)]*\)$' "$lock")" --hide '^(Using|Fetching|Resolving|Bundle complete|Gems in the group|Bundled gems are|Use `bundle|Post-install|[0-9]+ gems? you)|^$' "Installing gems" ||
    [ "${PIPESTATUS[0]}" = 0 ]
}

# Removes archives, intermediate files of compilers, and files that contain dates or the names of temporary folders.
tidy_gems() {
  local root
  for root in "$gems"/ruby/*; do
    rm -rf "$root/cache" "$root"/bundler/gems/*/.git
    find "$root/extensions" \( -name gem_make.out -o -name mkmf.log \) -delete 2>/dev/null || true
    find "$root/gems" -path '*/ext/*' -type f \( -name '*.o' -o -name '*.a' -o -name '*.so' -o -name Makefile -o -name mkmf.log \) -delete 2>/dev/null || true
    find "$root/gems" -path '*/ext/*' -type d -name tmp -prune -exec rm -rf {} + 2>/dev/null || true
    # Debugging symbols name the folders of the build, and are most of the size of a compiled gem.
    find "$root/extensions" "$root/gems" -name '*.so' -type f -exec strip --strip-debug {} + 2>/dev/null || true
  done
}
