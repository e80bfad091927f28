"""Writes nginx's configuration for the files of a site, and their compressed forms beside them.

usage: nginx ROOT LAYER [built]; prints what was decided (see report.py).
"""

import re
import sys
from pathlib import Path

import config
import pages
from files import Files
from platforms import Rules
from report import detail, warn

GENERATORS = r'"(astro|next|gatsby|@11ty/eleventy|@docusaurus/core|vitepress|vuepress|hexo|react-static|storybook)":'


def find_fallback(rules, files, built):
    """The page that answers every address without a file, and why; None if the site is not a single-page app."""
    if rules.fallback:
        return rules.fallback
    if (files.root / "200.html").is_file():
        return "200.html", "there is a 200.html"
    others = [name for name in files.pages if name not in ("200.html", "404.html", "index.html")]
    package = Path("package.json").read_text() if built else ""
    if built and "index.html" in files.pages and not others and rules.error_page not in files.names and not re.search(GENERATORS, package):
        return "index.html", "index.html is the only page"
    return None


def main():
    root, layer, built = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["built"]
    files = Files(root, built)
    files.write_maps(layer)
    pages.check(files)
    charset = pages.charset(files)
    rules = Rules(root)
    fallback = find_fallback(rules, files, built)
    if fallback:
        detail(f"A single-page app ({fallback[1]}): {fallback[0]} answers every address without a file")
    elif rules.error_page in files.names:
        detail(f"{rules.error_page} answers requests for missing pages")
    if rules.redirects:
        detail(f"{len(rules.redirects)} redirect{'s are' if len(rules.redirects) > 1 else ' is'} configured")
    base = pages.base_path(files)
    if base:
        warn(f"the pages look for their files below {base}/, so the site is served there, and / redirects to it: is the build tool's base path correct?")
    text = config.text(files, rules, fallback[0] if fallback else None, base, charset, layer)
    (layer / "nginx.conf").write_text(text)


main()
