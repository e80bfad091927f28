# shellcheck shell=bash disable=SC2154
# Finds shared libraries that packages load and the run image lacks, so that the build reports them instead of a crash.

# $1: a library that the build image lacks. Prints the Debian package that has it, or nothing.
debian_library_of() {
  case $1 in
    libGL.so.1) echo libgl1 ;;
    libgthread-2.0.so.0 | libglib-2.0.so.0 | libgobject-2.0.so.0 | libgio-2.0.so.0 | libgmodule-2.0.so.0) echo libglib2.0-0t64 ;;
    libodbc.so.2) echo libodbc2 ;;
    libmariadb.so.3) echo libmariadb3 ;;
    libmysqlclient.so.*) echo libmariadb3 ;;
    libldap.so.2) echo libldap2 ;;
    libgdal.so.*) echo libgdal36 ;;
    libportaudio.so.2) echo libportaudio2 ;;
    libsnappy.so.1) echo libsnappy1v5 ;;
    libX11.so.6) echo libx11-6 ;;
    libxcb.so.1) echo libxcb1 ;;
    # Most packages in Debian are named after the library: libsndfile.so.1 is in libsndfile1.
    lib*.so.[0-9]*) sed -E 's/^(lib[^ ]*[0-9])\.so\.([0-9]+).*/\1-\2/; s/^(lib[^ ]*)\.so\.([0-9]+).*/\1\2/; s/_/-/g' <<<"${1,,}" ;;
  esac
}

# $1: a Debian package. Whether the app will have it, from its image or its Aptfile.
will_be_installed() {
  [ ! -s /cnb/run-packages ] || grep -qx "Package: $1" /cnb/run-packages || grep -qsx "$1" "${APTFILE_RUN_PACKAGES:-/dev/null}"
}

# Warns of libraries and programs that packages need and the app will not have.
check_libraries() {
  local library package folders libraries=() packages=()
  local -A installed=()
  IFS=: read -ra folders <<<"$venv:${LD_LIBRARY_PATH:-}"
  while IFS= read -r -d '' library; do installed[${library##*/}]=1; done < <(find "${folders[@]}" -name '*.so*' -print0 2>/dev/null)
  while IFS= read -r library; do
    if [ -n "${installed[$library]:-}" ]; then continue; fi
    # Drivers, and libraries that a package finds by a path of its own.
    case $library in libcuda.so* | libnv* | libcu[a-z]*.so* | libpython3* | ld-linux* | libtorch* | libc10* | libtensorflow*) continue ;; esac
    package=$(dpkg -S "*/$library" 2>/dev/null | sed -nE 's/^([^:]+):.*/\1/p' | head -n 1 || true)
    if [ -n "$package" ] && will_be_installed "$package"; then continue; fi
    if [ -z "$package" ] && [ -e "/usr/lib/$(uname -m)-linux-gnu/$library" ]; then continue; fi
    libraries+=("$library") packages+=("${package:-$(debian_library_of "$library")}")
  done < <(find "$venv" -name '*.so*' -type f ! -path '*/plugins/*' -print0 | xargs -0r readelf -d 2>/dev/null | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | sort -u)
  if [ ${#libraries[@]} -gt 0 ]; then
    bp trouble "packages load libraries that the app will not have (${libraries[*]}): add their Debian packages to a file named Aptfile: $(printf '%s\n' "${packages[@]}" | sort -u | xargs)"
    if compgen -G "$venv/lib/python3.*/site-packages/opencv_*python-*.dist-info" >/dev/null; then
      bp detail "or use opencv-python-headless, which needs none of these"
    fi
  fi
  # These packages open a library or start a program only when they run.
  while read -r library package; do
    if compgen -G "$venv/lib/python3.*/site-packages/$library-*.dist-info" >/dev/null && ! will_be_installed "$package"; then
      bp trouble "${library//_/-} needs $package when it runs: add it to a file named Aptfile"
    fi
  done <<'LIST'
weasyprint libpangoft2-1.0-0
python_magic libmagic1t64
cairocffi libcairo2
pyzbar libzbar0t64
pytesseract tesseract-ocr
pdf2image poppler-utils
ffmpeg_python ffmpeg
pydub ffmpeg
graphviz graphviz
LIST
}
