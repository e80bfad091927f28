"""Writes nginx's configuration for the files of a site, and their compressed forms beside them.

usage: nginx.py ROOT LAYER [built]; prints what was decided, a line each, problems with "! " in front.
"""

import gzip
import hashlib
import json
import os
import re
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent.parent
ROOT, LAYER, BUILT = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["built"]

TEXTS = set(
    "atom bmp cjs css csv eot geojson gltf htm html ico ics js json jsonld map md mjs otf rdf rss svg tsv ttf txt vtt "
    "wasm webmanifest xhtml xml xsl yaml yml".split()
)
# Names that are missing files, not pages, of an app of a single page.
ASSETS = (
    "avif bmp css csv cur eot gif gz ico jpe?g js json m4a map mjs mov mp[34] og[agv] otf pdf png svg ttf txt wasm wav "
    "web[mp] webmanifest woff2? xml zip"
).split()
# What belongs to the making of a site, when its whole folder is served.
MAKING = (
    "Procfile Aptfile Staticfile Dockerfile Makefile Gemfile Rakefile Gruntfile.js gulpfile.js app.json project.toml static.json "
    "package.json package-lock.json npm-shrinkwrap.json yarn.lock pnpm-lock.yaml bun.lock bun.lockb composer.json "
    "netlify.toml vercel.json now.json firebase.json staticwebapp.config.json fly.toml render.yaml "
    "docker-compose.yml docker-compose.yaml compose.yaml nginx.conf"
).split()


def stop(text):
    print(text)
    sys.exit(1)


def read_json(name):
    """A JSON file's object, or nothing."""
    try:
        value = json.loads(Path(name).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as why:
        stop(f"{name} is not valid JSON ({why}): correct it and push again")
    return value if isinstance(value, dict) else {}


def quoted(text):
    """A word of nginx's configuration that means just this text."""
    if re.search(r"[\x00-\x1f]", text):
        stop(f"there is a control character in {text!r}: take it out")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def without_variables(text):
    """Text from outside, in which nginx shall expand nothing."""
    if "$" in text:
        stop(f"{text!r} has a $ in it, which is not supported in a header or an address: take it out")
    return quoted(text)


# 1. The files.


def served_files():
    """What may be asked for, relative to the root."""
    for folder, folders, names in os.walk(ROOT):
        inside = Path(folder).relative_to(ROOT)
        folders[:] = sorted(f for f in folders if (not f.startswith(".") or f == ".well-known") and f != "node_modules")
        for name in sorted(names):
            if not name.startswith(".") and not (str(ROOT) == "." and inside == Path(".") and name in MAKING):
                yield (inside / name).as_posix()


def fingerprinted(name):
    """Whether a tool has put a part of the hash of its contents into the file's name."""
    if re.match(r"(.*/)?(_next/static|_astro|_app/immutable)/", name):
        return True
    if not BUILT or name.endswith((".html", ".htm")) or Path("public", name).exists() or Path("static", name).exists():
        return False
    for part in re.findall(r"[-._]([0-9a-f]{8,64}|[A-Z0-9]{8}|[A-Za-z0-9_-]{8,12})(?=\.)", name.rsplit("/", 1)[-1]):
        # In letters and digits, hash and word look alike, but for where tools put the one and people the other.
        if re.fullmatch(r"[0-9a-f]+|[A-Z0-9]+", part):
            if re.search("[0-9]", part) and re.search("[A-Za-z]", part):
                return True
        elif re.match(r"(.*/)?(assets|_nuxt|static|chunks)/", name) and re.search(r"[A-Z0-9]", part) and re.search("[a-z]", part):
            return True
    return False


def addresses(name):
    """Where a file is found."""
    yield "/" + name
    if name == "index.html" or name.endswith("/index.html"):
        yield "/" + name.removesuffix("index.html")
    elif name.endswith(".html"):
        yield "/" + name.removesuffix(".html")


def tag_of(name):
    with open(ROOT / name, "rb") as file:
        return f'W/"{hashlib.file_digest(file, "sha256").hexdigest()[:16]}"'


def compress(name):
    path = ROOT / name
    if name.rsplit(".", 1)[-1].lower() not in TEXTS or path.is_symlink() or path.stat().st_size <= 1024:
        return
    smaller = path.with_name(path.name + ".gz")
    if not smaller.exists():
        data = path.read_bytes()
        small = gzip.compress(data, 9, mtime=0)
        if len(small) < len(data) * 0.95:
            smaller.write_bytes(small)


def write_map(name, values):
    """nginx takes the keys of a map without regard to case: what differs in that only has none."""
    seen = {}
    for key in values:
        seen[key.lower()] = seen.get(key.lower(), 0) + 1
    # A word like `default` would be taken for an order, but every address begins with a slash.
    lines = [
        f"{quoted(key)} {quoted(value)};\n"
        for key, value in values.items()
        if seen[key.lower()] == 1 and not re.search(r"[\x00-\x1f]", key)
    ]
    (LAYER / name).write_text("".join(lines))


def is_own(name):
    """Whether it is a file of the app: links may lead anywhere."""
    try:
        path = (ROOT / name).resolve(strict=True)
    except (OSError, RuntimeError):
        return False
    return path.is_file() and path.is_relative_to(Path.cwd())


files = [name for name in served_files() if is_own(name)]
pages = [name for name in files if name.endswith((".html", ".htm"))]
with ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(compress, files))
    lasting = {name for name in files if fingerprinted(name)}
    tagged = [name for name in files if name not in lasting]
    tags = dict(zip(tagged, pool.map(tag_of, tagged)))
