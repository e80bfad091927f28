# shellcheck shell=bash
# PHP in a layer, made at home there: it was made to be in /usr. Debian has one, and the Debian before it another.

# $1: a range of Composer, $2: a version of PHP, or a series. Whether it, or one of them, is in that.
allows() {
  # Composer's ranges are npm's, but for commas, single bars, and two numbers after a tilde, which leave the second open.
  local range versions=$2
  range=$(sed -E 's/\|+/||/g; s/,/ /g; s/@[a-z]+//g; s/([0-9])-dev/\1/g; s/~ *([0-9]+\.[0-9]+)($|[^.0-9])/^\1\2/g; s/!= *[0-9.]+//g' <<<"$1")
  if [[ $2 != *.*.* ]]; then versions=$(seq -f "$2.%.0f" 0 99); fi
  bp semver-max "$range" <<<"$versions" >/dev/null 2>&1
}

# Prints a version that is named by itself, and where.
named_php() {
  local line
  if [ -f .php-version ] && line=$(grep -m 1 . .php-version | tr -d '[:space:]') && [ -n "$line" ]; then
    printf '%s\t.php-version\n' "${line#php-}"
  elif [ -f .tool-versions ] && line=$(awk '$1 == "php" { print $2; exit }' .tool-versions) && [ -n "$line" ]; then
    printf '%s\t.tool-versions\n' "$line"
  elif [ -f composer.json ] && line=$(jq -r '.config.platform.php? // "" | strings' composer.json) && [ -n "$line" ]; then
    printf '%s\tconfig.platform.php in composer.json\n' "$line"
  fi
}

# Sets series, asked and asked_in: the newest that composer.json allows, unless another is named or packages are not for it.
choose_php() {
  local named named_in range
  series=8.4 asked=$wanted_php asked_in=composer.json
  IFS=$'\t' read -r named named_in < <(named_php) || true
  if [[ $named =~ ^([0-9]+\.[0-9]+) ]] && { [ -z "$wanted_php" ] || allows "$wanted_php" "${BASH_REMATCH[1]}"; }; then
    asked=${BASH_REMATCH[1]}.* asked_in=$named_in
  fi
  if [ -n "$asked" ] && ! allows "$asked" 8.4; then
    # Of those that are not here, the older ones are nearer to the older one.
    if allows "$asked" 8.2 || allows "$asked" 8.1 || allows "$asked" 8.0; then series=8.2; fi
  elif [ "$asked_in" = composer.json ] && [ -f composer.lock ] && { [ -z "$asked" ] || allows "$asked" 8.2; }; then
    while IFS= read -r range; do
      allows "$range" 8.2 || { series=8.4 asked=$wanted_php asked_in=composer.json && return; }
      if [ $series = 8.4 ] && ! allows "$range" 8.4; then series=8.2 asked=$range asked_in="a package of composer.lock"; fi
    done < <(jq -r '[.packages[]?.require | objects | .php | strings] | unique[]' composer.lock)
  fi
}

# Sets newest, a hash of what Debian has, and version.
versions_of_debian() {
  local versions unknown
  debian=$CNB_TARGET_DISTRO_VERSION older=()
  if [ $series = 8.2 ]; then
    debian=12 older=(--suite=bookworm)
    packages+=(php-common=bookworm)
  fi
  versions=$(bp apt --candidate --daily="$layers" "${older[@]}" "${packages[@]}" 2>"$log") || versions=''
  unknown=$(sed -nE "s/.*Debian has no package php$series-([^ ]+).*/\\1/p" "$log")
  if [ -n "$unknown" ]; then
    fail "the stack has no ext-$unknown, which composer.json or a package of composer.lock requires: take that out, or require a polyfill"
  fi
  cat "$log"
  [ -n "$versions" ] || exit 1
  newest=$(sha256sum <<<"$versions" | cut -c 1-16)
  version=$(sed -nE "s/^php$series-fpm ([0-9.]+).*/\\1/p" <<<"$versions")
}

