"""nginx's syntax: strings, and regular expressions for the address patterns of other platforms."""

import re

from report import stop


def quoted(text):
    """A string of nginx's configuration with exactly this text."""
    if re.search(r"[\x00-\x1f]", text):
        stop(f"there is a control character in {text!r}: remove it")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def without_variables(text):
    """The same for text in which nginx shall expand no variables."""
    if "$" in text:
        stop(f"{text!r} contains a $, which is not supported in headers and addresses: remove it")
    return quoted(text)


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
    # `/blog/*` matches /blog, too.
    return "^" + re.sub(r"/\(\?<splat>\.\*\)$", "(?:/(?<splat>.*))?", out) + "$"


def target_of(text):
    """The target of a redirect, with nginx's variables in place of `:name` and `:splat`."""
    return re.sub(r":(splat|[a-z_]+)\b(?!/)|:([a-z_]+)(?=/[^/])", lambda m: "$" + (m[1] or m[2]), without_variables(text))
