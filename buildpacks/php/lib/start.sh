# shellcheck shell=bash
# What frameworks want to be told, which folder is served, and what runs.

has_package() {
  [ -f composer.json ] && jq -e --arg name "$1" '.require // {} | objects | has($name)' composer.json >/dev/null
}

prepare_framework() {
  if [ -f artisan ] && has_package laravel/framework; then
    # What reads config vars is made when they are there: nothing is cached here.
    mkdir -p storage/framework/{cache/data,sessions,views} storage/logs storage/app/public bootstrap/cache
    bp env "$layers" php --launch --default APP_ENV=production
    bp env "$layers" php --launch --default LOG_CHANNEL=stderr
    bp detail "When it runs, Laravel wants the config var APP_KEY (php artisan key:generate --show prints one)"
    if [ -d storage/app/public ] && [ -d public ] && [ ! -e public/storage ]; then ln -s ../storage/app/public public/storage; fi
  elif [ -f bin/console ] && has_package symfony/framework-bundle; then
    bp env "$layers" php --launch --default APP_ENV=prod
    bp env "$layers" php --launch --default APP_DEBUG=0
    # Its cache knows no config vars, only their names.
    rm -rf var/cache/dev var/log
    mkdir -p var/cache var/log
  elif [ -f yii ] || has_package yiisoft/yii2; then
    mkdir -p runtime web/assets
  fi
  rm -rf node_modules
}

# Prints the folder that is served: the one with the front controller.
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

# Sets told, what the Procfile says, and root, what is served otherwise; fails if there is nothing to start.
choose_start() {
  local words
  told=$(sed -nE 's/^web *: *//p' Procfile 2>/dev/null | head -n 1) || true
  root=$(document_root)
  if [[ $told == *heroku-php-* ]]; then
    read -ra words <<<"$told"
    if [[ ${words[-1]} != *heroku-php-* && ! -d ${words[-1]} ]]; then
      fail "the Procfile serves the folder ${words[-1]}, which is not there: correct it"
    fi
  elif [[ $told =~ php\ +-S\ +(localhost|127\.0\.0\.1|[^ ]*:[0-9]+( |$)) ]] || { [[ $told == *"artisan serve"* ]] && [[ $told != *--host* ]]; }; then
    # shellcheck disable=SC2016 # The instance's shell reads $PORT.
    fail 'the Procfile lets PHP listen where no request comes from: leave the line web out (nginx and PHP-FPM serve then), or write 0.0.0.0:$PORT there'
  fi
  if [ -z "$root" ] && [ ! -f Procfile ]; then
    fail "there is no index.php, in public/, web/ or the app's folder: add one, or a Procfile with a line web: COMMAND"
  fi
}

declare_processes() {
  if [[ $told == *vendor/bin/heroku-php-* ]]; then
    # The package that has them is for developers, and may not be there.
    mkdir -p vendor/bin
    ln -sf "$php/bin/serve-php" vendor/bin/heroku-php-nginx
    ln -sf "$php/bin/serve-php" vendor/bin/heroku-php-apache2
  fi
  if [[ -z $told || $told == *heroku-php-* ]] && { [ -f .htaccess ] || compgen -G '*/.htaccess' >/dev/null; }; then
    bp detail "nginx does not read .htaccess, but for folders that it closes: what is no file goes to index.php"
  fi
  if [ -z "$told" ] && [ -n "$root" ]; then
    bp process "$layers" web --default -- serve-php "$root"
    bp detail "web runs: nginx and PHP-FPM, serving ${root/#.\//the app\'s folder}"
  fi
  if [ ! -f Procfile ] && [ -f artisan ]; then
    bp process "$layers" worker -- php artisan queue:work
    bp process "$layers" scheduler -- php artisan schedule:work
    bp detail "worker runs: php artisan queue:work; scheduler runs: php artisan schedule:work"
  fi
}
