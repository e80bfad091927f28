"""Finds the start command of an app without a Procfile. Reads its source without running it.

Prints three lines, each possibly empty: the path of Django's manage.py, the command, and a note for the developer.
"""

import ast
import glob
import json
import os
import re
import sys
import tomllib

VENV = sys.argv[1]
SKIP = {"node_modules", "tests", "test", "docs", "migrations", "examples", "static", "templates", "venv", "env", "dist", "build"}
# Files that can have an app, most likely first.
NAMES = ["app.py", "main.py", "wsgi.py", "asgi.py", "application.py", "server.py", "run.py", "api.py", "web.py", "index.py",
         "streamlit_app.py", "Home.py", "home.py", "bot.py", "start.py", "__init__.py"]
SCRIPTS = ["main.py", "app.py", "server.py", "run.py", "bot.py", "start.py", "application.py", "index.py", "web.py", "api.py", "worker.py"]
WSGI = {"Flask": "flask", "Bottle": "bottle", "default_app": "bottle", "APIFlask": "apiflask", "OpenAPI": "flask", "Eve": "eve", "make_wsgi_app": "pyramid",
        "get_wsgi_application": "django", "App.wsgi": "falcon"}
ASGI = {"FastAPI": "fastapi", "Starlette": "starlette", "Quart": "quart", "Litestar": "litestar", "BlackSheep": "blacksheep",
        "Robyn": None, "Sanic": "sanic", "get_asgi_application": "django", "FastHTML": "python-fasthtml", "fast_app": "python-fasthtml",
        "ProtocolTypeRouter": "channels", "FastAPIOffline": "fastapi", "App.asgi": "falcon"}
FACTORIES = {"create_app", "make_app", "build_app", "get_app", "app_factory", "create_application", "get_application"}


def installed():
    """The names of the installed packages, normalised."""
    folder = os.path.join(VENV, "lib")
    names = set()
    # Libraries that packages link to are there, too.
    for python in (name for name in os.listdir(folder) if name.startswith("python3")):
        packages = os.path.join(folder, python, "site-packages")
        for entry in os.listdir(packages):
            if entry.endswith(".dist-info"):
                names.add(re.sub(r"[-_.]+", "-", entry.rsplit("-", 2)[0]).lower())
    return names


class Source:
    """What the top level of one file defines."""

    def __init__(self, path):
        self.path = path
        self.objects = {}  # variable: the function or class that was called for it
        self.functions = {}  # function: what calls in its body name
        self.imports = set()  # modules
        self.imported = {}  # name here: module it is from
        self.main = False
        self.text = ""
        try:
            with open(path, encoding="utf-8-sig") as file:
                self.text = file.read()
            tree = ast.parse(self.text, path)
        except (OSError, SyntaxError, ValueError):
            return
        self.read(tree.body)

    def read(self, body):
        for node in body:
            match node:
                case ast.Import():
                    self.imports |= {alias.name.split(".")[0] for alias in node.names}
                case ast.ImportFrom():
                    self.imported |= {alias.asname or alias.name: node.module or "." for alias in node.names}
                    if node.level == 0 and node.module:
                        self.imports.add(node.module.split(".")[0])
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        if isinstance(target, ast.Tuple) and target.elts:
                            target = target.elts[0]
                        self.define(target, value)
                case ast.AnnAssign(target=target, value=value) if value is not None:
                    self.define(target, value)
                case ast.FunctionDef():
                    self.functions[node.name] = {called(call) for call in ast.walk(node) if isinstance(call, ast.Call)}
                case ast.If():
                    if "__main__" in ast.unparse(node.test) and "__name__" in ast.unparse(node.test):
                        self.main = True
                    else:
                        self.read(node.body)
                        self.read(node.orelse)
                case ast.Try() | ast.With():
                    self.read(node.body)

    def define(self, target, value):
        name = ast.unparse(target)
        if isinstance(value, ast.Call):
            self.objects[name] = called(value)
            for argument in value.args:
                if isinstance(argument, ast.Call) and name not in self.objects:
                    self.objects[name] = called(argument)
        elif isinstance(value, ast.Attribute):
            self.objects[name] = "." + value.attr

    def instance(self, kinds):
        """A variable that holds an app of one of these kinds."""
        found = [name for name, call in self.objects.items() if call in kinds and name.isidentifier()]
        return next((name for name in ("app", "application", "api", "server") if name in found), found[0] if found else None)

    def made(self):
        """A variable that holds an app from a factory or an import."""
        for name in ("app", "application", "api"):
            if self.objects.get(name, "").rsplit(".", 1)[-1] in FACTORIES:
                return name
        if os.path.basename(self.path) in ("wsgi.py", "asgi.py", "main.py", "run.py", "server.py", "app.py", "application.py", "index.py"):
            return next((name for name in ("application", "app") if name in self.imported and self.imported[name] != "flask"), None)
        return None

    def factory(self, kinds):
        return next((name for name, calls in self.functions.items() if name in FACTORIES and calls & set(kinds)), None)


