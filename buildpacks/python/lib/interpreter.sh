# shellcheck shell=bash disable=SC2154
# Versions of Python besides the stack's: Debian 12's, or one that uv downloads, in a layer of the image.

# The version in Debian 12, which gets only security updates.
debian12=3.11.2

# Removes files that no app needs, and compiles the others: by one process, and checked by content instead of dates, so that the
# bytes are always the same.
tidy_python() {
  find "$layers/python" \( -name __pycache__ -o -name test -o -name tests -o -name idlelib -o -name '*.a' -o -path '*/usr/share' \) -prune -exec rm -rf {} +
  "$python" -m compileall -q --invalidation-mode unchecked-hash "$(dirname "$("$python" -S -c 'import os; print(os.__file__)')")" >/dev/null || true
}

# Installs Python 3.11 from Debian 12. Sets python and python_key; fails if it cannot be downloaded, and sets why.
debian_python() {
  local newest program=$layers/python/usr/bin/python3.11
  why="which could not be downloaded"
  newest=$(bp apt --candidate --daily="$layers" --suite=bookworm python3.11) || return 1
  python_key="2 $newest $(bp hash /cnb/run-packages /var/lib/dpkg/status)"
  if [ "$(bp layer "$layers" python --launch --build --cache --key "$python_key")" = keep ]; then
    python=$program
    return
  fi
  bp detail "Installing Python from Debian 12"
  if ! bp apt "$layers" python --run --suite=bookworm python3.11 >"$log"; then
    rm -rf "$layers/python" "$layers/python.toml"
    python_key=
    return 1
  fi
  python=$program
  tidy_python
}

# Installs the headers of Debian 12's Python, for packages that are compiled. They are in no image.
debian_headers() {
  if [ "$(bp layer "$layers" headers --cache --key "2 $python_key")" = remake ]; then
    bp apt "$layers" headers --build --suite=bookworm libpython3.11-dev >"$log" ||
      fail "the headers of Python 3.11 cannot be downloaded: the lines above say why; push again"
    find "$layers/headers/usr" \( -name '*.a' -o -path '*/usr/share' -o -path '*/usr/bin' \) -prune -exec rm -rf {} +
  fi
  export CPATH=$layers/headers/usr/include/python3.11:$layers/headers/usr/include${CPATH:+:$CPATH}
  # Programs such as uwsgi link to Python itself.
  python_libraries=$layers/headers/usr/lib/$(uname -m)-linux-gnu
  export LIBRARY_PATH=$python_libraries${LIBRARY_PATH:+:$LIBRARY_PATH}
}

# Prints the versions that uv can download, the newest patch of each, newest first.
uv_versions() {
  UV_PYTHON_DOWNLOADS=manual uv python list --only-downloads 2>/dev/null | sed -nE 's/^cpython-(3\.[0-9]+\.[0-9]+)-linux-.*/\1/p'
}

# $1: an exact version. Sets python and python_key; fails if it cannot be downloaded.
uv_python() {
  local dir=$layers/python
  python_key="1 uv $1"
  if [ "$(bp layer "$layers" python --launch --build --cache --key "$python_key")" = remake ]; then
    bp detail "Downloading Python $1"
    # uv writes the folder into Python's own settings, so it has to be the final one.
    if ! UV_PYTHON_DOWNLOADS=manual UV_HTTP_RETRIES=${UV_HTTP_RETRIES:-1} timeout 300 uv python install --no-bin \
      --install-dir "$dir" "$1" 2>&1 | tee "$log" | bp progress --hide . --show 'Downloading .*' "Downloading Python $1"; then
      download_error=$(sed -nE 's/^ *([Cc]aused by|cause): //p' "$log" | tail -n 1)
      rm -rf "$dir" "$layers/python.toml"
      return 1
    fi
    find "$dir" -mindepth 1 -maxdepth 1 ! \( -type d -name "cpython-$1-*" \) -exec rm -rf {} +
    python=$(echo "$dir"/cpython-*/bin/"python${1%.*}")
    tidy_python
  fi
  python=$(echo "$dir"/cpython-*/bin/"python${1%.*}")
  python_libraries=${python%/bin/*}/lib
  export LIBRARY_PATH=$python_libraries${LIBRARY_PATH:+:$LIBRARY_PATH}
}
