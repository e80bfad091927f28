"""Makes Deno's copies of the npm registry's answers depend only on the lock file.

usage: slim.py DENO_DIR LOCK

The registry's answer for a package changes with each of its releases. A lock file in the current format contains all that
Deno needs of it, but Deno still asks for some answers when it starts, unless there is a file; whether they are there then
depends on chance, so each is replaced by a minimal one. With an older lock file, or none, the answers are reduced to the
versions that are unpacked or locked.
"""

import json
import os
import sys
from pathlib import Path

lock = Path(sys.argv[2])
lock_data = json.loads(lock.read_bytes()) if lock.exists() else {}
entries = lock_data.get("npm") or lock_data.get("packages", {}).get("npm", {})
# Keys are name@version, or name@version_peer@version.
locked = {name[:1] + name[1:].split("_")[0] for name in entries.get("packages", entries)}
complete = lock_data.get("version") == "5"

for package in Path(sys.argv[1], "npm").glob("*/*"):
    for folder in package.iterdir() if package.name.startswith("@") else [package]:
        name = folder.relative_to(package.parent).as_posix()
        unpacked = {version.name for version in folder.iterdir() if version.is_dir()}
        file = folder / "registry.json"
        if complete:
            about = {version: {"version": version, "dist": {"tarball": ""}} for version in sorted(unpacked)}
            kept = {"name": name, "dist-tags": {}, "versions": about, "_deno.packumentFormat": "full"}
        elif file.exists():
            kept = json.loads(file.read_bytes())
            versions = sorted(kept["versions"].items())
            kept["versions"] = {v: about for v, about in versions if v in unpacked or f"{name}@{v}" in locked}
            kept["dist-tags"] = {}
            for key in ("time", "_deno.etag"):
                kept.pop(key, None)
        else:
            continue
        # A restored file is a link to the cache of the last successful build: it is replaced, not written into.
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(kept, sort_keys=True))
        os.replace(beside, file)
