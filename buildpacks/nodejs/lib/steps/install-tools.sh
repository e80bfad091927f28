# shellcheck shell=bash
# Step 2: installs Node.js and the package managers, or takes them from the cache, and puts them on the search path.
#
# Reads what step 1 sets. Sets
#   version       the version of Node.js; 0 if only Bun is installed
#   tools_key     the key of the layers that contain package managers
#   tools_cached  yes if the layers of the last build are used

install_tools() {
  local reason role=() node_key state="" tool
  find_binary_packages
  export NODE_ENV=${NODE_ENV:-production}
  export NEXT_TELEMETRY_DISABLED=1 NUXT_TELEMETRY_DISABLED=1 ASTRO_TELEMETRY_DISABLED=1 TURBO_TELEMETRY_DISABLED=1
  set_manager_environment
  bp layer "$layers" downloads --cache --key 1 >/dev/null
  rm -rf "$tools"
  mkdir -p "$tools/corepack/bin"
  # Scripts call it to get the package manager, which is there already; Node.js does not contain it any more.
  install -m 755 "$here/lib/corepack" "$tools/corepack/bin/corepack"
  if [ -z "$assets" ]; then role=(--launch); fi
  node_key="4 $runtime $node_request $node_source $engines $bun_only"
  if [ -z "$bun_only" ]; then state=$(bp layer "$layers" node "${role[@]}" --build --cache --key "$node_key"); fi
  tools_key="$node_key ${managers[*]} $manager_range $(bp hash .yarnrc.yml pnpm-workspace.yaml) $bun_named $(package engines.npm) $(package engines.yarn) $(package engines.pnpm) $(package engines.bun) ${lock} $(package volta.npm) $(package volta.yarn) $(package volta.pnpm)"
  # Which package manager wrote the lock file.
  tools_key+=" $(grep -m 1 -E '^(lockfileVersion| +version):' "${lock:-/dev/null}" || true)"
  state+=$(bp layer "$layers" tools --cache --key "$tools_key")
  tools_cached=""
  if [[ $state != *remake* ]]; then tools_cached=yes; fi
  if [ -n "$tools_cached" ]; then
    IFS=$'\t' read -r version reason <"$layers/tools/chosen"
    if [ -z "$bun_only" ]; then bp step "Using Node.js $version ($reason)"; fi
  else
    version=0 reason=""
    if [ -n "$bun_only" ]; then
      bp step "Choosing Bun: the app's scripts run nothing else"
    else
      choose_node
      bp step "Using Node.js $version ($reason)"
    fi
    rm -rf "${layers:?}"/{node,tools}/*
    if [ -z "$bun_only" ]; then install_node "$version"; fi
    for tool in "${managers[@]}"; do install_tool "$tool"; done
    tar -cf "$layers/tools/files.tar" -C "$tools" --exclude ./cache .
    if [ -z "$bun_only" ]; then set_launch_environment node; fi
    printf '%s\t%s\n' "$version" "$reason" >"$layers/tools/chosen"
  fi
  for tool in corepack npm yarn pnpm bun; do PATH=$tools/$tool/bin:$PATH; done
  export PATH=$tools/$manager/bin:$layers/node/bin:$PATH
  # npm 6 fails if it is to keep no logs.
  if [ -z "$bun_only" ] && [ "${version%%.*}" -lt 16 ]; then export npm_config_logs_max=1; fi
}

# $1: a layer. Sets the variables that an app reads when it runs.
set_launch_environment() {
  if [ -n "$assets" ]; then return; fi
  bp env "$layers" "$1" --launch --default NODE_ENV=production
  # Some servers would listen on localhost, which the router does not reach.
  bp env "$layers" "$1" --launch --default HOST=0.0.0.0
}
