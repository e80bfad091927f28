# shellcheck shell=bash
# What went wrong, in one line with a remedy.

# Reads what cargo printed from the file $log, and ends the build.
explain() {
  local it
  said() { it=$(bp said "$log" "$@"); }
  if said 'lock file .* needs to be updated' 'cannot update the lock file'; then
    fail "Cargo.toml and Cargo.lock do not agree: run cargo update --workspace and commit Cargo.lock"
  elif said 'lock file version .* (?:requires|was found)[^,]*'; then
    fail "Cargo.lock is of a newer cargo ($it): this stack has Rust $version; make it again with that"
  elif said 'failed to parse lock file|(Cargo.lock.*(merge conflict|TOML parse error))'; then
    fail "Cargo.lock cannot be read: take it from git, or run cargo generate-lockfile, and commit it"
  elif said 'rustc [0-9.]+ is not supported by the following packages?' 'requires (rustc [0-9.]+ or newer)' \
    'feature .edition20[0-9]+. is required'; then
    fail "this stack has Rust $version, and crates want a newer one: set rust-version = \"${version%.*}\" in Cargo.toml, run" \
      "CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS=fallback cargo update, and commit Cargo.lock"
  elif said 'error inheriting|failed to find a workspace root|does not appear to be a workspace'; then
    fail "this folder belongs to a workspace whose Cargo.toml is not here: build the whole repository (builds:set APP dir," \
      "without a folder), and name the program in a Procfile"
  elif said 'no matching package named .([^ `]+). found' 'no matching package found.*searched package name: .([^ `]+).'; then
    fail "there is no crate $it: correct its name in Cargo.toml, run cargo update --workspace, and commit both files"
  elif said 'failed to select a version for (?:the requirement )?.([^`]+).'; then
    fail "no version of a crate fits ($it): correct Cargo.toml, run cargo update --workspace, and commit both files"
  elif said 'failed to (?:load source for dependency|get) .([^`]+).' && grep -qiE 'git|authenticat|clone|revision' "$log" &&
    ! grep -q 'No such file' "$log"; then
    fail "the crate $it comes from a git repository that cannot be read: is it private, or gone? Run cargo vendor and commit" \
      "vendor/ and .cargo/config.toml, so that the build needs no access"
  elif said 'failed to read .([^`]+Cargo.toml).'; then
    fail "a crate is asked for by its path, and $it is not in the repository: commit that folder, or use the published crate"
  elif said 'failed to parse manifest|invalid TOML|TOML parse error'; then
    fail "Cargo.toml is not valid: the lines above say where; correct it and push again"
  elif said 'Could not find directory of (OpenSSL) installation' 'system library .([^`]+). required by' \
    'cannot find -l([a-zA-Z0-9_.-]+)' "fatal error: '?([^ ':]+)'?:? (?:file not found|No such file)"; then
    fail "a C library is missing ($it): name its Debian package (as lib${it#lib}-dev) in a file Aptfile, and push again"
  elif said 'Could not find .?protoc' 'Unable to find libclang' 'is .(cmake). not installed|(cmake) not'; then
    fail "a tool is missing ($it): name its Debian package (protobuf-compiler, libclang-dev, cmake) in a file Aptfile"
  elif said 'set .?DATABASE_URL.? to use query macros|.DATABASE_URL. must be set'; then
    fail "sqlx asks a database while it compiles: run cargo sqlx prepare --workspace and commit .sqlx/"
  elif said 'no bin target named .([^`]+).'; then
    fail "there is no program $it in Cargo.toml: correct the Procfile"
  elif said "package .([^ ]+). cannot be built because it requires rustc ([0-9.]+)"; then
    fail "$it wants a newer Rust than $version: cargo update -p $it --precise an older version, and commit Cargo.lock"
  elif said 'signal: 9|SIGKILL'; then
    fail "the compiler was killed, probably for want of memory: give builds more, or set CARGO_BUILD_JOBS=1"
  elif said 'Could not resolve host|Connection refused|Timeout was reached|spurious network error'; then
    fail "the registry of crates does not answer ($it); push again when it does"
  elif said 'could not compile .([^`]+).'; then
    fail "$it does not compile: the lines above say why; correct it and push again"
  else
    fail "cargo failed: the lines above say why; correct it and push again"
  fi
}
