"""Reads which Python an app asks for, in all the ways in which developers' tools write it.

versions.py asked                      prints a line for each version that a file names, the preferred one first, as
                                       FILE<TAB>TEXT<TAB>RANGE<TAB>SERIES; RANGE is `-` if the text is not understood
versions.py range TEXT                 prints a range of pyproject.toml in the form that `fitting` reads; status 1 if it is none
versions.py fitting RANGE VERSION...   prints the versions in the range, a line each
"""

import re
import sys
import tomllib

sys.path.append("/usr/lib/python3/dist-packages")

# Words that ask for no version in particular.
ANY = {"", "*", "x", "latest", "system", "default", "python", "cpython"}
TERM = re.compile(
    r"(?P<operator>\^|~=|~>|~|===|==|=|!=|>=|<=|>|<)?\s*v?(?P<numbers>\d+(?:\.\d+)*)(?P<wild>(?:\.[x*])*)"
    r"(?P<more>-dev|t|-?freethreaded|\+freethreaded|(?:[-.]?(?:a|b|rc|alpha|beta)\.?\d*))?(?=[\s,]|$)[\s,]*"
)


def term(match, exact):
    """One condition, as PEP 440 writes it. A version without an operator stands for its series, unless `exact`."""
    operator, text = match["operator"] or "", match["numbers"]
    numbers = [int(part) for part in text.split(".")]
    series = f"=={'.'.join(text.split('.')[:2])}.*"
    if match["wild"]:
        # Of a series only the end is meant: `<=3.11.*` includes it.
        after = ".".join(map(str, numbers[:-1] + [numbers[-1] + 1]))
        return {"!=": f"!={text}.*", ">": f">={after}", "<=": f"<{after}", "<": f"<{text}", ">=": f">={text}"}.get(operator, f"=={text}.*")
    if operator in ("", "=", "==", "==="):
        if match["more"] or len(numbers) < 3:
            return f"=={text}.*" if len(numbers) < 3 else series
        return f"=={text}" if exact or operator in ("==", "===") else series
    if operator == "^":
        return f">={text},<{numbers[0] + 1}"
    if operator in ("~", "~>"):
        return f">={text},<{numbers[0] + 1}" if len(numbers) == 1 else f">={text},<{numbers[0]}.{numbers[1] + 1}"
    if operator == "~=":
        return f">={text},<{numbers[0] + 1}" if len(numbers) < 3 else f">={text},<{numbers[0]}.{numbers[1] + 1}"
    return operator + text


def to_range(text, exact=False):
    """Alternatives of PEP 440's ranges with `||` between them; None if the text is not understood."""
    text = text.strip().strip("\"'").strip().lower()
    text = re.sub(r"^(c?python[-@ ]?|prefix:|latest:)(?=[\d~^<>=!*x]|$)", "", text)
    text = re.sub(r":latest$|/envs/.*$|-(linux|macos|windows)-.*$", "", text)
    if text in ANY:
        return ""
    alternatives = []
    for alternative in re.split(r"\|\|?", text):
        conditions, bare, rest = [], 0, alternative.strip()
        while rest:
            match = TERM.match(rest)
            if not match:
                return None
            conditions.append(term(match, exact))
            bare += not match["operator"]
            rest = rest[match.end():]
        # Several versions are no range.
        if not conditions or bare and len(conditions) > 1:
            return None
        alternatives.append(",".join(conditions))
    return "||".join(alternatives)


def fitting(text, versions):
    from pip._vendor.packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        ranges = [SpecifierSet(part) for part in text.split("||")]
    except InvalidSpecifier:
        return []
    return [version for version in versions if any(one.contains(version, prereleases=True) for one in ranges)]


def lines(path):
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            stripped = (line.split("#")[0].strip() for line in file.read(1 << 20).splitlines())
            return [line for line in stripped if line]
    except OSError:
        return []


def toml(path, *keys):
    """The value at a path of keys, or None. Ends the program if the file is no TOML."""
    try:
        with open(path, "rb") as file:
            value = tomllib.load(file, parse_float=str)
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value
    except OSError:
        return None
    except ValueError as error:
        sys.exit(f"{path} is not valid TOML ({error}): correct it and push again")


def asked():
    """The first file that names a version, and what it names."""
    # pyenv takes the first one that is there; asdf and mise write several into one line.
    yield ".python-version", [part for line in lines(".python-version") for part in ([line] if to_range(line) is not None else line.split())]
    yield "runtime.txt", lines("runtime.txt")[:1]
    yield ".tool-versions", next((line.split()[1:] for line in lines(".tool-versions") if line.split()[0] == "python"), [])
    for path in ("mise.toml", ".mise.toml", ".config/mise.toml"):
        value = toml(path, "tools", "python")
        values = value if isinstance(value, list) else [value]
        yield path, [str(one.get("version", "") if isinstance(one, dict) else one) for one in values if one]
    version = toml("Pipfile", "requires", "python_full_version") or toml("Pipfile", "requires", "python_version")
    yield "Pipfile", [str(version)] if version else []


def main(verb, *words):
    if verb == "asked":
        for path, texts in asked():
            for text in filter(lambda text: text.strip("\"' "), texts):
                found = to_range(text)
                series = re.search(r"\d+\.\d+", text)
                if "/" in text and found is None:
                    text = text.split("/")[-1]
                print(path, text.strip("\"' "), "-" if found is None else found, series[0] if series else "", sep="\t")
            if texts:
                return
    elif verb == "range":
        found = to_range(words[0], exact=True)
        if found is None:
            sys.exit(1)
        print(found)
    else:
        print("\n".join(fitting(words[0], words[1:])))


if __name__ == "__main__":
    main(*sys.argv[1:])
