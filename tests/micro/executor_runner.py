"""A stand-in for executor_runner that really runs a .pte: a shell script in front of this process.

    with Served(folder) as served:
        path.write_text(served.script())                 all flags, or as an older runner has them
        path.write_text(served.script("inputs"))         without some

The C++ program is called with flags, reads raw inputs (else ones), writes BASE-i.bin and the ETDump
of its runs. The script takes the same flags and hands them to a thread of the test, which runs the
program with the pybindings of the wheel: a process of its own would import torch for seconds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FLAGS", "Served"]

FLAGS = (
    "model_path", "etdump_path", "num_executions", "method_name", "inputs", "output_file",
    "print_output",
)  # fmt: skip
SCRIPT = """#!/bin/sh
if [ "$1" = --help ]; then
for each in {flags}; do echo "    -$each (what it is) type: string"; done; exit 1; fi
{{ echo "$PWD"; printf '%s\\n' "$@"; }} > {asks}
read -r status said < {answers}; echo "$said" >&2; exit "$status"
"""


class Served:
    """calls: method and input files of each run. spoil: edits an output before it is written."""

    def __init__(self, folder: Path) -> None:
        self.asks, self.answers = folder / "asks", folder / "answers"
        self.calls: list[tuple[str, list[str]]] = []
        self.spoil: Callable[[str, np.ndarray], np.ndarray] = lambda _, array: array

    def script(self, *without: str) -> str:
        flags = " ".join(flag for flag in FLAGS if flag not in without)
        return SCRIPT.format(flags=flags, asks=self.asks, answers=self.answers)

    def __enter__(self) -> Served:
        for path in (self.asks, self.answers):
            os.mkfifo(path)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.asks.write_text("")  # nobody asks any more
        self._thread.join()

    def _serve(self) -> None:
        while words := self.asks.read_text().splitlines():
            try:
                self._run(Path(words[0]), words[1:])
                answer = "0"
            except Exception as error:
                answer = f"134 {type(error).__name__}: {error}".splitlines()[0]
            self.answers.write_text(f"{answer}\n")

    def _run(self, folder: Path, words: list[str]) -> None:
        from executorch.runtime import Runtime

        given = dict(word.removeprefix("--").split("=", 1) for word in words)
        assert set(given) <= set(FLAGS), given
        name, files = given["method_name"], [f for f in given.get("inputs", "").split(",") if f]
        self.calls.append((name, files))
        opened = Runtime.get().load_program(folder / given["model_path"], enable_etdump=True)
        fed = _fed(opened.metadata(name), [folder / file for file in files])
        method = opened.load_method(name)
        for _ in range(int(given["num_executions"])):
            made = method.execute(fed)
        for i, tensor in enumerate(made if given.get("output_file") else ()):
            self.spoil(name, tensor.numpy()).tofile(folder / f"{given['output_file']}-{i}.bin")
        dump = folder / given["etdump_path"]
        opened.write_etdump_result_to_file(str(dump), f"{dump}.debug")


def _fed(about: Any, files: list[Path]) -> list[Any]:
    import torch

    types = {4: ("<i8", torch.int64), 6: ("<f4", torch.float32)}
    found = []
    for i in range(about.num_inputs()):
        told = about.input_tensor_meta(i)
        raw, kind = types[told.dtype()]
        if files:
            array = np.fromfile(files[i], raw).reshape(told.sizes())
            found.append(torch.from_numpy(array.copy()))
        else:
            found.append(torch.ones(tuple(told.sizes()), dtype=kind))
    return found
