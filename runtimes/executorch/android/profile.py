"""One method of a .pte, run on a device so many times, and what its event tracer saw.

Without inputs the runner takes ones: times of networks hang on shapes, not on values, but for those
that select or stop by what they see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import UsageFault
from edgevlm.devices.connect.session import Device
from edgevlm.runtimes.executorch.android.opened import Timed, opened_there
from edgevlm.runtimes.executorch.nodes import Nodes
from edgevlm.runtimes.executorch.program import Methods, read_program

__all__ = ["Asked", "Timed", "profile_there"]


@dataclass(frozen=True)
class Asked:
    """method: None for the first. inputs: raw bytes of each, in order; none: ones.

    runner: a program of this machine, for the device. libraries: that it is linked with. outputs:
    how many are wanted back.
    """

    program: Path
    method: str | None = None
    inputs: Sequence[bytes] = ()
    outputs: int = 0
    data: Path | None = None
    runs: int = 20
    warm_up: int = 3
    runner: Path | None = None
    libraries: Sequence[Path] = ()


def profile_there(
    device: Device,
    asked: Asked,
    nodes: Nodes | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Timed:
    """Raises EV360 (what came back), EV361 (the runner cannot), EV410 (runs), EV433 (no runner),
    EV435-EV439 (the device)."""
    if asked.runs < 1 or asked.warm_up < 0:
        raise UsageFault(
            "EV410",
            f"{asked.runs} runs after {asked.warm_up} for warming up",
            "it takes one run at the least",
            "--n 20",
        )
    method = _method(read_program(asked.program), asked.method)
    with opened_there(
        device,
        asked.program,
        data=asked.data,
        runner=asked.runner,
        libraries=asked.libraries,
        progress=progress,
    ) as opened:
        return opened.time(
            method,
            runs=asked.runs,
            warm_up=asked.warm_up,
            inputs=asked.inputs,
            outputs=asked.outputs,
            nodes=nodes,
        )


def _method(program: Methods, named: str | None) -> str:
    """Those that only give a constant back have no instructions."""
    real = [name for name, made in program.items() if made]
    if named is None and real:
        return real[0]
    if named in real:
        return named
    raise UsageFault(
        "EV361",
        f"method {named or 'of a program that has none'}",
        f"the program has {', '.join(real) or 'no method that computes'}",
        "name one of those",
    )
