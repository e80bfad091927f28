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
  elif [ -f "$1/nx.json" ]; then
    # The one program that Nx has built, wherever the project wants it.
    file=$(cd "$1" && ls -d "$(bp json project.json targets.build.options.outputPath dist)/main.js" dist/{*/,apps/*/}main.js apps/*/dist/main.js 2>/dev/null | sort -u)
    [ -n "$file" ] && [[ $file != *$'\n'* ]] && echo "node $file"
  else
    return 1
  fi
}

# $1: a package's folder, $2: what is to be true of the program, if anything. Prints the program that it looks like, as a
# command in that folder.
program() {
  local file main imports run=node
  main=$(package_in "$1" "main")
  if [ "$manager" = bun ] && [ -n "$bun_runs" ]; then run=bun; fi
  for file in $main ${main:+"$main.js" "$main/index.js"} {server,app,index,main}.{js,mjs,cjs} {src,dist,build,server,backend}/{server,app,index,main}.{js,mjs,cjs}; do
    if [ -f "$1/$file" ] && [[ $file =~ js$ ]] && "${2:-:}" "$1/$file"; then echo "$run $file" && return; fi
  done
  # Node.js 24 and Bun run TypeScript as it is; Node.js only if it names files as they are called.
  if [ "$run" = bun ] || [ "${version%%.*}" -ge 24 ]; then
    for file in $main {server,app,index,main}.{ts,tsx,mts} {src,server,backend}/{server,app,index,main}.{ts,tsx,mts}; do
      if [ -f "$1/$file" ] && "${2:-:}" "$1/$file"; then
        imports=$(grep -rhoE --exclude-dir node_modules --include '*.ts' "from ['\"]\.\.?/[^'\"]+" "$1/$(dirname "$file")" || true)
        if [ "$run" = node ] && [ -n "$imports" ] && grep -qvE '\.([cm]?ts|json)$' <<<"$imports"; then
          depends "$1" tsx || return 1
          run=tsx
        fi
        echo "$run $file" && return
      fi
    done
  fi
  return 1
}

# $1: a package's folder, $2: files there, as patterns of the shell, $3: what they say for another platform, $4: what they would
# say for this one, as patterns. Prints what is said.
says_elsewhere() {
  local text
  # shellcheck disable=SC2086 # Several patterns.
  text=$(cd "$1" && cat $2 2>/dev/null | grep -vE '^ *(//|\*)')
  ! grep -qE "$4" <<<"$text" && grep -oE "$3" <<<"$text" | head -n 1
}

# $1: a package's folder. Fails if its framework is told to build for another platform: nothing would run here.
refuse_adapter() {
  local said others='vercel|netlify|cloudflare|deno|edgio|aws[a-z-]*|azure[a-z-]*|firebase'
  if said=$(says_elsewhere "$1" 'svelte.config.*' "@sveltejs/adapter-(auto|static|$others)|svelte-adapter-[a-z-]+" 'adapter-(node|bun|express)'); then
    fail "$said is for other places than this: add @sveltejs/adapter-node and name it in svelte.config.js"
  elif said=$(says_elsewhere "$1" 'astro.config.*' "@astrojs/($others)|@deno/astro-adapter" '@astrojs/node'); then
    fail "$said is for other places than this: add @astrojs/node and name it in the Astro configuration"
  elif said=$(says_elsewhere "$1" 'app.config.* nuxt.config.* nitro.config.* vite.config.*' \
    "preset: *['\"]($others)[a-z_-]*['\"]|@cloudflare/vite-plugin" "preset: *['\"](node|bun)"); then
    fail "$said in the configuration is for other places than this: remove it, or name Node.js there (preset: \"node-server\")"
  elif said=$(says_elsewhere "$1" 'app/entry.server.* remix.config.* vite.config.*' '@(react-router|remix-run)/(cloudflare|deno)|@netlify/(remix|vite)[a-z-]*' \
    '@(react-router|remix-run)/(serve|node|express)'); then
    fail "$said is for other places than this: use the framework's template for Node.js, with its package serve"
  elif depends "$1" @builder.io/qwik-city && [ -z "$(find "$1"/src -regex '.*/entry\.\(express\|fastify\|node\|bun\).*')" ]; then
    fail "Qwik City has no server for this place: run npm run qwik add express, and commit what it writes"
  elif [[ $start =~ (^|[ /])wrangler\  ]]; then
    fail "wrangler serves Cloudflare's developers: add a server for Node.js (for Hono, @hono/node-server) and a \"start\" script that starts it"
  fi
}

nothing_to_start() {
  if compgen -G '*.ts' >/dev/null || compgen -G 'src/*.ts' >/dev/null; then
    fail "nothing says what to start: add a \"build\" script that compiles the TypeScript and a \"start\" script to package.json, or a Procfile with a line web: COMMAND"
  fi
  fail "nothing says what to start: add a \"start\" script to package.json, or a Procfile with a line web: COMMAND"
}

