"""Reads and rewrites Java archives:

jars.py kind JAR CLASSES      prints what JAR is (boot, war, fat, thin or library) and its main class, as KIND<TAB>CLASS
jars.py same JAR...           rewrites archives that the build made, so that the same contents give the same bytes
jars.py unpack JAR FOLDER     makes a Spring Boot archive a plain one, with its libraries in FOLDER, as Spring's own tools do
jars.py starter JAR MAIN FOLDER  makes the manifest of JAR name its main class, and the libraries in FOLDER
jars.py mains CLASSES...      prints the classes that may have a main method
"""
import os
import re
import sys
import zipfile

DATE = (2000, 1, 1, 0, 0, 0)


def manifest(archive):
    try:
        data = archive.read("META-INF/MANIFEST.MF").decode("utf-8", "replace")
    except KeyError:
        return {}
    lines = re.sub(r"\r\n?", "\n", data).replace("\n ", "").split("\n\n")[0].splitlines()
    return dict(re.split(r":\s?", line, maxsplit=1) for line in lines if ":" in line)


def with_lines(headers):
    """A manifest of these headers, in lines of at most 72 bytes."""
    text = b""
    for name, value in headers.items():
        line = f"{name}: {value}".encode()
        while len(line) > 72:
            text += line[:72] + b"\r\n"
            line = b" " + line[72:]
        text += line + b"\r\n"
    return text + b"\r\n"


def class_files(folder):
    found = set()
    for path, _, names in os.walk(folder):
        found |= {os.path.relpath(os.path.join(path, name), folder) for name in names if name.endswith(".class")}
    return found


def kind(path, folders):
    with zipfile.ZipFile(path) as archive:
        headers = manifest(archive)
        names = archive.namelist()
        main = headers.get("Main-Class", "")
        if main.startswith("org.springframework.boot.loader"):
            # A war, and an archive that is started by properties, need Spring's own loader.
            plain = any(name.startswith("BOOT-INF/lib/") for name in names) and not main.endswith("PropertiesLauncher")
            return ("boot" if plain else "fat"), headers.get("Start-Class", main)
        if path.endswith(".war"):
            return ("fat" if main else "war"), main
        own = set().union(*map(class_files, folders))
        fat = any(name.endswith(".class") and not name.startswith("META-INF/") and name not in own for name in names)
        beside = headers.get("Class-Path", "").split()
        if main and (fat or beside and all(os.path.exists(os.path.join(os.path.dirname(path), name)) for name in beside)):
            return "fat", main
        return ("thin" if main else "library"), main


def write(path, entries):
    """entries: (ZipInfo, bytes), in any order; the manifest comes first, as Java expects it."""
    order = {"META-INF/": 0, "META-INF/MANIFEST.MF": 1}
    temporary = path + ".new"
    with zipfile.ZipFile(temporary, "w") as archive:
        for old, data in sorted(entries, key=lambda entry: (order.get(entry[0].filename, 2), entry[0].filename)):
            info = zipfile.ZipInfo(old.filename, DATE)
            info.compress_type, info.external_attr, info.create_system = old.compress_type, old.external_attr, 3
            if re.fullmatch(r"META-INF/maven/.*/pom\.properties", info.filename):
                data = re.sub(rb"(?m)^#.*\r?\n", b"", data)
            archive.writestr(info, data)
    os.replace(temporary, path)


def same(path):
    with open(path, "rb") as file:
        if file.read(2) != b"PK":
            return  # a script precedes the archive, or this is not an archive
    with zipfile.ZipFile(path) as archive:
        # A name can occur twice; Java uses the last.
        infos = {info.filename: info for info in archive.infolist()}
        entries = [(info, archive.read(info)) for info in infos.values()]
    write(path, entries)


def class_path(path, folder):
    """The paths of the libraries in a folder, relative to an archive, for its manifest."""
    return [os.path.relpath(os.path.join(folder, name), os.path.dirname(path)) for name in sorted(os.listdir(folder))]


def unpack(path, folder):
    os.makedirs(folder, exist_ok=True)
    libraries, entries = [], {}
    with zipfile.ZipFile(path) as archive:
        headers = manifest(archive)
        for info in archive.infolist():
            name = info.filename
            if name.startswith("BOOT-INF/lib/") and name.endswith(".jar"):
                target = os.path.join(folder, os.path.basename(name))
                with open(target, "wb") as file:
                    file.write(archive.read(info))
                libraries.append(os.path.relpath(target, os.path.dirname(path)))
            elif name.startswith("BOOT-INF/classes/") and name != "BOOT-INF/classes/":
                info.filename = name.removeprefix("BOOT-INF/classes/")
                entries[info.filename] = (info, archive.read(name))
            elif name.startswith("META-INF/") and not name.endswith("/") and name != "META-INF/MANIFEST.MF":
                entries.setdefault(name, (info, archive.read(info)))
    headers = {name: value for name, value in headers.items() if not name.startswith(("Spring-Boot-C", "Spring-Boot-L", "Start-Class"))}
    headers["Main-Class"], headers["Class-Path"] = manifest_start(path), " ".join(libraries)
    put_manifest(entries, headers)
    write(path, entries.values())


def manifest_start(path):
    with zipfile.ZipFile(path) as archive:
        return manifest(archive)["Start-Class"]


def put_manifest(entries, headers):
    headers = {"Manifest-Version": "1.0"} | headers
    info = zipfile.ZipInfo("META-INF/MANIFEST.MF", DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    entries[info.filename] = (info, with_lines(headers))


def starter(path, main, folder):
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: (info, archive.read(info)) for info in archive.infolist()}
        headers = manifest(archive)
    headers |= {"Main-Class": main, "Class-Path": " ".join(class_path(path, folder))}
    put_manifest(entries, headers)
    write(path, entries.values())


def mains(folders):
    for folder in folders:
        for name in sorted(class_files(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            if b"\x00\x04main" in data and b"([Ljava/lang/String;)V" in data:
                print(name.removesuffix(".class").replace("/", "."))


verb, *words = sys.argv[1:]
if verb == "kind":
    print(*kind(words[0], words[1:]), sep="\t")
elif verb == "same":
    for word in words:
        same(word)
elif verb == "unpack":
    unpack(*words)
elif verb == "starter":
    starter(*words)
elif verb == "mains":
    mains(words)
