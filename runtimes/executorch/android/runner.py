"""Which runner of ExecuTorch a device has, or is brought, and the flags that it takes.

Runners differ: executor_runner takes --method_name and --num_executions, Qualcomm's takes
--method_index and --iteration, and one that was built without the event tracer has no
--etdump_path. So its --help is read first. Flags as of
https://github.com/pytorch/executorch/blob/main/examples/portable/executor_runner/executor_runner.cpp
https://github.com/pytorch/executorch/blob/main/examples/qualcomm/executor_runner/qnn_executor_runner.cpp
(the latter as backends/qualcomm/export_utils.py of executorch 1.5.1 calls it). No wheel has one.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.session import Device

__all__ = [
    "BUILD",
    "RUNNER_VARIABLE",
    "Runner",
    "arguments",
    "brought",
    "check_built_for",
    "find_runner",
]

RUNNER_VARIABLE = "EDGEVLM_EXECUTOR_RUNNER"
NAMES = ("executor_runner", "qnn_executor_runner", "xnn_executor_runner")
PLACES = ("/data/local/tmp", "/usr/local/bin", "/usr/bin")
BUILD = (
    "cmake -S executorch -B out -DCMAKE_BUILD_TYPE=Release "
    "-DCMAKE_TOOLCHAIN_FILE=$ANDROID_NDK/build/cmake/android.toolchain.cmake "
    "-DANDROID_ABI=arm64-v8a -DANDROID_PLATFORM=android-26 -DEXECUTORCH_BUILD_XNNPACK=ON "
    "-DEXECUTORCH_BUILD_KERNELS_OPTIMIZED=ON -DEXECUTORCH_BUILD_KERNELS_QUANTIZED=ON "
    "-DEXECUTORCH_BUILD_DEVTOOLS=ON -DEXECUTORCH_ENABLE_EVENT_TRACER=ON "
    "-DEXECUTORCH_ENABLE_LOGGING=ON && cmake --build out --target executor_runner"
)
AGAIN = "compile the bundle again: edgevlm compile"
#: what is wanted -> how runners spell it, the commonest first
FLAGS: dict[str, tuple[str, ...]] = {
    "model": ("model_path",),
    "etdump": ("etdump_path",),
    "runs": ("num_executions", "iteration"),
    "method": ("method_name",),
    "method_index": ("method_index",),
    "inputs": ("inputs",),
    "input_list": ("input_list_path",),
    "data": ("data_path",),
    "output_file": ("output_file",),
    "output_folder": ("output_folder_path",),
    "print": ("print_output",),
}
#: gflags: "    -model_path (Model serialized ..) type: string default: .."; absl has two dashes
FLAG = re.compile(r"^\s+--?(?P<name>[a-z][a-z0-9_]*)\s*\(", re.MULTILINE)
#: of an ELF header: e_machine -> as `uname -m` names it
MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


@dataclass(frozen=True)
class Runner:
    """path: as its shell says it, from the folder of the run. flags: that its --help lists."""

    path: str
    flags: frozenset[str]

    def spelling(self, wanted: str) -> str | None:
        """None for what it does not take."""
        return next((flag for flag in FLAGS[wanted] if flag in self.flags), None)

    @property
    def reads_inputs(self) -> bool:
        return bool(self.spelling("inputs") or self.spelling("input_list"))

    @property
    def hands_over(self) -> bool:
        """Outputs, as one file each."""
        return self.spelling("output_file") is not None


def brought(named: Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The local program that is to be taken along. Raises EV433 where it is none."""
    text = str(named) if named else environ.get(RUNNER_VARIABLE, "")
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise JobFault(
            "EV433",
            f"the runner of ExecuTorch at {text[:200]}",
            "there is no such file here",
            f"{RUNNER_VARIABLE}=FILE, or an executor_runner on the device",
        )
    return path


def check_built_for(path: Path, architecture: str) -> None:
    """Raises EV433 for an ELF program of another machine; what is no ELF is not judged."""
    with path.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return
    order = "little" if head[5] == 1 else "big"
    machine = MACHINES.get(int.from_bytes(head[18:20], order), "another machine")
    runs = {architecture, {"aarch64": "armv7l", "x86_64": "i686"}.get(architecture)}
    if machine not in runs:
        raise JobFault(
            "EV433",
            f"{path.name} does not run on that device",
            f"it was built for {machine}, the device is {architecture}",
            BUILD,
        )


