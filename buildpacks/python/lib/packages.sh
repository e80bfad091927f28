# shellcheck shell=bash disable=SC2154
# Which tool's files name the packages, and their installation into the virtual environment. A lock file is read by the tool that
# wrote it, which also reports if it is out of date; uv installs the packages.

# $1: a key of pyproject.toml. Prints its value, or nothing.
project() {
  [ ! -f pyproject.toml ] || bp toml pyproject.toml "$1" "" 2>/dev/null || true
}

# Sets manager (pip, uv, poetry, pdm, pipenv, pylock, pyproject, none) and source, the file that names the packages.
choose_manager() {
  local locks=() chosen=() file lock
  for file in uv.lock poetry.lock pdm.lock; do
    if [ -f "$file" ]; then
      [ -f pyproject.toml ] || fail "there is a $file, but no pyproject.toml: commit it, too"
      locks+=("$file")
      if [ -n "$(project "tool.${file%.lock}")" ]; then chosen+=("$file"); fi
    fi
  done
  if [ -f Pipfile.lock ]; then
    [ -f Pipfile ] || fail "there is a Pipfile.lock, but no Pipfile: commit it, too"
    locks+=(Pipfile.lock)
  fi
  if [ -f pylock.toml ]; then locks+=(pylock.toml); fi
  if [ ${#locks[@]} -gt 1 ]; then
    [ ${#chosen[@]} = 1 ] || fail "there are several lock files (${locks[*]}), but only one can be used: git rm the others"
    bp trouble "there are several lock files (${locks[*]}): ${chosen[0]} is used, since pyproject.toml has settings for ${chosen[0]%.lock}; git rm the others"
    locks=("${chosen[0]}")
  fi
  lock=${locks[0]:-}
  # A pyproject.toml that names no packages only has settings of tools.
  if [[ $lock =~ ^(uv|poetry|pdm)\.lock$ && -f requirements.txt && -z $(project project.dependencies.0)$(project tool.poetry.dependencies) ]]; then
    lock=
  fi
  if [ -n "$lock" ]; then
    if [ -f requirements.txt ]; then bp detail "Installing from $lock; requirements.txt is not read"; fi
    source=$lock manager=${lock%.lock}
    case $lock in Pipfile.lock) manager=pipenv ;; pylock.toml) manager=pylock ;; esac
  elif [ -f requirements.txt ]; then
    source=requirements.txt manager=pip
  elif [ -f Pipfile ]; then
    source=Pipfile manager=pipenv
  elif [ -n "$(project tool.uv)" ] && [ -n "$(project project)$(project tool.uv.workspace)" ]; then
    source=pyproject.toml manager=uv
  elif [ -n "$(project project)$(project tool.poetry)$(project build-system)" ]; then
    source=pyproject.toml manager=pyproject
  elif [ -f setup.py ]; then
    source=setup.py manager=pyproject
  else
    source='' manager=none
    check_other_names
    look_elsewhere
  fi
  local unlocked=$manager
  if [ "$manager" = pyproject ] && [ -n "$(project tool.poetry)" ]; then unlocked=poetry; fi
  if [ "$manager" = pyproject ] && [ -n "$(project tool.pdm)" ]; then unlocked=pdm; fi
  case $source:$unlocked in
    Pipfile:*) bp trouble "there is no Pipfile.lock: run pipenv lock and commit it, so that every build installs the same versions" ;;
    pyproject.toml:uv | pyproject.toml:poetry | pyproject.toml:pdm)
      if [ "$unlocked" = poetry ] && [ -z "$(project project.name)" ] && [ "$(project tool.poetry.package-mode)" = false ]; then
        fail "there is no poetry.lock: run poetry lock and commit it"
      fi
      bp trouble "there is no $unlocked.lock: run $unlocked lock and commit it, so that every build installs the same versions"
      ;;
  esac
}

# $1: a file. Whether its path says that it has packages for developers, tests or documentation only.
is_for_developers() {
  [[ $1 =~ (^|[-_./])(dev|devel|develop|development|tests?|testing|lint(ing)?|docs?|ci|local|tools?|typing|mypy|style|bench(marks?)?|examples?|extras?|optional)([-_./]|$) ]]
}

