# shellcheck shell=bash
# What went wrong, in one line with a remedy.

# $1: what was tried. Reads what Go printed from the file $log, and ends the build.
explain() {
  local it
  said() { it=$(bp said "$log" "$@"); }
  if said 'inconsistent vendoring'; then
    fail "vendor/ and go.mod do not agree: run go mod vendor and commit vendor/ (or remove it)"
  elif said 'missing go.sum entry for module providing package ([^ ;:]+)' 'missing go.sum entry' 'checksum mismatch|malformed go.sum'; then
    fail "go.sum does not fit go.mod ($it): run go mod tidy and commit go.mod and go.sum"
  elif said 'updates to go.mod needed' 'is explicitly required in go.mod, but not' 'updating go.mod'; then
    fail "go.mod is not up to date: run go mod tidy and commit go.mod and go.sum"
  elif said 'no required module provides package ([^ ;:]+)'; then
    fail "the package $it is not in go.mod: run go mod tidy and commit go.mod and go.sum"
  elif said 'go: [^ ]+ requires go >= [0-9.]+ '; then
    fail "a newer Go is needed ($it): write go ${it##* >= } into go.mod, or run go mod tidy, and commit"
  elif said 'requires (go ?>= ?[0-9.]+)'; then
    fail "a module needs $it: raise the go line of go.mod, or run go mod tidy, and commit"
  elif said 'package ([^ ]+) is not in std'; then
    fail "there is no package $it in this module or in Go: correct the import, or commit the folder if it is yours"
  elif said 'import "([^"]+)" is a program'; then
    fail "$it is a program and cannot be imported: move what is shared into a package of its own"
  elif said 'use of internal package [^ ]+ not allowed' 'import cycle not allowed'; then
    fail "$it: the lines above say where; correct it and push again"
  elif said 'pattern ([^:]+): no matching files found' 'pattern ([^:]+): cannot embed'; then
    fail "go:embed finds no $it: commit the files (does .gitignore leave them out?) or build them in a script of package.json"
  elif said ' ([a-z0-9.-]+\.[a-z]+/[^ @:]+)[^ ]*: (reading|invalid version|unrecognized import|git ls-remote|.*(404|410) )'; then
    fail "$it cannot be had: is its name or version wrong? A private module has to be in vendor/: run go mod vendor and commit it"
  elif said 'could not read Username|terminal prompts disabled|Permission denied .publickey'; then
    fail "a module is private ($it): run go mod vendor and commit vendor/, so that the build needs no access"
  elif said 'replacement directory [^ ]+ does not exist'; then
    fail "go.mod replaces a module by a folder that is not in the repository ($it): commit it, or drop the replace line"
  elif said 'fatal error: ([^ ]+): No such file' "Package '?([^ ,']+)'? was not found|cannot find -l([^ :]+)"; then
    fail "a C library is missing ($it): name its Debian package in a file Aptfile, and push again"
  elif said 'dial tcp|i/o timeout|connection refused|TLS handshake|no such host'; then
    fail "the module proxy does not answer ($it); push again when it does"
  elif said 'signal: killed'; then
    fail "the compiler was killed, probably for want of memory: give builds more, or set GOFLAGS=-p=1"
  else
    fail "$1 failed: the lines above say why; correct it and push again"
  fi
}
