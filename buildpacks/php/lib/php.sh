# shellcheck shell=bash
# Which PHP the app asks for, and its installation in a layer, adapted to that place: it is built for /usr. Debian has one version,
# the Debian before another.

# $1: a range as Composer writes it, $2: a version or series of PHP. Whether the version, or one of the series, is in the range.
allows() {
  # Composer's ranges are npm's, except for commas, single bars, and two numbers after a tilde, of which the second may be higher.
  local range versions=$2
  range=$(sed -E 's/\|+/||/g; s/,/ /g; s/@[a-z]+//g; s/([0-9])-dev/\1/g; s/~ *([0-9]+\.[0-9]+)($|[^.0-9])/^\1\2/g; s/!= *[0-9.]+//g' <<<"$1")
  if [[ $2 != *.*.* ]]; then versions=$(seq -f "$2.%.0f" 0 99); fi
  bp semver-max "$range" <<<"$versions" >/dev/null 2>&1
}

# Prints a version that the app asks for elsewhere than in a range, and where, with a tab between. Fails if a file cannot be read.
named_php() {
  local line
  line=$(bp named-version .php-version --tool php) || [ $? = 1 ] || return 1
  if [ -n "$line" ]; then
    echo "$line"
  elif [ -f composer.json ] && line=$(jq -r '.config.platform.php? // "" | strings' composer.json) && [ -n "$line" ]; then
    printf '%s\tconfig.platform.php in composer.json\n' "$line"
  fi
}

# $1: a number such as 8. Prints the newest series of it that this stack has and composer.json allows, or else the number.
newest_allowed() {
  local one
  for one in 8.4 8.2; do
    if [[ $one == "$1".* ]] && { [ -z "$wanted_php" ] || allows "$wanted_php" "$one"; }; then echo "$one" && return; fi
  done
  echo "$1"
}

# Sets series to the newest that composer.json allows, unless another version is named or packages do not allow it; asked and
# asked_in to the range that decides, and where it is.
choose_php() {
  local line named named_in range instead
  series=8.4 asked=$wanted_php asked_in=composer.json
  line=$(named_php) || exit 1
  IFS=$'\t' read -r named named_in <<<"$line"
  if [[ $named =~ ^([0-9]+(\.[0-9]+)?)(\.([0-9]+|[x*]))*$ ]]; then
    range=${BASH_REMATCH[1]}
    if [[ $range != *.* ]]; then range=$(newest_allowed "$range"); fi
    if [ -z "$wanted_php" ] || allows "$wanted_php" "$range"; then
      asked=$range.* asked_in=$named_in
    else
      bp trouble "$named_in asks for PHP $named, but composer.json requires php $wanted_php, which is used: make them agree"
    fi
  elif [ -n "$named" ]; then
    instead="the default"
    if [ -n "$wanted_php" ]; then instead="what composer.json requires"; fi
    bp trouble "\"$named\" is not a version of PHP ($named_in), and $instead is used: write a number such as 8.4 there"
  fi
  if [ -n "$asked" ] && ! allows "$asked" 8.4; then
    # For versions that are not available, the older series is nearer to the older ones.
    if allows "$asked" 8.2 || allows "$asked" 8.1 || allows "$asked" 8.0; then series=8.2; fi
  elif [ "$asked_in" = composer.json ] && [ -f composer.lock ] && { [ -z "$asked" ] || allows "$asked" 8.2; }; then
    while IFS= read -r range; do
      allows "$range" 8.2 || { series=8.4 asked=$wanted_php asked_in=composer.json && return; }
      if [ $series = 8.4 ] && ! allows "$range" 8.4; then series=8.2 asked=$range asked_in="a package of composer.lock"; fi
    done < <(jq -r '[.packages[]?.require | objects | .php | strings] | unique[]' composer.lock)
  fi
}

