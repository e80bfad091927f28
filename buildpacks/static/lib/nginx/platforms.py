"""Reads the files by which other platforms are configured: redirects, headers, and the page of a single-page app."""

import json
import re
import tomllib
from pathlib import Path

from report import stop, warn
from syntax import pattern_of, target_of


class Rules:
    """What the app's files configure.

    headers: (pattern, name, value); redirects: (pattern, target, status); fallback: the page of a single-page app and the
    file that names it, or None; error_page: the file that answers for missing pages.
    """

    def __init__(self, root):
        self.root = root
        self.headers, self.redirects, self.fallback = [], [], None
        self.https_only, self.error_page = False, "404.html"
        self.read_static_json()
        self.read_staticfile()
        self.read_redirects()
        self.read_headers()
        self.read_vercel()
        self.read_firebase()
        self.read_static_web_apps()
        self.read_netlify()
        self.name_unread_files()

    def add_rule(self, source, target, status, file):
        """A redirect, or the page that answers all addresses without a file."""
        if status == 200 and source in ("/*", "/**", "**", "*", "/(.*)", "/:path*", "/(.*)?") and not target.startswith("http"):
            page = target.split("?")[0].split("#")[0].strip("/") or "index.html"
            if not (self.root / page).is_file() and (self.root / f"{page}.html").is_file():
                page += ".html"
            if (self.root / page).is_file():
                self.fallback = self.fallback or (page, file)
        elif status in (301, 302, 303, 307, 308) and not re.search(r"[()?]", source) and re.match("/|https?://", target):
            if source.startswith("/"):
                self.redirects.append((pattern_of(source), target_of(target), status))
        else:
            warn(f"{file}: {source} to {target} is ignored: only redirects and the page of a single-page app are supported")

    def add_headers(self, source, values):
        for name, value in values.items():
            self.headers.append((pattern_of(source), name, str(value)))

    def read_static_json(self):
        static = read_json("static.json")
        for source, target in (static.get("routes") or {}).items():
            self.add_rule(source, "/" + str(target).lstrip("/"), 200, "routes in static.json")
        for source, target in (static.get("redirects") or {}).items():
            target = target if isinstance(target, dict) else {"url": target}
            self.add_rule(source, str(target.get("url", "")), int(target.get("status", 301)), "redirects in static.json")
        for source, values in (static.get("headers") or {}).items():
            self.add_headers(source, values)
        self.https_only = static.get("https_only") is True
        self.error_page = (static.get("error_page") or self.error_page).lstrip("/")
        for key in ("proxies", "basic_auth", "encoding", "canonical_host"):
            if static.get(key):
                warn(f"{key} in static.json is not supported here and is ignored")

    def read_staticfile(self):
        if Path("Staticfile").exists():
            text = Path("Staticfile").read_text()
            if re.search(r"^pushstate: *(enabled|true)", text, re.M):
                self.fallback = ("index.html", "pushstate in the Staticfile")
            self.https_only = bool(re.search(r"^force_https: *true", text, re.M))
            for key, value in re.findall(r"^(\w+): *(\S*)", text, re.M):
                if key not in ("root", "pushstate", "force_https") and value not in ("", "false", "disabled"):
                    warn(f"{key} in the Staticfile is not supported here and is ignored")
        if Path("Staticfile.auth").exists():
            warn("Staticfile.auth is not supported here, so the site is open to everyone: serve it with a Dockerfile whose server asks for the password")

    def name_unread_files(self):
        """Warns of configuration for a server that the developer brings or expects."""
        for name in ("nginx.conf", "httpd.conf", ".htaccess"):
            if any((folder / name).is_file() for folder in (Path(), self.root)):
                warn(f"{name} is not read here: write redirects into _redirects and headers into _headers, or serve the site with a Dockerfile")

    def read_redirects(self):
        for line in self.lines_of("_redirects"):
            words = line.split("#")[0].split() if line.lstrip().startswith("#") else line.split(" #")[0].split()
            if len(words) >= 2:
                status = re.sub("!$", "", words[2]) if len(words) > 2 else "301"
                if status.isdigit() and len(words) <= 3:
                    self.add_rule(words[0], words[1], int(status), "_redirects")
                else:
                    warn(f"_redirects: {line.strip()} is ignored: conditions are not supported")

    def read_headers(self):
        source = None
        for line in self.lines_of("_headers"):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not line[0].isspace():
                source = line.strip()
            elif source and ":" in line and not line.strip().startswith("!"):
                name, value = line.strip().split(":", 1)
                self.add_headers(re.sub("^https?://[^/]+", "", source), {name.strip(): value.strip()})

    def lines_of(self, name):
        """The lines of a file in the served folder or the app's folder, whichever has it."""
        path = next((path for path in (self.root / name, Path(name)) if path.is_file()), None)
        return path.read_text().splitlines() if path else []

    def read_vercel(self):
        for entry in read_json("vercel.json").get("rewrites") or []:
            if not str(entry.get("destination", "")).startswith("http"):
                if entry.get("source", "").startswith(("/(.*)", "/:path*", "/((?!")):
                    self.add_rule("/*", str(entry["destination"]), 200, "vercel.json")

    def read_firebase(self):
        hosting = read_json("firebase.json").get("hosting") or {}
        for entry in (hosting if isinstance(hosting, dict) else {}).get("rewrites") or []:
            if entry.get("source") == "**" and entry.get("destination"):
                self.add_rule("/*", str(entry["destination"]), 200, "firebase.json")

    def read_static_web_apps(self):
        navigation = read_json("staticwebapp.config.json").get("navigationFallback") or {}
        if navigation.get("rewrite"):
            self.add_rule("/*", str(navigation["rewrite"]), 200, "staticwebapp.config.json")

    def read_netlify(self):
        if not Path("netlify.toml").exists():
            return
        try:
            netlify = tomllib.loads(Path("netlify.toml").read_text())
        except ValueError:
            netlify = {}
        for entry in netlify.get("redirects") or []:
            if entry.get("from") and entry.get("to") and not entry.get("conditions"):
                self.add_rule(entry["from"], entry["to"], int(entry.get("status", 301)), "netlify.toml")
        for entry in netlify.get("headers") or []:
            self.add_headers(str(entry.get("for", "/*")), entry.get("values") or {})


def read_json(name):
    """The object in a JSON file; empty if there is no such file, or it has no object."""
    try:
        value = json.loads(Path(name).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as why:
        stop(f"{name} is not valid JSON ({why}): correct it and push again")
    return value if isinstance(value, dict) else {}