# What never changes needs no tag; without an entry it would have that of the page that answers for all else.
write_map("tags.map", {address: tags.get(name, "") for name in files for address in addresses(name)})
write_map("fingerprints.map", {"/" + name: "yes" for name in sorted(lasting)})


def is_utf8(name):
    try:
        (ROOT / name).read_text("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# What works on the developer's machine and not here.


def check_pages():
    """References of pages to the site's own files, which another system found in spite of their spelling."""
    there = set(files)
    likewise = {name.lower(): name for name in files}
    found = 0
    for page in pages[:200]:
        text = (ROOT / page).read_text("utf-8", "replace")
        if page == "index.html":
            source = re.search(r"<script[^>]+src=[\"']?([^\"'> ]+\.(?:tsx|jsx|ts|vue|svelte))[\"'> ]", text)
            if source:
                stop(
                    f"index.html loads {source[1]}, which no browser understands: it has to be built, so commit a package.json "
                    'with a script "build" (and leave the built folder out), or serve the built folder with a static.json'
                )
        for reference in re.findall(r"<(?:script|link|img|a|source)\b[^>]*?\b(?:src|href)=[\"']([^\"'#?:{}<>]+)[\"'#?]", text):
            name = os.path.normpath(os.path.join("/", os.path.dirname(page), reference)).lstrip("/")
            if name and name not in there and likewise.get(name.lower(), name) != name:
                found += 1
                if found <= 3:
                    print(f"! {page} asks for {name}, and the file is {likewise[name.lower()]}: capital letters count here")


check_pages()
pointers = [name for name in files if (ROOT / name).stat().st_size < 200 and (ROOT / name).read_bytes().startswith(b"version https://git-lfs")]
if pointers:
    print(f"! {pointers[0]} is a pointer of Git LFS and not the file: commit the files themselves (git lfs migrate export)")

charset = "utf-8"
other = next((name for name in pages[:500] if not is_utf8(name)), None)
if other:
    charset = "off"
    print(f"{other} is not in UTF-8, so browsers go by what the pages say")


# 2. What the app's files say for other platforms.

headers, redirects, fallback, https_only = [], [], None, False


def pattern_of(text):
    """A regular expression of nginx for an address with `*`, `**`, `:name` or `:splat`."""
    out = ""
    for part in re.split(r"(\*\*|\*|\(\.\*\)|:[a-z_]+\*?)", text):
        if part in ("*", "**", "(.*)"):
            out += "(?<splat>.*)" if "splat" not in out else ".*"
        elif re.fullmatch(r":[a-z_]+\*", part):
            out += f"(?<{part[1:-1]}>.*)"
        elif re.fullmatch(r":[a-z_]+", part):
            out += f"(?<{part[1:]}>[^/]+)"
        else:
            out += re.escape(part).replace("\\/", "/")
    # `/blog/*` is for /blog, too.
    return "^" + re.sub(r"/\(\?<splat>\.\*\)$", "(?:/(?<splat>.*))?", out) + "$"


def target_of(text):
    """Where a redirect leads, with nginx's variables for the names."""
    return re.sub(r":(splat|[a-z_]+)\b(?!/)|:([a-z_]+)(?=/[^/])", lambda m: "$" + (m[1] or m[2]), without_variables(text))


def rule(source, target, status, where):
    """One line of redirects."""
    global fallback
    if status == 200 and source in ("/*", "/**", "**", "*", "/(.*)", "/:path*", "/(.*)?") and not target.startswith("http"):
        page = target.split("?")[0].split("#")[0].strip("/") or "index.html"
        if not (ROOT / page).is_file() and (ROOT / f"{page}.html").is_file():
            page += ".html"
        if (ROOT / page).is_file():
            fallback = fallback or (page, where)
    elif status in (301, 302, 303, 307, 308) and not re.search(r"[()?]", source) and re.match("/|https?://", target):
        if source.startswith("/"):
            redirects.append((pattern_of(source), target_of(target), status))
    else:
        print(f"! {where}: {source} to {target} is left out: only redirects and the page of a single page app are supported")


def told(key, spec, where):
    """An order of headers by address, as static.json and others have it."""
    for name, value in spec.items():
        headers.append((pattern_of(key), name, str(value)))


static = read_json("static.json")
if static:
    for source, target in (static.get("routes") or {}).items():
        rule(source, "/" + str(target).lstrip("/"), 200, "routes in static.json")
    for source, target in (static.get("redirects") or {}).items():
        target = target if isinstance(target, dict) else {"url": target}
        rule(source, str(target.get("url", "")), int(target.get("status", 301)), "redirects in static.json")
    for key, spec in (static.get("headers") or {}).items():
        told(key, spec, "static.json")
    https_only = static.get("https_only") is True
    for key in ("proxies", "basic_auth", "encoding", "canonical_host"):
        if static.get(key):
            print(f"! {key} in static.json is not supported here and is left out")

if Path("Staticfile").exists():
    text = Path("Staticfile").read_text()
    if re.search(r"^pushstate: *(enabled|true)", text, re.M):
        fallback = ("index.html", "pushstate in the Staticfile")
    https_only = bool(re.search(r"^force_https: *true", text, re.M))

for place in (ROOT / "_redirects", Path("_redirects")):
    if place.is_file():
        for line in place.read_text().splitlines():
            words = line.split("#")[0].split() if line.lstrip().startswith("#") else line.split(" #")[0].split()
            if len(words) >= 2:
                status = re.sub("!$", "", words[2]) if len(words) > 2 else "301"
                if status.isdigit() and len(words) <= 3:
                    rule(words[0], words[1], int(status), "_redirects")
                else:
                    print(f"! _redirects: {line.strip()} is left out: conditions are not supported")
        break

for place in (ROOT / "_headers", Path("_headers")):
    if place.is_file():
        source = None
        for line in place.read_text().splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not line[0].isspace():
                source = line.strip()
            elif source and ":" in line and not line.strip().startswith("!"):
                name, value = line.strip().split(":", 1)
                told(re.sub("^https?://[^/]+", "", source), {name.strip(): value.strip()}, "_headers")
        break

for entry in read_json("vercel.json").get("rewrites") or []:
    if not str(entry.get("destination", "")).startswith("http"):
        if entry.get("source", "").startswith(("/(.*)", "/:path*", "/((?!")):
            rule("/*", str(entry["destination"]), 200, "vercel.json")
hosting = read_json("firebase.json").get("hosting") or {}
for entry in (hosting if isinstance(hosting, dict) else {}).get("rewrites") or []:
    if entry.get("source") == "**" and entry.get("destination"):
        rule("/*", str(entry["destination"]), 200, "firebase.json")
navigation = read_json("staticwebapp.config.json").get("navigationFallback") or {}
if navigation.get("rewrite"):
    rule("/*", str(navigation["rewrite"]), 200, "staticwebapp.config.json")
if Path("netlify.toml").exists():
    try:
        netlify = tomllib.loads(Path("netlify.toml").read_text())
    except ValueError:
        netlify = {}
    for entry in netlify.get("redirects") or []:
        if entry.get("from") and entry.get("to") and not entry.get("conditions"):
            rule(entry["from"], entry["to"], int(entry.get("status", 301)), "netlify.toml")
    for entry in netlify.get("headers") or []:
        told(str(entry.get("for", "/*")), entry.get("values") or {}, "netlify.toml")


# 3. What is answered when there is no such file.

not_found = (static.get("error_page") or "404.html").lstrip("/")
several = [name for name in pages if name not in ("200.html", "404.html", "index.html")]
generators = r'"(astro|next|gatsby|@11ty/eleventy|@docusaurus/core|vitepress|vuepress|hexo|react-static|storybook)":'
package = Path("package.json").read_text() if BUILT else ""
if not fallback and (ROOT / "200.html").is_file():
    fallback = ("200.html", "there is a 200.html")
if not fallback and BUILT and "index.html" in pages and not several and not_found not in files and not re.search(generators, package):
    fallback = ("index.html", "there is no other page")

LINES = []
if fallback:
    page, why = fallback
    print(f"A single page app ({why}): {page} answers for every address that is no file")
    last = "/" + page
    LINES.append(f"""
        # A missing file of the app is missing; a page would only confuse what asks for a script.
        location ~* "\\.(?:{'|'.join(ASSETS)})$" {{
            try_files $uri =404;
        }}""")
else:
    last = "=404"
if not_found in files:
    if not fallback:
        print(f"{not_found} answers for pages that are not there")
    LINES.append(f"\n        error_page 404 {quoted('/' + not_found)};")
if str(ROOT) == ".":
    names = "|".join(re.escape(name) for name in MAKING)
    LINES.append(f"""
        location ~ "^/(?:{names}|node_modules/.*)$" {{
            return 404;
        }}""")
for number, (pattern, target, status) in enumerate(redirects):
    LINES.append(f"""
        location ~ "{pattern}" {{
            try_files $uri $uri.html ${{uri}}index.html @redirect{number};
        }}
        location @redirect{number} {{
            return {status} {target};
        }}""")
if redirects:
    print(f"{len(redirects)} redirect{'s' if len(redirects) > 1 else ''} are kept")


# 4. Where the pages believe to be: their files are asked for below some folder that is not there.


def base():
    if "index.html" not in files:
        return ""
    text = (ROOT / "index.html").read_text("utf-8", "replace")
    told_base = re.search(r"<base[^>]+href=[\"']?(/[^\"'> ]+)/?[\"' >]", text)
    if told_base:
        folder = told_base[1].strip("/")
        return "" if not folder or (ROOT / folder).is_dir() else "/" + folder
    found = ""
    for address in re.findall(r"<(?:script|link)\b[^>]*?\b(?:src|href)=[\"']?/([^/\"'> ?#][^\"'> ?#]*\.(?:js|mjs|css))", text):
        parts = address.split("/")
        if (ROOT / address).is_file():
            return ""
        for at in range(1, len(parts)):
            if (ROOT / "/".join(parts[at:])).is_file():
                found = found or "/" + "/".join(parts[:at])
                break
    return found if re.fullmatch(r"[/A-Za-z0-9_.-]*", found) else ""


prefix = base()
before = []
if https_only:
    before.append("        if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }")
if prefix:
    print(f"! the pages ask for their files below {prefix}/, so the site is there, and / leads to it: is the tool's base path meant?")
    dotted = re.escape(prefix)
    before.append(f'        if ($request_uri ~ "^/(?:\\?|$)") {{ return 302 {prefix}/; }}')
    before.append(f'        rewrite "^{dotted}$" {prefix}/ permanent;')
    before.append(f'        rewrite "^{dotted}(/.*)$" $1;')


# 5. Headers, by address; the last that fits wins, as the first does in a map.

maps, adds, by_name = [], [], {}
for pattern, name, value in headers:
    if re.fullmatch(r"[A-Za-z0-9-]+", name):
        by_name.setdefault(name.lower(), (name, []))[1].append((pattern, value))
caching = "$caching"
for number, (lower, (name, values)) in enumerate(sorted(by_name.items())):
    lines = [f"        {quoted('~' + pattern)} {without_variables(value)};" for pattern, value in reversed(values)]
    default = "$caching" if lower == "cache-control" else '""'
    maps.append(f"    map $path $header{number} {{\n        default {default};\n" + "\n".join(lines) + "\n    }")
    if lower == "cache-control":
        caching = f"$header{number}"
    elif lower not in ("etag", "last-modified", "vary", "content-length", "content-encoding"):
        adds.append(f"        add_header {name} $header{number} always;")
adds.insert(0, f"        add_header Cache-Control {caching} always;")
if headers:
    print("Headers are set: " + ", ".join(name for _, (name, _) in sorted(by_name.items())))

template = (HERE / "nginx.conf").read_text()
for key, value in {
    "CHARSET": charset,
    "SITE": str(LAYER),
    "ROOT": str(ROOT.resolve()),
    "DEFAULT_TAG": tags.get(fallback[0], "").replace('"', '\\"') if fallback else "",
    "MAPS": "\n".join(maps),
    "HEADERS": "\n".join(adds),
    "BEFORE": "\n".join(before),
    "BASE": prefix,
    "FALLBACK": last,
    "LOCATIONS": "\n".join(LINES),
}.items():
    template = template.replace(f"@{key}@", value)
(LAYER / "nginx.conf").write_text(re.sub(r"\n{3,}", "\n\n", template))
