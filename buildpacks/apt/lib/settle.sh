# shellcheck shell=bash
# Makes packages work that are unpacked in a layer instead of installed at the root.

# $1: a layer. Replaces, in its scripts and settings, the paths of files that are in the layer.
rewrite_paths() {
  local root=$1 file path name edits
  while IFS= read -r -d '' file; do
    edits=()
    while IFS= read -r path; do
      if [ -f "$root$path" ] || { [ -d "$root$path" ] && [ ! -e "$path" ]; }; then
        name=$(sed 's/[][\.*^$+?(){}|#]/\\&/g' <<<"$path")
        edits+=(-e "s#(^|[^A-Za-z0-9_./-])$name(\$|[^A-Za-z0-9_.+-])#\\1$root$path\\2#g")
      fi
    done < <(grep -oE '/(usr|etc)(/[A-Za-z0-9._+-]*[A-Za-z0-9_+-])+' "$file" | sort -ur)
    if [ ${#edits[@]} -gt 0 ]; then sed -i -E "${edits[@]}" "$file"; fi
  done < <({ find "$root/usr/bin" "$root/usr/sbin" "$root/etc" -type f -size -200k -print0 2>/dev/null || true; } | xargs -0r grep -lIZ '')
  find "$root/usr" -name '*.pc' -type f -exec sed -i -E "s#^([a-zA-Z_]+=)/usr\\b#\\1$root/usr#; s#(-[IL])/usr/#\\1$root/usr/#g" {} +
}

# $1: layers, $2: name of a layer, $3: --launch or --build. Adapts the packages in the layer to where they are.
settle() {
  local root=$1/$2
  if [ ! -d "$root/usr" ]; then return; fi
  rewrite_paths "$root"
  write_caches "$root" "$root/usr/lib/$(uname -m)-linux-gnu"
  bp apt-env "$@"
}

# $1: a layer, $2: its folder of libraries. Writes the caches that an installation would.
write_caches() {
  local LD_LIBRARY_PATH=$2
  export LD_LIBRARY_PATH
  if [ -x "$1/usr/sbin/libgvc6-config-update" ]; then "$1/usr/sbin/libgvc6-config-update" -c >/dev/null 2>&1 || true; fi
  local query=$2/gdk-pixbuf-2.0/gdk-pixbuf-query-loaders loaders
  for loaders in "$2"/gdk-pixbuf-2.0/*/loaders; do
    if [ -x "$query" ] && [ -d "$loaders" ]; then "$query" "$loaders"/*.so >"$loaders.cache" 2>/dev/null || true; fi
  done
  local schemas=$1/usr/share/glib-2.0/schemas
  if [ -d "$schemas" ] && [ -x "$2/glib-2.0/glib-compile-schemas" ]; then "$2/glib-2.0/glib-compile-schemas" "$schemas" >/dev/null 2>&1 || true; fi
}
