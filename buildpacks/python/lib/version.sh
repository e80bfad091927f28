# shellcheck shell=bash disable=SC2154
# Which Python the app asks for: the stack's if it fits, else Debian 12's, else one that uv downloads; else the nearest, with a warning.

# $@: words of lib/versions.py. Runs it.
versions() {
  /usr/bin/python3 -I "$here/lib/versions.py" "$@"
}

# Sets candidates to what a file asks for, the preferred version first, as lib/versions.py prints it. Warns of text that is not
# understood, such as the name of a virtual environment for pyenv.
read_asked() {
  local line lines file text wanted
  candidates=()
  lines=$(versions asked 2>&1) || fail "$lines"
  while IFS= read -r line; do
    [ -n "$line" ] || continue
    IFS=$'\t' read -r file text wanted _ <<<"$line"
    if [ "$wanted" != - ]; then
      candidates+=("$line")
    elif [[ $text =~ ^(pypy|graalpy|jython|ironpython|micropython|stackless|pyston|nogil|anaconda|miniconda|miniforge|mambaforge) ]]; then
      bp trouble "$file asks for $text, which is not available: the app is built with CPython; write a version such as ${own%.*} into $file"
    else
      bp trouble "$file asks for $text, which is not a version of Python: it is ignored; write a version such as ${own%.*} into $file"
    fi
  done <<<"$lines"
}

# $1: a line of candidates, or nothing. Sets asked (the text), asked_in (the file), wanted (the range) and minor (the series).
take() {
  IFS=$'\t' read -r asked_in asked wanted minor <<<"${1//$'\t\t'/$'\t \t'}"
  wanted=${wanted# }
}

# Sets range to what pyproject.toml allows, and required to a text about it.
read_ranges() {
  local key text
  range='' required=''
  if [ ! -f pyproject.toml ]; then return; fi
  bp toml pyproject.toml project "" >/dev/null || fail "correct pyproject.toml and push again"
  for key in project.requires-python tool.poetry.dependencies.python; do
    text=$(bp toml pyproject.toml "$key" "" 2>/dev/null) || continue
    if [ -z "$text" ]; then continue; fi
    if range=$(versions range "$text"); then
      required="${key##*.} in pyproject.toml: $text" required_text=$text
    else
      bp trouble "${key##*.} in pyproject.toml is $text, which is not a range of versions: it is ignored; write one such as >=${own%.*}"
    fi
  done
}

# $1: a version. Whether pyproject.toml allows it.
allowed() {
  [ -z "$range" ] || [ -n "$(versions fitting "$range" "$1")" ]
}

# Asks for Debian 12's Python if an earlier build found that the same packages do not support the stack's, unless a file names a
# version.
remember_older() {
  bp layer "$layers" older --cache --key "$own $(hash_of_packages "$settings")" >/dev/null
  if [ ${#candidates[@]} = 0 ] && [ -f "$layers/older/yes" ]; then
    candidates=("the packages are older than Python ${own%.*}"$'\t'"${debian12%.*}"$'\t'"==${debian12%.*}.*"$'\t'"${debian12%.*}")
  fi
}

# $@: versions. Prints those that are asked for, and allowed.
fitting() {
  local found
  mapfile -t found < <(versions fitting "$wanted" "$@")
  if [ -n "$range" ]; then mapfile -t found < <(versions fitting "$range" "${found[@]}"); fi
  printf '%s\n' "${found[@]}"
}

# Sets python and python_key to a version that fits. Fails if there is none or it cannot be downloaded, and sets why.
find_fitting() {
  local other
  if [ -n "$(fitting "$own")" ]; then return; fi
  if [ -n "$(fitting "$debian12")" ] && debian_python; then return; fi
  get_uv
  mapfile -t other < <(uv_versions)
  other=$(fitting "${other[@]}" | head -n 1)
  if [ -n "$other" ]; then
    if uv_python "$other"; then return; fi
    why="which could not be downloaded (${download_error:-no answer}; UV_PYTHON_INSTALL_MIRROR, set with config:set --build, names another server)"
  fi
  python=/usr/bin/python3 python_key=
  return 1
}

# $1: a Python. Prints its version.
version_of() {
  "$1" -S -c 'import platform; print(platform.python_version())'
}

# Sets version, python (the program), python_key, own (the stack's version), and what take and read_ranges set. Reports the
# version and why.
choose_version() {
  local required='' required_text='' why reason missed='' candidate candidates others=''
  own=$(version_of python3)
  python=/usr/bin/python3 python_key=
  read_asked
  read_ranges
  remember_older
  why=${required:+"which pyproject.toml excludes"} why=${why:-"which does not exist"}
  for candidate in "${candidates[@]:-}"; do
    take "$candidate"
    if [[ -n $minor && ${minor%%.*} != "${own%%.*}" ]]; then
      fail "Python $asked, which $asked_in asks for, is not available: port the app to Python ${own%%.*}, and write ${own%.*} into $asked_in"
    fi
    if find_fitting; then
      reason=${required:-the default}
      if [ -n "$asked" ]; then reason="$asked_in: $asked$others"; fi
      break
    fi
    reason='' others+="; $asked is not available"
  done
  if [ -z "$reason" ]; then
    take "${candidates[0]:-}"
    nearest
    missed=$asked reason=${required:-the nearest available}
  fi
  version=$(version_of "$python")
  if [ -n "$missed" ] && [ -f "$asked_in" ]; then
    bp trouble "$asked_in asks for Python $missed, $why: the app is built with $version; test it with that, and write ${version%.*} into $asked_in"
  elif [[ $asked =~ [0-9]t$|freethreaded$ ]]; then
    bp trouble "$asked_in asks for Python $asked, and free-threaded Python is not available: the app is built with the usual $version"
  fi
  bp step "Using Python $version ($reason)"
}

# Sets python and python_key to an available version that is allowed: the older one for an older version asked for, and for
# packages that do not support the stack's. Ends the build if none is allowed.
nearest() {
  if [[ -f $layers/older/yes || ( -n $minor && ${minor#*.} -le 11 ) ]] && allowed "$debian12" && debian_python; then return; fi
  if allowed "$own"; then return; fi
  if allowed "$debian12" && debian_python; then return; fi
  fail "pyproject.toml requires Python $required_text, ${why/which pyproject.toml excludes/which does not exist}: ${own%.*} and ${debian12%.*} are available; widen ${required%% in*} to include one of them"
}
