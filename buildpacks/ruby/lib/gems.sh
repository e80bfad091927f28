# shellcheck shell=bash
# The gems of the lock file, by Bundler, which changes neither of the two files.

# What is wrong with the lock file, as far as its text tells.
check_lock() {
  local platforms folder
  if [ ! -f "$lock" ]; then
    fail "there is no $lock: run bundle install, and commit $lock, so that every build has the same gems"
  elif grep -qE '^(<<<<<<<|=======|>>>>>>>)' "$lock"; then
    fail "$lock has conflict markers of a merge: take one side, run bundle install, and commit it"
  fi
  platforms=$(sed -n '/^PLATFORMS/,/^$/ s/^  //p' "$lock")
  local ours=x86_64-linux
  if [ "$CNB_TARGET_ARCH" = arm64 ]; then ours=aarch64-linux; fi
  if [ -n "$platforms" ] && ! grep -qE "^(ruby|$ours(-gnu)?|linux)$" <<<"$platforms"; then
    fail "$lock is for other platforms only (${platforms//$'\n'/, }): run bundle lock --add-platform $ours, and commit $lock"
  fi
  while IFS= read -r folder; do
    [ -d "$folder" ] || fail "$gemfile takes a gem from a folder that is not in the repository ($folder): commit it, or take the gem from somewhere else"
  done < <(sed -n '/^PATH$/,/^$/ s/^  remote: //p' "$lock")
}

# What decides the gems, but for the lock file itself: a change of this begins anew.
install_gems() {
  local api sums without=${BUNDLE_WITHOUT:-development:test} made bundled
  if [ -d .bundle ]; then
    bp detail "The settings in .bundle/ are a developer's and are left out; config vars like BUNDLE_WITHOUT do the same"
    rm -rf .bundle
  fi
  if [ -d vendor/bundle ]; then
    bp trouble "the installed gems in vendor/bundle are left out: git rm -r --cached vendor/bundle (vendor/cache may stay)"
    rm -rf vendor/bundle
  fi
  bundled=$(sed -n '/^BUNDLED WITH/{n;s/ //g;p}' "$lock")
  bp detail "Bundler $(bundle --version | cut -d ' ' -f 3)${bundled:+, for $lock of $bundled}"
  api=$(ruby -e 'print RbConfig::CONFIG["ruby_version"]')
  made=$(bp layer "$layers" gems --launch --build --cache --key "1 $api $without")
  rm -rf "$gems/env" "$gems/env.launch"
  setting gems BUNDLE_GEMFILE "$PWD/$gemfile"
  setting gems BUNDLE_PATH "$gems"
  setting gems BUNDLE_WITHOUT "$without"
  setting gems BUNDLE_DEPLOYMENT 1
  setting gems BUNDLE_VERSION system
  if [ -n "${lifted:-}" ]; then setting gems PAAS_ANY_RUBY 1; fi
  export BUNDLE_JOBS=${BUNDLE_JOBS:-$(nproc)} BUNDLE_RETRY=2 BUNDLE_APP_CONFIG=$work/bundle BUNDLE_SILENCE_ROOT_WARNING=1
  export BUNDLE_DISABLE_VERSION_CHECK=1 BUNDLE_IGNORE_MESSAGES=1 BUNDLE_USER_HOME=$work/bundler GIT_TERMINAL_PROMPT=0
  # Gems of a path are the app's own files: they are where they are, and a change of them is seen by Bundler.
  sums=$(bp hash "$gemfile" "$lock" Aptfile $(git_free_files vendor/cache))
  if [ "$made" = keep ] && [ "$(cat "$gems/made-of" 2>/dev/null)" = "$sums" ]; then
    bp step "Using the gems of the last build: $lock is unchanged"
  else
    bp step "Installing the gems of $lock (without $without)"
    # A link to the cache of the last good build, which is not to say what this one may not reach.
    rm -f "$gems/made-of"
    lend_headers
    if ! bundle_install; then explain; fi
    take_headers_back
    bundle clean >"$log" 2>&1 || true
    tidy_gems
    echo "$sums" >"$gems/made-of"
  fi
  # Everything is installed; these would only be read again.
  rm -rf vendor/cache
  if [ -d vendor ]; then rmdir --ignore-fail-on-non-empty vendor; fi
}

# The archives of a folder, if there is one.
git_free_files() {
  if [ -d "$1" ]; then find "$1" -name '*.gem' | LC_ALL=C sort; fi
}

bundle_install() {
  if compgen -G 'vendor/cache/*.gem' >/dev/null; then
    bp detail "Gems come from vendor/cache"
    if bundle install --local --quiet >"$log" 2>&1; then return; fi
    bp detail "vendor/cache does not have all of them"
  fi
  bundle install 2>&1 | tee "$log" |
    grep --line-buffered -vE '^(Using|Fetching|Resolving|Bundle complete|Gems in the group|Bundled gems are|Use `bundle|Post-install|[0-9]+ gems? you)|^$' ||
    [ "${PIPESTATUS[0]}" = 0 ]
}

# Archives, what compilers left, and what has dates or the names of temporary folders in it.
tidy_gems() {
  local root
  for root in "$gems"/ruby/*; do
    rm -rf "$root/cache" "$root"/bundler/gems/*/.git
    find "$root/extensions" \( -name gem_make.out -o -name mkmf.log \) -delete 2>/dev/null || true
    find "$root/gems" -path '*/ext/*' -type f \( -name '*.o' -o -name '*.a' -o -name '*.so' -o -name Makefile -o -name mkmf.log \) -delete 2>/dev/null || true
    find "$root/gems" -path '*/ext/*' -type d -name tmp -prune -exec rm -rf {} + 2>/dev/null || true
    # Debugging symbols name the folders of the build, and are most of what a compiled gem weighs.
    find "$root/extensions" "$root/gems" -name '*.so' -type f -exec strip --strip-debug {} + 2>/dev/null || true
  done
}
