"""The files of a site: which are served, their tags, and their compressed forms."""

import gzip
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syntax import quoted

COMPRESSIBLE = set(
    "atom bmp cjs css csv eot geojson gltf htm html ico ics js json jsonld map md mjs otf rdf rss svg tsv ttf txt vtt "
    "wasm webmanifest xhtml xml xsl yaml yml".split()
)
# Sources and settings, which are not served when the site is the app's folder itself.
SOURCES = (
    "Procfile Aptfile Staticfile Dockerfile Makefile Gemfile Rakefile Gruntfile.js gulpfile.js app.json project.toml static.json "
    "package.json package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb composer.json "
    "netlify.toml vercel.json now.json firebase.json staticwebapp.config.json fly.toml render.yaml "
    "docker-compose.yml docker-compose.yaml compose.yaml nginx.conf httpd.conf Staticfile.auth"
).split()


class Files:
    """The served files below a folder. `names` are relative to it, `tags` are those of files that can change, by name."""

    def __init__(self, root, built):
        """root: the folder; built: whether the build script made it."""
        self.root = root
        self.names = [name for name in candidates(root) if is_own(root, name)]
        self.pages = [name for name in self.names if name.endswith((".html", ".htm"))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.compress, self.names))
            self.fingerprinted = {name for name in self.names if has_fingerprint(name, built)}
            changing = [name for name in self.names if name not in self.fingerprinted]
            self.tags = dict(zip(changing, pool.map(self.tag_of, changing)))

    def compress(self, name):
        path = self.root / name
        if name.rsplit(".", 1)[-1].lower() not in COMPRESSIBLE or path.is_symlink() or path.stat().st_size <= 1024:
            return
        smaller = path.with_name(path.name + ".gz")
        if not smaller.exists():
            data = path.read_bytes()
            small = gzip.compress(data, 9, mtime=0)
            if len(small) < len(data) * 0.95:
                smaller.write_bytes(small)

    def tag_of(self, name):
        with open(self.root / name, "rb") as file:
            return f'W/"{hashlib.file_digest(file, "sha256").hexdigest()[:16]}"'

    def write_maps(self, layer):
        """Writes the files that nginx.conf includes: tags and fingerprints by address."""
        # A file that never changes needs no tag; without an entry it would have the tag of the page that answers other addresses.
        write_map(layer / "tags.map", {address: self.tags.get(name, "") for name in self.names for address in addresses(name)})
        write_map(layer / "fingerprints.map", {"/" + name: "yes" for name in sorted(self.fingerprinted)})


def candidates(root):
    """The files that may be served, relative to the root."""
    for folder, folders, names in os.walk(root):
        inside = Path(folder).relative_to(root)
        folders[:] = sorted(f for f in folders if (not f.startswith(".") or f == ".well-known") and f != "node_modules")
        for name in sorted(names):
            if not name.startswith(".") and not (str(root) == "." and inside == Path(".") and name in SOURCES):
                yield (inside / name).as_posix()


def is_own(root, name):
    """Whether it is a file of the app: symbolic links may lead out of it."""
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return path.is_file() and path.is_relative_to(Path.cwd())


def has_fingerprint(name, built):
    """Whether a build tool has put a part of the hash of the file's contents into its name."""
    if re.match(r"(.*/)?(_next/static|_astro|_app/immutable)/", name):
        return True
    if not built or name.endswith((".html", ".htm")) or Path("public", name).exists() or Path("static", name).exists():
        return False
    for part in re.findall(r"[-._]([0-9a-f]{8,64}|[A-Z0-9]{8}|[A-Za-z0-9_-]{8,12})(?=\.)", name.rsplit("/", 1)[-1]):
        # A hash can look like a word: then the folder decides, since tools put such files where people do not.
        if re.fullmatch(r"[0-9a-f]+|[A-Z0-9]+", part):
            if re.search("[0-9]", part) and re.search("[A-Za-z]", part):
                return True
        elif re.match(r"(.*/)?(assets|_nuxt|static|chunks)/", name) and re.search(r"[A-Z0-9]", part) and re.search("[a-z]", part):
            return True
    return False


def addresses(name):
    """The addresses at which a file is served."""
    yield "/" + name
    if name == "index.html" or name.endswith("/index.html"):
        yield "/" + name.removesuffix("index.html")
    elif name.endswith(".html"):
        yield "/" + name.removesuffix(".html")


def write_map(path, values):
    """Writes the entries of a map. nginx compares keys without regard to case: keys that differ only in case get no entry."""
    seen = {}
    for key in values:
        seen[key.lower()] = seen.get(key.lower(), 0) + 1
    # A key such as `default` would be a directive, but every address begins with a slash.
    lines = [
        f"{quoted(key)} {quoted(value)};\n"
        for key, value in values.items()
        if seen[key.lower()] == 1 and not re.search(r"[\x00-\x1f]", key)
    ]
    path.write_text("".join(lines))
