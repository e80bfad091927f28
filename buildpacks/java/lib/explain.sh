# shellcheck shell=bash

# Each says why a tool failed, by what it printed to the file $log, and ends the build.
explain_maven() { explain Maven maven '^\[(ERROR|FATAL)'; }
explain_gradle() { explain Gradle gradle 'What went wrong'; }
explain_sbt() { explain sbt sbt '^\[error'; }

# $1: the tool, $2: its rules, $3: a pattern of what was shown already: without such a line, the last lines are.
explain() {
  if ! bp explain "$log" "$here/rules/$2.toml" "major=$major"; then
    grep -qE "$3" "$log" || tail -n 20 "$log"
    bp explain "$log" "$here/rules/java.toml" "tool=$1" "major=$major"
  fi
  exit 1
}
