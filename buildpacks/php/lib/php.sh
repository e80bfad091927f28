# shellcheck shell=bash
# PHP in a layer, made at home there: it was made to be in /usr.

# Sets newest, a hash of what Debian has, and version. It is asked once a day, so that what it mended gets into the image of the next push.
versions_of_debian() {
  local day=$layers/debian unknown
  if [ "$(bp layer "$layers" debian --cache --key "$(date +%F) ${packages[*]}")" = remake ]; then
    if ! bp apt --candidate "${packages[@]}" >"$day/versions" 2>"$log"; then
      unknown=$(sed -nE 's/.*Debian has no package php8.4-([^ ]+).*/\1/p' "$log")
      if [ -n "$unknown" ]; then
        fail "the stack has no ext-$unknown, which composer.json or a package of composer.lock requires: take that out, or require a polyfill"
      fi
      cat "$log"
      fail "Debian's packages cannot be looked up: the line above says why; push again"
    fi
  fi
  newest=$(sha256sum <"$day/versions" | cut -c 1-16)
  version=$(sed -nE 's/^php8.4-fpm ([0-9.]+).*/\1/p' "$day/versions")
}

# Needs newest.
install_php() {
  local ours
  ours=$(bp hash "$here"/lib/*.{ini,conf} "$here/lib/serve-php" | cut -c 1-16)
  if [ "$(bp layer "$layers" php --launch --build --cache --key "1 $newest $ours")" = remake ]; then
    bp step "Installing PHP of Debian $CNB_TARGET_DISTRO_VERSION"
    unpack_php
  fi
  for variable in PATH LD_LIBRARY_PATH; do
    export "$variable=$(<"$php/env/$variable.prepend")${!variable:+:${!variable}}"
  done
  PHPRC=$php/etc PHP_INI_SCAN_DIR=$php/etc/conf.d
  export PHPRC PHP_INI_SCAN_DIR
}

unpack_php() {
  local prefix=$php/usr arch ini priority modules
  bp apt "$layers" php --run "${packages[@]}" >"$log" || fail "PHP cannot be installed: the line above says why; push again"
  arch=$(basename "$(dirname "$(echo "$prefix"/lib/*/libargon2.so.1)")")
  # What comes along for a machine that is managed by hand.
  find "$prefix/lib" -mindepth 1 -maxdepth 1 ! -name php ! -name "$arch" -exec rm -rf {} +
  rm -rf "$prefix/lib/$arch/systemd" "$prefix"/lib/php/8.4/*.ini* "$php/lib" "$php/var" "$prefix/lib/$arch/security"
  find "$php/etc" -mindepth 1 -maxdepth 1 ! -name 'ImageMagick*' ! -name fonts -exec rm -rf {} +
  mkdir -p "$php/etc/conf.d" "$php/bin"
  modules=$(echo "$prefix"/lib/php/2*)
  # In the order that Debian's own files say: some need others.
  find "$prefix/share" -path '*/php8.4-*' -name '*.ini' | while IFS= read -r ini; do
    priority=$(sed -n 's/^; *priority=//p' "$ini" | head -n 1)
    cp "$ini" "$php/etc/conf.d/${priority:-20}-$(basename "$ini")"
  done
  find "$prefix/share" -mindepth 1 -maxdepth 1 ! -name 'fonts' ! -name 'fontconfig' ! -name 'ImageMagick*' -exec rm -rf {} +
  find "$prefix/bin" "$prefix/sbin" -mindepth 1 ! -name php8.4 ! -name php-fpm8.4 -delete
  ln -s php8.4 "$prefix/bin/php"
  ln -s php-fpm8.4 "$prefix/sbin/php-fpm"
  find "$prefix" -type d -empty -delete
  sed "s|@MODULES@|$modules|" "$here/lib/php.ini" >"$php/etc/php.ini"
  cp "$here/lib/php-fpm.conf" "$here/lib/nginx.conf" "$php/etc/"
  cp "$here/lib/serve-php" "$php/bin/serve-php"
  # What Heroku calls it.
  ln -s serve-php "$php/bin/heroku-php-nginx"
  ln -s serve-php "$php/bin/heroku-php-apache2"
  bp env "$layers" php --prepend "PATH=$prefix/bin:$prefix/sbin"
  bp env "$layers" php --prepend "LD_LIBRARY_PATH=$prefix/lib/$arch"
  bp env "$layers" php --default "PHPRC=$php/etc"
  bp env "$layers" php --default "PHP_INI_SCAN_DIR=$php/etc/conf.d"
  bp env "$layers" php --launch --default PHP_LAYER="$php"
}

# Says which PHP it is and why; fails if the app cannot be for it.
check_version() {
  local why="the stack has this one" asked
  ignored=()
  if [ ${#added[@]} != 0 ]; then bp detail "Extensions besides the usual: ${added[*]}"; fi
  if [ -z "$wanted_php" ]; then
    bp step "Using PHP $version ($why)"
    return
  fi
  # Composer's ranges are npm's, but for a comma and a single bar.
  asked=$(sed -E 's/\|+/||/g; s/,/ /g; s/@[a-z]+//g; s/([0-9])-dev/\1/g' <<<"$wanted_php")
  if bp semver-max "$asked" <<<"$version" >/dev/null 2>&1; then
    bp step "Using PHP $version (composer.json: $wanted_php)"
  elif [[ $asked =~ (^|[^0-9.])8\. ]]; then
    bp trouble "composer.json asks for PHP $wanted_php, and there is only $version here: the app is built with that; try it with ${version%.*}, and write ^8.4 there"
    bp step "Using PHP $version (the stack has this one)"
    ignored=(--ignore-platform-req=php+)
  else
    fail "composer.json asks for PHP $wanted_php: this stack has only $version; port the app to it, write ^8.4 there, and run composer update"
  fi
}
