"""Meters that are programs, asked for every reading."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from edgevlm.devices.power.base import Absent

__all__ = ["Asked", "Program", "run_program"]

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


class Asked(ABC):
    """What a meter that asks a program shares with others; each kind says how it is read."""

    program: ClassVar[str]
    absent: ClassVar[str]  # why it cannot be used where there is no such program

    def __init__(self, run: Program = run_program) -> None:
        self._run = run

    def available(self) -> str | None:
        if self._run is run_program and shutil.which(self.program) is None:
            return Absent(self.absent)
        try:
            self.read()
        except (OSError, ValueError) as error:
            return str(error)
        return None

    @abstractmethod
    def read(self) -> object:
        """Ask once. Raises OSError, ValueError."""

    def close(self) -> None:  # noqa: B027  (nothing stays open between two answers)
        """For what opens something."""
