"""Meters that are programs: started here, or in a shell that may do what we may not."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Sequence

__all__ = ["Program", "run_program"]

TIMEOUT_S = 5.0

Program = Callable[[Sequence[str]], str]  # its stdout; raises OSError where it fails


def run_program(command: Sequence[str]) -> str:
    """What it prints. Raises OSError for one that is missing, fails or does not end."""
    path = shutil.which(command[0])
    if path is None:
        raise FileNotFoundError(f"there is no program {command[0]}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [path, *command[1:]], capture_output=True, text=True, timeout=TIMEOUT_S
        )
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr or done.stdout).strip().splitlines()
        raise OSError(f"{command[0]}: {said[-1][:200] if said else f'status {done.returncode}'}")
    raise OSError(f"{command[0]} did not end within {TIMEOUT_S:g} s")
