#!/bin/bash
# Writes a page, and lets Python of the stack serve it.
set -eu
site=$(mktemp -d)
echo "Hello from a shell" >"$site/index.html"
exec python3 -m http.server "${PORT:-8080}" --directory "$site"
