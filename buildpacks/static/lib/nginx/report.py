"""What the build reports: one line each, warnings with "! " in front, an error last."""

import sys


def detail(text):
    print(text)


def warn(text):
    print(f"! {text}")


def stop(text):
    """Ends the build with this error."""
    print(text)
    sys.exit(1)
