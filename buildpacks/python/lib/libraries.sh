# shellcheck shell=bash disable=SC2154
# Shared libraries and programs that packages need when they run.

# $1: a Debian package. Whether the app will have it, from its image or its Aptfile.
will_be_installed() {
  [ ! -s /cnb/run-packages ] || grep -qx "Package: $1" /cnb/run-packages || grep -qsx "$1" "${APTFILE_RUN_PACKAGES:-/dev/null}"
}

# Brings libraries along that packages link to, and warns of libraries and programs that they need and the app will not have.
check_libraries() {
  local library package from=()
  if [ -n "${python_libraries:-}" ]; then from=(--from "$python_libraries"); fi
  if ! bp libraries "$layers" venv "${from[@]}" "$venv" && compgen -G "$venv/lib/python3.*/site-packages/opencv_*python-*.dist-info" >/dev/null; then
    bp detail "or use opencv-python-headless, which needs none of these"
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
