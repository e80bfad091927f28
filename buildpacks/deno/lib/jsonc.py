"""Prints a JSON file with comments and trailing commas, which Deno's configuration can have, as plain JSON."""

import json
import re
import sys

TOKEN = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.S)

with open(sys.argv[1], encoding="utf-8-sig") as file:
    text = TOKEN.sub(lambda match: match[1] or "", file.read())
try:
    print(json.dumps(json.loads(text or "{}")))
except ValueError as why:
    sys.exit(str(why))
