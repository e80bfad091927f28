# shellcheck shell=bash
# Reads package.json: the app's own once, those of the packages in a workspace on request.

# Values of the app's package.json by key, such as .scripts.build: with a dot before it, since a key of an array of Bash cannot be
# empty. An object or array at the top that is not empty has the value "yes".
declare -A fields=()

# Fills fields, if there is a package.json. Ends the build if it is not valid.
read_package_json() {
  local key value
  [ -f package.json ] || return 0
  bp json package.json name "" >/dev/null || exit 1
  while IFS= read -r -d '' key && IFS= read -r -d '' value; do fields[.$key]=$value; done < <(jq -j '
    (paths(scalars) as $path | ($path | map(tostring) | join(".")), (getpath($path) | tostring)),
    (to_entries[] | select(.value | type == "object" or type == "array") | select(.value | length > 0) | .key, "yes") | . + "\u0000"' package.json)
}

# $1: a key of the app's package.json. Prints its value, or nothing.
package() {
  echo "${fields[.$1]:-}"
}

# $1: the folder of a package, $2: a key of its package.json. Prints its value, or nothing.
package_in() {
  if [ "$1" = . ]; then package "$2"; else bp json "$1/package.json" "$2" ""; fi
}

# $1: the folder of a package, $2: a script. Prints its command; if it only calls another script, that one's command.
script_text() {
  local text before
  text=$(package_in "$1" "scripts.$2")
  if [[ $text =~ ^((npm|pnpm|bun)\ run|yarn(\ run)?|pnpm)\ ([a-zA-Z0-9:_-]+)$ ]] && [ "${BASH_REMATCH[4]}" != "$2" ] &&
    [ -n "$(package_in "$1" "scripts.${BASH_REMATCH[4]}")" ]; then
    script_text "$1" "${BASH_REMATCH[4]}"
    return
  fi
  if [ "$kind" != berry ] && [ -n "$text" ]; then
    before=$(package_in "$1" "scripts.pre$2")
    text=${before:+$before && }$text
  fi
  echo "$text"
}

# $1: the folder of a package, $2: the name of another. Whether the first depends on the second.
depends() {
  [ -n "$(package_in "$1" "dependencies.$2")$(package_in "$1" "devDependencies.$2")" ]
}
