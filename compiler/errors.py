"""Every failure a user can cause is told in three lines: what failed, why, the next command.

The code says whose problem it is, so that a script can act on it:

    EV0xx  the command line itself
    EV1xx  the source: model, checkpoint, image, prompt, dataset
    EV2xx  a pass: options, structure it does not know, drift over tolerance
    EV3xx  the target: unknown name, capability, bundle
    EV4xx  the device: connection, disk, meter
    EV5xx  ours: a bug; please report it

Exit status 2 is a wrong call (`UsageFault`), 1 is a job that failed (`JobFault`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["EdgeError", "JobFault", "UsageFault"]


class EdgeError(Exception):
    """One failure. `what` names stage, node, tensor or file; `why` the cause; `fix` a command."""

    exit_status = 1

    def __init__(self, code: str, what: str, why: str, fix: str) -> None:
        self.code, self.what, self.why, self.fix = code, what, why, fix
        super().__init__(f"{code} {what}: {why}")

    def lines(self) -> tuple[str, str, str]:
        """The three lines a person reads; line breaks inside a part are folded away."""
        what, why, fix = (" ".join(part.split()) for part in (self.what, self.why, self.fix))
        return f"error {self.code}: {what}", f"  why:  {why}", f"  next: {fix}"

    def as_json(self) -> dict[str, str]:
        """The same three lines as data, for `--json`."""
        return {"code": self.code, "what": self.what, "why": self.why, "next": self.fix}

    @classmethod
    def relayed(cls, told: Mapping[str, Any], where: str) -> EdgeError:
        """What another machine told as `as_json`. Raises KeyError for what it left out."""
        what, why, fix = (str(told[key])[:500] for key in ("what", "why", "next"))
        return cls(str(told["code"])[:20], f"{where}: {what}", why, fix)


class UsageFault(EdgeError):
    """The call was wrong: an unknown name, an option out of range. Exit status 2."""

    exit_status = 2


class JobFault(EdgeError):
    """The call was right and the job failed: a broken file, a full disk, drift. Exit status 1."""
