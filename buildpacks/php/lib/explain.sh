# shellcheck shell=bash
# What went wrong with the packages, in one line with a remedy.

# Reads what Composer printed from the file $log, and ends the build.
explain() {
  local it
  said() { it=$(bp said "$log" "$@"); }
  if said 'Required package "([^"]+)" is (not present in|in the lock file)' 'The lock file is not up to date'; then
    fail "composer.json and composer.lock do not agree ($it): run composer update --lock, and commit composer.lock"
  elif said 'requires (php [^ ].*) -> your php version'; then
    fail "a package wants $it, and this stack has PHP $version: run composer update with PHP ${version%.*}, and commit composer.lock"
  elif said '(ext-[a-z0-9_-]+) .*-> it is missing from your system'; then
    fail "a package wants $it, which this stack does not have: take the package out, or require a polyfill of it"
  elif said '"?([a-zA-Z0-9_./-]+)"? does not (exist|contain).*(path|composer.json)' 'Source path "([^"]+)" is not found'; then
    fail "composer.json takes a package from a folder that is not in the repository ($it): commit it, or take the package from somewhere else"
  elif said '(plugins?: [^ ]+|[a-z0-9_-]+/[a-z0-9_-]+) .*(blocked by your allow-plugins|contains a Composer plugin which is)'; then
    fail "$it is a plugin that composer.json does not allow: run composer config allow-plugins.NAME true, and commit composer.json"
  elif said 'Could not authenticate against [^ ]+|Invalid credentials[^,]*|HTTP/[0-9.]+ 40[13]|requires? authentication' 'API limit|rate limit'; then
    fail "a package is private, or the server wants to know who asks ($it): config:set --build COMPOSER_AUTH='{\"github-oauth\":{\"github.com\":\"TOKEN\"}}'"
  elif said 'Failed to clone [^ ,]+|could not read Username|Permission denied .publickey|Repository not found'; then
    fail "a package comes from a git repository that the build cannot read ($it): make it public, or config:set --build COMPOSER_AUTH"
  elif said 'checksum verification|invalid hash|signature'; then
    fail "a package is not what composer.lock expects ($it): run composer update for it, and commit composer.lock"
  elif said 'Could not resolve host|Connection (?:refused|timed out)|curl error|failed to open stream|could not be (?:fully )?(?:downloaded|loaded)|Temporary failure' ||
    grep -q 'could not be downloaded' "$log"; then
    fail "the package server does not answer${it:+ ($it)}: push again when it does, or commit vendor/ (composer install --no-dev)"
  elif said 'Allowed memory size|Killed|Cannot allocate memory'; then
    fail "Composer ran out of memory ($it): give builds more"
  elif said "Script (.*) (returned with error code|handling the)" '(.*) handling the [a-z-]+ event'; then
    local why
    why=$(sed -nE 's/.*(SQLSTATE[^(]*|Connection refused|Environment variable not found: "[^"]+"|Class "[^"]+" not found|Undefined constant [^ ]+|No application encryption key[^.]*).*/\1/p' "$log" | head -n 1)
    fail "a script of composer.json failed: ${it#the }${why:+ ($why)}; a build has no database, and only the config vars that are set with config:set --build"
  fi
  fail "the packages of composer.lock cannot be installed: the lines above say why; correct it and push again"
}
