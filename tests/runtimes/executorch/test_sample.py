"""What an app starts from: C++ that compiles with the headers of ExecuTorch; names that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

SAMPLE = Path(str(resources.files("edgevlm.runtimes.executorch"))) / "sample"
USE = """#include "vision_language_model.h"
int main() { edgevlm::VisionLanguageModel model("a.pte");
             return int(model.answer({0.5f}, {1}, {2}, {3}).size()); }
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++: sudo apt-get install g++")
def test_the_header_compiles_with_those_of_executorch(tmp_path):
    executorch = pytest.importorskip(
        "executorch", reason="headers come with: pip install 'edgevlm[executorch]'"
    )
    include = Path(next(iter(executorch.__path__))) / "include"
    c10 = include / "executorch/runtime/core/portable_type/c10"
    (tmp_path / "use.cpp").write_text(USE)
    call = ["g++", "-std=c++17", "-fsyntax-only", "-w", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
    call += [f"-I{include}", f"-I{c10}", f"-I{SAMPLE}", str(tmp_path / "use.cpp")]
    done = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_samples_ask_for_methods_that_programs_have(lowered):
    made = lowered()
    pytest.importorskip("executorch")
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(made.folder / made.artifacts[0].file)
    names = set(program.method_names)
    asked = set()
    for file in SAMPLE.iterdir():
        asked |= set(re.findall(r'(?:execute|run|number)\("([a-z_]+)"', file.read_text()))
    assert {"vision", "connector", "embed", "prefill", "decode", "get_max_seq_len"} <= asked
    assert asked <= names


def test_bundles_carry_it(lowered, tmp_path):
    lowered().runtime.write_sample(tmp_path)
    files = {path.name for path in (tmp_path / "app/executorch").iterdir()}
    assert files == {"VisionLanguageModel.kt", "vision_language_model.h"}
    for path in (tmp_path / "app/executorch").iterdir():
        assert path.read_bytes() == (SAMPLE / path.name).read_bytes()
