import sys

import multidict._multidict
from bottle import default_app, route


@route("/")
def index():
    return f"Hello from Python {sys.version.split()[0]} and {multidict._multidict.__name__}\n"


app = default_app()
