"""Makes what Deno keeps of npm's registry the same whenever the lock file is.

usage: slim.py DENO_DIR LOCK

The registry's answers change with every version of a package. A lock file of today's format has all that they say, and
Deno still asks for some of them when it starts, unless a file is there; it goes on without an answer, so that it depends
on the weather which are there. With an older one, or none, only the versions count that are unpacked or locked.
"""

import json
import os
import sys
from pathlib import Path

lock = Path(sys.argv[2])
said = json.loads(lock.read_bytes()) if lock.exists() else {}
entries = said.get("npm") or said.get("packages", {}).get("npm", {})
# As name@version, or name@version_peer@version.
locked = {name[:1] + name[1:].split("_")[0] for name in entries.get("packages", entries)}
complete = said.get("version") == "5"

for package in Path(sys.argv[1], "npm").glob("*/*"):
    for folder in package.iterdir() if package.name.startswith("@") else [package]:
        name = folder.relative_to(package.parent).as_posix()
        there = {version.name for version in folder.iterdir() if version.is_dir()}
        file = folder / "registry.json"
        if complete:
            about = {version: {"version": version, "dist": {"tarball": ""}} for version in sorted(there)}
            kept = {"name": name, "dist-tags": {}, "versions": about, "_deno.packumentFormat": "full"}
        elif file.exists():
            kept = json.loads(file.read_bytes())
            versions = sorted(kept["versions"].items())
            kept["versions"] = {v: about for v, about in versions if v in there or f"{name}@{v}" in locked}
            kept["dist-tags"] = {}
            for key in ("time", "_deno.etag"):
                kept.pop(key, None)
        else:
            continue
        # What was restored is a link to the cache of the last good build.
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(kept, sort_keys=True))
        os.replace(beside, file)
