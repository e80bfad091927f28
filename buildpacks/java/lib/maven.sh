# shellcheck shell=bash
# Builds with Maven: the version of the wrapper if there is one, else Debian's. Its downloads are kept for the next build.

# $1: a property of the wrapper. Prints its value, or nothing.
wrapper() {
  sed -nE "s/^[[:space:]]*$1[[:space:]]*[=:][[:space:]]*(.*)/\1/p" .mvn/wrapper/maven-wrapper.properties | tail -n 1 | sed 's/\\//g' | tr -d '[:space:]'
}

# Sets mvn to the program, which it downloads if needed. The wrapper's script is not run: it can lack its mode, its jar or the right
# line endings.
choose_maven() {
  local url sum archive unpacked
  mvn=$layers/jdk/usr/share/maven/bin/mvn
  if [ ! -f .mvn/wrapper/maven-wrapper.properties ]; then
    bp step "Using Maven $(maven_version) (there is no wrapper)"
    return
  fi
  url=$(wrapper distributionUrl)
  if [[ $url != https://*apache-maven-*-bin.* ]]; then
    bp step "Using Maven $(maven_version) (the wrapper names no Maven distribution: ${url:-there is no distributionUrl})"
    return
  fi
  if [ "$(bp layer "$layers" maven --cache --key "1 $url")" = remake ]; then
    bp step "Downloading Maven ($url)"
    archive=$(mktemp) unpacked=$(mktemp -d) sum=$(wrapper distributionSha256Sum)
    if ! download "$url" "$archive" "Maven"; then
      rm -rf "$layers/maven" "$layers/maven.toml"
      bp trouble "the wrapper's Maven cannot be downloaded ($(head -n 1 "$log")): the app is built with Maven $(maven_version)"
      return
    fi
    if [ -n "$sum" ] && ! sha256sum --status -c <<<"$sum  $archive"; then
      fail "the wrapper's Maven does not match distributionSha256Sum: correct .mvn/wrapper/maven-wrapper.properties"
    fi
    case $url in
      *.zip) unzip -q "$archive" -d "$unpacked" ;;
      *) tar -xzf "$archive" -C "$unpacked" --no-same-owner ;;
    esac || fail "the wrapper's Maven cannot be unpacked: correct distributionUrl in .mvn/wrapper/maven-wrapper.properties"
    mv "$unpacked"/*/* "$layers/maven/"
    rm -rf "$archive" "$unpacked"
  fi
  mvn=$layers/maven/bin/mvn
  bp step "Using Maven $(maven_version) (.mvn/wrapper/maven-wrapper.properties)"
}

# Prepares Maven to download an artifact for an app that another tool builds.
prepare_maven_for_download() {
  choose_maven
  settings=()
  bp layer "$layers" repository --cache --key 1 >/dev/null
}

maven_version() {
  case $mvn in
    "$layers/jdk/"*) sed -nE 's/^maven ([0-9.]+).*/\1/p' "$layers/jdk/packages" ;;
    *) basename "$layers/maven/lib/"maven-core-*.jar .jar | sed 's/^maven-core-//' ;;
  esac
}

# $@: goals and options. Runs Maven and shows errors and the names of modules; the log has its whole output.
maven() {
  MAVEN_OPTS="${jvm[*]} ${MAVEN_OPTS:-}" "$mvn" -B "${settings[@]}" "-Dmaven.repo.local=$layers/repository/all" "$@" 2>&1 | tee "$log" |
    bp progress --only '^\[(ERROR|FATAL)\]' --only '^\[INFO\] Building .+\[[0-9]+/[0-9]+\]$' \
      --hide '^\[ERROR\] *$|Help 1\]|Re-run Maven|full stack trace|re-run Maven|For more information|After correcting|mvn <args> -rf|^\[ERROR\] -> ' \
      --count 'Downloaded from' --show 'Downloaded from [^ ]+ [^ ]*/([^/ ]+) ' --show '^\[INFO\] --- ([^ ]+)' "Running Maven, packages downloaded" |
    sed --unbuffered -E 's,'"$PWD"'/,,g; s/^\[INFO\] (Building .+)/       \1/'
  return "${PIPESTATUS[0]}"
}

