# shellcheck shell=bash
# Installed packages between the app's folder and layers. While scripts run, node_modules are folders of the app: some
# bundlers refuse links that lead out of it. In the image they are links to a layer.

# $1: a folder. Sets folders to the node_modules in it; workspaces have several. What a build makes has them, too: so this
# is asked before.
find_folders() {
  mapfile -d '' folders < <(find "$1" -name node_modules -type d -prune -printf '%P\0')
}

# $1: mv or cp, $2: a layer. Takes what was installed there.
keep_modules() {
  local dir link target
  for dir in "${folders[@]}"; do
    if [ ! -d "$dir" ]; then continue; fi
    # Links to the app's own packages are relative, and would not survive the move.
    while IFS= read -r -d '' link; do
      target=$(realpath -m "$link")
      case $target in
        "$PWD/$dir"/* | "$PWD"/node_modules/*) ;;
        *) ln -sfn "$target" "$link" ;;
      esac
    done < <(find "$dir" "$dir/.pnpm/node_modules" "$dir/.bun/node_modules" -maxdepth 2 -type l ! -path '*/.bin/*' -print0 2>/dev/null)
    mkdir -p "$(dirname "$2/$dir")"
    if [ "$1" = mv ]; then
      # Dates are in these, and caches in those.
      rm -rf "$dir/.cache" "$dir/.vite" "$dir/.modules.yaml" "$dir"/.pnpm-workspace-state*
      mv -T "$dir" "$2/$dir"
    else
      cp -a "$dir" "$2/$dir"
    fi
  done
}

# $1: a layer. Puts links to its node_modules folders where the folders were.
link_modules() {
  local dir
  for dir in "${folders[@]}"; do
    if [ -d "$1/$dir" ] && [ -d "./${dir%node_modules}" ]; then ln -sfnT "$1/$dir" "$dir"; fi
  done
}

remove_modules() {
  rm -rf "${folders[@]}"
}

# Prints a checksum of what scripts have made in node_modules since the file $1.
made_in_modules() {
  if [ ${#folders[@]} = 0 ]; then return; fi
  find "${folders[@]}" -cnewer "$1" -type f ! -path '*/node_modules/.cache/*' ! -path '*/node_modules/.vite/*' \
    ! -name .package-lock.json ! -name '.pnpm-workspace-state*' -print0 | sort -z | xargs -0r sha256sum | sha256sum
}

# What builds keep for the next one, besides packages.
caches=(.next/cache .nuxt/cache .turbo/cache .nx/cache .angular/cache .parcel-cache .svelte-kit/cache)

# $1: restore, or keep. Caches of tools, wherever in the app they are.
tool_caches() {
  local from=$layers/caches to=. dir
  if [ "$1" = keep ]; then
    find "$from" -mindepth 1 -delete
    for dir in "${caches[@]}"; do
      while IFS= read -r -d '' dir; do
        mkdir -p "$from/$(dirname "$dir")"
        mv -T "$dir" "$from/$dir"
      done < <(find . -path '*/node_modules' -prune -o -type d -path "*/$dir" -printf '%P\0' -prune)
    done
  elif [ -n "$(ls -A "$from")" ]; then
    cp -a "$from/." "$to"
  fi
}
