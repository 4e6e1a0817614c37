"""The ``quant`` command, which the package carries."""

from __future__ import annotations

import sys

from . import _native


def main() -> int:
    """Runs the command with the program's arguments, and returns its exit status."""
    return _native.run(["quant", *sys.argv[1:]])