# Builds the app. Tests are not run: that is the developer's task.
maven_build() {
  local binding poms checksums goals=(package) tests=-Dmaven.test.skip=true options=()
  settings=()
  binding=$(bp binding maven) || [ $? = 1 ] || exit 1
  if [ -n "$binding" ] && [ ! -f "$binding/settings.xml" ]; then
    bp trouble "the binding ${binding##*/} of the type maven has no settings.xml, which is all that is read of it: bindings:add with --stdin settings.xml"
    binding=""
  elif [ -n "$binding" ] && { [ -n "${MAVEN_SETTINGS_PATH:-}" ] || [ -f settings.xml ]; }; then
    bp trouble "the app has settings of its own, which are used instead of those of the binding ${binding##*/}: remove one of them"
    binding=""
  fi
  if [ -n "${MAVEN_SETTINGS_PATH:-}" ]; then
    settings=(-s "$MAVEN_SETTINGS_PATH")
    [ -f "$MAVEN_SETTINGS_PATH" ] || fail "there is no $MAVEN_SETTINGS_PATH, which MAVEN_SETTINGS_PATH names: commit it"
  elif [ -f settings.xml ]; then
    settings=(-s settings.xml)
  elif [ -n "$binding" ]; then
    settings=(-s "$binding/settings.xml")
    bp detail "Using the settings of the binding ${binding##*/}"
  fi
  choose_maven
  mapfile -d '' poms < <(find . -name node_modules -prune -o \( -name '*.xml' -path '*/.mvn/*' -o -name pom.xml -o -name settings.xml \) -print0 | sort -z)
  checksums="$version $(bp hash "${poms[@]}" .mvn/maven.config)"
  bp layer "$layers" repository --cache --key 1 >/dev/null
  if [ -n "${MAVEN_CUSTOM_GOALS:-}" ]; then read -ra goals <<<"$MAVEN_CUSTOM_GOALS"; fi
  # Tests are compiled if a module depends on those of another.
  if grep -qE '<type>test-jar</type>|<goal>test-jar</goal>' "${poms[@]}"; then tests=-DskipTests; fi
  read -ra options <<<"${MAVEN_CUSTOM_OPTS:-$tests}"
  # Older plugins compile for Java 5 by default; the JDK compiles for 8 and newer.
  if grep -q '^oldest' "$work/pom"; then options+=(-Dmaven.compiler.source=8 -Dmaven.compiler.target=8); fi
  # Reproducible archives; no artifacts that only a repository needs, and no plugins that read git's history.
  options+=(-Dproject.build.outputTimestamp=2000-01-01T00:00:00Z -Dmaven.javadoc.skip=true -Dmaven.source.skip=true
    -Dmaven.gitcommitid.skip=true -Dmaven.buildNumber.skip=true -Dcyclonedx.skip=true)
  if [ "$(cat "$layers/repository/sums" 2>/dev/null)" = "$checksums" ]; then
    bp step "Using the packages of the last build: pom.xml is unchanged"
    bp step "Running mvn ${goals[*]}"
    if maven -o "${goals[@]}" "${options[@]}"; then return; fi
    grep -qiE 'offline' "$log" || explain_maven
    bp detail "A package is missing; downloading it"
  else
    rm -f "$layers/repository/sums"
    # The repository only grows, with packages that are no longer in use: past a size it starts again.
    if [ "$(du -sm "$layers/repository" | cut -f 1)" -gt 1500 ]; then rm -rf "$layers/repository/all"; fi
    bp step "Running mvn ${goals[*]}; packages are downloaded first"
  fi
  maven "${goals[@]}" "${options[@]}" || explain_maven
  echo "$checksums" >"$layers/repository/sums"
}

# $1: the folder of a module, $2: a folder. Copies the libraries that the module needs when it runs there.
maven_libraries() {
  local where=() offline=(-o)
  if [ "$1" != . ]; then where=(-pl "$1" -am); fi
  local words=("${where[@]}" dependency:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$2" -Dmdep.prependGroupId=true)
  if [ "$1" != . ]; then words+=(package -Dmaven.test.skip=true); fi
  maven "${offline[@]}" "${words[@]}" >/dev/null || maven "${words[@]}" || explain_maven
}
