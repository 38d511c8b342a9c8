"""How both scripts end: three lines for what a user can act on, 130 for Ctrl-C, JSON if asked."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable

from edgevlm.compiler.errors import EdgeError, JobFault
from edgevlm.runtimes.tensorrt.on_device.cudart import CudaError

__all__ = ["as_fault", "common_options", "engines_folder", "finish", "tell"]

#: cudaErrorInsufficientDriver (also where there is none), cudaErrorNoDevice
NO_GPU = (35, 100)


def common_options(parser: argparse.ArgumentParser, bundle: Path | None) -> None:
    """What building and running are both told."""
    add = parser.add_argument
    add("--bundle", type=Path, default=bundle or Path(), help="folder of the bundle")
    add("--engines", type=Path, help="folder of the engines (BUNDLE.engines)")
    add("--library", help="tensorrt, tensorrt_rtx or tensorrt_rtx_bindings (the first that is)")
    add("--workspace", type=_mebibytes, metavar="MB", help="memory a kernel may use (the plan's)")
    add("--any-device", action="store_true", help="go on where the GPU is of another kind")
    add("--verbose", action="store_true", help="show what TensorRT warns of")
    add("--json", action="store_true", help="one JSON object on standard output")


def _mebibytes(text: str) -> int:
    """Bytes."""
    if not text.isdigit() or not 1 <= int(text) <= 2**20:
        raise argparse.ArgumentTypeError(f"{text} is no number of MB from 1 to {2**20}")
    return int(text) * 2**20


def engines_folder(bundle: Path, asked: Path | None) -> Path:
    """Beside the bundle, never in it: a bundle is what was compiled, and its sums say so."""
    bundle = bundle.resolve()
    return asked or bundle.with_name(bundle.name + ".engines")


def tell(line: str) -> None:
    """Progress and warnings, for people."""
    print(line, file=sys.stderr, flush=True)


def finish(
    work: Callable[[], dict[str, Any]], lines: Callable[[dict[str, Any]], Any], as_json: bool
) -> int:
    """Do the work and print its report; the exit status. `failed` in a report is told after it."""
    try:
        report = work()
        failed = report.pop("failed", None)
    except KeyboardInterrupt:
        tell("interrupted; engines that were finished are kept")
        return 130
    except (EdgeError, CudaError, MemoryError, OSError) as error:
        report, failed = {}, as_fault(error)
    if as_json:
        report = {**report, **({"error": failed.as_json()} if failed else {})}
        print(json.dumps(report, indent=1, allow_nan=False))
    elif report:
        for line in lines(report):
            print(line)
    if failed:
        for line in failed.lines():
            tell(line)
        return failed.exit_status
    return 0


def as_fault(error: BaseException) -> EdgeError:
    """What a failure of CUDA or of a disk, or a want of memory, is told as."""
    if isinstance(error, EdgeError):
        return error
    if isinstance(error, OSError):
        return JobFault(
            "EV354",
            f"{error.filename or 'a file'} cannot be read or written",
            error.strerror or str(error),
            "free some space, or --engines FOLDER in a place that can be written to",
        )
    if isinstance(error, MemoryError) or getattr(error, "out_of_memory", False):
        return JobFault(
            "EV354",
            "there is not enough memory",
            str(error) or "the operating system gave no more",
            "close other programs (a desktop takes 1 GB), or compile with fewer --tokens",
        )
    if getattr(error, "code", None) in NO_GPU:
        return JobFault(
            "EV355",
            "there is no GPU that CUDA can use",
            str(error),
            "call it on the device; on a desktop, install NVIDIA's driver",
        )
    return JobFault(
        "EV307",
        "a call of the CUDA runtime failed",
        str(error),
        "see `sudo dmesg | tail` for what the driver says, then try again",
    )
