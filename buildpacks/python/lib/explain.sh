# shellcheck shell=bash disable=SC2016,SC2154
# Says in one line why packages could not be installed, and what to do; knows the causes that are common.

# Prints the Debian package for a header or a tool that a compilation missed.
debian_source_of() {
  case $1 in
    mysql*.h | mysql_config | *mysqlclient | *mariadb*) echo default-libmysqlclient-dev ;;
    ldap.h | lber.h) echo "libldap-dev libsasl2-dev" ;;
    sasl/* | sasl.h) echo libsasl2-dev ;;
    libxslt/* | xslt-config) echo libxslt1-dev ;;
    cairo*) echo libcairo2-dev ;;
    gobject-introspection*) echo libgirepository1.0-dev ;;
    portaudio.h) echo portaudio19-dev ;;
    sql.h | sqlext.h) echo unixodbc-dev ;;
    gmp.h) echo libgmp-dev ;;
    krb5-config | krb5.h | gssapi*) echo libkrb5-dev ;;
    curl-config | curl/*) echo libcurl4-openssl-dev ;;
    magic.h) echo libmagic-dev ;;
    snappy*) echo libsnappy-dev ;;
    gdal-config | gdal.h) echo libgdal-dev ;;
    geos*) echo libgeos-dev ;;
    hdf5.h) echo libhdf5-dev ;;
    zmq.h) echo libzmq3-dev ;;
    xmlsec*) echo libxmlsec1-dev ;;
    bzlib.h) echo libbz2-dev ;;
    lzma.h) echo liblzma-dev ;;
    lapack | blas | openblas) echo libopenblas-dev ;;
    gfortran) echo gfortran ;;
    cmake) echo cmake ;;
    cargo | rustc) echo cargo ;;
    swig) echo swig ;;
  esac
}

# $1: a package. Starts again with Debian 12's Python, if nothing asks for the stack's and it may be that.
try_older() {
  if [[ -n $asked && $own. == "$minor."* ]] || [ "$version" != "$own" ] || ! allowed "$debian12"; then return; fi
  bp trouble "$1 has nothing ready for Python ${own%.*}, so ${debian12%.*} is tried: write ${debian12%.*} into a file named .python-version, or take a newer version of ${1%%[=<>~!]*}"
  touch "$layers/older/yes"
  PYTHON_SETTINGS=$settings exec "$here/bin/build" "${arguments[@]}"
}

explain() {
  local it package missing debian
  said() { it=$(bp said "$log" "$@"); }
  if said 'failed to read from file `[^`]*/([^`/]+)`: No such file'; then
    fail "$source names $it, which is not in the repository: commit it, or take the line out"
  fi
  if said 'Distribution not found at: ([^ ]+)'; then
    fail "$it is on your machine only: write the package with its version instead (pip list --format=freeze shows them so)"
  fi
  if grep -qE "Couldn't parse requirement" "$log"; then
    fail "$source has a line that names no package: the lines above show it; write NAME==VERSION"
  fi
  if grep -qE 'does not appear to be a Python project' "$log"; then
    fail "$source installs the app itself (-e .), and there is no pyproject.toml or setup.py: commit one, or take the line out"
  fi
  if said 'Because ([A-Za-z0-9._-]+) was not found in the package registry'; then
    fail "there is no package $it: correct its name in ${source:-the project}, or name the index that has it (--extra-index-url)"
  fi
  if said '[Bb]ecause there is no version of ([^ ]+)'; then fail "there is no $it: name a version that exists in $source"; fi
  if said 'and ([A-Za-z0-9._-]+[=<>~!][^ ]*) depends on Python'; then fail "$it is not for Python $version: take a version that is"; fi
  if said '[Bb]ecause ([^ ]+) has no wheels with a matching Python (ABI tag|version)'; then
    try_older "$it"
    fail "$it has nothing for Python $version: take a newer version of it in $source"
  fi
  if grep -qE 'No file/folder found for package|Unable to determine which files to ship|does not contain any element' "$log"; then
    fail "pyproject.toml makes the app a package, and its folder is not here: write package-mode = false into [tool.poetry], and commit poetry.lock"
  fi
  if grep -qE 'Readme (path|file).* does not exist' "$log"; then
    fail "pyproject.toml names a readme that is not in the repository: commit it (small and capital letters count), or take the line out"
  fi
  if grep -qE 'only available (on|for) (Windows|macOS)|matching platform' "$log"; then
    said '[Bb]ecause (?:only )?([A-Za-z0-9._-]+[=<>~!0-9.]*) ' || true
    fail "${it:-a package} has nothing for Linux on $CNB_TARGET_ARCH: take it out of $source, or add the condition ; sys_platform == \"win32\""
  fi
  if grep -qE 'lockfile.*(needs to be updated|out[- ]of[- ]date)|needs to be updated, but' "$log"; then out_of_date pyproject.toml "uv lock"; fi
  if grep -qE 'unsatisfiable|No solution found' "$log"; then
    fail "the packages that $source asks for do not go together: the lines above say which; loosen one of them"
  fi
  if grep -qE 'Git operation failed|failed to (fetch|clone)|could not read Username|Permission denied \(publickey\)' "$log"; then
    fail "a package comes from a git repository that the build cannot read: make it public, publish it to a package index, or put a token for reading into its URL"
  fi
  if grep -qE '401 Unauthorized|403 Forbidden|HTTP status client error \((401|403)' "$log"; then
    fail "a package index refuses access: give the build its user name and password (in the URL of PIP_EXTRA_INDEX_URL or UV_INDEX)"
  fi
  if grep -qE 'Hash mismatch|hash mismatch' "$log"; then
    fail "a package is not what $source expects (its hash differs): lock again and commit $source"
  fi
  if said '[Ff]ailed to (?:download and )?build `([^`]+)`'; then
    package=$it missing=""
    if said 'fatal error: ([^ :]+): No such file' \
      '([a-z0-9_]+[-_]config|gfortran|cmake|swig|cargo|rustc)[^A-Za-z]*(?:executable |command )?(?:not found|is not installed|No such file)' \
      "No package '?([A-Za-z0-9._-]+)'? found" "Package '?([A-Za-z0-9._-]+)'?,? (?:was )?not found" \
      'Dependency "?([A-Za-z0-9._-]+)"? not found'; then
      missing=$it
    elif grep -q 'pkg-config --exists mysqlclient' "$log"; then
      missing="the library of mysqlclient"
    fi
    debian=$(debian_source_of "$missing")
    if [[ $debian != *-dev* ]]; then try_older "$package"; fi
    if [ -n "$debian" ]; then
      fail "$package has no ready wheel for Python $version, and compiling it needs $missing: write $debian into a file named Aptfile"
    elif [ -n "$missing" ]; then
      fail "$package has no ready wheel for Python $version, and compiling it needs $missing: write the Debian package that has it into a file named Aptfile"
    elif grep -qE "No module named '?(distutils|imp|pkg_resources|setuptools|ConfigParser)|use_2to3|ImpImporter|print \"|_PyLong_AsByteArray|_PyUnicode|too few arguments to function|longintrepr|tstate.*curexc" "$log"; then
      fail "$package is too old for Python $version: take a newer version of it"
    fi
    fail "$package has no ready wheel for Python $version, and could not be compiled: the lines above say why; take a newer version"
  fi
  fail "the packages of $source could not be installed: the lines above say why; correct it and push again"
}