def called(call):
    """The name of what is called: `Flask` for `flask.Flask(…)`; `App.wsgi` or `App.asgi` for Falcon's classes."""
    text = ast.unparse(call.func)
    if text.endswith("falcon.App") or text == "falcon.API":
        return "App.wsgi"
    if text.endswith("falcon.asgi.App"):
        return "App.asgi"
    return text.rsplit(".", 1)[-1]


def members():
    """The folders of the packages in a workspace of uv, and the folders of their sources."""
    if not os.path.exists("pyproject.toml"):
        return []
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    # A root with dependencies is the app itself.
    if project.get("project", {}).get("dependencies"):
        return []
    workspace = project.get("tool", {}).get("uv", {}).get("workspace", {})
    found = [path for pattern in workspace.get("members", []) for path in sorted(glob.glob(os.path.join(".", pattern.rstrip("/"))))]
    return [folder for path in found for folder in (os.path.join(path, "src"), path) if os.path.isdir(folder)]


def files():
    """The app's Python files: those near the root, or that of a member of its workspace, and with usual names first."""
    found = []
    roots = members()
    for folder, folders, names in os.walk("."):
        folders[:] = sorted(f for f in folders if f not in SKIP and not f.startswith(".") and not os.path.exists(os.path.join(folder, f, "pyvenv.cfg")))
        depth = 0 if folder == "." else folder.count(os.sep)
        for root in roots:
            if folder == root or folder.startswith(root + os.sep):
                depth = 1 + folder.count(os.sep) - root.count(os.sep)
                break
        if depth >= 3:
            folders[:] = []
        for name in names:
            if name.endswith(".py") and (name in NAMES or depth == 0 or depth == 1):
                rank = NAMES.index(name) if name in NAMES else len(NAMES)
                found.append((depth, rank, os.path.normpath(os.path.join(folder, name))))
    return [path for _, _, path in sorted(found)][:400]


def import_path(source):
    """The folder to start in, and the module's name relative to it."""
    folder, name = os.path.split(source.path)
    module = [] if name == "__init__.py" else [name[:-3]]
    for root in MEMBERS:
        if folder == root or folder.startswith(root + os.sep):
            # It is imported as other packages import it, from the folder of its sources.
            return root, ".".join([part for part in folder[len(root):].split(os.sep) if part] + module)
    parts = folder.split(os.sep) if folder else []
    # A program that imports files beside it by their bare names runs in its own folder.
    siblings = {entry.removesuffix(".py") for entry in os.listdir(folder or ".")}
    here = {entry.removesuffix(".py") for entry in os.listdir(".")}
    package = bool(parts) and os.path.exists(os.path.join(folder, "__init__.py"))
    wanted = source.imports & siblings - here - {"__init__"}
    if module and parts and wanted and not (package and parts[-1] in source.imports):
        return folder, ".".join(module)
    if parts and parts[0] == "src" and not os.path.exists("src/__init__.py") and "src" not in source.imports and len(parts + module) > 1:
        return "src", ".".join(parts[1:] + module)
    if parts and not all(part.isidentifier() for part in parts):
        return folder, ".".join(module or [parts[-1]])
    return "", ".".join(parts + module)


