# shellcheck shell=bash
# What went wrong, in one line with a remedy.

# What a manager printed, without blank lines, its log file's name and its usage.
shown() {
  grep -vE '^ *$|npm (error|ERR!) *$|A complete log of this run|Log files were not written|npm (error|ERR!) 404 *(tarball, folder|Note that you can|$)|Waiting for the debugger' "$log" | sed '/Clean install a project/,$d' |
    tail -n 40 || true
}

# Of what a manager printed when all went well, what a developer wants to know.
shown_briefly() {
  case $kind in
    npm) shown ;;
    yarn | berry) grep -E '^Done |└? ?Done ' "$log" | tail -n 1 | sed -E 's/^.*: └ //' || true ;;
    pnpm) grep -E '^Done in|Ignored build scripts' "$log" | sed 's/│//g' || true ;;
    bun) grep -E 'packages? installed|no changes' "$log" || true ;;
  esac
}

# The first line of the log that says such a thing; its part in the parentheses goes to $it.
said() { it=$(bp said "$log" "$@"); }

# $1: the command that failed. Ends the build.
explain_install() {
  local it lock_file host script_of
  lock_file=$(lock_name)
  # The package whose own script failed, if it is that.
  script_of=$(sed -nE 's#.*npm (error|ERR!) path .*/node_modules/(.*)#\2#p; s#^error .*/node_modules/([^ :]+): Command failed.*#\1#p; s#.*YN0009:.* (@?[^@ ]+)@.*#\1#p; s#^\.\.\. .*node_modules/([^ ]+) (pre|post)?install: Failed.*#\1#p; s#.*(postinstall|install) script from "([^"]+)" exited.*#\2#p' "$log" | head -n 1)
  shown
  if said 'EUSAGE|can only install packages when' 'lockfile needs to be updated|YN0028|OUTDATED_LOCKFILE|LOCKFILE_CONFIG_MISMATCH|lockfile had changes|lockfile is frozen'; then
    fail "package.json and ${lock:-$lock_file} do not agree: run $manager install and commit ${lock:-$lock_file}"
  elif said 'EUNSUPPORTEDPROTOCOL.*workspace:|ERR_PNPM_WORKSPACE_PKG_NOT_FOUND|Workspace (?:dependency|not found)|"workspace:' 'YN0001.*[Ww]orkspace not found'; then
    fail "a package of the same repository is named (workspace:), and its folder is not here: build the whole repository and say which package runs with config:set --build BP_NODE_PROJECT_PATH=FOLDER"
  elif said 'E401|E403|YN0041|YN0035.*40[13]|ERR_PNPM_FETCH_40[13]|status code 40[13]|40[13] (?:Unauthorized|Forbidden)|ENEEDAUTH' 'Failed to replace env in config: (..[A-Z_]+)'; then
    fail "a package is private ($it): name its registry and a token from a variable in .npmrc, and set that variable for builds (config:set --build)"
  elif said "E404|YN0035|ERR_PNPM_FETCH_404|error: GET .* - 404|Couldn't find package"; then
    it=$(sed -nE "s#.*'(@?[^'@ ]+)@[^']*' is not in (this|the npm) registry.*#\\1#p; s#.*requested resource '(@?[^'@ ]+)@?[^']*' could not be found.*#\\1#p; s#.*Couldn't find package \"([^\"]+)\".*#\\1#p; s#.*GET .*/(@?[^/: ]+): Not Found.*#\\1#p; s#.*YN0035.* (@?[^@ ]+)@.*#\\1#p; s#^error: GET .*/([^/ ]+) - 404.*#\\1#p" "$log" | head -n 1)
    fail "there is no package ${it:-of that name}: correct its name in package.json; a private one needs its registry in .npmrc"
  elif said 'No matching version found for [^ ]+' "Couldn't find any versions for [^ ]+" 'YN0082: .*No candidates found' 'No version matching .* found for specifier [^ ]+'; then
    fail "$it: correct the version in package.json, run $manager install and commit $lock_file"
  elif said 'ERESOLVE'; then
    fail "two packages want different versions of a third (the lines above say which): make their versions agree; if npm install --legacy-peer-deps is what works for you, commit a file .npmrc with the line legacy-peer-deps=true"
  elif said 'EBADENGINE|ERR_PNPM_UNSUPPORTED_ENGINE|The engine "node" is incompatible'; then
    it=$(sed -nE "s/.*Expected version (\"[^\"]*\").*/\\1/p; s/.*([Rr]equired:|wanted:? ?|Expected version:) *(.*)/\\2/p" "$log" | head -n 1)
    fail "a package does not work with Node.js $version${it:+ (it wants $it)}: set engines.node in package.json to a version that fits, or change the package's version"
  elif said 'EINTEGRITY|Integrity check failed|ERR_PNPM_TARBALL_INTEGRITY|YN0018'; then
    fail "a package is not what $lock_file says: remove it there, run $manager install and commit $lock_file"
  elif said 'ERR_PNPM_IGNORED_BUILDS'; then
    fail "pnpm is not told whether scripts of packages may run: run pnpm approve-builds and commit what it writes"
  elif said 'ERR_PNPM_UNSUPPORTED_PACKAGE_MANAGER|ERR_PNPM_BAD_PM_VERSION|project is configured to use [a-z]+'; then
    fail "package.json asks for another package manager or version ($it): make packageManager, engines and the lock file agree"
  elif said 'fatal error: ([^ :]+): No such file' "Package '?([^ ,']+)'? was not found|cannot find -l([^ :]+)"; then
    fail "a C library is missing ($it): name its Debian package in a file Aptfile, and push again"
  elif said '[Ff]ailed to (?:set up|download) [Cc]hrom[a-z]*' 'PUPPETEER_SKIP_DOWNLOAD|Cypress binary|playwright.*download'; then
    fail "a package wants to download a browser ($it): set PUPPETEER_SKIP_DOWNLOAD=1 for builds, and name chromium in a file Aptfile"
  elif said 'Permission denied .publickey|could not read Username|Could not read from remote|Repository not found'; then
    fail "a package comes from a git repository that builds cannot read ($it): publish it to a registry, or put it into the repository"
  elif said 'spawn git ENOENT|git dep preparation failed' 'git ls-remote [^ ]+|git clone [^ ]+'; then
    fail "a package comes from a git repository that does not answer ($it): use a version from the registry, or put it into the repository"
  elif said 'ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ECONNREFUSED|ECONNRESET|ERR_PNPM_META_FETCH_FAIL|ConnectionRefused|DNS'; then
    host=$(sed -nE 's#.*(ENOTFOUND|EAI_AGAIN|ECONNREFUSED) ([a-z0-9][a-z0-9.:-]*[a-z0-9]).*#\2#p' "$log" | head -n 1)
    if [ -n "$script_of" ]; then
      fail "the install script of the package $script_of downloads from ${host:-a place} that does not answer: push again when it does, or tell the package not to (it has a variable for that)"
    fi
    fail "${host:-a registry} does not answer ($it); push again when it does"
  elif out_of_memory; then
    fail "the installation ran out of memory: give builds more"
  elif said 'gyp.*node-sass' || [ "$script_of" = node-sass ]; then
    fail "node-sass is given up by its makers and does not compile with Node.js $version: put sass in its place (npm uninstall node-sass, npm install -D sass), or set engines.node to 14.x"
  elif said 'gyp ERR!' && [ -n "$script_of" ]; then
    fail "the package $script_of has code in C++ that does not compile with Node.js $version: use a newer version of it, or an older Node.js (engines.node)"
  elif said 'gyp ERR!'; then
    fail "a package with code in C++ does not compile with Node.js $version: use a newer version of the package, or an older Node.js (engines.node)"
  fi
  if [ -n "$script_of" ]; then
    fail "the install script of the package $script_of failed: the lines above say why; does it need a newer version, or another Node.js than $version?"
  fi
  fail "$1 failed: the lines above say which package; correct package.json and push again"
}