# Ends the build if files with other names than requirements.txt name the app's packages; warns if they are in another folder.
look_elsewhere() {
  local file beside=()
  for file in requirements/*.txt requirements[-_.]*.txt *[-_.]requirements.txt requirements.in requirements/*.in requirements.lock reqs.txt; do
    if [ -s "$file" ] && ! is_for_developers "$file"; then beside+=("$file"); fi
  done
  file=${beside[0]:-}
  if [ -n "$file" ]; then
    for file in "${beside[@]}"; do
      if [[ $file =~ (prod|deploy|heroku|live|release) ]]; then break; fi
      file=${beside[0]}
    done
    fail "there is no requirements.txt, so nothing is installed: add one with the line -r $file, or the file that has the app's packages (there is: ${beside[*]})"
  fi
  for file in */requirements.txt */pyproject.toml */Pipfile; do
    if [ -s "$file" ] && ! is_for_developers "$file"; then beside+=("$file"); fi
  done
  file=${beside[0]:-}
  if [ -n "$file" ]; then
    bp trouble "no packages are installed, since the app's folder names none, only ${beside[*]}: deploy that folder (builds:set APP dir ${file%/*}), or add a requirements.txt"
  fi
}

# Ends the build of an app whose packages are in a file that is not read because of its name.
check_other_names() {
  local file
  file=$(find . -maxdepth 1 -iregex '\./\(requirements?\|requirements\.txt\)\.txt' -printf '%P\n' | sort | head -n 1)
  if [ -n "$file" ]; then fail "$file is read only if its name is requirements.txt (in lower case): git mv $file requirements.txt, commit and push again"; fi
  for file in environment.yml environment.yaml conda.yml conda-lock.yml pixi.toml; do
    if grep -qs dependencies $file; then
      fail "$file names packages for conda, which is not available here: name those that the app needs in a requirements.txt, and libraries in an Aptfile"
    fi
  done
}

# Whether the app itself is installed as a package: only then its commands exist.
is_package() {
  case $manager in
    poetry) [ "$(project tool.poetry.package-mode)" != false ] && [ -n "$(project tool.poetry.name)$(project build-system)" ] ;;
    pdm) [ "$(project tool.pdm.distribution)" = true ] || [[ $(project tool.pdm.distribution) != false && -n $(project build-system) ]] ;;
    pyproject) [ -n "$(project build-system)" ] || [ -f setup.py ] ;;
    *) false ;;
  esac
}

# $1: settings. Prints a hash of them and of all files that decide which packages are installed.
hash_of_packages() {
  local files file
  mapfile -d '' files < <(find . \( -path ./.git -o -name node_modules -o -name .venv \) -prune -o -type f \( -name '*requirements*' \
    -o -name '*constraints*' -o -path '*/requirements/*' -o -name pyproject.toml -o -name setup.py -o -name setup.cfg \
    -o -name '*.lock' -o -name 'Pipfile*' -o -name pylock.toml -o -name uv.toml -o -name poetry.toml \) -print0 | sort -z)
  # Files with other names that these include.
  while IFS= read -r file; do
    if [ -f "$file" ]; then files+=("$file"); fi
  done < <(sed -nE 's/^[[:space:]]*(-r|-c|--requirement|--constraint)[ =]*([^[:space:]#]+).*/\2/p' "${files[@]}" </dev/null | sort -u)
  # A package that is a folder of the app, or is built when it is installed, can change with any file.
  if grep -qsE '^ *(-e|--editable|\.|/)|file:|^type = "(directory|file)"|source = \{ (directory|path) =|\b(ext_modules|maturin|scikit-build|meson-python|setuptools-rust|cffi_modules)\b' \
    "${files[@]}" </dev/null; then
    mapfile -d '' files < <(find . \( -path ./.git -o -name node_modules \) -prune -o -type f -print0 | sort -z)
  fi
  { bp hash "${files[@]}"; echo "$1"; } | sha256sum | cut -d ' ' -f 1
}

