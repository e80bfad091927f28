# shellcheck shell=bash
# What went wrong, in one line with a remedy.

# $1: what was tried. Reads what mix printed from the file $log, and ends the build.
explain() {
  local it
  said() { it=$(bp said "$log" "$@"); }
  tail -n 25 "$log"
  if said 'mix.lock is out of date' 'lock mismatch: the dependency is out of date' "the dependency is not locked"; then
    fail "mix.exs and mix.lock do not agree: run mix deps.get, and commit mix.lock"
  elif said 'Could not find Hex, which is needed to build dependency :[a-z_0-9]+'; then
    fail "a package of the registry is wanted (${it##* }), and there is no mix.lock: run mix deps.get, and commit mix.lock"
  elif said "Cannot compile dependency :([a-z_0-9]+) because it isn.t available" 'the dependency ([^ ]*) ?(is not available|path does not exist)'; then
    fail "mix.exs takes a dependency from a folder that is not in the repository ($it): commit it, or take the dependency from somewhere else"
  elif said 'No package with name [^ ]+'; then
    fail "$it: correct mix.exs, run mix deps.get, and commit mix.lock"
  elif said 'could not read Username|Permission denied .publickey|Repository not found|Authentication failed[^,]*' '(git ls-remote|git --git-dir[^ ]* fetch).*failed'; then
    fail "a dependency comes from a git repository that the build cannot read ($it): is it private, or gone? Commit it and name it by path:"
  elif said 'No authenticated organization found for [^.]+|Missing authentication[^.]*'; then
    fail "a private package needs a key ($it): config:set --build HEX_API_KEY=…"
  elif said 'Failed to fetch record|failed_connect|nxdomain|econnrefused|Request failed|timeout|could not connect'; then
    fail "the package server does not answer ($it); push again when it does"
  elif said 'SyntaxError|MismatchedDelimiterError|TokenMissingError|CompileError'; then
    fail "the app does not compile ($it): the lines above say where; correct it and push again"
  elif said 'environment variable ([A-Z0-9_]+) is missing' 'could not fetch environment variable "([A-Z0-9_]+)"'; then
    fail "the app wants $it while it is built: read it in config/runtime.exs instead of config/prod.exs, or config:set --build $it=…"
  elif said '[Uu]mbrella projects require releases' 'multiple releases'; then
    fail "mix release does not know which app to run ($it): name it in mix.exs (releases: [app: [applications: [app: :permanent]]], default_release: :app), or config:set --build MIX_RELEASE=…"
  elif said 'You.re trying to run (:[a-z_0-9]+ on Elixir v[0-9.]+)'; then
    fail "a dependency is for another Elixir ($it): update it (mix deps.update), and commit mix.lock"
  elif said 'fatal error: ([^ :]+): No such file'; then
    fail "a C library is missing ($it): name its Debian package in a file Aptfile, and push again"
  elif said '.*\b(cmake|cargo|rustc|make|gcc|node|npm)\b.*(?:not found|not in the path|No such file)'; then
    fail "a tool is missing ($it): name its Debian package in a file Aptfile, and push again"
  elif said 'could not compile dependency :([a-z_0-9]+)'; then
    fail "the dependency $it does not compile with Elixir $version: mix deps.update $it, and commit mix.lock"
  elif said 'Killed|eheap_alloc: Cannot allocate'; then
    fail "the compiler was killed, probably for want of memory: give builds more"
  elif said 'The task "([^"]+)" could not be found'; then
    fail "mix knows no task $it: is its dependency only: :dev in mix.exs?"
  fi
  fail "$1 failed: the lines above say why; correct it and push again"
}