out_of_memory() {
  grep -qE 'heap out of memory|Reached heap limit|Killed$|exit code 137|SIGKILL|ENOMEM' "$log"
}

# $1: a script of package.json that failed. Ends the build.
explain_script() {
  local it host
  if out_of_memory; then
    fail "the script $1 ran out of memory: give builds more, or let Node.js use what there is with NODE_OPTIONS=--max-old-space-size=4096 for builds (config:set --build)"
  elif said 'ERR_OSSL_EVP_UNSUPPORTED|0308010C'; then
    fail "this webpack is older than Node.js $version: set engines.node in package.json to 16.x, or NODE_OPTIONS=--openssl-legacy-provider for builds"
  elif said 'Node\.?js [^ ]* ?(?:version )?(?:v?>=?|or (?:higher|newer)|is required|required).*' 'You are using Node\.js .*' 'requires? Node(?:\.js)? .*'; then
    fail "$it: set engines.node in package.json to a version that fits (this is $version)"
  elif said '(?:sh|bash): (?:line )?(?:[0-9]+: )?([^ :]+): (?:command )?not found' 'command not found: ([^ ]+)' \
    'Command "([^"]+)" not found' 'Script not found' 'ERR_PNPM_RECURSIVE_EXEC_FIRST_FAIL'; then
    case $it in Script* | ERR_*) it="a command" ;; esac
    fail "the script $1 runs $it that is not there: add its package to package.json ($manager install -D PACKAGE), or its Debian package to a file Aptfile"
  elif said "Cannot find (?:module|package) '([^']+)'" "Can't resolve '([^']+)'" 'failed to resolve import "([^"]+)"' \
    'Could not resolve "([^"]+)"'; then
    case $it in
      . | ./* | ../* | /* | @/* | ~/* | \$*) fail "the script $1 finds no file $it: is it committed, and spelled with the same capitals? Linux tells them apart" ;;
      *) fail "the script $1 finds no package $it: add it with $manager install, and commit package.json and $(lock_name)" ;;
    esac
  elif said 'Treating warnings as errors because process.env.CI'; then
    fail "warnings end this build because CI is set: mend them, or unset CI"
  elif said 'adapter-auto|Could not detect a supported production environment'; then
    fail "SvelteKit does not know where it will run: add @sveltejs/adapter-node and use it in svelte.config.js"
  elif said "P1001|Can't reach database server[^.]*|ECONNREFUSED [0-9.:]+|ENOTFOUND [^ ]+"; then
    fail "the script $1 wants to reach something that is not there while building ($it): do that when the app starts, or in a release task"
  elif said "[Mm]issing [a-z ]*variable:? [\"'\`]([A-Z][A-Z0-9_]+)"; then
    fail "the script $1 needs a variable ($it): set it for builds, too (config:set --build NAME=VALUE)"
  elif said '[Ii]nvalid environment variables|[Mm]issing (?:required )?env[a-z]*(?: variables?)?:? ?[A-Z_0-9]*|Environment variable not found: [A-Z_0-9]+|[Ee]nvironment variables? (?:is|are) (?:not defined|not set|missing|required)'; then
    host=$(sed -nE "s/.*path: \[ '([A-Z0-9_]+)' \].*/\\1/p; s/^ *- +([A-Z][A-Z0-9_]+)\$/\\1/p" "$log" | sort -u | tr '\n' ' ')
    if [ -n "$host" ]; then it=${host% }; fi
    fail "the script $1 needs a variable (${it}): set it for builds, too (config:set --build NAME=VALUE)"
  elif said 'error TS[0-9]+|Type error:'; then
    fail "TypeScript found mistakes: the lines above say where; try $manager run $1 on your machine"
  fi
  fail "the script $1 failed: the lines above say why; try $manager run $1 on your machine"
}
