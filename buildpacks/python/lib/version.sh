# shellcheck shell=bash disable=SC2154
# Which Python the app asks for: the stack's if it fits, else Debian 12's, else one that uv downloads; else the nearest, with a warning.

# Sets asked (the version asked for, or nothing) and asked_in (the file that names it).
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
    bp trouble "$asked_in asks for $asked, which is not available: the app is built with CPython $own"
    asked=
  fi
  # For pyenv, other text is the name of a virtual environment.
  if [[ ! $asked =~ ^[0-9]+(\.[0-9]+)*$ ]]; then asked=; fi
}

# Sets range and poetry_range to what pyproject.toml allows, and required to a text about it.
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
    pass  # the installer reports it
PYTHON
  fi
  local words=${poetry_range//,/ }
  [ -z "$words" ] || [[ $words == *!=* ]] || bp semver-max "${words//==/}" <<<"$1" >/dev/null
}

# Sets asked to Debian 12's Python if an earlier build found that the same packages do not support the stack's, unless a file names a
# version.
remember_older() {
  bp layer "$layers" older --cache --key "$own $(hash_of_packages "$settings")" >/dev/null
  if [ -z "$asked" ] && [ -f "$layers/older/yes" ]; then asked=${debian12%.*} asked_in="the packages are older than Python ${own%.*}"; fi
}

# $1: a version. Whether it is of the series asked for, and allowed.
fits() {
  [[ -z $asked || $1. == "$minor."* ]] && allowed "$1"
}

# Sets python and python_key to a version that fits. Fails if there is none or it cannot be downloaded, and sets why.
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

# $1: a Python. Prints its version.
version_of() {
  "$1" -S -c 'import platform; print(platform.python_version())'
}

# Sets version, python (the program), python_key, own (the stack's version), and what read_asked and read_ranges set. Reports the
# version and why.
choose_version() {
  local required why reason missed=''
  own=$(version_of python3)
  python=/usr/bin/python3 python_key=
  read_asked
  read_ranges
  remember_older
  minor=$(cut -d . -f 1,2 <<<"$asked")
  if [ -n "$asked" ] && [ "${asked%%.*}" != "${own%%.*}" ]; then
    fail "Python $asked, which $asked_in asks for, is not available: port the app to Python ${own%%.*}, and write ${own%.*} into $asked_in"
  fi
  why=${required:+"which pyproject.toml excludes"} why=${why:-"which does not exist"}
  if find_fitting; then
    reason=${required:-the default}
    if [ -n "$asked" ]; then reason="$asked_in: $asked"; fi
  else
    nearest
    missed=$asked reason=${required:-the nearest available}
  fi
  version=$(version_of "$python")
  if [ -n "$missed" ] && [ -f "$asked_in" ]; then
    bp trouble "$asked_in asks for Python $missed, $why: the app is built with $version; test it with that, and write ${version%.*} into $asked_in"
  fi
  bp step "Using Python $version ($reason)"
}

# Sets python and python_key to an available version that is allowed: the older one for an older version asked for, and for
# packages that do not support the stack's. Ends the build if none is allowed.
nearest() {
  if [[ -f $layers/older/yes || ( -n $asked && ${minor#*.} -le 11 ) ]] && allowed "$debian12" && debian_python; then return; fi
  if allowed "$own"; then return; fi
  if allowed "$debian12" && debian_python; then return; fi
  fail "pyproject.toml requires Python ${range:-$poetry_range}, ${why/which pyproject.toml excludes/which does not exist}: ${own%.*} and ${debian12%.*} are available; widen ${required%% in*} to include one of them"
}
