"""One method of a .pte, run on a device so many times, and what its event tracer saw.

    with There(..):   .pte, .ptd, inputs, runner, libraries ->
        runner --help; runner --model_path=.. --method_name=.. --etdump_path=run.etdp
    <- run.etdp -> rows

Without inputs the runner takes ones: times of networks hang on shapes, not on values, but for those
that select or stop by what they see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.connect.copying import Item
from edgevlm.devices.connect.session import Device
from edgevlm.runtimes.executorch.android.runner import (
    BUILD,
    arguments,
    brought,
    check_built_for,
    find_runner,
)
from edgevlm.runtimes.executorch.android.there import There, item_of
from edgevlm.runtimes.executorch.etdump import parse_etdump
from edgevlm.runtimes.executorch.nodes import Nodes
from edgevlm.runtimes.executorch.op_rows import rows_of
from edgevlm.runtimes.executorch.profile_rows import EtProfile
from edgevlm.runtimes.executorch.program import Methods, read_program

__all__ = ["Asked", "Timed", "profile_there"]

MODEL, DATA, RUNNER, DUMP, OUT, LIST = (
    "model.pte",
    "model.ptd",
    "executor_runner",
    "run.etdp",
    "outputs",
    "input_list.txt",
)


LIBRARY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Asked:
    """method: None for the first. inputs: raw bytes of each, in order; none: ones.

    runner: a program of this machine, for the device. libraries: that it is linked with.
    """

    program: Path
    method: str | None = None
    inputs: Sequence[bytes] = ()
    data: Path | None = None
    runs: int = 20
    warm_up: int = 3
    runner: Path | None = None
    libraries: Sequence[Path] = ()


@dataclass(frozen=True)
class Timed:
    """etdump: as it came back. runner: its path there."""

    profile: EtProfile
    etdump: bytes
    runner: str


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
    program = read_program(asked.program)
    method = _method(program, asked.method)
    local = brought(asked.runner)
    if local is not None:
        check_built_for(local, device.facts.architecture)
    items = _items(asked, local)
    with There(device, items, [RUNNER] if local else [], progress) as there:
        root = f"{device.facts.root}/{there.folder}"
        runner = find_runner(device, f"{root}/{RUNNER}" if local else None)
        names = [f"{place}.bin" for place in range(len(asked.inputs))]
        command = arguments(
            runner,
            model=there.path(MODEL),
            etdump=DUMP,
            runs=asked.runs + asked.warm_up,
            method=method,
            methods=list(program),
            inputs=names,
            input_list=LIST,
            data=there.path(DATA) if asked.data else None,
            output_folder=OUT,
        )
        files = dict(zip(names, asked.inputs, strict=True)) | {
            LIST: (" ".join(names) + "\n").encode(),
            f"{OUT}/.keep": b"",
        }
        found = f"LD_LIBRARY_PATH={root}:{Path(runner.path).parent}"
        there.run(["env", found, f"ADSP_LIBRARY_PATH={root}", runner.path, *command], files)
        etdump = there.file(DUMP)
    if not etdump:
        raise JobFault(
            "EV361",
            f"{Path(runner.path).name} of {device.address} wrote no ETDump",
            "it ran, and was built without the event tracer",
            BUILD,
        )
    blocks = parse_etdump(etdump, f"the ETDump of {device.address}")
    profile = rows_of(blocks, program, method=method, skip=asked.warm_up, nodes=nodes)
    return Timed(profile, etdump, runner.path)


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


def _items(asked: Asked, local: Path | None) -> dict[str, Item]:
    paths = {MODEL: asked.program}
    if asked.data is not None:
        paths[DATA] = asked.data
    if local is not None:
        paths[RUNNER] = local
    for library in asked.libraries:
        if not LIBRARY.fullmatch(library.name) or library.name in paths:
            raise UsageFault(
                "EV361",
                f"the library {library.name[:100]!r} beside the runner",
                "a file of that name cannot be taken along",
                "give it the name that the runner asks for: libx.so",
            )
        paths[library.name] = library
    return {name: item_of(path) for name, path in paths.items()}
