"""Runners by their help: which flags each takes, and what is said of one that lacks some."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.runtimes.executorch.android.runner import (
    FLAG,
    Runner,
    arguments,
    brought,
    check_built_for,
)

BOTH = {"model_path", "etdump_path"}
PORTABLE = frozenset(
    BOTH | {"num_executions", "method_name", "inputs", "data_path", "print_output"}
)
QUALCOMM = frozenset(BOTH | {"iteration", "method_index", "input_list_path", "output_folder_path"})
METHODS = ["get_max_seq_len", "vision", "decode"]
ASKED = {"model": "../m.pte", "etdump": "e.etdp", "runs": 5, "methods": METHODS}


def called(flags, **asked):
    return arguments(Runner("/x/executor_runner", flags), **ASKED | {"method": "vision"} | asked)


def test_executor_runner():
    assert called(PORTABLE, inputs=["0.bin", "1.bin"], input_list="l", data="../m.ptd") == [
        "--model_path=../m.pte",
        "--etdump_path=e.etdp",
        "--num_executions=5",
        "--method_name=vision",
        "--inputs=0.bin,1.bin",
        "--data_path=../m.ptd",
        "--print_output=none",
    ]


def test_qualcomms_runner():
    assert called(QUALCOMM, inputs=["0.bin"], input_list="l.txt", output_folder="out") == [
        "--model_path=../m.pte",
        "--etdump_path=e.etdp",
        "--iteration=5",
        "--method_index=1",
        "--input_list_path=l.txt",
        "--output_folder_path=out",
    ]


def test_a_method_that_the_program_has_not():
    with pytest.raises(JobFault, match=r"EV360 the program has no method nowhere"):
        called(QUALCOMM, method="nowhere", inputs=["0.bin"])


def test_one_that_runs_the_first_method_only():
    old = frozenset({"model_path", "etdump_path", "num_executions"})
    assert called(old, method="get_max_seq_len")[-1] == "--num_executions=5"
    with pytest.raises(JobFault, match=r"EV361 executor_runner cannot run vision: it runs the fir"):
        called(old)


@pytest.mark.parametrize(
    ("without", "more", "why"),
    [
        ("etdump_path", {}, "cannot time its ops: it was built without the event tracer"),
        ("num_executions", {}, "cannot take --num_executions"),
        ("inputs", {"inputs": ["0.bin"]}, "cannot read inputs from files"),
        ("data_path", {"data": "m.ptd"}, "cannot take --data_path"),
    ],
)
def test_one_that_cannot(without, more, why):
    with pytest.raises(JobFault, match=f"EV361 executor_runner {why}") as fault:
        called(PORTABLE - {without}, **more)
    assert "model_path" in fault.value.why and "EVENT_TRACER=ON" in fault.value.fix


def test_qualcomms_has_no_numbers_of_its_own():
    """An empty list is one file without a name to it."""
    with pytest.raises(JobFault, match=r"EV361 .*it takes a list of files alone"):
        called(QUALCOMM, input_list="l.txt", output_folder="out")


def test_help_as_gflags_and_absl_print_it():
    """Synthetic: written after both libraries' sources."""
    text = """executor_runner: Warning: SetUsageMessage() never called

  Flags from /src/executor_runner.cpp:
    -cpu_threads (Number of CPU threads for inference. Defaults to -1, which
      implies we'll use a heuristic) type: int32 default: -1
    -model_path (Model serialized in flatbuffer format.) type: string
      default: "model.pte"
    --etdump_path (Write ETDump data to this path.); default: "model.etdump";
"""
    assert [m["name"] for m in FLAG.finditer(text)] == ["cpu_threads", "model_path", "etdump_path"]


def test_a_program_of_another_machine(tmp_path):
    """A real one of this machine, and heads of others (synthetic)."""
    python = Path(sys.executable).resolve()
    machine = int.from_bytes(python.read_bytes()[18:20], "little")
    named = {62: "x86_64", 183: "aarch64"}[machine]
    check_built_for(python, named)
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[named]
    with pytest.raises(JobFault, match=f"EV433 .*it was built for {named}, the device is {other}"):
        check_built_for(python, other)
    arm = tmp_path / "executor_runner"
    arm.write_bytes(b"\x7fELF\x01\x01" + bytes(12) + (40).to_bytes(2, "little"))
    check_built_for(arm, "aarch64")  # 32 bits run there too
    with pytest.raises(JobFault, match="armv7l"):
        check_built_for(arm, "x86_64")
    arm.write_text("#!/bin/sh\n")
    check_built_for(arm, "x86_64")  # a script: the device decides


def test_which_is_brought(tmp_path):
    assert brought(None, {}) is None
    assert brought(None, {"EDGEVLM_EXECUTOR_RUNNER": sys.executable}) == Path(sys.executable)
    with pytest.raises(JobFault, match=r"EV433 .*there is no such file here"):
        brought(tmp_path / "none", {})
