# shellcheck shell=bash
# What went wrong, in one line with a remedy.

# $1: what was tried. Reads what Deno printed from the file $log, and ends the build.
explain() {
  local it
  said() { it=$(bp said "$log" "$@"); }
  if said 'lockfile is out of date'; then
    fail "deno.lock does not fit the app: run deno install --entrypoint $entry on your machine and commit deno.lock"
  elif said '[Ii]ntegrity check failed[^.]*|[Tt]arball checksum did not match'; then
    fail "a package is not what deno.lock says ($it): run deno cache --reload $entry and commit deno.lock, if you trust the change"
  elif said "Could not find version '[^']+' for npm package '[^']+'"; then
    fail "npm's registry has not what deno.lock names (${it#Could not find }): run deno outdated --update on your machine and commit deno.lock"
  elif said 'Failed reading lockfile|Unable to (?:parse|read) lockfile|Unsupported lockfile version[^.]*'; then
    fail "deno.lock cannot be read: delete it, run deno install on your machine and commit the new one"
  elif said "npm package '([^']+)' does not exist"; then
    fail "there is no package $it in npm's registry: correct its name; a private one needs an .npmrc with a token from a config var"
  elif said "Could not find npm package '([^']+)' matching" 'Could not find version of .([^ ]+). that matches'; then
    fail "$it has no such version: run deno outdated, correct the version and commit deno.json and deno.lock"
  elif said 'Relative import path "([^"]+)" not prefixed' 'Import "([^"]+)" not a dependency'; then
    fail "deno.json does not say what \"$it\" is: run deno add npm:$it (or jsr:…) on your machine and commit deno.json and deno.lock"
  elif said 'Module not found "file://[^"]*/workspace/([^"]+)"'; then
    fail "there is no file $it: commit it (does .gitignore leave it out?), let a task \"build\" make it, or correct the import"
  elif said 'JSR package manifest for .(@[a-z0-9-]+/[a-z0-9-]+)' "(?:Import|error sending request for url).*(https?://[^ )'\"]+)"; then
    fail "$it cannot be had from here: push again if it should answer; if builds do not reach it, set \"vendor\": true in deno.json and commit vendor/"
  elif said 'module.s source code could not be parsed: .*'; then
    fail "a program has a mistake: ${it#*: }"
  elif said 'TS[0-9]+ .ERROR.: .*'; then
    fail "$1 found a mistake of types ($it): the lines above say where"
  elif said 'out of memory|Killed|signal: 9'; then
    fail "Deno was killed, probably for want of memory: give builds more"
  else
    fail "$1 failed: the lines above say why; correct it and push again"
  fi
}
