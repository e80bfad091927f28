"""Whether pdm.lock has all packages that [project] dependencies of pyproject.toml name, in versions that fit. Then pdm installs the
same packages whatever else has changed since they were locked, such as dependencies of developers.

Prints the first requirement that pdm.lock does not meet, and then has the status 1.
"""

import sys
import tomllib

sys.path.append("/usr/lib/python3/dist-packages")
from pip._vendor.packaging.requirements import InvalidRequirement, Requirement
from pip._vendor.packaging.utils import canonicalize_name


def load(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


locked = {}
for package in load("pdm.lock").get("package", []):
    locked.setdefault(canonicalize_name(package["name"]), []).append(package)

for text in load("pyproject.toml").get("project", {}).get("dependencies", []):
    try:
        wanted = Requirement(text)
    except InvalidRequirement:
        sys.exit(text)
    fits = [
        package
        for package in locked.get(canonicalize_name(wanted.name), [])
        if "default" in package.get("groups", ["default"])
        and (wanted.url or wanted.specifier.contains(package.get("version", "0"), prereleases=True))
    ]
    extras = {extra for package in fits for extra in package.get("extras", [])}
    if not fits or not wanted.extras <= extras:
        sys.exit(text)
