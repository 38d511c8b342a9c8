"""What an app starts from: C++ that is linked with ExecuTorch and asked; names that exist."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from edgevlm.compiler.reference import observe

SAMPLE = Path(str(resources.files("edgevlm.runtimes.executorch"))) / "sample"


def test_an_app_in_cpp_answers_as_the_parts_do(lowered, sample):
    """Answers of many tokens: prefill writes the caches that decode reads."""
    made = lowered()
    said = observe(made.model, made.probes, made.parts).answers
    assert max(map(len, said)) > 2
    file = made.folder / made.artifacts[0].file
    # an end token is no part of an answer, and one that is full has none
    want = [[i for i in ids if i not in made.model.processor.eos_ids] for ids in said]
    found = sample(file, made.model, made.probes)
    assert [ids[: len(w)] for ids, w in zip(found, want, strict=True)] == want


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
    assert files == {
        "VisionLanguageModel.kt", "vision_language_model.h", "vision_language_model_jni.cpp",
    }  # fmt: skip
    for path in (tmp_path / "app/executorch").iterdir():
        assert path.read_bytes() == (SAMPLE / path.name).read_bytes()
