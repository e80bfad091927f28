# shellcheck shell=bash
# What is known of the app's configuration before packages are installed, and explains why an installation or a script fails.

# Sets unset_names to the variables that the package manager's configuration reads without a default and that are not set, with
# =VALUE and a space between, and unset_in to the file.
find_unset_variables() {
  local file files=(.npmrc) name names pattern='\$\{[A-Za-z_][A-Za-z0-9_]*\}'
  unset_names="" unset_in=""
  case $kind in
    yarn) files+=(.yarnrc) ;;
    berry) files=(.yarnrc.yml) ;;
    pnpm) files+=(pnpm-workspace.yaml) ;;
    bun) files+=(bunfig.toml) ;;
  esac
  for file in "${files[@]}"; do
    if [ ! -f "$file" ] || [ -n "$unset_names" ]; then continue; fi
    if [ "$file" = bunfig.toml ]; then pattern='\$\{?[A-Za-z_][A-Za-z0-9_]*\}?'; fi
    mapfile -t names < <(sed -E 's/^[[:space:]]*[#;].*//' "$file" | grep -oE "$pattern" | tr -d '${}' | sort -u)
    for name in "${names[@]}"; do
      if [ -z "${!name:-}" ]; then unset_names+="${unset_names:+=VALUE }$name" unset_in=$file; fi
    done
  done
}

# Sets foreign to a package for this system that package-lock.json lacks, although it has the same for another system, and
# foreign_of to the package that loads it. npm leaves them out (npm/cli#4828) if node_modules was there when it wrote the file.
find_foreign_lock() {
  local ours='x64|64'
  foreign="" foreign_of=""
  case $lock in *.json) ;; *) return ;; esac
  if [ "$CNB_TARGET_ARCH" = arm64 ]; then ours='arm64|arm-64'; fi
  IFS=$'\t' read -r foreign foreign_of < <(jq -r --arg ours "(^|[-_/])linux-($ours)(-gnu|-glibc)?$" '
    .packages // {} | objects | (map_values(true) | with_entries(.key |= sub("^(.*/)?node_modules/"; ""))) as $there |
    to_entries[] | (.key | sub("^(.*/)?node_modules/"; "")) as $name | .value.optionalDependencies | objects | keys |
    select(any(.[]; $there[.])) | .[] | select(test($ours)) | select($there[.] | not) | "\(.)\t\($name)"' "$lock" 2>/dev/null) || true
}

# Warns of what find_foreign_lock has found, after a build that did not need the package.
report_foreign_lock() {
  if [ -z "$foreign" ]; then return; fi
  bp trouble "$lock was made on another system: it lacks $foreign, which $foreign_of loads here; remove node_modules and $lock, run npm install, and commit $lock"
}
