# shellcheck shell=bash
# Moves installed packages between the app's folder and layers. While scripts run, each node_modules is a folder of the
# app: some bundlers refuse links that lead out of it. In the image it is a link to a layer.

# The node_modules folders of the app and, in a workspace, of its packages.
module_folders=()

# $1: a folder. Sets module_folders to those in it. To be called before scripts run, since a build can make others.
find_modules() {
  mapfile -d '' module_folders < <(find "$1" -name node_modules -type d -prune -printf '%P\0')
}

# $1: mv or cp, $2: a layer. Moves or copies the installed packages there.
keep_modules() {
  local dir link target
  for dir in "${module_folders[@]}"; do
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
      # Caches, and files with dates in them.
      rm -rf "$dir/.cache" "$dir/.vite" "$dir/.modules.yaml" "$dir"/.pnpm-workspace-state*
      mv -T "$dir" "$2/$dir"
    else
      cp -a "$dir" "$2/$dir"
    fi
  done
}

# $1: a layer. Puts a link to each of its node_modules folders into the app's folder.
link_modules() {
  local dir
  for dir in "${module_folders[@]}"; do
    if [ -d "$1/$dir" ] && [ -d "./${dir%node_modules}" ]; then ln -sfnT "$1/$dir" "$dir"; fi
  done
}

remove_modules() {
  rm -rf "${module_folders[@]}"
}

# Prints a checksum of the files that scripts have made in node_modules since the file $1 was.
made_in_modules() {
  if [ ${#module_folders[@]} = 0 ]; then return; fi
  find "${module_folders[@]}" -cnewer "$1" -type f ! -path '*/node_modules/.cache/*' ! -path '*/node_modules/.vite/*' \
    ! -name .package-lock.json ! -name '.pnpm-workspace-state*' -print0 | sort -z | xargs -0r sha256sum | sha256sum
}
