# shellcheck shell=bash disable=SC2154
# Modules that older packages import and newer Pythons no longer have. An indented import is a choice that fails quietly.

# $1: modules, separated by |. Prints the app's files that import one of them, as FILE:MODULE.
app_imports() {
  find . -maxdepth 2 -name '*.py' ! -name setup.py ! -path './.*/*' ! -path './test*/*' ! -path './docs/*' -print0 | imports_in "$1"
}

# $1: modules, separated by |. Prints the installed packages' files that import one of them when they are imported themselves.
package_imports() {
  (cd "$venv"/lib/python3.*/site-packages && find . -name '*.py' ! -path './setuptools/*' ! -path './pkg_resources/*' ! -path './_distutils_hack/*' \
    ! -path './pip/*' ! -path './future/*' ! -path './past/*' ! -path '*/tests/*' ! -path '*/test/*' ! -path '*/testing/*' -print0 | imports_in "$1")
}

# $1: modules, separated by |. Reads names of files, each ends with a zero byte.
imports_in() {
  { xargs -0r grep -HE "^(import|from) +($1)\b" || true; } | sed -nE 's,^(\./)?([^:]+):(import|from) +([a-z_0-9]+).*,\2:\4,p'
}

# $1: a module. Whether a package or the app has one of that name.
provided() {
  compgen -G "$venv/lib/python3.*/site-packages/$1" >/dev/null || compgen -G "$venv/lib/python3.*/site-packages/$1.*" >/dev/null || [ -e "$1" ] || [ -e "$1.py" ]
}

# Prints what setuptools has, and older packages take for a part of Python.
in_setuptools() {
  if [ "$(cut -d . -f 2 <<<"$version")" -ge 12 ]; then echo "pkg_resources|distutils"; else echo "pkg_resources"; fi
}

# Installs setuptools if a package or the app needs it.
add_setuptools() {
  local found
  if provided pkg_resources; then return; fi
  found=$(app_imports "$(in_setuptools)" | head -n 1)
  if [ -z "$found" ]; then found=$(package_imports "$(in_setuptools)" | head -n 1); fi
  if [ -z "$found" ]; then return; fi
  bp detail "Installing setuptools, which has ${found#*:}: ${found%:*} imports it, and $source does not name it"
  run_uv pip install 'setuptools<81'
}

# $1: app_imports or package_imports. Warns of modules that this Python no longer has.
warn_of_removed_modules() {
  local minor file module removed='asynchat|asyncore|imp|smtpd' seen=''
  minor=$(cut -d . -f 2 <<<"$version")
  if [ "$minor" -lt 12 ]; then return; fi
  if [ "$minor" -ge 13 ]; then removed+='|aifc|audioop|cgi|cgitb|chunk|crypt|imghdr|lib2to3|mailcap|nntplib|pipes|sndhdr|spwd|sunau|telnetlib|uu|xdrlib'; fi
  while IFS=: read -r file module; do
    if [[ " $seen " == *" $module "* ]] || provided "$module"; then continue; fi
    seen+=" $module"
    bp trouble "$file imports $module, which Python ${version%.*} no longer has: if the app does not start, write ${debian12%.*} into a file named .python-version, or use a newer version of what imports it"
  done < <("$1" "$removed")
}
