# shellcheck shell=bash
# Builds with Gradle: the version of the wrapper, since projects depend on it. Its downloads are kept for the next build.

# $1: a property of the wrapper. Prints its value, or nothing.
gradle_wrapper() {
  sed -nE "s/^[[:space:]]*$1[[:space:]]*[=:][[:space:]]*(.*)/\1/p" gradle/wrapper/gradle-wrapper.properties | tail -n 1 | sed 's/\\//g' | tr -d '[:space:]'
}

# Sets gradle_version, url (of the distribution) and sum, and newest_java if this Gradle does not run on every available Java. Ends
# the build if it runs on none.
check_gradle() {
  gradle=$(type -P gradle) || true
  url="" gradle_why=""
  if [ ! -f gradle/wrapper/gradle-wrapper.properties ]; then
    [ -n "$gradle" ] || fail "there is no Gradle wrapper: run gradle wrapper, and commit gradlew and gradle/wrapper/"
    gradle_version=$("$gradle" --version 2>/dev/null | sed -nE 's/^Gradle ([0-9.]+).*/\1/p')
    return
  fi
  url=$(gradle_wrapper distributionUrl) sum=$(gradle_wrapper distributionSha256Sum)
  gradle_version=$(sed -nE 's,.*gradle-([0-9.]+)(-[^/]*)?-(bin|all)\.zip$,\1,p' <<<"$url")
  case $gradle_version in
    [1-6] | [1-6].* | 7 | 7.[0-2] | 7.[0-2].*)
      fail "the wrapper's Gradle $gradle_version does not run on Java 17 or newer: run ./gradlew wrapper --gradle-version 8.14.3, and commit what changed" ;;
    7.* | 8 | 8.[0-4] | 8.[0-4].*) newest_java=17 ;;
  esac
}

# Chooses a newer Gradle, since the project asks for a Java on which its Gradle does not run.
raise_gradle() {
  case $gradle_version in
    7.*) fail "the wrapper's Gradle $gradle_version does not run on Java $major ($why): run ./gradlew wrapper --gradle-version 8.14.3, and commit what changed" ;;
  esac
  gradle_why=", since the wrapper's $gradle_version does not run on Java $major"
  url=${url//$gradle_version/8.14.3} gradle_version=8.14.3 sum=""
}

# Sets gradle to the program, which it downloads if needed. Ends the build if none is available.
get_gradle() {
  local archive unpacked
  if [ -z "$url" ]; then return; fi
  # The distribution `all` only adds sources and manuals.
  if [ -z "$sum" ]; then url=${url/-all.zip/-bin.zip}; fi
  if [ "$(bp layer "$layers" gradle --cache --key "1 $url $(bp hash "gradle/wrapper/$url" 2>/dev/null)")" = remake ]; then
    bp step "Downloading Gradle ($url)"
    archive=$(mktemp) unpacked=$(mktemp -d)
    if [[ $url != *:* ]]; then
      cp "gradle/wrapper/$url" "$archive" 2>"$log" || true
    else
      download "$url" "$archive" "Gradle" || true
    fi
    if [ ! -s "$archive" ]; then
      rm -rf "$layers/gradle" "$layers/gradle.toml"
      [ -n "$gradle" ] || fail "the wrapper's Gradle cannot be downloaded ($(head -n 1 "$log")): push again when its server answers, or set" \
        "distributionUrl to one that can be reached"
      bp trouble "the wrapper's Gradle cannot be downloaded ($(head -n 1 "$log")): the app is built with the installed one"
      gradle_version=$("$gradle" --version 2>/dev/null | sed -nE 's/^Gradle ([0-9.]+).*/\1/p')
      return
    fi
    if [ -n "$sum" ] && ! sha256sum --status -c <<<"$sum  $archive"; then
      fail "the wrapper's Gradle does not match distributionSha256Sum: correct gradle/wrapper/gradle-wrapper.properties"
    fi
    unzip -q "$archive" -d "$unpacked" || fail "the wrapper's Gradle cannot be unpacked: correct its distributionUrl"
    mv "$unpacked"/*/* "$layers/gradle/"
    rm -rf "$archive" "$unpacked"
  fi
  gradle=$layers/gradle/bin/gradle
}

# $@: tasks and options. Runs Gradle and shows errors; the log has its whole output.
gradle() {
  local options=()
  mapfile -t options < <(printf '%s\n' "${jvm[@]}" | grep '^-D')
  GRADLE_USER_HOME=$layers/gradle-home GRADLE_OPTS="${jvm[*]} ${GRADLE_OPTS:-}" "$gradle" --no-daemon --console=plain --init-script "$here/lib/init.gradle" \
    "-Dorg.gradle.jvmargs=${jvm[*]}" "${options[@]}" "-Dpaas.java=$major" -Porg.gradle.java.installations.auto-download=false "$@" 2>&1 | tee "$log" |
    bp progress --only '^(e: |error: |.*\.(java|kt|kts|gradle):[0-9]+:|\* What went wrong|Execution failed|> (Could|No |Compil))' \
      --show '^Download(?:ing)? .*/([^/ ]+)' --show '^> Task (:[^ ]+)' "Running Gradle" |
    sed --unbuffered -E 's,'"$PWD"'/,,g'
  return "${PIPESTATUS[0]}"
}

gradle_build() {
  local tasks=() checksums files
  bp step "Using Gradle $gradle_version$gradle_why (gradle/wrapper/gradle-wrapper.properties)"
  bp layer "$layers" gradle-home --cache --key "1 $gradle_version" >/dev/null
  mapfile -d '' files < <(find . -name node_modules -prune -o \( -name '*.gradle' -o -name '*.gradle.kts' -o -name 'gradle*.properties' -o -name '*.lockfile' -o -name '*.versions.toml' \) -type f -print0 | sort -z)
  checksums="$version $(bp hash "${files[@]}")"
  if [ "$(cat "$layers/gradle-home/sums" 2>/dev/null)" = "$checksums" ]; then
    bp step "Using the packages of the last build: the Gradle files are unchanged"
  elif [ "$(du -sm "$layers/gradle-home" | cut -f 1)" -gt 1500 ]; then
    rm -rf "$layers/gradle-home/caches"
  fi
  rm -f "$layers/gradle-home/sums"
  if [ -n "${GRADLE_TASK:-}" ]; then
    read -ra tasks <<<"$GRADLE_TASK"
  elif grep -qsE '(task|register|create)[ (]+["'\'']?stage\b' "${build_files[@]}"; then
    tasks=(stage)
  elif uses org.springframework.boot; then
    tasks=(bootJar)
  elif uses io.quarkus; then
    tasks=(quarkusBuild)
  elif grep -qsE '\bapplication\b|io\.ktor\.plugin|io\.micronaut|shadow' "${build_files[@]}"; then
    tasks=(installDist)
  elif grep -qsE "^ *(id|apply plugin:) *[( ]?['\"]war|^ *war\b" "${build_files[@]}"; then
    tasks=(war)
  else
    tasks=(assemble)
  fi
  bp step "Running gradle ${tasks[*]}"
  gradle "${tasks[@]}" || explain_gradle
  rm -rf "$layers/gradle-home/daemon" "$layers/gradle-home/workers" "$layers/gradle-home/.tmp"
  echo "$checksums" >"$layers/gradle-home/sums"
}

# $1: the folder of a module, $2: a folder. Copies the libraries that the module needs when it runs there.
gradle_libraries() {
  local path=${1#.}
  gradle "${path:+:${path//\//:}}:paasLibraries" "-Dpaas.libraries=$2" || explain_gradle
}
