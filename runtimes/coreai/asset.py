"""An asset (.aimodel) opened on this host: its functions as parts, its caches as state.

The wheel compiles the stored program for the CPU when it is opened, into a temporary folder that is
gone again when the functions are loaded. https://apple.github.io/coreai-torch/coreai-core/
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from edgevlm.compiler.artifact_checks import check_ports, read_settings, unusable
from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.held_state import StateParts
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.ports import Port
from edgevlm.compiler.quiet import quietly
from edgevlm.compiler.state_ports import cache_ports, state_ports
from edgevlm.runtimes.coreai.calling import wait_for
from edgevlm.runtimes.coreai.package import installed

__all__ = ["HASH", "METADATA", "MINIMUM_OS", "PROGRAM", "SUFFIX", "AssetParts", "CoreAiSettings"]

#: an asset is a folder; of its files: the program, and the SHA-256 of it
SUFFIX, PROGRAM, HASH, METADATA = ".aimodel", "main.mlirb", "main.hash", "metadata.json"
#: release of iOS and macOS from which on devices read what is written here
MINIMUM_OS = "27"
#: larger programs are not opened
MOST_BYTES = 16 * 2**30
#: Core AI's name of a type -> ONNX's; what is int64 in a contract is int32 in an asset
DTYPES = {
    "float32": "FLOAT",
    "float16": "FLOAT16",
    "int32": "INT64",
    "int8": "INT8",
    "bool": "BOOL",
}
NUMPY = {"FLOAT": "f4", "FLOAT16": "f2", "INT64": "i8", "INT8": "i1", "BOOL": "?"}
#: parts that hold caches
HOLD = ("prefill", "decode")
FAILURES = (KeyError, OSError, RuntimeError, TypeError, ValueError)


class CoreAiSettings(BaseModel):
    """`settings` of an artifact in the manifest, which may be hostile."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    function: str = Field(pattern=r"^[a-z_]{1,40}$", description="of the asset: this part")


class AssetParts(StateParts):
    """Raises EV302 (no coreai-torch), EV322 (settings), EV304 (broken, or another model's)."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact], contract: Contract) -> None:
        super().__init__(contract)
        installed()
        self.path = (folder / artifacts[0].file).parent
        names = {
            a.role: read_settings(CoreAiSettings, self.path, a.settings).function for a in artifacts
        }
        if {a.file for a in artifacts} != {artifacts[0].file}:
            raise unusable(self.path, "its parts are said to lie in several assets")
        _check_files(self.path, folder / artifacts[0].file)
        with quietly():
            try:
                self.functions = wait_for(_functions(self.path, names))
            except FAILURES as error:
                raise unusable(self.path, _reason(error)) from error
        self._caches = cache_ports(contract) if set(HOLD) & set(names) else {}
        self.ports = {role: state_ports(contract, role) for role in names}
        for role, function in self.functions.items():
            self._check(function.desc, role)
        empty = {name: np.zeros(p.shape, NUMPY[p.dtype]) for name, p in self._caches.items()}
        self._state = _arrays(empty)

    def run(self, role: Role, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises EV307 with Core AI's reason, or for inputs that are not the contract's."""
        ins, outs = self.ports[role]
        try:
            if set(feeds) != {p.name for p in ins}:
                raise ValueError(f"it is fed {sorted(feeds)}, and takes {[p.name for p in ins]}")
            given = _arrays({p.name: _fitting(p, feeds[p.name]) for p in ins})
            made = wait_for(self.functions[role](given, self._state if role in HOLD else {}))
            return {p.name: _taken(p, made[p.name]) for p in outs}
        except FAILURES as error:
            raise JobFault(
                "EV307",
                f"artifact {role} failed while it ran",
                _reason(error),
                "see whether the bundle is whole: edgevlm verify BUNDLE",
            ) from error

    def read(self, name: str) -> np.ndarray:
        return np.array(self._state[name].numpy())

    def write(self, caches: Mapping[str, np.ndarray]) -> None:
        self._state |= _arrays({n: _fitting(self._caches[n], a) for n, a in caches.items()})

    def _check(self, told: Any, role: Role) -> None:
        """What a function says it takes and gives, against the contract."""
        ins, outs = self.ports[role]
        held = self._caches.values() if role in HOLD else []
        for kind, names, describe, wanted in (
            ("input", told.input_names, told.input_descriptor, ins),
            ("output", told.output_names, told.output_descriptor, outs),
            ("state", told.state_names, told.state_descriptor, held),
        ):
            found = sorted(_port(name, describe(name)) for name in names)
            check_ports(self.path, f"{role} {kind}", found, sorted(wanted, key=lambda p: p.name))


async def _functions(path: Path, names: Mapping[Role, str]) -> dict[Role, Any]:
    from coreai.authoring.asset import AIModelAsset

    async with AIModelAsset.load(path).executable() as model:
        missing = sorted(set(names.values()) - set(model.function_names))
        if missing:
            raise ValueError(f"it has no function {missing[0]}")
        return {role: model.load_function(name) for role, name in names.items()}


def _check_files(path: Path, program: Path) -> None:
    """What is cut short or changed is told before Core AI's reader sees it."""
    try:
        if path.suffix != SUFFIX or program.name != PROGRAM:
            raise ValueError(f"it is no {PROGRAM} of an asset (*{SUFFIX})")
        if program.stat().st_size > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES} bytes")
        with program.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        if found != (path / HASH).read_bytes()[:64]:
            raise ValueError(f"{PROGRAM} is not what {HASH} says")
    except (OSError, ValueError) as error:
        raise unusable(path, _reason(error)) from error


def _port(name: str, told: Any) -> tuple[str, str, tuple[Any, ...]]:
    return name, DTYPES.get(told.dtype, told.dtype), tuple(told.shape)


def _arrays(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Copies, in Core AI's memory."""
    from coreai.runtime import NDArray

    return {name: NDArray(np.ascontiguousarray(value)) for name, value in values.items()}


def _fitting(port: Port, value: Any) -> np.ndarray:
    """As an asset takes it. Raises ValueError for another shape or type than the contract's."""
    array = np.asarray(value)
    if array.shape != port.shape or array.dtype != np.dtype(NUMPY[port.dtype]):
        raise ValueError(
            f"{port.name} is {array.dtype} {list(array.shape)}, "
            f"the part takes {np.dtype(NUMPY[port.dtype])} {list(port.shape)}"
        )
    if port.dtype != "INT64":
        return array
    narrow = array.astype(np.int32)
    if not np.array_equal(narrow, array):
        raise ValueError(f"{port.name} holds numbers of more than 32 bits")
    return narrow


def _taken(port: Port, made: Any) -> np.ndarray:
    return np.array(made.numpy(), NUMPY[port.dtype])


def _reason(error: Exception) -> str:
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:300]