# Gives the app a version where a tool would take it from git's history, which builds do not have: else its installation fails.
pretend_version() {
  local name tool pattern variable
  if grep -qsE 'fallback[-_]version' pyproject.toml setup.py; then return; fi
  name=$(project project.name)
  if [ -z "$name" ]; then name=$(sed -nE 's/^ *name *= *["'\'']?([A-Za-z0-9._-]+).*/\1/p' setup.cfg setup.py 2>/dev/null | head -n 1 || true); fi
  name=$(tr '.-' '__' <<<"${name^^}")
  while read -r tool pattern variable; do
    if ! grep -qsE "^[^#]*($pattern)" pyproject.toml setup.py setup.cfg || [ -n "${!variable:-}" ]; then continue; fi
    # The variable for one package takes precedence over the one for all.
    if [ "$tool" = setuptools-scm ] && [ -n "${SETUPTOOLS_SCM_PRETEND_VERSION:-}" ]; then continue; fi
    export "$variable=0.0.0"
    bp detail "Builds have no git history, from which $tool takes the version: it is 0.0.0; config:set --build $variable=VERSION sets another"
  done <<END
setuptools-scm tool\.setuptools_scm|use_scm_version|hatch-vcs SETUPTOOLS_SCM_PRETEND_VERSION${name:+_FOR_$name}
pdm source.?=.?["']scm PDM_BUILD_SCM_VERSION
poetry-dynamic-versioning poetry-dynamic-versioning POETRY_DYNAMIC_VERSIONING_BYPASS
uv-dynamic-versioning uv-dynamic-versioning UV_DYNAMIC_VERSIONING_BYPASS
pbr \bpbr\b PBR_VERSION
END
}

# Puts uv on the search path.
get_uv() {
  if [[ $PATH == "$layers/uv/bin:"* ]]; then return; fi
  if [ "$(bp layer "$layers" uv --cache --key "$(<"$here/tools/uv.txt")")" = remake ]; then
    python3 -m pip install --quiet --no-input --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
      --target "$layers/uv" -r "$here/tools/uv.txt" >"$log" 2>&1 ||
      { cat "$log" && fail "uv, which installs the packages, cannot be downloaded: the lines above say why; push again"; }
    find "$layers/uv" -mindepth 1 -maxdepth 1 ! -name bin -exec rm -rf {} +
    rm -f "$layers/uv/bin/uvx"
  fi
  PATH=$layers/uv/bin:$PATH
}

# Puts uv on the search path, and unpacks its downloads of earlier builds.
need_uv() {
  get_uv
  bp layer "$layers" downloads --cache --key 1 >/dev/null
  mkdir -p "$UV_CACHE_DIR"
  if [ -f "$layers/downloads/files.tar" ]; then tar -xf "$layers/downloads/files.tar" -C "$UV_CACHE_DIR"; fi
}

# Writes the downloads into the cache: all if they are small, else only packages that were compiled here.
keep_downloads() {
  if [ "$(du -sm "$UV_CACHE_DIR" | cut -f 1)" -gt "${PAAS_PYTHON_CACHE_MIB:-300}" ]; then uv cache prune --quiet --ci; fi
  tar -cf "$layers/downloads/files.tar" -C "$UV_CACHE_DIR" .
}

# $1: poetry, pdm or pipenv. Installs pinned versions of it and puts it on the search path.
need_tool() {
  local dir
  dir=$(mktemp -d)
  if ! { uv venv --quiet --no-project --python /usr/bin/python3 "$dir/venv" && uv pip install --quiet --no-deps --python "$dir/venv" -r "$here/tools/$1.txt"; } >"$log" 2>&1; then
    cat "$log"
    fail "$1, which reads $source, cannot be downloaded: the lines above say why; push again"
  fi
  PATH=$PATH:$dir/venv/bin
}

# Takes out what pip freeze writes by mistake on Debian and Ubuntu: a package that no index has, and that nothing needs.
drop_frozen_mistake() {
  local files
  mapfile -t files < <(grep -rlE --include '*.txt' '^pkg[_-]resources==0\.0\.0' requirements* 2>/dev/null)
  if [ ${#files[@]} = 0 ]; then return; fi
  bp trouble "pkg-resources==0.0.0 in ${files[*]} is left out: pip freeze wrote it by mistake, and no package index has it; remove the line"
  sed -i -E '/^pkg[_-]resources==0\.0\.0/d' "${files[@]}"
}

# $@: arguments of uv. Runs it for the virtual environment and shows its output without progress lines. Ends the build if it fails.
run_uv() {
  VIRTUAL_ENV=$venv uv "$@" 2>&1 | tee "$log" |
    bp progress --hide '^ *(Using Python|Using CPython|Audited|Uninstalled|Prepared|Resolved|Building|Built|Downloading|Downloaded) ' --hide '^ [+~-] ' \
      --show '^ *((Resolved|Prepared) [0-9]+ packages?|(Building|Built|Downloading|Downloaded) .*)' "Installing the packages" ||
    explain
}

# $1: the file that the lock file belongs to, $2: the command that updates it. Ends the build.
out_of_date() {
  fail "$source does not match $1: run $2 and commit $source"
}

# Ends the build if pdm.lock, which `pdm lock --check` refuses, would make another app than the one that pyproject.toml describes; warns
# if it only lacks what is not installed, as pdm sync and pdm install --frozen-lockfile do.
judge_pdm_lock() {
  local missed
  if ! grep -q "hash doesn't match" "$log"; then
    cat "$log"
    fail "pdm cannot read pdm.lock (it may be of a newer pdm): the lines above say why; run pdm lock and commit pdm.lock"
  fi
  missed=$(/usr/bin/python3 -I "$here/lib/pdm_lock.py" 2>&1) || fail "pdm.lock does not match pyproject.toml ($missed): run pdm lock and commit pdm.lock"
  bp trouble "pyproject.toml has changed since pdm.lock was written: the packages are installed as they are locked; run pdm lock and commit pdm.lock"
}

# Installs the packages into $venv.
install_packages() {
  local wanted exported
  wanted=$(mktemp -d) exported=$wanted/requirements.txt
  pretend_version
  case $manager in
    pip)
      drop_frozen_mistake
      run_uv pip install -r requirements.txt
      ;;
    pylock) run_uv pip sync --preview-features pylock pylock.toml ;;
    uv)
      local how=(--locked)
      if [ "$source" != uv.lock ]; then how=(); fi
      # The root of a workspace is the app if it has dependencies; else its members are.
      if [ -n "$(project tool.uv.workspace)" ] && [ -z "$(project project.dependencies.0)" ]; then
        bp detail "Installing all members of the workspace: its root has no dependencies"
        how+=(--all-packages)
      fi
      UV_PROJECT_ENVIRONMENT=$venv run_uv sync --python "$venv/bin/python" "${how[@]}" --no-default-groups
      if [ "$source" != uv.lock ]; then rm -f uv.lock; fi
      ;;
    poetry)
      need_tool poetry
      POETRY_CACHE_DIR=$wanted/cache poetry export --no-interaction --with-credentials --only main -o "$exported" >"$log" 2>&1 || {
        grep -qE 'changed significantly|not up to date|poetry lock' "$log" && out_of_date pyproject.toml "poetry lock"
        cat "$log" && fail "poetry cannot read poetry.lock: the lines above say why; run poetry check --lock on your machine"
      }
      run_uv pip install --no-deps -r "$exported"
      ;;
    pdm)
      need_tool pdm
      export PDM_CHECK_UPDATE=0 PDM_CACHE_DIR=$wanted/cache PDM_LOG_DIR=$wanted PDM_IGNORE_SAVED_PYTHON=1
      VIRTUAL_ENV=$venv pdm lock --check >"$log" 2>&1 || judge_pdm_lock
      if VIRTUAL_ENV=$venv pdm export --prod -f requirements -o "$exported" >"$log" 2>&1; then
        run_uv pip install --no-deps -r "$exported"
      elif grep -q 'without environment markers' "$log"; then # A lock without the strategy inherit_metadata: only pdm itself installs it.
        VIRTUAL_ENV=$venv pdm sync --prod --no-self --no-editable 2>&1 | tee "$log" | bp progress --hide '.*' "Installing the packages" || {
          cat "$log"
          explain
        }
      else
        cat "$log"
        fail "pdm cannot read pdm.lock: the lines above say why; run pdm lock --check on your machine"
      fi
      rm -f .pdm-python
      ;;
    pipenv)
      need_tool pipenv
      export PIPENV_VERBOSITY=-1 PIPENV_NOSPIN=1 PIPENV_CACHE_DIR=$wanted/cache WORKON_HOME=$wanted
      if [ "$source" = Pipfile ]; then
        cp Pipfile "$wanted/Pipfile"
        (cd "$wanted" && VIRTUAL_ENV=$venv pipenv lock >"$log" 2>&1 && VIRTUAL_ENV=$venv pipenv requirements >"$exported" 2>>"$log") || explain
        run_uv pip install -r "$exported"
      else
        VIRTUAL_ENV=$venv pipenv verify >"$log" 2>&1 || out_of_date Pipfile "pipenv lock"
        VIRTUAL_ENV=$venv pipenv requirements --hash >"$exported" 2>"$log" || {
          cat "$log" && fail "pipenv cannot read Pipfile.lock: the lines above say why; run pipenv verify on your machine"
        }
        run_uv pip install --no-deps -r "$exported"
      fi
      ;;
    pyproject)
      if ! is_package; then run_uv pip install -r pyproject.toml; fi
      ;;
  esac
  if ! is_package; then
    return
  elif [ "$manager" = pyproject ]; then
    run_uv pip install -e .
  elif ! VIRTUAL_ENV=$venv uv pip install --no-deps -e . >"$log" 2>&1; then
    # `poetry init` configures an app as a package even if it has no folder for one.
    grep -qE 'No file/folder found for package|does not contain any element' "$log" || { cat "$log" && explain; }
    bp detail "The app itself is not a package, so only its dependencies are installed (set package-mode = false)"
  fi
}
