"""Prints the index-url and the extra-index-urls that a configuration of pip names, a line each, with ${NAME} replaced by the variable
if it is set; then a line with the other settings there that decide what is installed, with commas between them."""

import configparser
import os
import re
import sys

UNREAD = {"find-links", "no-index", "trusted-host", "constraint", "require-hashes", "pre", "no-binary", "only-binary", "prefer-binary", "proxy", "cert", "client-cert"}

config = configparser.RawConfigParser()
try:
    with open(sys.argv[1], encoding="utf-8-sig") as file:
        config.read_file(file)
except (OSError, ValueError, configparser.Error) as error:
    # The line of the error may contain a password.
    sys.exit(re.sub(r"//[^/@\s]*@", "//***@", str(error).replace("\n", " ")))

for name in ("index-url", "extra-index-url"):
    # What is set for `pip install` comes before what is set for all commands.
    values = [config.get(section, key, fallback="") for section in ("install", "global") for key in (name, name.replace("-", "_"))]
    value = " ".join(next(filter(None, values), "").split())
    print(re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], match[0]), value))
keys = {key.replace("_", "-") for section in ("install", "global") if config.has_section(section) for key in config[section]}
print(", ".join(sorted(keys & UNREAD)))