# Sets version, newest (a hash of the versions in Debian), debian and older (options of bp apt).
find_debian_versions() {
  local versions unknown
  debian=$CNB_TARGET_DISTRO_VERSION older=()
  if [ $series = 8.2 ]; then
    debian=12 older=(--suite=bookworm)
    packages+=(php-common=bookworm)
  fi
  versions=$(bp apt --candidate --daily="$layers" "${older[@]}" "${packages[@]}" 2>"$log") || versions=''
  unknown=$(sed -nE "s/.*Debian has no package php$series-([^ ]+).*/\\1/p" "$log")
  if [ -n "$unknown" ]; then
    fail "the stack has no ext-$unknown, which composer.json or a package of composer.lock requires: remove the requirement, or require a polyfill"
  fi
  cat "$log"
  [ -n "$versions" ] || exit 1
  newest=$(sha256sum <<<"$versions" | cut -c 1-16)
  version=$(sed -nE "s/^php$series-fpm ([0-9.]+).*/\\1/p" <<<"$versions")
}

# Puts PHP into a layer, unless it is up to date, and on the search path. Reads newest.
install_php() {
  local ours
  ours=$( (bp hash "$here"/lib/{*.ini,*.conf,serve-php,memory-limit} && bp nginx-types) | sha256sum | cut -c 1-16)
  if [ "$(bp layer "$layers" php --launch --build --cache --key "1 $newest $ours")" = remake ]; then
    bp step "Installing PHP from Debian $debian"
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
  # Files for a machine with an init system.
  find "$prefix/lib" -mindepth 1 -maxdepth 1 ! -name php ! -name "$arch" -exec rm -rf {} +
  rm -rf "$prefix/lib/$arch/systemd" "$prefix/lib/php/$series"/*.ini* "$php/lib" "$php/var" "$prefix/lib/$arch/security"
  find "$php/etc" -mindepth 1 -maxdepth 1 ! -name 'ImageMagick*' ! -name fonts -exec rm -rf {} +
  mkdir -p "$php/etc/conf.d" "$php/bin"
  modules=$(echo "$prefix"/lib/php/2*)
  # In the order that Debian's files give: some extensions need others.
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
    # shellcheck disable=SC2016 # PHP expands it.
    sed -i 's|${PHP_MEMORY_LIMIT:-256M}|256M|' "$php/etc/php.ini"
    mkdir "$php/exec.d" "$php/etc/memory.d"
    # shellcheck disable=SC2016
    echo 'memory_limit = ${PHP_MEMORY_LIMIT}' >"$php/etc/memory.d/memory.ini"
    cp "$here/lib/memory-limit" "$php/exec.d/"
  fi
  cp "$here/lib/php-fpm.conf" "$php/etc/"
  bp nginx-types >"$php/etc/nginx.types"
  sed "s|@TYPES@|$php/etc/nginx.types|" "$here/lib/nginx.conf" >"$php/etc/nginx.conf"
  cp "$here/lib/serve-php" "$php/bin/serve-php"
  # The names of this command on Heroku.
  ln -s serve-php "$php/bin/heroku-php-nginx"
  ln -s serve-php "$php/bin/heroku-php-apache2"
  bp env "$layers" php --prepend "PATH=$prefix/bin:$prefix/sbin"
  bp env "$layers" php --prepend "LD_LIBRARY_PATH=$prefix/lib/$arch"
  bp env "$layers" php --default "PHPRC=$php/etc"
  bp env "$layers" php --default "PHP_INI_SCAN_DIR=$php/etc/conf.d"
  bp env "$layers" php --launch --default PHP_LAYER="$php"
}

# Reports which PHP is used, and why. Sets ignored (options of Composer). Ends the build if no PHP of this stack can run the app.
check_version() {
  ignored=()
  if [ ${#added[@]} != 0 ]; then bp detail "Adding the extensions ${added[*]}"; fi
  if [ -z "$asked" ]; then
    bp step "Using PHP $version (the default)"
  elif allows "$asked" "$version"; then
    bp step "Using PHP $version ($asked_in: $asked)"
  elif allows "$asked" $series; then
    bp step "Using PHP $version ($asked_in: $asked, which differs only in its patch version)"
    ignored=(--ignore-platform-req=php+)
  elif [[ $asked =~ (^|[^0-9.])8\. ]]; then
    bp trouble "$asked_in asks for PHP $asked, but only 8.2 and 8.4 are available: the app is built with $version; test it with that, and write it there"
    bp step "Using PHP $version (the nearest available)"
    ignored=(--ignore-platform-req=php+)
  else
    fail "$asked_in asks for PHP $asked: this stack has only 8.2 and 8.4; port the app to one of them, write ^8.4 there, and run composer update"
  fi
}
