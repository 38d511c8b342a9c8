"""Calls of the command line, in this process or in one of their own, and bundles to call it on.

edgevlm("run", bundle, ...)   in this process: status, stdout, stderr (10 ms instead of 700)
process(...)                  in a process of its own: imports, signals, what C++ prints
shell("edgevlm ... | head")   through bash
bundle                        easyvqa-tiny, 16 of 64 tokens, int8 weights; shared, not to be edited
own_bundle                    a copy to spoil
other_bundle                  the same model, 4 tokens, int8 caches; right less often
micro_folder, micro_bundle    the micro VLM of tests/conftest.py; compiles in 100 ms
shade_bundle, shade_data      a classifier with known answers, and files of Fashion-MNIST for it
few_bundle                    one that knows three of its classes
vit_folder, labelled_folder   a classifier with an encoder, and labelled pictures for it
tower_folder, domain_folder   a VLM with an encoder, and pictures with questions and answers
vit, pictures                 an ONNX file of a tiny ViT, and a folder of pictures of its classes
"""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from micro.calls import call_apart, call_here, call_shell
from micro.chooser import labelled, micro_chooser
from micro.fleet import class_pictures, vit_file
from micro.model import micro_vlm
from micro.shades import GREYS, shade_classifier, shade_files
from PIL import Image

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import options_of
from edgevlm.compiler.bundle import write_sums
from edgevlm.compiler.exported_model import save_model
from edgevlm.models.datasets.fashion_mnist import CLASSES
from edgevlm.models.zoo import bundled_folder

QUESTION = "what color is the shape?"  # of the picture below; its answer is "teal"


@pytest.fixture(scope="session")
def edgevlm():
    return call_here


@pytest.fixture(scope="session")
def process():
    return call_apart


@pytest.fixture(scope="session")
def shell():
    return call_shell


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compiled") / "b.edgevlm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = options_of("cpu", out, tokens="16", prune="dart", quant="w8", payoff="none")
        compile_model("easyvqa-tiny", options)
    return out


@pytest.fixture(scope="session")
def other_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("other") / "o.edgevlm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = options_of("cpu", out, tokens="4", prune="stride", kv="int8", payoff="none")
        compile_model("easyvqa-tiny", options)
    return out


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "own.edgevlm"))


@pytest.fixture(scope="session")
def picture() -> Path:
    return bundled_folder("easyvqa-tiny") / "probes" / "000.png"


@pytest.fixture(scope="session")
def micro_folder(tmp_path_factory: pytest.TempPathFactory, micro_model) -> Path:
    folder = tmp_path_factory.mktemp("micro") / "model"
    folder.mkdir()
    save_model(micro_model, folder)
    return folder


@pytest.fixture(scope="session")
def micro_bundle(micro_folder: Path) -> Path:
    out = micro_folder.with_name("micro.edgevlm")
    compile_model(str(micro_folder), options_of("cpu", out))
    return out


@pytest.fixture(scope="session")
def shade_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names are those of Fashion-MNIST, written otherwise."""
    names = [name.upper().replace("-", " ") for name in CLASSES]
    source = shade_classifier(tmp_path_factory.mktemp("shades"), names)
    out = source.with_name("shades.edgevlm")
    compile_model(str(source), options_of("cpu", out, payoff="none"))
    return out


@pytest.fixture(scope="session")
def few_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = (4, 6, 8)
    folder = tmp_path_factory.mktemp("few")
    names, greys = zip(*((CLASSES[k], GREYS[k]) for k in classes), strict=True)
    source = shade_classifier(folder, names, greys)
    compile_model(str(source), options_of("cpu", folder / "few.edgevlm", payoff="none"))
    return folder / "few.edgevlm"


@pytest.fixture(scope="session")
def shade_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shade_files(tmp_path_factory.mktemp("fashion"), "test")


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vit_file(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return class_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def mount(tmp_path):
    """`mount("size=1m")`: a small file system of its own, where this user may mount one."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


OPENING_BUNDLES = (("verify",), ("inspect",), ("run",), ("profile", "-n", "1"), ("eval",))


@pytest.fixture
def refused(edgevlm, own_bundle, picture):
    """`refused("EV322")`: every verb that opens the bundle ends with this code; returns stderr."""
    more = {
        "run": ("--image", picture, "--prompt", "is it red?"),
        "eval": ("--dataset", "easy-scenes", "--limit", "1"),
    }

    def check(code: str, verbs: tuple = OPENING_BUNDLES) -> str:
        err = ""
        for verb, *args in verbs:
            ended = edgevlm(verb, own_bundle, *args, *more.get(verb, ()))
            assert (ended.status, ended.code, ended.out) == (1, code, ""), (verb, ended.err)
            err = ended.err
        return err

    return check


@pytest.fixture(scope="session")
def resign():
    """`resign(bundle, edit)`: edit the manifest, make SHA256SUMS fit again, as a forger would."""

    def again(folder: Path, edit: Callable[[dict], object] = lambda _: None) -> None:
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        before = json.dumps(manifest)
        edit(manifest)
        if json.dumps(manifest) != before:
            path.write_text(json.dumps(manifest, indent=1))
        (folder / "SHA256SUMS").unlink()
        write_sums(folder)

    return again


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of six classes with an encoder to narrow."""
    folder = tmp_path_factory.mktemp("vit") / "vit"
    folder.mkdir()
    save_model(micro_chooser(), folder)
    return folder


@pytest.fixture(scope="session")
def labelled_folder(vit_folder: Path) -> Path:
    """FOLDER/<class>/*.png, ten of each: what that classifier says of them."""
    return labelled(micro_chooser(), vit_folder.with_name("labelled"), 10)


@pytest.fixture(scope="session")
def tower_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The micro VLM with an encoder to narrow."""
    folder = tmp_path_factory.mktemp("tower") / "vlm"
    folder.mkdir()
    save_model(micro_vlm(tower=2, grid=(4, 4)), folder)
    return folder


@pytest.fixture(scope="session")
def domain_folder(tower_folder: Path) -> Path:
    """rows.jsonl and pictures, two questions each; answers are words, not all of them right."""
    folder = tower_folder.with_name("domain")
    (folder / "pictures").mkdir(parents=True)
    rows, rng = [], np.random.default_rng(2)
    for i in range(15):
        rgb = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(rgb).save(folder / "pictures" / f"{i}.png")
        for question in ("what is it", "is it red"):
            said = {"question": question, "answer": ("red", "blue", "yes")[i % 3]}
            rows.append(json.dumps({"image": f"pictures/{i}.png"} | said))
    (folder / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return folder
