"""Writes certificates in the format of Java's key stores: truststore.py PEM-FILE KEYSTORE. Version 2 of the format has a date for
each entry, which is always the same here."""
import base64
import hashlib
import re
import struct
import sys

PASSWORD = "changeit"


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


pem = open(sys.argv[1], encoding="latin-1").read()
blocks = re.findall("-----BEGIN (?:TRUSTED )?CERTIFICATE-----(.*?)-----END", pem, re.S)
certificates = dict.fromkeys(base64.b64decode(block) for block in blocks)
store = struct.pack(">III", 0xFEEDFEED, 2, len(certificates))
for number, certificate in enumerate(certificates):
    store += struct.pack(">I", 2) + text(f"ca-{number}") + struct.pack(">Q", 0)
    store += text("X.509") + struct.pack(">I", len(certificate)) + certificate
store += hashlib.sha1(PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + store).digest()
with open(sys.argv[2], "wb") as file:
    file.write(store)
