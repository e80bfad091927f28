# shellcheck shell=bash
# What went wrong with the gems, in one line with a remedy.

# Prints the Debian package for what a compilation missed.
debian_source_of() {
  case $1 in
    mysql* | mariadb*) echo default-libmysqlclient-dev ;;
    pg_config | libpq*) echo libpq-dev ;;
    sqlite3*) echo libsqlite3-dev ;;
    *Magick*) echo libmagickwand-dev ;;
    unicode/* | icu*) echo libicu-dev ;;
    curl/* | curl-config | libcurl*) echo libcurl4-openssl-dev ;;
    libxslt* | xslt*) echo libxslt1-dev ;;
    vips* | glib*) echo libvips-dev ;;
    ldap*) echo libldap-dev ;;
    sasl*) echo libsasl2-dev ;;
    sybdb* | sybfront*) echo freetds-dev ;;
    sodium*) echo libsodium-dev ;;
    magic.h) echo libmagic-dev ;;
    zmq*) echo libzmq3-dev ;;
    idn*) echo libidn-dev ;;
    readline*) echo libreadline-dev ;;
    gmp*) echo libgmp-dev ;;
    cmake) echo cmake ;;
    cargo | rustc) echo cargo ;;
  esac
}

# Reads what Bundler printed from the file $log, and ends the build.
explain() {
  local it missing debian
  said() { it=$(bp said "$log" "$@"); }
  take_headers_back
  if said 'only supports platforms \[?(.*?)\]? but your local platform'; then
    fail "$lock is for other platforms only (${it//\"/}): run bundle lock --add-platform x86_64-linux, and commit $lock"
  elif said 'frozen mode is set|deployment mode|lockfile is frozen|cannot be updated because' && grep -qE 'added to|deleted from|changed|dependencies' "$log"; then
    said '^\* (.*)' || true
    fail "$gemfile and $lock do not agree${it:+ ($it)}: run bundle install, and commit $lock"
  elif said 'There was an error parsing `([^`]+)`' '\[!\] There was an error'; then
    fail "$gemfile cannot be read: the lines above say where; correct it and push again"
  elif said 'Your lockfile is unreadable|invalid lockfile|contains merge conflicts|Unexpected character in lockfile'; then
    fail "$lock cannot be read: remove it, run bundle install, and commit it"
  elif said 'The path `([^`]+)` does not exist'; then
    fail "$gemfile takes a gem from a folder that is not in the repository (${it#"$PWD/"}): commit it, or take the gem from somewhere else"
  elif said 'The git source (.*) is not yet checked out' "Git error: command .git ([^\`']+)" 'could not read Username|Permission denied .publickey|Repository not found'; then
    fail "a gem comes from a git repository that the build cannot read ($it): is it private, or gone? Put it into vendor/cache (bundle cache --all) and commit that"
  elif said 'Authentication is required for ([^ ]+)' 'Bad username or password for ([^ ]+)'; then
    fail "$it wants a user name and a password: config:set --build the variable that bundle config names, as BUNDLE_GEMS__EXAMPLE__COM=user:password"
  elif said '([a-zA-Z0-9_.-]+-[0-9][^ ]*) requires ruby version ([^,]+),'; then
    it=$(sed -nE 's/^(.*[ `])?([a-zA-Z0-9_.-]+-[0-9][^ ]*) requires ruby version ([^,]+),.*/\2 wants Ruby \3/p' "$log" | head -n 1)
    fail "$it, and this stack has $version: bundle update that gem with Ruby ${version%.*}, and commit $lock"
  elif said '([a-zA-Z0-9_.-]+[^ ]*) requires rubygems version'; then
    fail "$it wants a newer RubyGems than this stack has: take an older version of that gem, and commit $lock"
  elif said "Could not find gem .([^ \`']+)" 'Could not find ([^ ]+-[0-9][^ ]*) in any of the sources' \
    'Could not find ([^ ]+-[0-9][^ ]*) in (rubygems|locally|cached)'; then
    fail "there is no gem $it: correct $gemfile (its name, its version, its source), run bundle install, and commit both files"
  elif said 'Could not (reach host|fetch specs from|resolve host|download) ?([^ ]*)' 'Connection refused|Network error|getaddrinfo|SocketError|HTTPError' ||
    grep -qE 'Could not (reach|fetch)' "$log"; then
    fail "the gem server does not answer: push again when it does, or commit the gems (bundle cache --all-platforms puts them into vendor/cache)"
  elif said 'checksum|Bundler found mismatched checksums'; then
    fail "a gem is not what $lock expects (its checksum differs): bundle update that gem, and commit $lock"
  elif said 'An error occurred while installing ([^ ]+ \([^)]*\))'; then
    local gem=$it
    if said 'Killed|signal: 9|virtual memory exhausted|Cannot allocate memory'; then
      fail "the compiler of $gem was killed, probably for want of memory: give builds more, or set BUNDLE_JOBS=1 and MAKE=make -j1"
    fi
    missing=$(sed -nE 's/.*fatal error: ([^ :]+): No such file.*/\1/p' "$log" | head -n 1)
    missing=${missing:-$(sed -nE "s/.*(Can't find|Could not find|cannot find|missing|No package|Package) ['\`]?([a-zA-Z0-9_./-]+(\.h|_config|-config|client|wand|sql|[0-9]))['\` ,].*/\2/p" "$log" | head -n 1)}
    missing=${missing:-$(sed -nE 's/.*\b(mysql_config|pg_config|cmake|cargo|rustc|Magick-config|icu)\b.*(not found|not installed|required|missing|No such file).*/\1/p' "$log" | head -n 1)}
    missing=${missing:-$(sed -nE 's/.*(mysql client|mysqlclient) is missing.*/mysqlclient/p' "$log" | head -n 1)}
    debian=$(debian_source_of "$missing")
    if [ -n "$missing" ]; then
      fail "$gem cannot be compiled without $missing: write ${debian:-the Debian package that has it} into a file named Aptfile, and push again"
    elif grep -qE 'implicit declaration|incompatible pointer type|too few arguments|has no member|undefined reference to .rb_|rb_cFixnum|rb_tainted|Fixnum' "$log"; then
      fail "$gem is too old for Ruby $version: bundle update ${gem%% *}, and commit $lock"
    fi
    fail "$gem cannot be compiled: the lines above say why; a newer version of it may do"
  fi
  fail "the gems of $lock cannot be installed: the lines above say why; correct it and push again"
}
