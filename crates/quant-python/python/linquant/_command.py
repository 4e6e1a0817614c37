"""The ``quant`` command, which the package carries."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> int:
    """Runs the command with the program's arguments, and returns its exit status."""
    # The command handles signals itself; Python would raise KeyboardInterrupt once it is done.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.run(["quant", *sys.argv[1:]])