UWSGI = "uwsgi --http-socket 0.0.0.0:$PORT --master --die-on-term --need-app"


def serve(source, app, asgi, factory=False):
    """The command that serves an app, and a note about it; empty strings if no server is installed."""
    folder, module = import_path(source)
    target = f"{module}:{app}"
    chdir = f"--chdir {folder} " if folder else ""
    if asgi:
        if "uvicorn" in HAVE:
            return f"uvicorn {target}{' --factory' if factory else ''} {f'--app-dir {folder} ' if folder else ''}--host 0.0.0.0 --port $PORT", ""
        target = f"'{target}()'" if factory else target
        if "hypercorn" in HAVE:
            return f"{f'cd {folder} && exec ' if folder else ''}hypercorn {target} --bind 0.0.0.0:$PORT", ""
        if "granian" in HAVE:
            return f"granian --interface asgi {f'--working-dir {folder} ' if folder else ''}--host 0.0.0.0 --port $PORT {target}", ""
        if "daphne" in HAVE:
            return f"{f'cd {folder} && exec ' if folder else ''}daphne -b 0.0.0.0 -p $PORT {target}", ""
        if "fastapi-cli" in HAVE:
            return f"fastapi run {source.path} --port $PORT", ""
        return "", f"{source.path} has an ASGI app, but no server for it is installed: add uvicorn to the packages"
    target = f"'{target}()'" if factory else target
    # Flask-SocketIO keeps its rooms in the memory of one process.
    workers = "1 --threads 100" if "flask-socketio" in HAVE else "${WEB_CONCURRENCY:-2} --threads 4"
    if "gunicorn" in HAVE:
        return f"gunicorn {chdir}--bind 0.0.0.0:$PORT --workers {workers} {target}", ""
    if "uwsgi" in HAVE:
        return f"{UWSGI} --workers {workers} {chdir}--module {target}", ""
    if "waitress" in HAVE:
        call = "--call " if factory else ""
        return f"{f'cd {folder} && exec ' if folder else ''}waitress-serve --host 0.0.0.0 --port $PORT {call}{target.strip(chr(39)).removesuffix('()')}", ""
    if "hypercorn" in HAVE:
        return f"{f'cd {folder} && exec ' if folder else ''}hypercorn wsgi:{target} --bind 0.0.0.0:$PORT", ""
    if "granian" in HAVE:
        return f"granian --interface wsgi {f'--working-dir {folder} ' if folder else ''}--host 0.0.0.0 --port $PORT {target}", ""
    return "", ""


