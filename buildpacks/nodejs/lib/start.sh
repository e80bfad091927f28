# shellcheck shell=bash
# What an app without a Procfile runs: its start script, what its framework has built, or the file that it looks like.

# $1: a package's folder, $2: a key of its package.json. Prints the value, or nothing.
package_in() {
  if [ "$1" = . ]; then package "$2"; else bp json "$1/package.json" "$2" ""; fi
}

# $1: a package's folder, $2: a script. Prints what it runs; one that only calls another is that one.
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

# $1: a package's folder. Whether its package.json names the package $2.
depends() {
  [ -n "$(package_in "$1" "dependencies.$2")$(package_in "$1" "devDependencies.$2")" ]
}

# $1: a package's folder. Prints what its framework has built, as a command in that folder.
built() {
  local file
  if [ -f "$1/.output/server/index.mjs" ]; then
    echo "node .output/server/index.mjs"
  elif [ -d "$1/.next/standalone" ] && file=$(find "$1/.next/standalone" -name node_modules -prune -o -name server.js -printf '%P\n' | sort | head -n 1) && [ -n "$file" ]; then
    # The container's name is in HOSTNAME, and Next.js would listen on that only.
    echo "HOSTNAME=0.0.0.0 node .next/standalone/$file"
  elif [ -f "$1/.next/BUILD_ID" ]; then
    echo "next start"
  elif [ -f "$1/dist/server/entry.mjs" ]; then
    echo "node ./dist/server/entry.mjs"
  elif [ -f "$1/build/server/index.js" ] && depends "$1" "@react-router/serve"; then
    echo "react-router-serve ./build/server/index.js"
  elif [ -f "$1/build/server/index.js" ] && depends "$1" "@remix-run/serve"; then
    echo "remix-serve ./build/server/index.js"
  elif [ -f "$1/build/index.js" ] && depends "$1" "@sveltejs/kit"; then
    echo "node build"
  elif [ -f "$1/dist/main.js" ] && depends "$1" "@nestjs/core"; then
    echo "node dist/main"
  elif file=$(cd "$1" && compgen -G 'dist/*/server/server.mjs' | head -n 1) && [ -n "$file" ]; then
    echo "node $file"
  else
    return 1
  fi
}

# $1: a package's folder. Prints the program that it looks like, as a command in that folder.
program() {
  local file main run=node
  main=$(package_in "$1" "main")
  if [ "$manager" = bun ] && [ -n "$bun_runs" ]; then run=bun; fi
  for file in $main ${main:+"$main.js" "$main/index.js"} {server,app,index,main}.{js,mjs,cjs} src/{server,app,index,main}.{js,mjs,cjs} {dist,build}/{server,app,index,main}.{js,mjs,cjs}; do
    if [ -f "$1/$file" ] && [[ $file =~ js$ ]]; then echo "$run $file" && return; fi
  done
  # Node.js 24 and Bun run TypeScript as it is.
  if [ "$run" = bun ] || [ "${version%%.*}" -ge 24 ]; then
    for file in $main {server,app,index,main}.{ts,tsx,mts} src/{server,app,index,main}.{ts,tsx,mts}; do
      if [ -f "$1/$file" ]; then echo "$run $file" && return; fi
    done
  fi
  return 1
}

# Whether it serves a developer, not the public.
is_for_development() {
  [[ $1 =~ (^|[ /])(next\ dev|nuxt[i]?\ (dev|start|preview)|astro\ (dev|preview)|vite(\ (dev|preview|serve))?|svelte-kit\ .*|remix\ dev|react-router\ dev|nest\ start|ng\ serve|vinxi\ dev)($|\ ) ]]
}

# $1: a command. Prints the first of its words that is a command of a development package.
development_tool() {
  local word target
  for word in ${1//[;&|()]/ }; do
    if [[ $word == */* || $word == *=* || $word == -* ]] || [ ! -L "node_modules/.bin/$word" ]; then continue; fi
    target=$(readlink "node_modules/.bin/$word")
    target=${target#../} target=${target##*node_modules/}
    if [[ $target == @* ]]; then target=$(cut -d / -f 1-2 <<<"$target"); else target=${target%%/*}; fi
    if jq -e --arg name "$target" '.devDependencies[$name] and (.dependencies[$name] | not)' package.json >/dev/null; then
      echo "$word" && return
    fi
  done
}

# $1: a package's folder. Sets start to the command to run there; fails if nothing says what.
find_start() {
  local other framework
  start=$(script_text "$1" start)
  framework=$(built "$1") || framework=""
  if [ -n "$start" ] && is_for_development "$start"; then
    if [ -n "$framework" ]; then
      bp detail "The start script ($start) is for development: what the build has made runs instead"
      start=$framework
      return
    fi
    for other in start:prod start:production production prod serve; do
      if [ -n "$(script_text "$1" "$other")" ]; then
        bp detail "The start script ($start) is for development: the script $other runs instead"
        start=$(script_text "$1" "$other")
        return
      fi
    done
  fi
  if [[ $start =~ ^(NODE_ENV=production\ )?next\ start ]] && [[ $framework == *standalone* ]]; then
    start=$framework
  elif [ -z "$start" ] && [ -n "$framework" ]; then
    start=$framework
  elif [ -z "$start" ]; then
    start=$(program "$1")
  fi
}

# Of several packages in a workspace, the one to run. Prints its folder, or all that could be meant.
startable() {
  local file dir found=()
  for file in "${manifests[@]}"; do
    dir=$(dirname "$file") dir=${dir#./}
    if [ "${file##*/}" = package.json ] && [ "$dir" != . ] && { [ -n "$(bp json "$file" scripts.start "")" ] || built "$dir" >/dev/null; }; then
      found+=("$dir")
    fi
  done
  for dir in web www app server api backend; do
    for file in "${found[@]}"; do
      if [ "${file##*/}" = "$dir" ]; then echo "$file" && return; fi
    done
  done
  printf '%s\n' "${found[@]}"
}
