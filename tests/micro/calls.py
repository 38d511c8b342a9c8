"""A call of the command line, in this process, in one of its own or through a shell."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgevlm.commands.calling import call

PROGRAM = Path(sys.executable).with_name("edgevlm")


@dataclass(frozen=True)
class Ended:
    """How a call ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout is one JSON value without NaN, and nothing else."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} in JSON")

        return json.loads(self.out, parse_constant=refuse)

    @property
    def code(self) -> str:
        """The EV code of an error that is told in exactly three lines."""
        lines = self.err.splitlines()[-3:]
        assert len(lines) == 3, self.err
        assert lines[0].startswith("error EV"), self.err
        assert lines[1].startswith("  why:  ") and lines[2].startswith("  next: "), self.err
        assert "Traceback" not in self.err
        return lines[0].split()[1].rstrip(":")


def call_here(*args: object) -> Ended:
    from edgevlm.cli import cli

    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["edgevlm", *map(str, args)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = call(cli)
    finally:
        sys.argv = before
    return Ended(status, out.getvalue(), err.getvalue())


def call_apart(*args: object, env: dict[str, str] | None = None, **options: Any) -> Ended:
    command = list(map(str, args))
    if not command or command[0] != sys.executable:
        command = [str(PROGRAM), *command]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(env or {})}, timeout=300,
        **options,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def call_shell(command: str, **options: Any) -> Ended:
    path = os.pathsep.join((str(PROGRAM.parent), os.environ["PATH"]))
    return call_apart(sys.executable, "-c", SHELL, command, env={"PATH": path}, **options)


SHELL = "import subprocess, sys; sys.exit(subprocess.run(['bash', '-c', sys.argv[1]]).returncode)"