def django():
    """The path of manage.py, the command, and a note about it."""
    candidates = [path for path in ALL if os.path.basename(path) == "manage.py" and "django" in Source(path).text]
    if "django" not in HAVE or not candidates:
        return "", "", ""
    manage = candidates[0]
    folder = os.path.dirname(manage)
    chdir = f"--chdir {folder} " if folder else ""
    found = {}
    settings = re.search(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)", Source(manage).text)
    project = settings.group(1).split(".")[0] if settings else ""
    for path in sorted(ALL, key=lambda path: (not os.path.relpath(path, folder or ".").startswith(project + os.sep), path)):
        name = os.path.basename(path)
        if name in ("wsgi.py", "asgi.py") and not os.path.relpath(path, folder or ".").startswith(".."):
            source = Source(path)
            if f"get_{name[:-3]}_application" in source.text and name not in found:
                module = os.path.relpath(path, folder or ".")[:-3].replace(os.sep, ".")
                found[name] = f"{module}:{source.instance(WSGI | ASGI) or 'application'}"
    socket = found.get("asgi.py") and "channels" in HAVE
    if found.get("wsgi.py") and "gunicorn" in HAVE and not (socket and HAVE & {"daphne", "uvicorn"}):
        return manage, f"gunicorn {chdir}--bind 0.0.0.0:$PORT --workers ${{WEB_CONCURRENCY:-2}} --threads 4 {found['wsgi.py']}", ""
    if found.get("asgi.py") and "uvicorn" in HAVE:
        return manage, f"uvicorn {f'--app-dir {folder} ' if folder else ''}--host 0.0.0.0 --port $PORT {found['asgi.py']}", ""
    inside = f"cd {folder} && exec " if folder else ""
    for server, command in (("daphne", "daphne -b 0.0.0.0 -p $PORT"), ("hypercorn", "hypercorn --bind 0.0.0.0:$PORT")):
        if found.get("asgi.py") and server in HAVE:
            return manage, f"{inside}{command} {found['asgi.py']}", ""
    if found.get("wsgi.py") and "uwsgi" in HAVE:
        return manage, f"{UWSGI} --workers ${{WEB_CONCURRENCY:-2}} --threads 4 {chdir}--module {found['wsgi.py']}", ""
    if found.get("wsgi.py") and "waitress" in HAVE:
        return manage, f"{inside}waitress-serve --host 0.0.0.0 --port $PORT {found['wsgi.py']}", ""
    notice = "Django's own server is for development: add gunicorn to the packages, and it is used instead"
    return manage, f"python {manage} runserver --noreload 0.0.0.0:$PORT", notice


def interactive():
    """The command of an app in Streamlit, Gradio, Dash or similar, which have servers of their own."""
    for path in ALL:
        source = SOURCES(path)
        if "streamlit" in source.imports and "streamlit" in HAVE:
            return f"streamlit run {path} --server.port $PORT --server.address 0.0.0.0 --server.headless true", ""
        if "gradio" in source.imports and "gradio" in HAVE and ".launch(" in source.text:
            return f"GRADIO_SERVER_NAME=0.0.0.0 GRADIO_SERVER_PORT=$PORT exec python {path}", ""
        if source.imports & {"dash", "dash_bootstrap_components"} and (app := source.instance({"Dash"})):
            server = next((name for name, value in source.objects.items() if value == ".server"), None)
            if server and "gunicorn" in HAVE:
                return serve(source, server, False)
            return f"HOST=0.0.0.0 exec python {path}", ""
        if "chainlit" in source.imports and "chainlit" in HAVE:
            return f"chainlit run {path} --headless --host 0.0.0.0 --port $PORT", ""
        if "marimo" in source.imports and "marimo" in HAVE and source.instance({"App"}):
            return f"marimo run {path} --headless --host 0.0.0.0 --port $PORT", ""
        if "panel" in source.imports and "panel" in HAVE and ".servable(" in source.text:
            return f"panel serve {path} --address 0.0.0.0 --port $PORT --allow-websocket-origin='*'", ""
    return "", ""


def own_server(source):
    """The command that starts the program itself, if it reads PORT."""
    if source.main and re.search(r"\bPORT\b", source.text):
        return f"python {source.path}"
    return ""


