"""A .pte on a device with the runner that runs it: its methods timed there, one run of it each.

with opened_there(device, Path("m.pte")) as opened:       .pte, .ptd, runner, libraries ->
    opened.time("vision", runs=20)                        runner --method_name=vision ..
    opened.time("decode", runs=20)                        <- run.etdp, output-0.bin ..
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.devices.connect.copying import Item
from edgevlm.devices.connect.session import Device
from edgevlm.runtimes.executorch.android.runner import (
    BUILD,
    Runner,
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

__all__ = ["OpenedThere", "Timed", "opened_there"]

MODEL, DATA, RUNNER, DUMP, OUT, FOLDER, LIST = (
    "model.pte",
    "model.ptd",
    "executor_runner",
    "run.etdp",
    "output",
    "outputs",
    "input_list.txt",
)
LIBRARY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Timed:
    """etdump: as it came back. runner: its path there. outputs: bytes of each that was asked for,
    of the last run; None where the runner hands none over."""

    profile: EtProfile
    etdump: bytes
    runner: str
    outputs: tuple[bytes, ...] | None = None


@dataclass(frozen=True)
class OpenedThere:
    """Made by `opened_there`. methods: those of the program that compute, in its order."""

    device: Device
    runner: Runner
    methods: Sequence[str]
    _there: There
    _program: Methods
    _data: bool

    def time(
        self,
        method: str,
        *,
        runs: int,
        warm_up: int = 0,
        inputs: Sequence[bytes] = (),
        outputs: int = 0,
        nodes: Nodes | None = None,
    ) -> Timed:
        """inputs: raw bytes of each, in order; none: ones. outputs: how many are wanted back.

        Raises EV360 (what came back), EV361 (the runner cannot), EV437, EV439.
        """
        there, wanted = self._there, outputs if self.runner.hands_over else 0
        names = [f"{place}.bin" for place in range(len(inputs))]
        command = arguments(
            self.runner,
            model=there.path(MODEL),
            etdump=DUMP,
            runs=runs + warm_up,
            method=method,
            methods=list(self._program),
            inputs=names,
            input_list=LIST,
            data=there.path(DATA) if self._data else None,
            output_file=OUT if wanted else "",
            output_folder=FOLDER,
        )
        files = dict(zip(names, inputs, strict=True)) | {
            LIST: (" ".join(names) + "\n").encode(),
            f"{FOLDER}/.keep": b"",
        }
        root = f"{self.device.facts.root}/{there.folder}"
        found = f"LD_LIBRARY_PATH={root}:{Path(self.runner.path).parent}"
        there.run(["env", found, f"ADSP_LIBRARY_PATH={root}", self.runner.path, *command], files)
        etdump = there.file(DUMP)
        if not etdump:
            raise JobFault(
                "EV361",
                f"{Path(self.runner.path).name} of {self.device.address} wrote no ETDump",
                "it ran, and was built without the event tracer",
                BUILD,
            )
        blocks = parse_etdump(etdump, f"the ETDump of {self.device.address}")
        profile = rows_of(blocks, self._program, method=method, skip=warm_up, nodes=nodes)
        made = [there.file(f"{OUT}-{place}.bin") for place in range(wanted)]
        whole = bool(made) and None not in made
        return Timed(profile, etdump, self.runner.path, tuple(made) if whole else None)


@contextlib.contextmanager
def opened_there(
    device: Device,
    program: Path,
    *,
    data: Path | None = None,
    runner: Path | None = None,
    libraries: Sequence[Path] = (),
    progress: Progress = lambda *_: None,
    keep: bool = False,
) -> Iterator[OpenedThere]:
    """runner: a program of this machine, for the device; libraries: that it is linked with.

    Raises EV360 (the program), EV361, EV433 (no runner), EV435, EV436, EV439 (the copy).
    """
    made = read_program(program)
    local = brought(runner)
    if local is not None:
        check_built_for(local, device.facts.architecture)
    items = _items(program, data, local, libraries)
    with There(device, items, [RUNNER] if local else [], progress, keep) as there:
        root = f"{device.facts.root}/{there.folder}"
        found = find_runner(device, f"{root}/{RUNNER}" if local else None)
        computing = [name for name, instructions in made.items() if instructions]
        yield OpenedThere(device, found, computing, there, made, data is not None)


def _items(
    program: Path, data: Path | None, local: Path | None, libraries: Sequence[Path]
) -> dict[str, Item]:
    paths = {MODEL: program}
    if data is not None:
        paths[DATA] = data
    if local is not None:
        paths[RUNNER] = local
    for library in libraries:
        if not LIBRARY.fullmatch(library.name) or library.name in paths:
            raise UsageFault(
                "EV361",
                f"the library {library.name[:100]!r} beside the runner",
                "a file of that name cannot be taken along",
                "give it the name that the runner asks for: libx.so",
            )
        paths[library.name] = library
    return {name: item_of(path) for name, path in paths.items()}
