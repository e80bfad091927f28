# shellcheck shell=bash
# The start command of an app without a Procfile: its start script, the server that its framework has built, or a file with a
# usual name.

# $1: the folder of a package. Prints the command that starts the server its framework has built, to be run in that folder;
# fails if there is none.
built_server() {
  local file
  if [ -f "$1/.output/server/index.mjs" ]; then
    echo "node .output/server/index.mjs"
  elif [ -d "$1/.next/standalone" ] && file=$(find "$1/.next/standalone" -name node_modules -prune -o -name server.js -printf '%P\n' | sort | head -n 1) && [ -n "$file" ]; then
    # HOSTNAME is the name of the container, and Next.js would listen on that address only.
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
    # The program that Nx has built, if it is one, in whichever folder the project names.
    file=$(cd "$1" && ls -d "$(bp json project.json targets.build.options.outputPath dist)/main.js" dist/{*/,apps/*/}main.js apps/*/dist/main.js 2>/dev/null | sort -u)
    [ -n "$file" ] && [[ $file != *$'\n'* ]] && echo "node $file"
  else
    return 1
  fi
}

# $1: the folder of a package, $2: a command that checks the file, if any. Prints the command that starts the file with a usual
# name, to be run in that folder; fails if there is none.
usual_program() {
  local file main imports run=node
  main=$(package_in "$1" "main")
  if [ "$manager" = bun ] && [ -n "$bun_is_runtime" ]; then run=bun; fi
  for file in $main ${main:+"$main.js" "$main/index.js"} {server,app,index,main}.{js,mjs,cjs} {src,dist,build,server,backend}/{server,app,index,main}.{js,mjs,cjs}; do
    if [ -f "$1/$file" ] && [[ $file =~ js$ ]] && "${2:-:}" "$1/$file"; then echo "$run $file" && return; fi
  done
  # Node.js 24 and Bun run TypeScript directly; Node.js only if imports name files with their endings.
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

# Ends the build of an app without a package.json whose program imports a package.
refuse_undeclared_packages() {
  local program package
  program=$(bp node-program) || return 0
  if [ -z "$program" ]; then return; fi
  package=$(node "$here/lib/undeclared-package.js" "$program")
  if [ -z "$package" ]; then return; fi
  fail "$program needs the package $package, and there is no package.json: run npm init -y and npm install $package, and commit package.json and package-lock.json"
}

# Ends the build of an app without a start command.
nothing_to_start() {
  if compgen -G '*.ts' >/dev/null || compgen -G 'src/*.ts' >/dev/null; then
    fail "there is no start command: add a \"build\" script that compiles the TypeScript and a \"start\" script to package.json, or a Procfile with a line web: COMMAND"
  fi
  fail "there is no start command: add a \"start\" script to package.json or a Procfile with a line web: COMMAND, or, if the build makes a static site in a folder such as dist, a file static.json with { \"root\": \"dist\" }"
}

# $1: a command. Whether it starts a development server; a command that starts several programs does if one of them does.
is_for_development() {
  local text=$1 tools pattern
  if [[ $text =~ (^|[ /])(concurrently|run-p|npm-run-all)\  ]]; then text=$(expand_scripts "$text"); fi
  text=${text//vite build/}
  tools='next dev|nuxt[i]? (dev|start|preview)|astro (dev|preview)|vite( (dev|preview|serve))?|svelte-kit .*|remix (vite:)?dev|react-router dev'
  tools+='|nest start|nx serve.*|ng serve|vinxi dev|react-scripts start|craco start|vue-cli-service serve|webpack(-dev-server| serve)'
  tools+='|qwik dev|wrangler .*|node ace serve'
  pattern="(^|[ /\"'])($tools)([ ;\"']|\$)"
  [[ $text =~ $pattern ]]
}

# $1: a file. Whether it starts a server.
listens() {
  grep -qE '(listen|serve|createServer)\(' "$1"
}

# $1: start commands. Sets launch_managers to the package managers that run when the app starts: by these commands, by those
# of the Procfile and app.json, or by scripts that these call.
find_launch_managers() {
  local tool file pattern text=$1
  launch_managers=()
  for file in Procfile app.json; do
    if [ -f $file ]; then text+=" $(<$file)"; fi
  done
  text=$(expand_scripts "$text")
  for tool in npm yarn pnpm bun; do
    pattern="(^|[^[:alnum:]_])($tool|${tool/%pm/px}|${tool/#bun/bunx})([^[:alnum:]_]|\$)"
    if [[ $text =~ $pattern ]]; then launch_managers+=("$tool"); fi
  done
  if [ -n "$bun_is_runtime" ] && [[ " ${launch_managers[*]} " != *" bun "* ]]; then launch_managers+=(bun); fi
}

# $1: a command. Prints it, followed by the commands of the scripts that it calls.
expand_scripts() {
  local words word last="" text=$1 depth named several=""
  for depth in 1 2 3; do
    read -ra words <<<"${text//[;&|()\"\'$'\n']/ }"
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

# Programs, and the packages that contain them if those have other names.
declare -A package_of=([tsc]=typescript [nest]=@nestjs/cli [dotenv]=dotenv-cli [babel-node]=@babel/node [babel]=@babel/cli [swc]=@swc/cli
  [run-s]=npm-run-all [run-p]=npm-run-all [remix-serve]=@remix-run/serve [react-router-serve]=@react-router/serve [svelte-kit]=@sveltejs/kit
  [vue-cli-service]=@vue/cli-service [ng]=@angular/cli [graphql-codegen]=@graphql-codegen/cli [prisma]=prisma
  [sequelize]=sequelize-cli [ts-node-esm]=ts-node [tsnd]=ts-node-dev [pm2-runtime]=pm2 [mikro-orm]=@mikro-orm/cli [strapi]=@strapi/strapi
  [typeorm-ts-node-commonjs]=typeorm [typeorm-ts-node-esm]=typeorm [dotenvx]=@dotenvx/dotenvx [medusa]=@medusajs/cli)

# $1: the folder of a package, $2: a program. Prints the package that the program belongs to, if it is known or installed.
package_with() {
  local dir target
  if [ -n "${package_of[$2]:-}" ]; then echo "${package_of[$2]}" && return; fi
  for dir in "$1" .; do
    target=$dir/node_modules/.bin/$2
    if [ -L "$target" ]; then target=$(readlink "$target"); elif [ -f "$target" ]; then target=$(grep -m 1 -oE 'node_modules/[^" ]+"' "$target" || true); else continue; fi
    target=${target##*node_modules/} target=${target#../}
    case $target in @*/*/*) cut -d / -f 1-2 <<<"$target" ;; [!@.]*/*) echo "${target%%/*}" ;; *) echo "$2" ;; esac
    return
  done
  echo "$2"
}

# $1: the folder of a package, $2: the name of a package. Whether only builds have it.
is_development_package() {
  [ -n "$(package_in "$1" "devDependencies.$2")" ] && [ -z "$(package_in "$1" "dependencies.$2")" ]
}

# $1: the folder of a package. Prints the development packages that Next.js's configuration, which `next start` reads, needs.
packages_of_next_config() {
  local name
  { sed -E '/^[[:space:]]*import type /d' "$1"/next.config.* 2>/dev/null || true; } |
    { grep -oE "(require\(|from|import) *['\"](@[^'\"/]+/)?[^.'\"/]+" || true; } | sed -E "s/.*['\"]//" | while read -r name; do
    if is_development_package "$1" "$name"; then echo "$name"; fi
  done
}

# $1: the folder of a package, $2: a command. Prints the first word of the command that is a program of a development package, or the
# first development package that the program's configuration needs.
development_tool() {
  local word name found=""
  set -f
  for word in ${2//[;&|()=\"\'$'\n']/ }; do
    name=$word
    if [[ $word =~ ^[a-z0-9][a-z0-9._-]*$ ]]; then name=$(package_with "$1" "$word"); fi
    case $name in @*/*/*) name=$(cut -d / -f 1-2 <<<"$name") ;; [!@]*/*) name=${name%%/*} ;; esac
    if is_development_package "$1" "$name"; then found=$word && break; fi
  done
  set +f
  if [ -z "$found" ] && [[ " ${2//$'\n'/ } " == *[\ /]next\ start\ * ]]; then found=$(packages_of_next_config "$1"); fi
  echo "${found%%$'\n'*}"
}

# $1: the folder of a package. Sets start to the command to run there; fails if there is none.
find_start() {
  local other framework text
  start=$(script_text "$1" start)
  # Only the package manager sets such variables.
  if [[ $start == *npm_* ]]; then start="$manager run start"; fi
  framework=$(built_server "$1") || framework=""
  if [ -n "$start" ] && is_for_development "$start"; then
    if [ -n "$framework" ]; then
      bp detail "The start script ($start) is for development: the server that the build made runs instead"
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
    if other=$(usual_program "$1" listens); then
      bp detail "The start script ($start) is for development: $other runs instead"
      start=$other
      return
    fi
  fi
  # AdonisJS's start script is relative to the folder that its build makes.
  if [[ $start =~ ^node\ ([^\ ]+\.[cm]?js)$ ]] && [ ! -f "$1/${BASH_REMATCH[1]}" ] && [ -f "$1/build/${BASH_REMATCH[1]}" ]; then
    start="node build/${BASH_REMATCH[1]}"
  fi
  if [[ $start =~ ^(NODE_ENV=production\ )?next\ start ]] && [[ $framework == *standalone* ]]; then
    start=$framework
  elif [ -z "$start" ] && [ -n "$framework" ]; then
    start=$framework
  elif [ -z "$start" ]; then
    start=$(usual_program "$1")
  fi
}

# Prints the folder of the workspace's package to run, or those of all candidates, one a line.
startable_packages() {
  local file dir found=()
  for file in "${manifests[@]}"; do
    dir=$(dirname "$file") dir=${dir#./}
    if [ "${file##*/}" = package.json ] && [ "$dir" != . ] && { [ -n "$(bp json "$file" scripts.start "")" ] || built_server "$dir" >/dev/null; }; then
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
