"""Leaves of what npm's registry said just the versions that are there or locked: the rest changes with every new one.

usage: slim.py DENO_DIR LOCK
"""

import json
import sys
from pathlib import Path

lock = Path(sys.argv[2])
locked = set()
if lock.exists():
    # As name@version, or name@version_peer@version.
    said = json.loads(lock.read_bytes())
    entries = said.get("npm") or said.get("packages", {}).get("npm", {})
    locked = {name[:1] + name[1:].split("_")[0] for name in entries.get("packages", entries)}

for path in Path(sys.argv[1]).rglob("registry.json"):
    said = json.loads(path.read_bytes())
    there = {folder.name for folder in path.parent.iterdir() if folder.is_dir()}
    versions = {name: about for name, about in sorted(said.get("versions", {}).items()) if name in there or f"{said.get('name')}@{name}" in locked}
    kept = {"name": said.get("name"), "dist-tags": {}, "versions": versions}
    if "_deno.packumentFormat" in said:
        kept["_deno.packumentFormat"] = said["_deno.packumentFormat"]
    path.write_text(json.dumps(kept, sort_keys=True))
