"""A profile by QAIRT's own programs, as data: which program, with what, reads and writes what.

    host    qnn-context-binary-generator   graph.dlc -> graph.serialized.bin, graph_schematic.bin
    device  qnn-net-run                    context, inputs -> output/qnn-profiling-data_0.log
    host    qnn-profile-viewer             log -> CSV, or with the schematic a Chrome trace and QHAS

Options and files as executorch 1.5.1 calls them (backends/qualcomm/debugger/utils.py, QnnTool). A
level of `optrace` needs a context that was made with it, and that step's schematic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgevlm.runtimes.executorch.sdk import DEVICE, HOST, QnnSdk

__all__ = [
    "BACKEND_JSON",
    "CONFIG_JSON",
    "LOG",
    "SOCS",
    "Level",
    "Soc",
    "backend_config",
    "device_libraries",
    "generate_argv",
    "htp_config",
    "net_run_argv",
    "viewer_argv",
]

Level = Literal["detailed", "optrace"]
BACKEND_JSON, CONFIG_JSON, LIST = "backend_extension_config.json", "config.json", "input_list.txt"
LOG = "output/qnn-profiling-data_0.log"
EXTENSIONS = "libQnnHtpNetRunExtensions.so"
OPTRACE_READER = "libQnnHtpOptraceProfilingReader.so"


@dataclass(frozen=True)
class Soc:
    """id: Qualcomm's number of the chip. htp: version of its Hexagon tensor processor."""

    id: int
    htp: int


#: by the aliases of the device files; backends/qualcomm/serialization/qc_schema.py
SOCS = {
    "sm8450": Soc(36, 69),
    "sm8550": Soc(43, 73),
    "sm8650": Soc(57, 75),
    "sm8750": Soc(69, 79),
    "sm8850": Soc(87, 81),
}


def device_libraries(sdk: QnnSdk, soc: Soc) -> list[Path]:
    """Of the SDK, that qnn-net-run needs beside it on the phone, itself first."""
    return [
        sdk.tool("qnn-net-run", DEVICE),
        *(
            sdk.library(f"lib{name}.so", DEVICE)
            for name in (
                "QnnHtp",
                "QnnSystem",
                "QnnHtpPrepare",
                f"QnnHtpV{soc.htp}Stub",
                "QnnHtpNetRunExtensions",
            )
        ),
        sdk.root / "lib" / f"hexagon-v{soc.htp}" / "unsigned" / f"libQnnHtpV{soc.htp}Skel.so",
    ]


def htp_config(soc: Soc) -> dict[str, Any]:
    """config.json: the chip, at its highest clocks."""
    cores = [{"perf_profile": "burst", "rpc_control_latency": 100}]
    return {"devices": [{"profiling_level": "linting", "cores": cores, "soc_id": soc.id}]}


def backend_config(library: str | None) -> dict[str, Any]:
    """backend_extension_config.json. library: the extensions; None where the backend has them."""
    extensions = {"config_file_path": CONFIG_JSON}
    if library is not None:
        extensions["shared_library_path"] = library
    return {"backend_extensions": extensions}


#: for the viewer: QHAS as JSON beside the trace
VIEWER_CONFIG: Mapping[str, Any] = {"features": {"qhas_json": True}}


def generate_argv(sdk: QnnSdk, graph: Path, name: str, folder: Path) -> list[str]:
    """`folder` has the two configs, and gets `name`.bin."""
    return [
        str(sdk.tool("qnn-context-binary-generator")),
        "--backend",
        str(sdk.library("libQnnHtp.so")),
        "--model",
        str(sdk.library("libQnnModelDlc.so")),
        "--dlc_path",
        str(graph),
        "--config_file",
        str(folder / BACKEND_JSON),
        "--binary_file",
        name,
        "--output_dir",
        str(folder),
        *profiling("optrace"),
    ]


def net_run_argv(program: str, context: str, level: Level, runs: int) -> list[str]:
    """On the device, in a folder that has the configs and the list of inputs."""
    return [
        program,
        "--backend",
        "libQnnHtp.so",
        "--input_list",
        LIST,
        "--retrieve_context",
        context,
        "--use_native_input_files",
        "--use_native_output_files",
        "--config_file",
        BACKEND_JSON,
        "--num_inferences",
        str(runs),
        *profiling(level),
    ]


def viewer_argv(
    sdk: QnnSdk, log: Path, output: Path, schematic: Path | None = None, config: Path | None = None
) -> list[str]:
    """Without a schematic a CSV, with one a Chrome trace and the summary beside it."""
    made = [str(sdk.tool("qnn-profile-viewer"))]
    if schematic is not None:
        made += ["--config", str(config), "--schematic", str(schematic)]
        made += ["--reader", str(sdk.library(OPTRACE_READER, HOST))]
    return [*made, "--input_log", str(log), "--output", str(output)]


def profiling(level: Level) -> Sequence[str]:
    """optrace is an option of the level detailed."""
    more = ("--profiling_option", "optrace") if level == "optrace" else ()
    return ("--profiling_level", "detailed", *more)
