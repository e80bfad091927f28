"""The text of nginx.conf, from its template."""

import re
from pathlib import Path

from files import SOURCES
from report import detail
from syntax import quoted, without_variables

TEMPLATE = Path(__file__).parent.parent.parent / "nginx.conf"
# Extensions of assets: if one is missing, a single-page app responds with 404 instead of its page.
ASSETS = (
    "avif bmp css csv cur eot gif gz ico jpe?g js json m4a map mjs mov mp[34] og[agv] otf pdf png svg ttf txt wasm wav "
    "web[mp] webmanifest woff2? xml zip"
).split()


def text(files, rules, fallback, base, charset, layer):
    """fallback: the page of a single-page app, or None; base: the path below which the site is served, or an empty string."""
    maps, headers = header_lines(rules.headers)
    template = TEMPLATE.read_text()
    for key, value in {
        "CHARSET": charset,
        "SITE": str(layer),
        "ROOT": str(files.root.resolve()),
        "DEFAULT_TAG": files.tags.get(fallback, "").replace('"', '\\"') if fallback else "",
        "MAPS": "\n".join(maps),
        "HEADERS": "\n".join(headers),
        "BEFORE": "\n".join(rewrites(rules.https_only, base)),
        "BASE": base,
        "FALLBACK": "/" + fallback if fallback else "=404",
        "LOCATIONS": "\n".join(locations(files, rules, fallback)),
    }.items():
        template = template.replace(f"@{key}@", value)
    return re.sub(r"\n{3,}", "\n\n", template)


def locations(files, rules, fallback):
    """Responses at addresses without a file."""
    blocks = []
    if fallback:
        blocks.append(f"""
        # A missing asset is an error: a client that requests a script cannot use a page.
        location ~* "\\.(?:{'|'.join(ASSETS)})$" {{
            try_files $uri =404;
        }}""")
    if rules.error_page in files.names:
        blocks.append(f"\n        error_page 404 {quoted('/' + rules.error_page)};")
    if str(files.root) == ".":
        names = "|".join(re.escape(name) for name in SOURCES)
        blocks.append(f"""
        location ~ "^/(?:{names}|node_modules/.*)$" {{
            return 404;
        }}""")
    for number, (pattern, target, status) in enumerate(rules.redirects):
        blocks.append(f"""
        location ~ "{pattern}" {{
            try_files $uri $uri.html ${{uri}}index.html @redirect{number};
        }}
        location @redirect{number} {{
            return {status} {target};
        }}""")
    return blocks


def rewrites(https_only, base):
    """Redirects and rewrites before the lookup of the file."""
    lines = []
    if https_only:
        lines.append("        if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }")
    if base:
        escaped = re.escape(base)
        lines.append(f'        if ($request_uri ~ "^/(?:\\?|$)") {{ return 302 {base}/; }}')
        lines.append(f'        rewrite "^{escaped}$" {base}/ permanent;')
        lines.append(f'        rewrite "^{escaped}(/.*)$" $1;')
    return lines


def header_lines(headers):
    """The maps that give each header its value by address, and the directives that add the headers. The last pattern that
    matches wins; in a map the first does."""
    maps, directives, by_name = [], [], {}
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
            directives.append(f"        add_header {name} $header{number} always;")
    directives.insert(0, f"        add_header Cache-Control {caching} always;")
    if headers:
        detail("Headers are set: " + ", ".join(name for _, (name, _) in sorted(by_name.items())))
    return maps, directives
