# shellcheck shell=bash disable=SC2154
# Which Python: the stack's when it fits, else Debian 12's, else one that uv downloads; else the nearest, and that is said.

# Sets asked (a version, or nothing) and asked_in (the file that says so).
read_asked() {
  local line
  asked='' asked_in=''
  if [ -f .python-version ]; then
    line=$(sed -E 's/#.*//; s/[[:space:]]//g; /^$/d' .python-version | head -n 1)
    asked_in=.python-version asked=$line
  elif [ -f runtime.txt ]; then
    asked_in=runtime.txt asked=$(tr -d '[:space:]' <runtime.txt)
  elif [ -f .tool-versions ] && line=$(awk '$1 == "python" { print $2; exit }' .tool-versions) && [ -n "$line" ]; then
    asked_in=.tool-versions asked=$line
  elif [ -f Pipfile ]; then
    asked_in=Pipfile
    asked=$(bp toml Pipfile requires.python_full_version "") || fail "correct Pipfile and push again"
    asked=${asked:-$(bp toml Pipfile requires.python_version "")}
  fi
  asked=${asked#python-} asked=${asked#cpython-} asked=${asked#cpython@}
  if [[ $asked == pypy* ]]; then
    bp trouble "$asked_in asks for $asked, which is not here: the app is built with CPython $own"
    asked=
  fi
  # What else pyenv reads there are names of environments.
  if [[ ! $asked =~ ^[0-9]+(\.[0-9]+)*$ ]]; then asked=; fi
}

# Sets what pyproject.toml allows: range, poetry_range, and required, which says so.
read_ranges() {
  range='' poetry_range='' required=''
  if [ ! -f pyproject.toml ]; then return; fi
  range=$(bp toml pyproject.toml project.requires-python "") || fail "correct pyproject.toml and push again"
  poetry_range=$(bp toml pyproject.toml tool.poetry.dependencies.python "" 2>/dev/null) || true
  if [ -n "$range" ]; then required="requires-python in pyproject.toml: $range"; fi
  if [ -n "$poetry_range" ]; then required="python in pyproject.toml: $poetry_range"; fi
}

# $1: a version. Whether pyproject.toml allows it.
allowed() {
  if [ -n "$range" ]; then
    python3 -S - "$range" "$1" <<'PYTHON' || return 1
import sys
sys.path.append("/usr/lib/python3/dist-packages")
from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
try:
    sys.exit(sys.argv[2] not in SpecifierSet(sys.argv[1]))
except InvalidSpecifier:
    pass  # the installer says what is wrong with it
PYTHON
  fi
  local words=${poetry_range//,/ }
  [ -z "$words" ] || [[ $words == *!=* ]] || bp semver-max "${words//==/}" <<<"$1" >/dev/null
}

# Asks for Debian 12's Python if the same packages were found to be older than the stack's, unless something else asks.
remember_older() {
  bp layer "$layers" older --cache --key "$own $(hash_of_packages "$settings")" >/dev/null
  if [ -z "$asked" ] && [ -f "$layers/older/yes" ]; then asked=${debian12%.*} asked_in="the packages are older than Python ${own%.*}"; fi
}

# $1: a version. Whether it is what is asked for, and allowed; another patch is no other Python.
fits() {
  [[ -z $asked || $1. == "$minor."* ]] && allowed "$1"
}

# Sets python and python_key to what fits; fails if nothing does, or cannot be had, and sets why.
find_fitting() {
  local other
  if fits "$own"; then return; fi
  if fits "$debian12" && debian_python; then return; fi
  get_uv
  while read -r other; do
    if ! fits "$other"; then continue; fi
    if uv_python "$other"; then return; fi
    why="which could not be downloaded"
    break
  done < <(uv_versions)
  python=/usr/bin/python3 python_key=
  return 1
}

# $1: a Python.
version_of() {
  "$1" -S -c 'import platform; print(platform.python_version())'
}

# Sets version, python (the program) and python_key, and says why; leaves own (the stack's version) and what pyproject.toml allows.
choose_version() {
  local required why reason missed=''
  own=$(version_of python3)
  python=/usr/bin/python3 python_key=
  read_asked
  read_ranges
  remember_older
  minor=$(cut -d . -f 1,2 <<<"$asked")
  if [ -n "$asked" ] && [ "${asked%%.*}" != "${own%%.*}" ]; then
    fail "there is no Python $asked here, which $asked_in asks for: port the app to Python ${own%%.*}, and write ${own%.*} into $asked_in"
  fi
  why=${required:+"which pyproject.toml leaves out"} why=${why:-"which nobody has"}
  if find_fitting; then
    reason=${required:-the stack has this one}
    if [ -n "$asked" ]; then reason="$asked_in: $asked"; fi
  else
    nearest
    missed=$asked reason=${required:-the nearest that is here}
  fi
  version=$(version_of "$python")
  if [ -n "$missed" ] && [ -f "$asked_in" ]; then
    bp trouble "$asked_in asks for Python $missed, $why: the app is built with $version; try it with that, and write ${version%.*} into $asked_in"
  fi
  bp step "Using Python $version ($reason)"
}

# Sets python and python_key to what is here and allowed: an old app gets the older, and so do packages that did not go with the stack's.
nearest() {
  if [[ -f $layers/older/yes || ( -n $asked && ${minor#*.} -le 11 ) ]] && allowed "$debian12" && debian_python; then return; fi
  if allowed "$own"; then return; fi
  if allowed "$debian12" && debian_python; then return; fi
  fail "pyproject.toml requires Python ${range:-$poetry_range}, ${why/which pyproject.toml leaves out/which nobody has}: ${own%.*} and ${debian12%.*} are here; widen ${required%% in*} to take one of them in"
}
