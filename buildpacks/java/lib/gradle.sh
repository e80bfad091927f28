# shellcheck shell=bash
check_gradle() { fail "Gradle is not here yet"; }
