#!/usr/bin/python3 -I
"""Runs before each process: sets the variables from which frameworks read the port and the address of the database. Config
vars of the app are not changed."""
import json
import os
from urllib.parse import unquote, urlsplit

env = os.environ
new = {"SERVER_FORWARD_HEADERS_STRATEGY": "native", "QUARKUS_HTTP_PROXY_PROXY_ADDRESS_FORWARDING": "true"}
if env.get("PORT"):
    new |= {name: env["PORT"] for name in ("SERVER_PORT", "QUARKUS_HTTP_PORT", "MICRONAUT_SERVER_PORT")}
    new |= {"QUARKUS_HTTP_HOST": "0.0.0.0"}

try:
    url = urlsplit(env.get("DATABASE_URL", ""))
    kind = {"postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mariadb"}.get(url.scheme)
    if kind and url.hostname:
        port = f":{url.port}" if url.port else ""
        jdbc = f"jdbc:{kind}://{url.hostname}{port}{url.path}" + (f"?{url.query}" if url.query else "")
        user, password = unquote(url.username or ""), unquote(url.password or "")
        new |= {"JDBC_DATABASE_URL": jdbc, "JDBC_DATABASE_USERNAME": user, "JDBC_DATABASE_PASSWORD": password}
        # All or none of these: the app's own URL does not go with the user and password from here.
        if not any(name.startswith("SPRING_DATASOURCE_") for name in env):
            new |= {"SPRING_DATASOURCE_URL": jdbc, "SPRING_DATASOURCE_USERNAME": user, "SPRING_DATASOURCE_PASSWORD": password}
except ValueError:
    pass  # not the URL of a database

with os.fdopen(3, "w") as file:
    for name, value in new.items():
        if value and name not in env:
            file.write(f"{name} = {json.dumps(value)}\n")
