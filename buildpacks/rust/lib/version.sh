# shellcheck shell=bash disable=SC2034
# Which Rust the app asks for.

# Sets asked, why, pinned (what is asked for exactly, or nothing) and series (the channel or version in it). Warns of what Debian's Rust
# does not have.
choose_asked() {
  local file targets named
  asked="" why=""
  for file in rust-toolchain rust-toolchain.toml; do
    [ -f $file ] || continue
    asked=$(bp toml $file toolchain.channel "" 2>/dev/null || sed 's/#.*//' $file | tr -d '[:space:]"'"'")
    why="$file: $asked"
    targets=$(bp toml $file toolchain.targets "" 2>/dev/null | jq -r 'map(select(test("^x86_64-unknown-linux-gnu$|^aarch64-unknown-linux-gnu$") | not)) | join(" ")' 2>/dev/null || true)
    if [ -n "$targets" ]; then bp trouble "$file asks for the targets $targets, which Debian's Rust does not have: the app is built for this machine only"; fi
    if [ -z "$asked" ]; then bp trouble "$file names no channel: the app is built with Debian's newest Rust; write channel = \"stable\", or a version"; fi
    break
  done
  if [ -z "$asked" ]; then
    named=$(bp named-version --tool rust) || [ $? = 1 ] || exit 1
    IFS=$'\t' read -r asked file <<<"$named"
    why="$file: rust $asked"
  fi
  if [ "$asked" = latest ]; then asked=stable; fi
  pinned=$asked
  if [ -z "$asked" ]; then
    asked=$(bp toml Cargo.toml package.rust-version "" | grep '^[0-9]' || bp toml Cargo.toml workspace.package.rust-version "")
    why="rust-version of Cargo.toml: $asked"
    # Any Rust is at least of this version.
    if [ "$asked" = 1 ]; then asked=""; fi
  fi
  # 1.84.x and 1.84-x86_64-unknown-linux-gnu are of the series 1.84.
  series=$(sed -E 's/^(stable|beta|nightly|[0-9][0-9.]*(\.[x*])?)-.*/\1/; s/\.[x*]$//' <<<"${asked#v}")
}
