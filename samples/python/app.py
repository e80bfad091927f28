import socket

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return f"Hello from Python, version 1, instance {socket.gethostname()}\n", {"Content-Type": "text/plain"}
