# shellcheck shell=bash
# The variables that frameworks read, which folder is served, and the processes.

has_package() {
  [ -f composer.json ] && jq -e --arg name "$1" '.require // {} | objects | has($name)' composer.json >/dev/null
}

prepare_framework() {
  if [ -f artisan ] && has_package laravel/framework; then
    # Laravel's caches contain config vars, which builds do not have: none is made here.
    mkdir -p storage/framework/{cache/data,sessions,views} storage/logs storage/app/public bootstrap/cache
    bp env "$layers" php --launch --default APP_ENV=production
    bp env "$layers" php --launch --default LOG_CHANNEL=stderr
    bp detail "When it runs, Laravel needs the config var APP_KEY (php artisan key:generate --show prints one)"
    if [ -d storage/app/public ] && [ -d public ] && [ ! -e public/storage ]; then ln -s ../storage/app/public public/storage; fi
  elif [ -f bin/console ] && has_package symfony/framework-bundle; then
    bp env "$layers" php --launch --default APP_ENV=prod
    bp env "$layers" php --launch --default APP_DEBUG=0
    # Symfony's cache contains the names of config vars, not their values.
    rm -rf var/cache/dev var/log
    mkdir -p var/cache var/log
  elif [ -f yii ] || has_package yiisoft/yii2; then
    mkdir -p runtime web/assets
  fi
  rm -rf node_modules
}

# Prints the folder to serve: the one with the front controller.
document_root() {
  local dir
  for dir in public web webroot; do
    if [ -f "$dir/index.php" ]; then
      echo "$dir/"
      return
    fi
  done
  if compgen -G '*.php' >/dev/null && { [ -f index.php ] || [ ! -f composer.json ]; }; then
    echo ./
    return
  fi
  for dir in docroot htdocs www pub html public_html src; do
    if [ -f "$dir/index.php" ]; then
      echo "$dir/"
      return
    fi
  done
}

# Sets procfile_web (the command in the Procfile) and root (the folder to serve without one). Ends the build if there is nothing to
# start.
choose_start() {
  procfile_web=$(sed -nE 's/^web *: *//p' Procfile 2>/dev/null | head -n 1) || true
  root=$(document_root)
  if [[ $procfile_web == *heroku-php-* ]]; then
    check_server_options
  elif [[ $procfile_web =~ php\ +-S\ +(localhost|127\.0\.0\.1|[^ ]*:[0-9]+( |$)) ]] || { [[ $procfile_web == *"artisan serve"* ]] && [[ $procfile_web != *--host* ]]; }; then
    # shellcheck disable=SC2016 # The shell of the instance expands $PORT.
    fail 'the Procfile makes PHP listen on an address that the router does not reach: remove the line web (nginx and PHP-FPM serve then), or write 0.0.0.0:$PORT there'
  fi
  if [ -z "$root" ] && [ ! -f Procfile ]; then
    fail "there is no index.php, in public/, web/ or the app's folder: add one, or a Procfile with a line web: COMMAND"
  fi
}

declare_processes() {
  if [[ $procfile_web == *vendor/bin/heroku-php-* ]]; then
    # The package that contains them is a development package, which is not installed.
    mkdir -p vendor/bin
    ln -sf "$php/bin/serve-php" vendor/bin/heroku-php-nginx
    ln -sf "$php/bin/serve-php" vendor/bin/heroku-php-apache2
  fi
  if [[ -z $procfile_web || $procfile_web == *heroku-php-* ]] && { [ -f .htaccess ] || compgen -G '*/.htaccess' >/dev/null; }; then
    bp detail "nginx does not read .htaccess, except for folders that it closes: addresses without a file go to index.php"
  fi
  if [ -z "$procfile_web" ] && [ -n "$root" ]; then
    bp process "$layers" web --default -- serve-php "$root"
    bp detail "web runs: nginx and PHP-FPM, serving ${root/#.\//the app\'s folder}"
  fi
  if [ ! -f Procfile ] && [ -f artisan ]; then
    bp process "$layers" worker -- php artisan queue:work
    bp process "$layers" scheduler -- php artisan schedule:work
    bp detail "worker runs: php artisan queue:work; scheduler runs: php artisan schedule:work"
  fi
}
