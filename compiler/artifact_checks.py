"""What every runtime asks of an artifact before it runs: settings it knows, ports of the contract.

A bundle is hostile input. Its manifest may hold any settings, and its files other graphs than the
contract says; both would fail later, far from the cause, or not fail at all.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.ports import Port

__all__ = ["check_ports", "read_settings", "unusable"]

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(kind: type[Settings], path: Path, settings: dict[str, Any]) -> Settings:
    """The `settings` of an artifact in the manifest. Raises EV322 naming the first at fault."""
    try:
        return kind(**settings)
    except (ValidationError, TypeError) as error:
        why = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error)}
        raise JobFault(
            "EV322",
            f"settings of artifact {path.name} are broken",
            f"{'.'.join(map(str, why.get('loc', ())))}: {why['msg']}",
            f"copy or compile it again (edgevlm verify {_bundle_of(path)} checks it all)",
        ) from error


def check_ports(
    path: Path, kind: str, found: Sequence[tuple[str, str, tuple[Any, ...]]], wanted: list[Port]
) -> None:
    """found: (name, ONNX type, shape) of each input or output, in order. Raises EV304."""
    want = [(p.name, p.dtype, p.shape) for p in wanted]
    if list(found) != want:
        odd = next((a for a, b in zip(found, want, strict=False) if a != b), None)
        raise unusable(
            path,
            f"{kind} {odd[0]} is {odd[1]} {list(odd[2])}, not as the contract says"
            if odd
            else f"it has {len(found)} {kind}s, the contract says {len(want)}",
        )


def unusable(path: Path, why: str) -> JobFault:
    """EV304, for a file that its runtime does not take."""
    return JobFault(
        "EV304", f"artifact {path.name} cannot be used", why, f"edgevlm verify {_bundle_of(path)}"
    )


def _bundle_of(path: Path) -> str:
    return shlex.quote(str(path.parent.parent))
