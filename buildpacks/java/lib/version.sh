# shellcheck shell=bash
# Which Java the app asks for. Debian has two versions, the Debian before one more. Instead of an older version the next newer one is
# used, which compiles for the older.

newest_java=25

# Prints the version that the app asks for, its source, and whether the app has to run on it or only to be compiled for it, as
# `17<TAB>pom.xml: java.version<TAB>compile`; nothing if it asks for none. Fails if a file cannot be read.
asked_java() {
  local line file files
  if [ -f system.properties ] && line=$(sed -nE 's/^[[:space:]]*java\.runtime\.version[[:space:]]*[=:][[:space:]]*(.*)/\1/p' system.properties | tail -n 1 | tr -d "[:space:]\"'") &&
    [ -n "$line" ]; then
    printf '%s\tsystem.properties: java.runtime.version=%s\trun\n' "$line" "$line"
  elif [ -f .java-version ] && line=$(sed -E 's/#.*//; /^[[:space:]]*$/d' .java-version | head -n 1 | tr -d "[:space:]\"'") && [ -n "$line" ]; then
    printf '%s\t.java-version: %s\trun\n' "$line" "$line"
  elif [ -f .sdkmanrc ] && line=$(sed -nE 's/^[[:space:]]*java[[:space:]]*=([^#]*).*/\1/p' .sdkmanrc | tail -n 1 | tr -d "[:space:]\"'") && [ -n "$line" ]; then
    printf '%s\t.sdkmanrc: java=%s\trun\n' "$line" "$line"
  elif { line=$(bp named-version --tool java) || [ $? = 1 ] || return 1; } && [ -n "$line" ]; then
    IFS=$'\t' read -r line file <<<"$line"
    printf '%s\t%s: java %s\trun\n' "$line" "$file" "$line"
  elif [ "$tool" = maven ]; then
    sed -n 's/^java\t//p' "$work/pom"
  elif [ "$tool" = gradle ]; then
    mapfile -t files < <(printf '%s\n' {,app/,server/,web/,buildSrc/}build.gradle{,.kts} gradle.properties "${build_files[@]#./}" | awk '!seen[$0]++')
    # A toolchain asks for exactly that version.
    for file in "${files[@]}"; do
      [ -f "$file" ] || continue
      line=$(sed -nE 's/.*(JavaLanguageVersion\.of|jvmToolchain)[ (=]+([0-9]+).*/\2/p' "$file" | head -n 1)
      if [ -z "$line" ]; then line=$(toolchain_by_name "$file"); fi
      if [ -n "$line" ]; then
        printf '%s\t%s: toolchain %s\trun\n' "$line" "$file" "$line"
        return
      fi
    done
    for file in "${files[@]}"; do
      [ -f "$file" ] || continue
      line=$(sed -nE 's/.*release(\.set)?[ (=]+([0-9]+).*/\2/p
        s/.*(sourceCompatibility|targetCompatibility|javaVersion|java\.version)[ =("'\'']+(JavaVersion\.VERSION_)?([0-9._]+).*/\3/p' "$file" | head -n 1)
      if [ -n "$line" ]; then
        printf '%s\t%s: %s\tcompile\n' "${line//_/.}" "$file" "${line//_/.}"
        return
      fi
    done
  fi
}

# $1: a build file of Gradle. Prints the version of its toolchain if it has a name there, in gradle.properties or in a version catalog
# (`JavaLanguageVersion.of(libs.versions.java.get())`), or else a warning.
toolchain_by_name() {
  local expression name version
  expression=$(sed -nE 's/.*(JavaLanguageVersion\.of|jvmToolchain)[ (=]+([^0-9){ ].*)/\2/p' "$1" | head -n 1)
  if [ -z "$expression" ]; then return; fi
  while read -r name; do
    version=$(sed -nE "s/^[[:space:]]*(val |def |ext\\.|const val )?[\"']?${name//[.]/[-._]}[\"']?[[:space:]]*=[[:space:]]*[\"']?([0-9]+).*/\\2/p" \
      gradle.properties gradle/libs.versions.toml "$1" 2>/dev/null | head -n 1)
    if [ -n "$version" ]; then echo "$version" && return; fi
  done < <(grep -oE "[A-Za-z][A-Za-z0-9_.-]*" <<<"$expression" | sed -E 's/^libs\.versions\.//; s/\.(get|toInt|asInt|toInteger)$//')
  bp trouble "$1: the version of the toolchain (${expression%%)*}) is not read, since it is no number: write java.runtime.version=21, or another, into system.properties" >&2
}

# Sets major and why. Ends the build if the version asked for is newer than any available one.
choose_version() {
  local line asked number purpose
  line=$(asked_java) || exit 1
  IFS=$'\t' read -r asked why purpose <<<"$line"
  if [ -z "$asked" ]; then
    number=21 why="the default"
  else
    # 1.8, 17.0.2, zulu-17, temurin-21.0.4+7, 21.0.2-tem, openjdk64-11.0.2, 8u292: all of these are in use.
    [[ $asked =~ ^([a-zA-Z][a-zA-Z0-9_]*[-_@])*(1\.)?([0-9]+) ]] ||
      fail "$asked is not a version of Java ($why): write one like 21"
    number=${BASH_REMATCH[3]}
  fi
  case $number in
    21 | 25) major=$number ;;
    [5-9] | 1[0-7]) if [ "$purpose" = run ]; then major=17; else major=21; fi ;;
    18 | 19 | 20) major=21 ;;
    22 | 23 | 24) major=25 ;;
    *) fail "Java $number is not available ($why), only 17, 21 and 25: write 25, if the app runs on it" ;;
  esac
  if [ "$major" -gt "$newest_java" ]; then
    if [ -n "$asked" ] && [ "$number" -gt "$newest_java" ]; then
      raise_gradle
    else
      major=$newest_java why+="; the wrapper's Gradle $gradle_version does not run on a newer one"
      return
    fi
  fi
  if [ "$number" = 17 ] && [ "$major" = 21 ]; then
    why+="; 21 runs it, too; java.runtime.version=17 in system.properties selects 17"
  elif [ "$major" != "$number" ]; then
    why+="; $major is the nearest available, and runs code for $number"
  fi
}
