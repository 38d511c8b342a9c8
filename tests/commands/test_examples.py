"""Every example of every help text, run as a person would: by a shell, in a folder."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import edgevlm
from edgevlm.cli import cli
from edgevlm.models.datasets.fashion_mnist import FOLDER, INSTALL
from edgevlm.models.zoo import bundled_folder

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
TORCH = importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")
DATA = importlib.util.find_spec("easy_vqa")


def calls(command: click.Command = cli) -> Iterator[str]:
    """The calls below `Examples:` of a command and all below it."""
    for line in (command.epilog or "").splitlines()[2:]:
        yield line.strip()
    for below in getattr(command, "commands", {}).values():
        yield from calls(below)


PAGE = (Path(edgevlm.__file__).parent / "docs" / "report.md").read_text()
DOCUMENTED = re.findall(r"^    (edgevlm report b\.edgevlm .+)$", PAGE, re.MULTILINE)
EXAMPLES = sorted({*calls(), *DOCUMENTED})


def of_fewer_questions(call: str) -> str:
    """The same call: all 9673 questions of a split take half a minute, and try nothing else."""
    if call.startswith("edgevlm eval") and "--limit" not in call:
        return f"{call} --limit 40"
    return re.sub(r"--limit \d+", "--limit 20", call)


def test_all_examples_are_found():
    assert DOCUMENTED
    assert len(EXAMPLES) >= 20 and all(call.startswith("edgevlm ") for call in EXAMPLES)
    verbs = {call.split()[1] for call in EXAMPLES}
    assert verbs == set(cli.commands)


@pytest.mark.parametrize("call", EXAMPLES)
def test_example(call, request, tmp_path, bundle, other_bundle, picture):
    if "path/to/checkpoint" in call and not TORCH:
        pytest.skip("a Hugging Face checkpoint needs: pip install 'edgevlm[torch]'")
    if "easy-vqa" in call and not DATA:
        pytest.skip("the test images need: pip install 'edgevlm[data]'")
    if "fashion-mnist" in call and not FOLDER.is_dir():
        pytest.skip(f"the pictures need: {INSTALL}")
    if "ray://" in call:
        pytest.skip("there is no Ray cluster called head; fleet/test_derive_ray.py makes one")
    if "ssh://" in call:  # a device of the test's own
        sshd = request.getfixturevalue("sshd")
        call = re.sub(r"ssh://\S+", sshd.address, call).replace("30s", "1s")
    if " sets.toml" in call:
        sets = '[[set]]\nname = "three"\nclasses = ["bag", "sandal", "sneaker"]\nalpha = 0.6\n'
        sets += 'target = "cpu"\n'
        (tmp_path / "sets.toml").write_text(sets)
    call = of_fewer_questions(call)
    shutil.copy(picture, tmp_path / "cat.png")
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "checkpoint").symlink_to(CHECKPOINT)
    made = re.search(r" -o (\S+)", call)
    if not made or call.split()[1] == "report":
        shutil.copytree(bundle, tmp_path / "b.edgevlm")
    if " new.edgevlm" in call:
        shutil.copytree(other_bundle, tmp_path / "old.edgevlm")
        shutil.copytree(bundle, tmp_path / "new.edgevlm")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        call, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr and "error EV" not in done.stderr
    # doctor may find this machine wanting; that is what it is for
    assert done.returncode == 0 or (call.split()[1] == "doctor" and done.returncode == 1)
    if "--json" in call:
        assert json.loads(done.stdout)["schema"] == 1
    if made:
        written = {"sweep": "sweep.json", "derive": "three.edgevlm/manifest.json"}
        whole = written.get(call.split()[1], "manifest.json")
        place = tmp_path / made[1]
        assert (place if place.suffix == ".html" else place / whole).is_file()
    left = [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert left == []
