# shellcheck shell=bash
check_sbt() { fail "sbt is not here yet"; }
