"""The pages of a site: their references, encoding and base path."""

import os
import re

from report import detail, stop, warn


def check(files):
    """Reports problems that may not occur on the developer's machine."""
    check_references(files)
    pointers = (name for name in files.names if (files.root / name).stat().st_size < 200)
    for name in pointers:
        if (files.root / name).read_bytes().startswith(b"version https://git-lfs"):
            warn(f"{name} is a Git LFS pointer, not the file itself: commit the files themselves (git lfs migrate export)")
            break


def check_references(files):
    """Reports references to the site's own files in another case, which case-insensitive file systems accept."""
    exact = set(files.names)
    spelling = {name.lower(): name for name in files.names}
    found = 0
    for page in files.pages[:200]:
        text = (files.root / page).read_text("utf-8", "replace")
        if page == "index.html":
            source = re.search(r"<script[^>]+src=[\"']?([^\"'> ]+\.(?:tsx|jsx|ts|vue|svelte))[\"'> ]", text)
            if source:
                stop(
                    f"index.html loads {source[1]}, which no browser understands: it has to be built, so commit a package.json "
                    'with a script "build" (and leave the built folder out), or serve the built folder with a static.json'
                )
        for reference in re.findall(r"<(?:script|link|img|a|source)\b[^>]*?\b(?:src|href)=[\"']([^\"'#?:{}<>]+)[\"'#?]", text):
            name = os.path.normpath(os.path.join("/", os.path.dirname(page), reference)).lstrip("/")
            if name and name not in exact and spelling.get(name.lower(), name) != name:
                found += 1
                if found <= 3:
                    warn(f"{page} refers to {name}, but the file is {spelling[name.lower()]}: file names are case-sensitive here")


def charset(files):
    """Charset of the responses: UTF-8, or off if a page has another encoding."""
    other = next((name for name in files.pages[:500] if not is_utf8(files.root / name)), None)
    if other is None:
        return "utf-8"
    detail(f"{other} is not in UTF-8, so responses name no encoding: browsers use the one that each page names")
    return "off"


def is_utf8(path):
    try:
        path.read_text("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def base_path(files):
    """Base path that the site was built for, or an empty string."""
    root = files.root
    if "index.html" not in files.names:
        return ""
    text = (root / "index.html").read_text("utf-8", "replace")
    element = re.search(r"<base[^>]+href=[\"']?(/[^\"'> ]+)/?[\"' >]", text)
    if element:
        folder = element[1].strip("/")
        return "" if not folder or (root / folder).is_dir() else "/" + folder
    found = ""
    for address in re.findall(r"<(?:script|link)\b[^>]*?\b(?:src|href)=[\"']?/([^/\"'> ?#][^\"'> ?#]*\.(?:js|mjs|css))", text):
        parts = address.split("/")
        if (root / address).is_file():
            return ""
        for at in range(1, len(parts)):
            if (root / "/".join(parts[at:])).is_file():
                found = found or "/" + "/".join(parts[:at])
                break
    return found if re.fullmatch(r"[/A-Za-z0-9_.-]*", found) else ""
