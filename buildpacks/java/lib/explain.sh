# shellcheck shell=bash

# Each says why a tool failed, by what it printed to the file $log, and ends the build.
explain_maven() { explain Maven maven '^\[(ERROR|FATAL)'; }
explain_gradle() { explain Gradle gradle 'What went wrong'; }
explain_sbt() { explain sbt sbt '^\[error'; }

# Prints the variables that the build's files read and that are not set, if they look like access to a repository, with commas between
# them: others may have defaults.
unset_variables() {
  local name names=()
  while read -r name; do
    if [ -z "${!name+set}" ]; then names+=("$name"); fi
  done < <(cat "${build_files[@]}" settings.xml "${settings[1]:-settings.xml}" settings.gradle* .mvn/*.xml .sbt/* 2>/dev/null |
    sed -E 's/(env\.[A-Za-z_]|getenv|environmentVariable|sys\.env)/\n\1/g' |
    sed -E 's/^env\.([A-Za-z0-9_]+)\}/getenv"\1"/' | sed -nE "s/^(getenv|environmentVariable|sys\.env)(\.get|\.getOrElse)?[ ([]*[\"']([A-Za-z0-9_]*(TOKEN|KEY|PASS|USER|SECRET|AUTH|URL|LOGIN|PWD|CRED|REPO|ACTOR|MAVEN)[A-Za-z0-9_]*).*/\3/Ip" | sort -u)
  local IFS=,
  sed 's/,/, /g' <<<"${names[*]}"
}

# $1: the tool, $2: its rules, $3: a pattern of what was shown already: without such a line, the last lines are.
explain() {
  if ! bp explain "$log" "$here/rules/$2.toml" "major=$major" "unset=$(unset_variables)"; then
    grep -qE "$3" "$log" || tail -n 20 "$log"
    bp explain "$log" "$here/rules/java.toml" "tool=$1" "major=$major"
  fi
  exit 1
}