def find_runner(device: Device, path: str | None = None) -> Runner:
    """path: of the one that was brought, else those of `PLACES` and PATH. Raises EV433, EV361."""
    candidates = [path] if path else [f"{place}/{name}" for place in PLACES for name in NAMES]
    tests = " ".join(shlex.quote(each) for each in candidates)
    line = f'for each in {tests}; do [ -x "$each" ] && echo "$each" && exit 0; done'
    if not path:
        line += "; " + "; ".join(f"command -v {name} && exit 0" for name in NAMES)
    found = device.ask(f"{line}; true").text.strip().splitlines()
    if not found:
        raise JobFault(
            "EV433",
            f"{device.address} has no runner of ExecuTorch",
            f"none of {', '.join(NAMES)} is in {', '.join(PLACES)}, and {RUNNER_VARIABLE} is not "
            "set; no wheel brings one",
            BUILD,
        )
    return Runner(found[0], _flags(device, found[0]))


def _flags(device: Device, path: str) -> frozenset[str]:
    """gflags prints its help on stdout and ends with status 1."""
    libraries = shlex.quote(str(Path(path).parent))
    reply = device.ask(f"LD_LIBRARY_PATH={libraries} {shlex.quote(path)} --help")
    said = f"{reply.text}\n{reply.err}"
    flags = frozenset(found["name"] for found in FLAG.finditer(said))
    if not flags & set(FLAGS["model"]):
        last = [line for line in said.splitlines() if line.strip()][-1:] or ["it says nothing"]
        wrong = reply.status == 126 or "not executable" in said or "xec format" in said
        raise JobFault(
            "EV433",
            f"{path} of {device.address} does not run",
            f"it is for another machine: {last[0]}"[:300] if wrong else last[0][:300],
            BUILD,
        )
    return flags


def arguments(
    runner: Runner,
    *,
    model: str,
    etdump: str,
    runs: int,
    method: str,
    methods: Sequence[str],
    inputs: Sequence[str] = (),
    input_list: str = "",
    data: str | None = None,
    output_file: str = "",
    output_folder: str = "",
) -> list[str]:
    """Of its command line. methods: of the program, in order; output_file: "": it writes none.

    Raises EV360 for a method that the program has not, EV361.
    """
    if method not in methods:
        why = f"it has {', '.join(methods)[:200]}"
        raise JobFault("EV360", f"the program has no method {method[:60]}", why, AGAIN)
    made = [f"--{_must(runner, 'model')}={model}", f"--{_must(runner, 'etdump')}={etdump}"]
    made += [f"--{_must(runner, 'runs')}={runs}"]
    if name := runner.spelling("method"):
        made.append(f"--{name}={method}")
    elif name := runner.spelling("method_index"):
        made.append(f"--{name}={methods.index(method)}")
    elif methods[0] != method:
        raise _cannot(runner, f"run {method}: it runs the first method, which is {methods[0]}")
    if inputs and (name := runner.spelling("inputs")):
        made.append(f"--{name}={','.join(inputs)}")
    elif inputs and (name := runner.spelling("input_list")):
        made.append(f"--{name}={input_list}")
    elif inputs:
        raise _cannot(runner, "read inputs from files")
    elif not runner.spelling("inputs") and runner.spelling("input_list"):
        # it takes an empty list for one file without a name
        raise _cannot(runner, "run on numbers of its own: it takes a list of files alone")
    if data is not None:
        made.append(f"--{_must(runner, 'data')}={data}")
    if output_file and (name := runner.spelling("output_file")):
        made.append(f"--{name}={output_file}")
    if name := runner.spelling("output_folder"):
        made.append(f"--{name}={output_folder}")
    if name := runner.spelling("print"):
        made.append(f"--{name}=none")
    return made


def _must(runner: Runner, wanted: str) -> str:
    name = runner.spelling(wanted)
    if name is None:
        without = "time its ops: it was built without the event tracer"
        raise _cannot(runner, without if wanted == "etdump" else f"take --{FLAGS[wanted][0]}")
    return name


def _cannot(runner: Runner, what: str) -> JobFault:
    return JobFault("EV361", f"{Path(runner.path).name} cannot {what}", _lists(runner), BUILD)


def _lists(runner: Runner) -> str:
    known = {flag for flags in FLAGS.values() for flag in flags}
    return f"of the flags that are known its --help lists {', '.join(sorted(runner.flags & known))}"
