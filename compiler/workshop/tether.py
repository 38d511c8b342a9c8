"""A process that ends with its maker, even where that is killed and can say nothing more.

The maker holds one end of a pipe that is standard input here. No maker, no pipe: a read returns,
and the process goes with all that it started (it leads a group of its own: see child.py).

As a program: `python tether.py MODULE ARGUMENTS`, as `python -m MODULE ARGUMENTS`. It imports only
the standard library, and nothing of edgevlm.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

__all__ = ["end_group", "tie"]


def tie() -> None:
    """Nothing may be read from standard input after this."""
    threading.Thread(target=_hold, daemon=True).start()


def end_group() -> None:
    """This process and all that it started; nothing is tidied up."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _hold() -> None:
    while os.read(0, 4096):
        pass
    end_group()


if __name__ == "__main__":
    tie()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
