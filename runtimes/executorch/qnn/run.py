"""A context binary of QNN, profiled on a phone: qnn-net-run there, qnn-profile-viewer here."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgevlm.compiler.errors import JobFault
from edgevlm.devices.connect.session import Device
from edgevlm.runtimes.executorch.android.there import There, item_of
from edgevlm.runtimes.executorch.qnn.optrace import read_optrace
from edgevlm.runtimes.executorch.qnn.qhas import read_qhas
from edgevlm.runtimes.executorch.qnn.rows import QnnProfile
from edgevlm.runtimes.executorch.qnn.sequence import (
    BACKEND_JSON,
    CONFIG_JSON,
    EXTENSIONS,
    LIST,
    LOG,
    VIEWER_CONFIG,
    Soc,
    backend_config,
    device_libraries,
    generate_argv,
    htp_config,
    net_run_argv,
    viewer_argv,
)
from edgevlm.runtimes.executorch.qnn.table import read_csv
from edgevlm.runtimes.executorch.sdk import (
    HOST,
    QNN_COMPILES,
    QNN_PROFILES,
    QnnSdk,
    SdkMissing,
    find_qnn_sdk,
)

__all__ = ["QnnAsked", "QnnSeen", "make_context", "profile_context"]

SECONDS = 1800.0  # for a program of the SDK on this host
SUMMARY = "_qnn_htp_analysis_summary.json"
CONTEXT = "context.bin"


@dataclass(frozen=True)
class QnnAsked:
    """context: what QNN made of a graph. inputs: raw bytes of each, in their own types.

    schematic: of the same step, made for an op trace; with it, traces are taken too.
    """

    context: Path
    soc: Soc
    inputs: Sequence[bytes]
    schematic: Path | None = None
    runs: int = 10


@dataclass(frozen=True)
class QnnSeen:
    """table: cycles of each op. trace, summary: of an op trace, where there was a schematic."""

    table: QnnProfile
    trace: QnnProfile | None = None
    summary: QnnProfile | None = None


def make_context(graph: Path, soc: Soc, folder: Path, sdk: QnnSdk | None = None) -> Path:
    """A .dlc as a context binary that can be traced, in `folder`. Raises EV362, EV363."""
    sdk = sdk or find_qnn_sdk()
    _write(folder / CONFIG_JSON, htp_config(soc))
    config = backend_config(None)
    config["backend_extensions"]["config_file_path"] = str(folder / CONFIG_JSON)
    _write(folder / BACKEND_JSON, config)
    name = f"{graph.stem}.serialized"
    made = folder / f"{name}.bin"
    _on_host(sdk, generate_argv(sdk, graph, name, folder), made, folder)
    return made


def profile_context(
    device: Device,
    asked: QnnAsked,
    sdk: QnnSdk | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> QnnSeen:
    """Raises EV360 (what came out), EV362 (no SDK), EV363 (its programs), EV435-EV439 (device)."""
    sdk = sdk or find_qnn_sdk(files=(*QNN_COMPILES, *QNN_PROFILES))
    libraries = device_libraries(sdk, asked.soc)
    for path in libraries:
        if not path.is_file():
            raise SdkMissing(
                "EV362",
                f"Qualcomm's SDK has nothing for HTP v{asked.soc.htp}",
                f"{path.relative_to(sdk.root)} is not in it",
                "an SDK of that chip's time or later",
            )
    level = "optrace" if asked.schematic else "detailed"
    items = {path.name: item_of(path) for path in libraries} | {CONTEXT: item_of(asked.context)}
    with There(device, items, [libraries[0].name], progress) as there:
        root = f"{device.facts.root}/{there.folder}"
        names = [f"{place}.raw" for place in range(len(asked.inputs))]
        files = dict(zip(names, asked.inputs, strict=True)) | {
            LIST: (" ".join(names) + "\n").encode(),
            CONFIG_JSON: json.dumps(htp_config(asked.soc)).encode(),
            BACKEND_JSON: json.dumps(backend_config(f"{root}/{EXTENSIONS}")).encode(),
        }
        program, context = there.path(libraries[0].name), there.path(CONTEXT)
        there.run(
            [
                "env",
                f"LD_LIBRARY_PATH={root}",
                f"ADSP_LIBRARY_PATH={root}",
                *net_run_argv(program, context, level, asked.runs),
            ],
            files,
        )
        log = there.file(LOG)
    if not log:
        raise _failed("qnn-net-run", f"it ran and wrote no {LOG}")
    return _viewed(sdk, log, asked.schematic)


def _viewed(sdk: QnnSdk, log: bytes, schematic: Path | None) -> QnnSeen:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "profile.log").write_bytes(log)
        table, trace = folder / "profile.csv", folder / "optrace.json"
        _on_host(sdk, viewer_argv(sdk, folder / "profile.log", table), table, folder)
        if schematic is None:
            return QnnSeen(read_csv(table))
        _write(folder / "viewer.json", VIEWER_CONFIG)
        argv = viewer_argv(sdk, folder / "profile.log", trace, schematic, folder / "viewer.json")
        _on_host(sdk, argv, trace, folder)
        summary = folder / f"{trace.stem}{SUMMARY}"
        return QnnSeen(
            read_csv(table), read_optrace(trace), read_qhas(summary) if summary.is_file() else None
        )


def _on_host(sdk: QnnSdk, argv: Sequence[str], wanted: Path, folder: Path) -> None:
    """Raises EV363 where it fails or does not write what is wanted."""
    program = Path(argv[0]).name
    libraries = f"{sdk.root / 'lib' / HOST}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=os.environ | {"LD_LIBRARY_PATH": libraries.rstrip(":")},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except OSError as error:
        raise _failed(program, f"{error.filename}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise _failed(program, f"it was not done within {SECONDS:.0f} s") from None
    if done.returncode or not wanted.is_file():
        said = f"{done.stdout}\n{done.stderr}".strip().splitlines()
        why = " | ".join(said[-3:]) or f"it wrote no {wanted.name}"
        raise _failed(program, f"status {done.returncode}: {why}")


def _failed(program: str, why: str) -> JobFault:
    return JobFault(
        "EV363",
        f"{program} of Qualcomm's SDK failed",
        why[-500:],
        "the same SDK must have made the context; its programs print more with --log_level verbose",
    )


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1), encoding="utf-8")