def served():
    """The command that serves an ASGI or WSGI app, and a note about it."""
    wsgi = {name for name, package in WSGI.items() if package in HAVE or package == "falcon"}
    asgi = {name for name, package in ASGI.items() if package in HAVE or package == "falcon"}
    if not HAVE & ({"falcon"} | {p for p in [*WSGI.values(), *ASGI.values()] if p}):
        return "", ""
    notice = ""
    for path in ALL:
        source = SOURCES(path)
        for kinds, is_asgi in ((asgi, True), (wsgi, False)):
            app, factory = source.instance(kinds), False
            if not app and (app := source.factory(kinds)):
                # A file that calls the factory is preferred.
                for other in (SOURCES(p) for p in ALL if os.path.basename(p) in NAMES and p != path):
                    if (made := other.made()) and (app in other.imported or made in other.imported):
                        source, app = other, made
                        break
                else:
                    app, factory = (source.made(), False) if source.made() else (app, True)
            if not app:
                continue
            command, why = serve(source, app, is_asgi, factory)
            if not command and (command := own_server(source)):
                return command, ""
            if not command and not is_asgi and HAVE & {"flask", "apiflask"}:
                folder, module = import_path(source)
                # In the form that Flask before 2.2 takes, too.
                command = f"{f'cd {folder} && ' if folder else ''}FLASK_APP={module}:{app} exec flask run --host 0.0.0.0 --port $PORT"
                why = "Flask's own server is for development: add gunicorn to the packages, and it is used instead"
            if not command and source.main:
                command, why = f"python {source.path}", why
            if command:
                return command, why
            notice = notice or why
    return "", notice


def scripts():
    """The command of the project's own script, program or package."""
    project = {}
    if os.path.exists("pyproject.toml"):
        with open("pyproject.toml", "rb") as file:
            project = tomllib.load(file)
    names = project.get("project", {}).get("scripts", {}) | project.get("tool", {}).get("poetry", {}).get("scripts", {})
    for member in MEMBERS:
        if os.path.exists(os.path.join(member, "pyproject.toml")):
            with open(os.path.join(member, "pyproject.toml"), "rb") as file:
                names |= tomllib.load(file).get("project", {}).get("scripts", {})
    own = [name for name in names if os.path.exists(os.path.join(VENV, "bin", name))]
    title = project.get("project", {}).get("name") or project.get("tool", {}).get("poetry", {}).get("name")
    for name in ["web", "start", "serve", "server", title, "main", "app"] + (own if len(own) == 1 else []):
        if name in own:
            return name
    for path in SCRIPTS + ["src/" + name for name in SCRIPTS]:
        if os.path.exists(path):
            return f"python {path}"
    mains = [path for path in EVERY if os.path.basename(path) == "__main__.py"]
    if len(mains) == 1:
        package = os.path.dirname(mains[0])
        if not package:
            return "python ."
        if package.startswith("src" + os.sep):
            return f"PYTHONPATH=src exec python -m {package[4:].replace(os.sep, '.')}"
        return f"python -m {package.replace(os.sep, '.')}"
    programs = [path for path in ALL if os.sep not in path and SOURCES(path).main]
    return f"python {programs[0]}" if len(programs) == 1 else ""


def decide():
    manage, command, notice = django()
    if manage:
        return manage, command, notice
    command, notice = interactive()
    if not command:
        command, notice = served()
    if not command and not notice:
        command = scripts()
    return "", command, notice or missing(command)


def missing(command):
    """A note about the modules that a program imports, where nothing names packages."""
    path = command.removeprefix("python ")
    if HAVE or path == command or not path.endswith(".py"):
        return ""
    own = {entry.removesuffix(".py") for folder in (".", os.path.dirname(path) or ".") for entry in os.listdir(folder)}
    names = sorted(SOURCES(path).imports - set(sys.stdlib_module_names) - own)
    if not names:
        return ""
    return f"{path} imports {', '.join(names)}, but no file names packages to install: write them into a file named requirements.txt"


HAVE = installed()
MEMBERS = [os.path.normpath(folder) for folder in members()]
ALL = files()
EVERY = ALL + [os.path.normpath(os.path.join(f, "__main__.py")) for f, _, n in os.walk(".") if "__main__.py" in n and "/." not in f and not set(f.split(os.sep)) & SKIP]
EVERY = sorted(set(EVERY))
CACHE = {}


def SOURCES(path):
    if path not in CACHE:
        CACHE[path] = Source(path)
    return CACHE[path]


if __name__ == "__main__":
    print("\n".join(decide()))
