# shellcheck shell=bash disable=SC2154
# Which Python: the stack has one. Whatever asks for another is told what it gets.

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
    bp trouble "$asked_in asks for $asked, which is not here: the app is built with CPython $version"
    asked=
  fi
  # What else pyenv reads there are names of environments.
  if [[ ! $asked =~ ^[0-9]+(\.[0-9]+)*$ ]]; then asked=; fi
}

# Fails if the ranges of pyproject.toml leave this Python out.
check_required() {
  local range
  range=$(bp toml pyproject.toml project.requires-python "") || fail "correct pyproject.toml and push again"
  if [ -n "$range" ]; then
    required="requires-python in pyproject.toml: $range"
    python3 -S - "$range" "$version" <<'PYTHON' || fail "pyproject.toml requires Python $range, and there is only $version here: widen requires-python"
import sys
sys.path.append("/usr/lib/python3/dist-packages")
from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet
try:
    sys.exit(sys.argv[2] not in SpecifierSet(sys.argv[1]))
except InvalidSpecifier:
    pass  # the installer says what is wrong with it
PYTHON
  fi
  range=$(bp toml pyproject.toml tool.poetry.dependencies.python "" 2>/dev/null) || return 0
  if [ -n "$range" ]; then
    required="python in pyproject.toml: $range"
    if [[ $range == *!=* ]]; then return; fi
    range=${range//,/ }
    bp semver-max "${range//==/}" <<<"$version" >/dev/null ||
      fail "pyproject.toml requires Python $range, and there is only $version here: widen the python of tool.poetry.dependencies"
  fi
}

# Sets version, and says why.
choose_version() {
  local required=
  version=$(python3 -S -c 'import platform; print(platform.python_version())')
  read_asked
  if [ -f pyproject.toml ]; then check_required; fi
  if [ -z "$asked" ]; then
    bp step "Using Python $version (${required:-the stack has this one})"
  elif [[ $version. == "$asked."* || $asked == "${version%.*}".* ]]; then
    bp step "Using Python $version ($asked_in: $asked)"
  elif [ "${asked%%.*}" != "${version%%.*}" ]; then
    fail "there is no Python $asked here, which $asked_in asks for, only $version: port the app to it, and write ${version%.*} into $asked_in"
  else
    bp trouble "$asked_in asks for Python $asked, and there is only $version here: the app is built with that; try it with ${version%.*}, and write that into $asked_in"
    bp step "Using Python $version (the stack has this one)"
  fi
}
