# shellcheck shell=bash
# Packages that are only unpacked, somewhere else than at the root: what finds them nevertheless.

# $1: layers, $2: name, $3: --launch or --build, $4: variable, others: folders or files. Puts those before its value that
# are there.
before() {
  local layers=$1 name=$2 moment=$3 variable=$4 value='' path
  shift 4
  for path in "$@"; do
    if [ -e "$path" ]; then value+=${value:+:}$path; fi
  done
  if [ -n "$value" ]; then bp env "$layers" "$name" "$moment" --prepend "$variable=$value"; fi
}

# Like before, but only the first that is there counts, and a value that is set already wins.
at() {
  local layers=$1 name=$2 moment=$3 variable=$4 path
  shift 4
  for path in "$@"; do
    if [ -e "$path" ]; then
      bp env "$layers" "$name" "$moment" --default "$variable=$path"
      return
    fi
  done
}

# $1: the layer. Scripts and settings that name other files of the layer name them where they are now.
point_texts() {
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

# $1: layers, $2: name of the layer, $3: --launch or --build.
settle() {
  local root=$1/$2 usr=$1/$2/usr lib python perl private
  lib=$usr/lib/$(uname -m)-linux-gnu
  if [ ! -d "$usr" ]; then return; fi
  point_texts "$root"

  # Libraries in folders of their own: what programs and libraries name with the root, and what ldconfig is told.
  private=$({
    find "$usr" -type f \( -name '*.so*' -o -perm -100 \) -print0 | xargs -0r readelf -d 2>/dev/null |
      sed -nE 's/.*\(R(UN)?PATH\).*\[(.*)\]/\2/p' | tr : '\n' | grep '^/usr/'
    cat "$root"/etc/ld.so.conf.d/*.conf 2>/dev/null | grep '^/' | sed "s#^$root##"
  } | sed -E "s#^#$root#; s#/\$##" | sort -u || true)
  # shellcheck disable=SC2086 # One folder a word.
  before "$@" LD_LIBRARY_PATH "$lib" "$usr/lib" $private
  before "$@" PATH "$usr/bin" "$usr/sbin" "$usr/games"

  # Languages. What an app brings in its own environment comes before Python's modules of Debian.
  python=$usr/lib/python3/dist-packages
  if [ -d "$python" ]; then bp env "$@" --append "PYTHONPATH=$python"; fi
  perl=$(perl -e 'print substr($^V, 1) =~ s/\.\d+$//r')
  before "$@" PERL5LIB "$usr/share/perl5" "$lib/perl5/$perl" "$usr/share/perl/$perl" "$lib/perl/$perl"
  before "$@" GI_TYPELIB_PATH "$lib/girepository-1.0" "$usr/lib/girepository-1.0"

  if [ "$3" = --build ]; then
    before "$@" LIBRARY_PATH "$lib" "$usr/lib"
    before "$@" C_INCLUDE_PATH "$usr/include" "$usr/include/$(uname -m)-linux-gnu"
    before "$@" CPLUS_INCLUDE_PATH "$usr/include" "$usr/include/$(uname -m)-linux-gnu"
    before "$@" PKG_CONFIG_PATH "$lib/pkgconfig" "$usr/lib/pkgconfig" "$usr/share/pkgconfig"
    before "$@" CMAKE_PREFIX_PATH "$usr"
    before "$@" ACLOCAL_PATH "$usr/share/aclocal"
  fi

  # Programs with files that they look for at the root.
  at "$@" FONTCONFIG_PATH "$root/etc/fonts"
  at "$@" GIT_EXEC_PATH "$usr/lib/git-core"
  at "$@" GIT_TEMPLATE_DIR "$usr/share/git-core/templates"
  at "$@" MAGICK_CONFIGURE_PATH "$root"/etc/ImageMagick-*
  at "$@" MAGICK_CODER_MODULE_PATH "$lib"/ImageMagick-*/modules-*/coders
  at "$@" MAGICK_CODER_FILTER_PATH "$lib"/ImageMagick-*/modules-*/filters
  at "$@" TESSDATA_PREFIX "$usr"/share/tesseract-ocr/*/tessdata
  before "$@" GS_LIB "$usr"/share/ghostscript/*/{Resource/Init,lib,Resource/Font,iccprofiles}
  at "$@" MAGIC "$usr/share/misc/magic.mgc" "$usr/lib/file/magic.mgc"
  at "$@" PROJ_DATA "$usr/share/proj"
  at "$@" GDAL_DATA "$usr/share/gdal"
  if [ -d "$usr/share" ]; then before "$@" XDG_DATA_DIRS "$usr/share" /usr/local/share /usr/share; fi
  prepare "$root" "$lib"
  at "$@" GDK_PIXBUF_MODULE_FILE "$lib"/gdk-pixbuf-2.0/*/loaders.cache
}

# $1: the layer, $2: its libraries. Writes the lists of modules that some libraries read.
prepare() {
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
