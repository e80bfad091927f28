# shellcheck shell=bash
# What package.json says about a site: whether the app has a server of its own, and which script and tool build it.

# $1: a key of package.json. Prints its value, or nothing.
package() {
  bp json package.json "$1" "" || exit 1
}

# $1: a pattern of package names. Whether package.json depends on one of them.
uses() {
  [ -n "${packages+known}" ] || packages=$(package dependencies)$(package devDependencies)
  [[ $packages =~ \"($1)\": ]]
}

# $1: a glob, $2: a pattern. Whether a file matched by the glob has a line that matches the pattern and is not a comment.
configured() {
  local files text
  compgen -G "$1" >/dev/null || return 1
  mapfile -t files < <(compgen -G "$1")
  text=$(grep -vhE '^ *(//|\*|#)' "${files[@]}" || true)
  grep -qE "$2" <<<"$text"
}

# $1: a script. Prints the last command that it runs, itself or by calling another script.
last_command() {
  local text rest _
  text=$(package "scripts.$1")
  for _ in 1 2 3 4 5; do
    text=${text##*&&}
    # Words that only set variables, or run a program of a package.
    while [[ $text =~ ^\ *([A-Za-z_]+=[^\ ]*|cross-env|env-cmd|dotenv|--|npx|bunx|pnpx|npm\ exec|pnpm\ exec|yarn\ exec|bun\ x|--bun|-y|--yes)\ +(.*)$ ]]; do
      text=${BASH_REMATCH[2]}
    done
    [[ $text =~ ^\ *(npm|pnpm|yarn|bun)(\ run|\ run-script)?\ +([A-Za-z0-9:_.-]+) ]] || break
    rest=$(package "scripts.${BASH_REMATCH[3]}")
    [ -n "$rest" ] || break
    text=$rest
  done
  read -r text <<<"$text"
  echo "${text#./node_modules/.bin/}"
}

# $1: a command. Whether it starts a development server, a watcher or a build tool, and so nothing for production.
is_for_development() {
  local tools='react-scripts|craco|react-app-rewired|rescripts|vite|ng|vue-cli-service|astro|gatsby|eleventy|@11ty/eleventy|docusaurus'
  tools+='|vitepress|vuepress|vuepress-(vite|webpack)|next|nuxt|nuxi|svelte-kit|serve|sirv|sirv-cli|http-server|live-server|lite-server'
  tools+='|servor|ws|browser-sync|parcel|webpack|webpack-cli|webpack-dev-server|wds|web-dev-server|rollup|esbuild|rsbuild|rspack|gulp'
  tools+='|grunt|snowpack|hexo|start-storybook|storybook|wrangler|netlify|vercel|firebase|sass|node-sass|tailwindcss|postcss|tsc|tsup'
  tools+='|ionic|quasar|ember|umi|max|slidev|preact|stencil|harp|brunch|elm|elm-app|hugo|jekyll|bundle exec jekyll|zola|mkdocs|poi|react-static'
  tools+='|react-router|remix|concurrently|npm-run-all|run-p|run-s|wait-on|electron|open|open-cli|echo|exit|prettier|eslint|jest|vitest|rimraf'
  tools+='|python3? -m http\.server|npm-watch|onchange|chokidar|watch|nodemon (-[a-z-]+ )*--exec (eleventy|npm)'
  [[ $1 =~ ^($tools)( |\;|$) ]] && return
  # A program of the app itself may only start such a tool.
  [[ $1 =~ ^node\ +([^\ -][^\ ]*) ]] || return
  local file
  for file in "${BASH_REMATCH[1]}" "${BASH_REMATCH[1]}.js"; do
    if [ -f "$file" ]; then
      grep -qE 'browser-sync|webpack-dev-server|webpack-dev-middleware|concurrently|chokidar|livereload|live-server|webpackHotDevClient' "$file"
      return
    fi
  done
  return 1
}

# Whether the app has a server, of a framework or its own. Sets server to what it is.
has_server() {
  local start file
  server=""
  if uses next && ! configured 'next.config.*' "output['\"]?: *['\"]export" && ! [[ $(package scripts) == *"next export"* ]]; then
    server="Next.js without output: \"export\""
  elif uses 'nuxt|nuxt3|nuxt-edge' && ! [[ $(package scripts.build) == *generate* ]] &&
    ! configured 'nuxt.config.*' "ssr: *false|target: *['\"]static|preset: *['\"](static|github-pages)"; then
    server="Nuxt without nuxt generate"
  elif uses '@sveltejs/kit' && ! configured 'svelte.config.*' 'adapter-static'; then
    server="SvelteKit without adapter-static"
  elif configured 'astro.config.*' '^ *adapter *(:|,|\()|output: *.(server|hybrid)'; then
    server="Astro with an adapter"
  elif uses '@angular/ssr' && ! configured angular.json '"outputMode": *"static"' && configured angular.json '"(outputMode|ssr|server)": *["{t]'; then
    server="Angular's server"
  elif uses '@react-router/dev|@remix-run/dev' && ! configured '*.config.*' 'ssr: *false'; then
    server="React Router's server"
  elif uses '@solidjs/start|@tanstack/(react|solid)-start|vinxi|@analogjs/platform' ||
    { uses '@builder\.io/qwik-city' && [ ! -d adapters/static ]; }; then
    server="a framework with a server"
  fi
  if [ -n "$server" ]; then return; fi
  start=$(last_command start)
  if [ -n "$start" ] && ! is_for_development "$start"; then
    server="the start script"
    return
  fi
  if uses 'express|fastify|koa|hono|@hapi/hapi|h3|polka|restify|@nestjs/core|socket\.io|ws|@hono/node-server'; then
    for file in "$(package main)" server.js server.mjs server.ts app.js index.js src/server.js src/server.ts \
      {server,backend}/{index,server,app,main}.{js,mjs,ts}; do
      # A site can have an index.js, too: a server's calls listen or the like.
      if [ -n "$file" ] && [ -f "$file" ] && { [[ $file == *server* ]] || grep -qE '(listen|serve|createServer)\(' "$file"; }; then
        server=$file
        return
      fi
    done
  fi
  return 1
}

# $@: names of scripts. Prints the first that package.json has, or nothing.
first_script() {
  local name scripts
  scripts=$(package scripts)
  for name; do
    if [[ $scripts == *"\"$name\":"* ]] && [ -n "$(package "scripts.$name")" ]; then
      echo "$name"
      return
    fi
  done
}

# Prints the script that builds the site, or nothing.
build_script() {
  first_script build generate docs:build build:prod build-storybook
}

# Whether package.json has scripts that run without being named, such as after an installation.
runs_when_installed() {
  [ -n "$(first_script heroku-prebuild heroku-postbuild preinstall install postinstall prepare)" ]
}

# Whether the app uses a tool that builds sites, or has at least a page for one.
builds_site() {
  local tools='vite|react-scripts|@craco/craco|react-app-rewired|@angular/cli|@angular/build|@angular-devkit/build-angular|astro|gatsby'
  tools+='|@11ty/eleventy|@docusaurus/core|vitepress|vuepress|parcel|parcel-bundler|webpack|next|nuxt|nuxt3|@sveltejs/kit|@vue/cli-service'
  tools+='|hexo|hugo-bin|hugo-extended|storybook|@storybook/[a-z0-9-]+|snowpack|@quasar/app(-vite|-webpack)?|ember-cli|preact-cli|@rsbuild/core'
  tools+='|@rspack/cli|metalsmith|harp|@slidev/cli|umi|brunch|react-static|elm|@stencil/core|gulp|grunt|browser-sync|live-server|http-server|serve'
  uses "$tools" || [ -n "$(find . -maxdepth 3 -name node_modules -prune -o -name index.html -print -quit)" ]
}
