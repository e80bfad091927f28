"""Leaves of what npm's registry said just the versions that are there: the rest changes with every new version.

usage: slim.py DENO_DIR
"""

import json
import sys
from pathlib import Path

for path in Path(sys.argv[1]).rglob("registry.json"):
    said = json.loads(path.read_bytes())
    there = {folder.name for folder in path.parent.iterdir() if folder.is_dir()}
    versions = {name: about for name, about in sorted(said.get("versions", {}).items()) if name in there}
    kept = {"name": said.get("name"), "dist-tags": {}, "versions": versions}
    if "_deno.packumentFormat" in said:
        kept["_deno.packumentFormat"] = said["_deno.packumentFormat"]
    path.write_text(json.dumps(kept, sort_keys=True))
