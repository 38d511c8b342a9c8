"""All methods of a bundle on a device, one after the other, on the numbers of one request.

Every method is a run of the runner, which loads the program anew: caches are empty each time. So
decode is timed on a row of an empty cache, which takes as long as on a full one: its shapes are
static; and its outputs are held against nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevlm.compiler.contract import Contract, Role
from edgevlm.compiler.held_state import place_of
from edgevlm.compiler.kv_names import CACHE_POSITION
from edgevlm.compiler.manifest import Artifact
from edgevlm.compiler.ports import Port
from edgevlm.compiler.state_ports import state_ports
from edgevlm.devices.connect.session import Device
from edgevlm.runtimes.base import LayerTime
from edgevlm.runtimes.bench import Asked, Benched, Progress, Run
from edgevlm.runtimes.executorch.android.opened import OpenedThere, Timed, opened_there
from edgevlm.runtimes.executorch.bundle_layers import methods_of, nodes_beside
from edgevlm.runtimes.executorch.layer_times import layer_times

if TYPE_CHECKING:
    from edgevlm.compiler.bundle import Bundle

__all__ = ["bench_there"]

#: bytes of numbers, as contracts name them
NUMBERS = {"FLOAT": "<f4", "FLOAT16": "<f2", "INT64": "<i8", "INT8": "i1", "BOOL": "?"}
#: least dB of outputs against the same program here: other kernels add in another order, and a
#: number on the edge between two codes falls to either side
FLOAT_DB, INTEGER_DB = 40.0, 10.0
TRACED = "The event tracer was on, which takes some time of its own."
ONES = "The runner reads no inputs from files: every number was one."


@contextlib.contextmanager
def bench_there(
    bundle: Bundle, device: Device, asked: Asked, progress: Progress, keep: bool
) -> Iterator[Run]:
    """Raises as `opened_there`, and what `Run` raises as `OpenedThere.time`."""
    program = bundle.folder / bundle.manifest.artifacts[0].file
    with opened_there(device, program, runner=asked.runner, progress=progress, keep=keep) as opened:
        yield lambda tell: _benched(bundle, opened, asked, tell)


def _benched(bundle: Bundle, opened: OpenedThere, asked: Asked, tell: Progress) -> Benched:
    roles, contract, nodes = methods_of(bundle), bundle.manifest.contract, nodes_beside(bundle)
    feeds = asked.feeds if opened.runner.reads_inputs else {}
    timed: dict[Role, Timed] = {}
    for done, (method, role) in enumerate(roles.items()):
        _, outs = state_ports(contract, role)
        timed[role] = opened.time(
            method,
            runs=asked.runs,
            warm_up=asked.warm_up,
            inputs=_inputs(contract, role, feeds.get(role, {})),
            outputs=len(outs) if role in feeds and role != "decode" else 0,
            nodes=nodes,
        )
        tell(done + 1, len(roles))
    layers: list[LayerTime] = []
    for each in timed.values():
        layers += layer_times(each.profile, "measured-device", roles)
    made = _outputs(contract, timed)
    return Benched(
        Path(opened.runner.path).name,
        {role: [ms / 1e3 for ms in one.profile.methods[0].each_ms] for role, one in timed.items()},
        {role: sum(one.profile.loads_ms) for role, one in timed.items()},
        layers,
        made,
        {a.role: INTEGER_DB if any(_asked(a)) else FLOAT_DB for a in bundle.manifest.artifacts},
        {role: _why(role, role in feeds, opened) for role in timed if role not in made},
        [TRACED, *([ONES] if asked.feeds and not feeds else [])],
    )


def _asked(artifact: Artifact) -> list[int]:
    """Products of integers that it has."""
    expects = artifact.settings.get("expects")
    return list(expects.values()) if isinstance(expects, dict) else []


def _why(role: Role, fed: bool, opened: OpenedThere) -> str:
    if role == "decode":
        return "the runner begins with empty caches"
    if not opened.runner.hands_over:
        return "the runner hands no outputs over: it takes no --output_file"
    return "its outputs did not come back whole" if fed else "it had no inputs of ours"


def _inputs(contract: Contract, role: Role, feeds: Mapping[str, np.ndarray]) -> list[bytes]:
    """Of a method, in its order; none where there are no feeds."""
    if not feeds:
        return []
    if role == "decode":
        feeds = {**feeds, CACHE_POSITION: np.array([place_of(contract, feeds)])}
    ins, _ = state_ports(contract, role)
    return [_bytes(feeds[port.name], port) for port in ins]


def _bytes(array: np.ndarray, port: Port) -> bytes:
    return np.ascontiguousarray(array, NUMBERS[port.dtype]).tobytes()


def _outputs(contract: Contract, timed: Mapping[Role, Timed]) -> dict[Role, dict[str, np.ndarray]]:
    """Those that came back in the size that they must have."""
    found = {}
    for role, one in timed.items():
        _, outs = state_ports(contract, role)
        if one.outputs is not None and _fit(one.outputs, outs):
            found[role] = {
                port.name: np.frombuffer(data, NUMBERS[port.dtype]).reshape(port.shape)
                for port, data in zip(outs, one.outputs, strict=True)
            }
    return found


def _fit(outputs: Sequence[bytes], ports: Sequence[Port]) -> bool:
    sizes = [int(np.prod(p.shape)) * np.dtype(NUMBERS[p.dtype]).itemsize for p in ports]
    return [len(data) for data in outputs] == sizes
