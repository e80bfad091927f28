import subprocess

import MySQLdb
from bottle import default_app, route


@route("/")
def index():
    awk = subprocess.run(["awk", "--version"], capture_output=True, text=True, check=True).stdout.split(",")[0]
    return f"Hello from {awk} and MariaDB {MySQLdb.get_client_info()}\n"


app = default_app()
