# shellcheck shell=bash
# Builds with sbt: its launcher, from Maven's repository, downloads the version that the project names.

# Sets sbt_version. Ends the build if it runs on no available Java.
check_sbt() {
  sbt_version=$(sed -nE 's/^sbt\.version *[=:] *([^ ]+).*/\1/p' project/build.properties 2>/dev/null | tr -d '\r') || true
  case ${sbt_version:-1.10.11} in
    0.*) fail "project/build.properties asks for sbt $sbt_version, which needs Java 8: raise it to sbt.version=1.10.11" ;;
  esac
}

# $@: commands of sbt. Runs them and shows errors; the log has the whole output.
sbt() {
  local options=() more=()
  read -ra more <<<"${SBT_OPTS:-}"
  if [ -f .jvmopts ]; then mapfile -t options < <(grep -E '^-(D|Xss|-add)' .jvmopts | tr -d '\r'); fi
  java "${jvm[@]}" -Xss4m "${options[@]}" "${more[@]}" -Dsbt.boot.directory="$layers/sbt/boot" -Dsbt.global.base="$layers/sbt/global" \
    -Dsbt.ivy.home="$layers/sbt/ivy" -Dsbt.coursier.home="$layers/sbt/coursier" -Dsbt.version="$sbt_version" -Dsbt.ci=true \
    -Dsbt.supershell=false -Dsbt.color=false -Dsbt.server.autostart=false -jar "$layers/sbt/sbt-launch.jar" "$@" 2>&1 | tee "$log" |
    bp progress --only '^\[error\]' --only '^\[info\] compiling .* to ' --hide 'stack trace is suppressed|Total time:|^\[error\] +at ' \
      --show '/([^/ ]+\.(?:jar|pom))' --show '^\[info\] (.*)' "Running sbt" |
    sed --unbuffered -E 's,'"$PWD"'/,,g; s/^\[info\] (compiling .*) to .*/       \1/'
  return "${PIPESTATUS[0]}"
}

sbt_build() {
  local tasks=() why=project/build.properties checksums files oldest=1.9.9
  if [ -z "$sbt_version" ]; then sbt_version=1.10.11 why="project/build.properties names none: add sbt.version there"; fi
  if [ "$(printf '%s\n' "$sbt_version" "$oldest" | sort -V | head -n 1)" = "$sbt_version" ]; then
    if [ "$sbt_version" != $oldest ]; then why+=" asks for $sbt_version, which is older than Java $major"; fi
    sbt_version=$oldest
  fi
  bp layer "$layers" sbt --cache --key 1 >/dev/null
  if [ ! -f "$layers/sbt/sbt-launch.jar" ]; then
    bp step "Downloading sbt"
    prepare_maven_for_download
    maven dependency:copy -Dartifact=org.scala-sbt:sbt-launch:1.10.11 -DoutputDirectory="$layers/sbt" -Dmdep.stripVersion=true || explain_maven
  fi
  bp step "Using sbt $sbt_version ($why)"
  mapfile -d '' files < <(find . \( -name '*.sbt' -o -path './project/*' \) -type f -print0 | sort -z)
  checksums="$sbt_version $(bp hash "${files[@]}")"
  if [ "$(cat "$layers/sbt/sums" 2>/dev/null)" = "$checksums" ]; then
    bp step "Using the packages of the last build: the sbt files are unchanged"
  elif [ "$(du -sm "$layers/sbt" | cut -f 1)" -gt 1500 ]; then
    rm -rf "$layers/sbt/coursier" "$layers/sbt/boot"
  fi
  rm -f "$layers/sbt/sums"

  if [ -n "${SBT_TASKS:-}" ]; then
    read -ra tasks <<<"$SBT_TASKS"
  elif grep -qsE 'native-packager|sbt-plugin' project/*.sbt || grep -qs 'stage *:\?=' build.sbt; then
    tasks=(stage)
  elif grep -qs 'sbt-assembly' project/*.sbt; then
    tasks=(assembly)
  else
    tasks=(package "export Runtime/fullClasspathAsJars")
  fi
  bp step "Running sbt ${tasks[*]}"
  sbt "${tasks[@]}" || explain_sbt
  cp "$log" "$work/sbt"
  echo "$checksums" >"$layers/sbt/sums"
}

# $1: the folder of a module, $2: a folder. Copies the libraries that the module needs when it runs there.
sbt_libraries() {
  local jars
  [ "$1" = . ] || fail "add sbt-native-packager to project/plugins.sbt and enablePlugins(JavaAppPackaging) to build.sbt, so that $1 can be started"
  IFS=: read -ra jars <<<"$(grep -E '\.jar(:|$)' "$work/sbt" | grep -v '^\[' | tail -n 1)"
  for jar in "${jars[@]}"; do
    # The class path contains the program itself, too.
    if [[ $jar != "$PWD"/target/* ]]; then cp "$jar" "$2/"; fi
  done
}