# Needs newest.
install_php() {
  local ours
  ours=$(bp hash "$here"/lib/{*.ini,*.conf,serve-php,memory-limit} | cut -c 1-16)
  if [ "$(bp layer "$layers" php --launch --build --cache --key "1 $newest $ours")" = remake ]; then
    bp step "Installing PHP of Debian $debian"
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
  bp apt "$layers" php --run "${older[@]}" "${packages[@]}" >"$log" || fail "PHP cannot be installed: the line above says why; push again"
  arch=$(basename "$(dirname "$(echo "$prefix"/lib/*/libargon2.so.1)")")
  # What comes along for a machine that is managed by hand.
  find "$prefix/lib" -mindepth 1 -maxdepth 1 ! -name php ! -name "$arch" -exec rm -rf {} +
  rm -rf "$prefix/lib/$arch/systemd" "$prefix/lib/php/$series"/*.ini* "$php/lib" "$php/var" "$prefix/lib/$arch/security"
  find "$php/etc" -mindepth 1 -maxdepth 1 ! -name 'ImageMagick*' ! -name fonts -exec rm -rf {} +
  mkdir -p "$php/etc/conf.d" "$php/bin"
  modules=$(echo "$prefix"/lib/php/2*)
  # In the order that Debian's own files say: some need others.
  find "$prefix/share" -path "*/php$series-*" -name '*.ini' | while IFS= read -r ini; do
    priority=$(sed -n 's/^; *priority=//p' "$ini" | head -n 1)
    cp "$ini" "$php/etc/conf.d/${priority:-20}-$(basename "$ini")"
  done
  find "$prefix/share" -mindepth 1 -maxdepth 1 ! -name 'fonts' ! -name 'fontconfig' ! -name 'ImageMagick*' -exec rm -rf {} +
  find "$prefix/bin" "$prefix/sbin" -mindepth 1 ! -name "php$series" ! -name "php-fpm$series" -delete
  ln -s "php$series" "$prefix/bin/php"
  ln -s "php-fpm$series" "$prefix/sbin/php-fpm"
  find "$prefix" -type d -empty -delete
  sed "s|@MODULES@|$modules|" "$here/lib/php.ini" >"$php/etc/php.ini"
  if [ $series = 8.2 ]; then
    # shellcheck disable=SC2016 # PHP reads this one.
    sed -i 's|${PHP_MEMORY_LIMIT:-256M}|256M|' "$php/etc/php.ini"
    mkdir "$php/exec.d" "$php/etc/memory.d"
    # shellcheck disable=SC2016
    echo 'memory_limit = ${PHP_MEMORY_LIMIT}' >"$php/etc/memory.d/memory.ini"
    cp "$here/lib/memory-limit" "$php/exec.d/"
  fi
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
  ignored=()
  if [ ${#added[@]} != 0 ]; then bp detail "Extensions besides the usual: ${added[*]}"; fi
  if [ -z "$asked" ]; then
    bp step "Using PHP $version (nothing asks for another)"
  elif allows "$asked" "$version"; then
    bp step "Using PHP $version ($asked_in: $asked)"
  elif allows "$asked" $series; then
    bp step "Using PHP $version ($asked_in: $asked, which is the same but for patches)"
    ignored=(--ignore-platform-req=php+)
  elif [[ $asked =~ (^|[^0-9.])8\. ]]; then
    bp trouble "$asked_in asks for PHP $asked, and there are only 8.2 and 8.4 here: the app is built with $version; try it with that, and write it there"
    bp step "Using PHP $version (the nearest that there is)"
    ignored=(--ignore-platform-req=php+)
  else
    fail "$asked_in asks for PHP $asked: this stack has only 8.2 and 8.4; port the app to one of them, write ^8.4 there, and run composer update"
  fi
}
