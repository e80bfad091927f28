# shellcheck shell=bash
# Frameworks that are configured to build for another platform.

# $1: the folder of a package, $2: globs of files there, $3: a pattern of what they name to build for another platform, $4: a
# pattern of what they name to build for this one. Prints the first match of $3; fails if there is none, or one of $4.
foreign_target() {
  local text
  # shellcheck disable=SC2086 # Several globs.
  text=$(cd "$1" && cat $2 2>/dev/null | grep -vE '^ *(//|\*)')
  ! grep -qE "$4" <<<"$text" && grep -oE "$3" <<<"$text" | head -n 1
}

# $1: the folder of a package. Ends the build if its framework is configured for another platform: its output would not run.
refuse_adapter() {
  local target others='vercel|netlify|cloudflare|deno|edgio|aws[a-z-]*|azure[a-z-]*|firebase'
  if target=$(foreign_target "$1" 'svelte.config.*' "@sveltejs/adapter-(auto|static|$others)|svelte-adapter-[a-z-]+" 'adapter-(node|bun|express)'); then
    fail "$target builds for another platform: add @sveltejs/adapter-node and use it in svelte.config.js"
  elif target=$(foreign_target "$1" 'astro.config.*' "@astrojs/($others)|@deno/astro-adapter" '@astrojs/node'); then
    fail "$target builds for another platform: add @astrojs/node and use it in the Astro configuration"
  elif target=$(foreign_target "$1" 'app.config.* nuxt.config.* nitro.config.* vite.config.*' \
    "preset: *['\"]($others)[a-z_-]*['\"]|@cloudflare/vite-plugin" "preset: *['\"](node|bun)"); then
    fail "$target in the configuration builds for another platform: remove it, or set preset: \"node-server\""
  elif target=$(foreign_target "$1" 'app/entry.server.* remix.config.* vite.config.*' '@(react-router|remix-run)/(cloudflare|deno)|@netlify/(remix|vite)[a-z-]*' \
    '@(react-router|remix-run)/(serve|node|express)'); then
    fail "$target builds for another platform: use the framework's Node.js template, with its serve package"
  elif depends "$1" @builder.io/qwik-city && [ -z "$(find "$1"/src -regex '.*/entry\.\(express\|fastify\|node\|bun\).*' 2>/dev/null)" ]; then
    fail "Qwik City has no Node.js server here: run npm run qwik add express, and commit the files that it writes"
  elif [[ $start =~ (^|[ /])wrangler\  ]]; then
    fail "wrangler is a development server for Cloudflare: add a server for Node.js (for Hono, @hono/node-server) and a \"start\" script that starts it"
  fi
}
