# shellcheck shell=bash
# Which extensions are installed: those that most apps use, and those that the app or its packages require.

# Extensions in PHP itself, or in a package that is always installed.
built_in=" bcmath calendar core ctype curl date dom exif ffi fileinfo filter ftp gettext hash iconv json libxml mbstring mysqli \
mysqlnd opcache openssl pcntl pcre pdo pdo_mysql pdo_pgsql pdo_sqlite pgsql phar posix random readline reflection session shmop \
simplexml sockets sodium spl sqlite3 standard sysvmsg sysvsem sysvshm tokenizer xml xmlreader xmlwriter xsl zend-opcache zip zlib "

# Sets wanted_php to the range of PHP in composer.json. Ends the build if composer.json or composer.lock cannot be read.
read_composer_files() {
  wanted_php=''
  if [ ! -f composer.json ]; then return; fi
  jq -e 'type == "object"' composer.json >/dev/null 2>"$log" || fail "composer.json is not valid JSON ($(head -n 1 "$log" | sed 's/^jq: *//')): correct it and push again"
  if [ -f composer.lock ]; then
    if grep -qE '^(<<<<<<<|>>>>>>>)' composer.lock; then
      fail "composer.lock contains merge conflict markers: keep one side, run composer update --lock, and commit it"
    fi
    jq -e . composer.lock >/dev/null 2>"$log" || fail "composer.lock is not valid JSON: take it from git, or run composer update, and commit it"
  fi
  wanted_php=$(jq -r '.require.php // .require["php-64bit"] // "" | strings' composer.json)
}

# Warns of configuration for a PHP elsewhere: an instance has the files of the app, and reads .user.ini beside its pages.
name_unread_files() {
  local file
  for file in php.ini .php.ini.d; do
    # A command in the Procfile may name it (heroku-php-nginx -i php.ini, php -c php.ini).
    if [ -e $file ] && ! grep -qsE "^[^#]*-[ci] *(\./)?${file//./\\.}( |\$)" Procfile; then
      bp trouble "$file is not read here: name extensions in composer.json (\"require\": {\"ext-NAME\": \"*\"}), and write settings into .user.ini"
    fi
  done
}

# Prints the names of extensions that the app and its packages require, or, without a composer.json, that its code calls.
named_extensions() {
  if [ -f composer.json ]; then
    # Only `require` counts: a package that works without an extension suggests or provides it.
    jq -r '.require // {} | objects | keys[] | select(startswith("ext-"))[4:]' composer.json
    if [ -f composer.lock ]; then
      jq -r '.packages[]? | .require // {} | objects | keys[] | select(startswith("ext-"))[4:]' composer.lock
    fi
    return
  fi
  local uses extension
  while read -r extension uses; do
    if grep -rqE --include='*.php' --exclude-dir={node_modules,vendor} "$uses" .; then echo "$extension"; fi
  done <<'USES'
gd \b(imagecreate(truecolor|from[a-z]+)?|imagettftext) *\(
intl \b(new +\\?(NumberFormatter|IntlDateFormatter|Collator)\b|(normalizer_normalize|idn_to_ascii) *\()
soap new +\\?SoapClient\b
redis new +\\?Redis *[(;]
memcached new +\\?Memcached *[(;]
imagick new +\\?Imagick *[(;]
ldap \bldap_connect *\(
gmp \bgmp_[a-z]+ *\(
USES
}

# Sets packages to those of Debian to install, and added to the extensions besides the usual ones.
choose_extensions() {
  local extension
  packages=() added=()
  while IFS= read -r extension; do
    if [[ $built_in == *" $extension "* ]]; then continue; fi
    case $extension in
      pdo_odbc) extension=odbc ;;
      pdo_dblib) extension=sybase ;;
      pdo_firebird) extension=interbase ;;
    esac
    added+=("$extension")
  done < <(named_extensions | tr '[:upper:]' '[:lower:]' | LC_ALL=C sort -u)
  for extension in fpm cli opcache readline bcmath curl mbstring mysql pgsql sqlite3 xml zip "${added[@]}"; do
    packages+=("php$series-$extension")
  done
}
