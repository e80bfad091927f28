"""Reads pom.xml before Maven is installed: prints what it finds, as lines KEY<TAB>VALUE, or ends with an error on standard
error."""
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def read(path):
    try:
        tree = ElementTree.parse(path)
    except ElementTree.ParseError as error:
        sys.exit(f"{path} is not valid XML (line {error.position[0]}): correct it and push again")
    for element in tree.iter():
        # Some files have the namespace, some do not.
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return tree.getroot()


def text(element, path, default=""):
    return (element.findtext(path) or default).strip()


root = read("pom.xml")
poms = {"pom.xml": root}
todo = ["pom.xml"]
while todo:
    path = todo.pop()
    for element in poms[path].findall("modules/module") + poms[path].findall("subprojects/subproject"):
        module = (element.text or "").strip()
        file = os.path.normpath(os.path.join(os.path.dirname(path), module))
        if not file.endswith(".xml"):
            file = os.path.join(file, "pom.xml")
        if not os.path.isfile(file):
            sys.exit(f"{path} names the module {module}, but there is no {file}: commit it, or remove the module")
        if file not in poms:
            poms[file] = read(file)
            todo.append(file)

properties = {}
for pom in reversed(poms.values()):
    for element in pom.findall("properties/*"):
        properties[element.tag] = (element.text or "").strip()


def resolve(value):
    for _ in range(5):
        value = re.sub(r"\$\{([^}]+)\}", lambda m: properties.get(m[1], m[0]), value)
    return "" if "${" in value else value


def java():
    for path, pom in poms.items():
        own = {element.tag: (element.text or "").strip() for element in pom.findall("properties/*")}
        for name in ("maven.compiler.release", "java.version", "maven.compiler.target", "maven.compiler.source"):
            if resolve(own.get(name, "")):
                return resolve(own[name]), f"{path}: {name}", "compile"
        for name in ("release", "target", "source", "jvmTarget", "jdkToolchain/version"):
            for plugin in pom.iter("plugin"):
                if "compiler" in text(plugin, "artifactId") or "kotlin" in text(plugin, "artifactId"):
                    value = resolve(text(plugin, f"configuration/{name}"))
                    if value:
                        purpose = "run" if name == "jdkToolchain/version" else "compile"
                        return value, f"{path}: {name} of {text(plugin, 'artifactId')}", purpose
        for name in ("java.release", "jdk.version", "jdkVersion", "javaVersion", "kotlin.compiler.jvmTarget", "release.version"):
            if re.fullmatch(r"(1\.)?\d+", resolve(own.get(name, ""))):
                return resolve(own[name]), f"{path}: {name}", "compile"
    return None


def main_class():
    for pom in poms.values():
        for name in ("start-class", "exec.mainClass", "mainClass", "main.class", "main-class", "app.main.class"):
            value = resolve(text(pom, f"properties/{name}"))
            if value:
                return value
        for element in pom.iter("mainClass"):
            value = resolve((element.text or "").strip())
            if value and not value.startswith("org.springframework.boot.loader"):
                return value
    return ""


for path, pom in poms.items():
    if pom.find("parent") is None and pom.find("dependencyManagement") is None:
        for dependency in pom.findall("dependencies/dependency"):
            if not text(dependency, "version"):
                name = f"{text(dependency, 'groupId')}:{text(dependency, 'artifactId')}"
                sys.exit(f"{path} names {name} without a version: add <version>")
    for repository in pom.findall("repositories/repository"):
        url = text(repository, "url")
        if url.startswith("http:"):
            sys.exit(f"{path} names the repository {text(repository, 'id')} with http:, which Maven refuses: write https:")

if len(poms) == 1 and text(root, "packaging") == "pom":
    sys.exit("pom.xml has packaging pom and no modules, so nothing is built: write <packaging>jar</packaging>, or name the modules")

if (found := java()) is not None:
    print(f"java\t{found[0]}\t{found[1]} {found[0]}\t{found[2]}")
    if re.fullmatch(r"(1\.)?[5-7]", found[0]):
        print("oldest\tyes")
elif root.find("parent") is None:
    print("oldest\tyes")
print(f"main\t{main_class()}")
