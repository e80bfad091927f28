# shellcheck shell=bash
# Which package manager the app uses: npm, Yarn, pnpm or Bun.

declare -A titles=([npm]=npm [yarn]=Yarn [pnpm]=pnpm [bun]=Bun)

# Sets manager (npm, yarn, pnpm, bun), kind (the same, but berry for Yarn 2 and newer), lock (the lock file, or nothing), and
# manager_range and manager_hash (of packageManager in package.json, or nothing).
choose_manager() {
  local named files=() of=() file name found=""
  named=$(package packageManager)
  if [ -z "$named" ]; then named=$(dev_engine packageManager '[^ ]+') named=${named/$'\t'/@}; fi
  manager_hash="" manager_range=""
  if [[ $named == *@* ]]; then manager_range=${named#*@} named=${named%%@*}; fi
  if [[ $manager_range == *+* ]]; then manager_hash=${manager_range#*+} manager_range=${manager_range%%+*}; fi
  case $named in
    npm | yarn | pnpm | bun | '') ;;
    *) fail "packageManager in package.json names $named, which is not supported: use npm, yarn, pnpm or bun" ;;
  esac
  for file in npm-shrinkwrap.json package-lock.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb; do
    case $file in *.json) name=npm ;; *) name=${file%%[-.]*} ;; esac
    if [ ! -f "$file" ] || [[ " ${of[*]} " == *" $name "* ]]; then continue; fi
    if grep -qE '^(<<<<<<<|>>>>>>>) ' "$file"; then
      fail "$file contains merge conflict markers: resolve the conflict, run $name install, and commit $file"
    fi
    files+=("$file") of+=("$name")
  done
  # Bun can write a yarn.lock besides its own.
  if [ "${of[*]}" = "yarn bun" ] && grep -qs '"yarn"' bunfig.toml; then files=("${files[1]}") of=(bun); fi
  if [ ${#files[@]} -gt 1 ] && [ -z "$named" ]; then
    for name in "${of[@]}"; do
      if [ -n "$(package "engines.$name")" ]; then found+=$name; fi
    done
    [[ " ${of[*]} " == *" $found "* ]] ||
      fail "there are several lock files (${files[*]}): git rm those that you do not use, or set packageManager in package.json"
    named=$found
  fi
  manager=${named:-npm} lock=""
  for file in "${!files[@]}"; do
    if [ "${of[file]}" = "$named" ]; then lock=${files[file]}; fi
  done
  if [ -z "$lock" ] && [ ${#files[@]} != 0 ]; then
    lock=${files[0]} manager=${of[0]}
    if [ -n "$named" ]; then
      bp trouble "packageManager in package.json names $named, but the lock file is $lock: $manager is used; make them agree"
    fi
  elif [ -n "$lock" ] && [ ${#files[@]} -gt 1 ]; then
    bp trouble "there are several lock files (${files[*]}): $lock is used, since package.json names $named; git rm the others"
  elif [ -z "$lock$named" ]; then
    if [ -f pnpm-workspace.yaml ]; then manager=pnpm; fi
    if [ -f .yarnrc.yml ]; then manager=yarn; fi
    if [ -f bunfig.toml ] || [[ $(package scripts.start) =~ ^bunx?\  ]]; then manager=bun; fi
  fi
  [ "$manager" = "$named" ] || manager_range="" manager_hash=""
  kind=$manager
  if [ "$manager" = yarn ]; then
    if grep -qs '^__metadata:' yarn.lock || [[ $manager_range =~ ^[2-9] ]] || { [ -z "$lock" ] && [ -f .yarnrc.yml ]; }; then kind=berry; fi
  fi
}

# Prints the name of the lock file that the package manager writes.
lock_name() {
  case $kind in npm) echo package-lock.json ;; yarn | berry) echo yarn.lock ;; pnpm) echo pnpm-lock.yaml ;; bun) echo bun.lock ;; esac
}
