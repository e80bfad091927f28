# shellcheck shell=bash
# Makes packages work that are unpacked in a layer instead of installed at the root.

# $1: layers, $2: name of the layer, $3: --launch or --build, $4: a variable, others: paths. Prepends the paths that exist to the
# variable.
prepend_paths() {
  local layers=$1 name=$2 phase=$3 variable=$4 value='' path
  shift 4
  for path in "$@"; do
    if [ -e "$path" ]; then value+=${value:+:}$path; fi
  done
  if [ -n "$value" ]; then bp env "$layers" "$name" "$phase" --prepend "$variable=$value"; fi
}

# Like prepend_paths, but sets the variable to the first path that exists, unless it has a value already.
default_path() {
  local layers=$1 name=$2 phase=$3 variable=$4 path
  shift 4
  for path in "$@"; do
    if [ -e "$path" ]; then
      bp env "$layers" "$name" "$phase" --default "$variable=$path"
      return
    fi
  done
}

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
  local root=$1/$2 usr=$1/$2/usr lib python perl private
  lib=$usr/lib/$(uname -m)-linux-gnu
  if [ ! -d "$usr" ]; then return; fi
  rewrite_paths "$root"

  # Libraries in other folders: those of the run paths of programs and libraries, and of the configuration of ldconfig.
  private=$({
    find "$usr" -type f \( -name '*.so*' -o -perm -100 \) -print0 | xargs -0r readelf -d 2>/dev/null |
      sed -nE 's/.*\(R(UN)?PATH\).*\[(.*)\]/\2/p' | tr : '\n' | grep '^/usr/'
    cat "$root"/etc/ld.so.conf.d/*.conf 2>/dev/null | grep '^/' | sed "s#^$root##"
  } | sed -E "s#^#$root#; s#/\$##" | sort -u || true)
  # shellcheck disable=SC2086 # Each word is a folder.
  prepend_paths "$@" LD_LIBRARY_PATH "$lib" "$usr/lib" $private
  prepend_paths "$@" PATH "$usr/bin" "$usr/sbin" "$usr/games"

  # Languages. Debian's Python modules come after those that the app installs itself.
  python=$usr/lib/python3/dist-packages
  if [ -d "$python" ]; then bp env "$@" --append "PYTHONPATH=$python"; fi
  perl=$(perl -e 'print substr($^V, 1) =~ s/\.\d+$//r')
  prepend_paths "$@" PERL5LIB "$usr/share/perl5" "$lib/perl5/$perl" "$usr/share/perl/$perl" "$lib/perl/$perl"
  prepend_paths "$@" GI_TYPELIB_PATH "$lib/girepository-1.0" "$usr/lib/girepository-1.0"

  if [ "$3" = --build ]; then
    prepend_paths "$@" LIBRARY_PATH "$lib" "$usr/lib"
    prepend_paths "$@" C_INCLUDE_PATH "$usr/include" "$usr/include/$(uname -m)-linux-gnu"
    prepend_paths "$@" CPLUS_INCLUDE_PATH "$usr/include" "$usr/include/$(uname -m)-linux-gnu"
    prepend_paths "$@" PKG_CONFIG_PATH "$lib/pkgconfig" "$usr/lib/pkgconfig" "$usr/share/pkgconfig"
    prepend_paths "$@" CMAKE_PREFIX_PATH "$usr"
    prepend_paths "$@" ACLOCAL_PATH "$usr/share/aclocal"
  fi

  # Programs that look for files at the root.
  default_path "$@" FONTCONFIG_PATH "$root/etc/fonts"
  default_path "$@" GIT_EXEC_PATH "$usr/lib/git-core"
  default_path "$@" GIT_TEMPLATE_DIR "$usr/share/git-core/templates"
  default_path "$@" MAGICK_CONFIGURE_PATH "$root"/etc/ImageMagick-*
  default_path "$@" MAGICK_CODER_MODULE_PATH "$lib"/ImageMagick-*/modules-*/coders
  default_path "$@" MAGICK_CODER_FILTER_PATH "$lib"/ImageMagick-*/modules-*/filters
  default_path "$@" TESSDATA_PREFIX "$usr"/share/tesseract-ocr/*/tessdata
  prepend_paths "$@" GS_LIB "$usr"/share/ghostscript/*/{Resource/Init,lib,Resource/Font,iccprofiles}
  default_path "$@" MAGIC "$usr/share/misc/magic.mgc" "$usr/lib/file/magic.mgc"
  default_path "$@" PROJ_DATA "$usr/share/proj"
  default_path "$@" GDAL_DATA "$usr/share/gdal"
  if [ -d "$usr/share" ]; then prepend_paths "$@" XDG_DATA_DIRS "$usr/share" /usr/local/share /usr/share; fi
  write_caches "$root" "$lib"
  default_path "$@" GDK_PIXBUF_MODULE_FILE "$lib"/gdk-pixbuf-2.0/*/loaders.cache
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
