import subprocess
import sys

import MySQLdb
from bottle import default_app, route
from multidict._multidict import MultiDict


@route("/")
def index():
    awk = subprocess.run(["awk", "--version"], capture_output=True, text=True, check=True).stdout.split(",")[0]
    words = MultiDict(Python=sys.version.split()[0], MariaDB=MySQLdb.get_client_info())
    return f"Hello from {awk}, {', '.join(map(' '.join, words.items()))}\n"


app = default_app()
