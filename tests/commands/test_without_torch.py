"""The base install: with torch and transformers out of reach, all but HF checkpoints works."""

from __future__ import annotations

import sys

import pytest

from edgevlm.models.hf import FAMILIES
from edgevlm.models.zoo import bundled_folder

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
#: packages of the extras; an import of one fails as if it were not installed
BLOCKED = """
import sys
from importlib import metadata
GONE = ("torch", "torchao", "transformers", "safetensors", "executorch", "coremltools")
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in GONE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
def version(name, real=metadata.version):
    if name in GONE:
        raise metadata.PackageNotFoundError(name)
    return real(name)
metadata.version = version
sys.meta_path.insert(0, Blocked())
from edgevlm.cli import main
main()
"""


@pytest.fixture(scope="module")
def bare(process):
    """The command line in a process that has no torch."""

    def run(*args: object):
        return process(sys.executable, "-c", BLOCKED, *args)

    return run


def test_the_whole_way_needs_no_torch(bare, tmp_path, picture):
    out = tmp_path / "b.edgevlm"
    made = bare("compile", "easyvqa-tiny", "--target", "cpu", "--tokens", "16", "--quant", "w8",
                "--payoff", "none",
                "-o", out, "--json", "--quiet")  # fmt: skip
    assert (made.status, made.err) == (0, "") and made.json["answers"]["correct"] == 12
    asked = bare("run", out, "--image", picture, "--prompt", "what color is the shape?", "--quiet")
    assert (asked.status, asked.out, asked.err) == (0, "teal\n", "")
    scored = bare("eval", out, "--dataset", "easy-scenes", "--limit", "50", "--json")
    assert scored.status == 0 and scored.json["n"] == 50
    timed = bare("profile", out, "-n", "3", "--ops", "--json", "--quiet")
    assert (timed.status, timed.err) == (0, "") and timed.json["n"] == 3
    assert bare("verify", out).status == 0
    assert bare("inspect", out, "--axes", "--json").status == 0
    assert bare("doctor", "--json").json["ok"] is True


@pytest.mark.parametrize("target", ["pixel-9", "iphone", "ethos-u85-256"])
def test_phones_and_npus_say_what_to_install_before_anything_is_done(bare, tmp_path, target):
    ended = bare("compile", "easyvqa-tiny", "--target", target, "-o", tmp_path / "b")
    assert ended.status == 1 and ended.code in ("EV302", "EV190") and not list(tmp_path.iterdir())
    assert "next: pip install 'edgevlm[" in ended.err and "read source" not in ended.err


@pytest.mark.parametrize("option", ["--purify", "--recover"])
def test_training_says_what_to_install(bare, tmp_path, vit_folder, labelled_folder, option):
    ended = bare("compile", vit_folder, "--target", "cpu", "--calib", labelled_folder, "--alpha",
                 "0.2", option, "-o", tmp_path / "b", "--quiet")  # fmt: skip
    assert (ended.status, ended.code, ended.out) == (1, "EV190", "")
    assert "next: pip install 'edgevlm[torch]'" in ended.err and not list(tmp_path.iterdir())


def test_narrowing_needs_no_torch(bare, tmp_path, vit_folder, labelled_folder):
    ended = bare("compile", vit_folder, "--target", "cpu", "--calib", labelled_folder, "--classes",
                 "cat,dog", "--alpha", "0.2", "-o", tmp_path / "b", "--quiet")  # fmt: skip
    assert (ended.status, ended.err) == (0, "")


def test_a_checkpoint_says_what_to_install(bare, tmp_path):
    ended = bare("compile", CHECKPOINT, "--target", "cpu", "-o", tmp_path / "b", "--quiet")
    assert (ended.status, ended.code, ended.out) == (1, "EV190", "")
    assert "next: pip install 'edgevlm[torch]'" in ended.err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_family_is_named_without_torch(bare, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    ended = bare("compile", tmp_path, "--target", "cpu", "-o", tmp_path / "b", "--json")
    error = ended.json["error"]
    assert (ended.status, error["code"]) == (2, "EV107") and "qwen3_vl" in error["what"]
    assert all(family in error["why"] for family in FAMILIES)


def test_a_bundled_model_does_not_import_torch_where_it_is_installed(process, tmp_path):
    code = (
        "import sys\nfrom edgevlm.cli import main\ntry: main()\n"
        "finally: print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    args = ("compile", "easyvqa-tiny", "--target", "cpu", "-o", tmp_path / "b", "--quiet")
    assert process(sys.executable, "-c", code, *args).out == "[]\n"