# Whether it serves a developer, not the public. What starts several programs does, if one of them does.
is_for_development() {
  local text=$1 tools pattern
  if [[ $text =~ (^|[ /])(concurrently|run-p|npm-run-all)\  ]]; then text=$(expanded "$text"); fi
  text=${text//vite build/}
  tools='next dev|nuxt[i]? (dev|start|preview)|astro (dev|preview)|vite( (dev|preview|serve))?|svelte-kit .*|remix (vite:)?dev|react-router dev'
  tools+='|nest start|nx serve.*|ng serve|vinxi dev|react-scripts start|craco start|vue-cli-service serve|webpack(-dev-server| serve)'
  tools+='|qwik dev|wrangler .*|node ace serve'
  pattern="(^|[ /\"'])($tools)([ ;\"']|\$)"
  [[ $text =~ $pattern ]]
}

# Whether the file $1 has a server.
listens() {
  grep -qE '(listen|serve|createServer)\(' "$1"
}

# Sets at_launch to the managers that run when the app starts. Of a workspace, it may be any package that starts.
find_launched() {
  local tool file pattern text="$start $starts"
  at_launch=()
  for file in Procfile app.json; do
    if [ -f $file ]; then text+=" $(<$file)"; fi
  done
  for tool in npm yarn pnpm bun; do
    pattern="(^|[^[:alnum:]_])($tool|${tool/%pm/px}|${tool/#bun/bunx})([^[:alnum:]_]|\$)"
    if [[ $text =~ $pattern ]]; then at_launch+=("$tool"); fi
  done
  if [ -n "$bun_runs" ] && [[ " ${at_launch[*]} " != *" bun "* ]]; then at_launch+=(bun); fi
}

# $1: a command. Prints it, with what the scripts run that it calls.
expanded() {
  local words word last="" text=$1 depth named several=""
  for depth in 1 2 3; do
    read -ra words <<<"${text//[;&|()\"\']/ }"
    for word in "${words[@]}"; do
      word=${word#npm:}
      case $word in run-s | run-p | npm-run-all | concurrently) several=yes ;; esac
      case $last in run | npm | yarn | pnpm | bun) named=yes ;; *) named=$several ;; esac
      if [ -n "$named" ] && [ -n "$(package "scripts.$word")" ]; then text+=" ; $(package "scripts.$word")"; fi
      last=$word
    done
    if [ "$depth" = 1 ] && [ "$text" = "$1" ]; then break; fi
  done
  echo "$text"
}

declare -A package_of=([tsc]=typescript [nest]=@nestjs/cli [dotenv]=dotenv-cli [babel-node]=@babel/node [babel]=@babel/cli [swc]=@swc/cli
  [run-s]=npm-run-all [run-p]=npm-run-all [remix-serve]=@remix-run/serve [react-router-serve]=@react-router/serve [svelte-kit]=@sveltejs/kit
  [vue-cli-service]=@vue/cli-service [ng]=@angular/cli [graphql-codegen]=@graphql-codegen/cli [prisma]=prisma)

# $1: a command. Prints the first of its words that needs a package that only developers have.
development_tool() {
  local word name
  set -f
  for word in ${1//[;&|()=]/ }; do
    word=${word#\"} word=${word%\"}
    name=${package_of[$word]:-$word}
    case $name in @*/*/*) name=$(cut -d / -f 1-2 <<<"$name") ;; [!@]*/*) name=${name%%/*} ;; esac
    if [ -n "$(package_in "$dir" "devDependencies.$name")" ] && [ -z "$(package_in "$dir" "dependencies.$name")" ]; then
      echo "$word" && break
    fi
  done
  set +f
}

# $1: a package's folder. Sets start to the command to run there; fails if nothing says what.
find_start() {
  local other framework text
  start=$(script_text "$1" start)
  # Only a manager sets such variables.
  if [[ $start == *npm_* ]]; then start="$manager run start"; fi
  framework=$(built "$1") || framework=""
  if [ -n "$start" ] && is_for_development "$start"; then
    if [ -n "$framework" ]; then
      bp detail "The start script ($start) is for development: what the build has made runs instead"
      start=$framework
      return
    fi
    refuse_adapter "$1"
    for other in start:prod start:production start:server production prod serve server; do
      text=$(script_text "$1" "$other")
      if [ -n "$text" ] && ! is_for_development "$text" && [[ ! $text =~ nodemon|json-server|node-dev|[\ -]watch ]]; then
        bp detail "The start script ($start) is for development: the script $other runs instead"
        start=$text
        return
      fi
    done
    if other=$(program "$1" listens); then
      bp detail "The start script ($start) is for development: $other runs instead"
      start=$other
      return
    fi
  fi
  # AdonisJS's start script is for the folder that its build makes.
  if [[ $start =~ ^node\ ([^\ ]+\.[cm]?js)$ ]] && [ ! -f "$1/${BASH_REMATCH[1]}" ] && [ -f "$1/build/${BASH_REMATCH[1]}" ]; then
    start="node build/${BASH_REMATCH[1]}"
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
