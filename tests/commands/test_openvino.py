"""The second runtime of this machine, from the command line to answers, through every verb."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec

import pytest

from edgevlm.compiler.bundle import write_sums

COMPILE = ("compile", "easyvqa-tiny", "--target", "host-openvino")


@pytest.fixture(scope="module", autouse=True)
def openvino_is_here():
    if find_spec("openvino") is None:
        pytest.skip("openvino is not installed: pip install 'edgevlm[openvino]'")


@pytest.fixture(scope="module")
def made(edgevlm, tmp_path_factory):
    """Int8, and a choice of tokens that is timed against none."""
    out = tmp_path_factory.mktemp("openvino") / "b.edgevlm"
    args = ("--tokens", "16", "--prune", "dart", "--quant", "w8a8", "--force", "--json")
    return out, edgevlm(*COMPILE, *args, "-o", out)


def asked(bundle) -> tuple[object, ...]:
    return "--image", bundle / "goldens" / "000.png", "--prompt", "what shape is in the image?"


def test_it_compiles_and_answers_as_the_source(made):
    _, ended = made
    assert ended.status == 0, ended.err
    told = ended.json
    assert told["target"]["device"] == "host-openvino" and told["target"]["runtime"] == "openvino"
    assert set(told["target"]["toolchain"]) == {"openvino", "onnx"}
    assert told["answers"]["agree_with_source"] >= told["answers"]["probes"] - 1
    assert told["payoff"]["stages"]["prefill"]["before_ms"] > 0


def test_every_verb_takes_the_bundle(made, edgevlm):
    out, _ = made
    assert edgevlm("verify", out).status == 0
    ran = edgevlm("run", out, *asked(out))
    assert ran.status == 0 and ran.out.strip()
    rows = edgevlm("eval", out, "--dataset", "easy-vqa", "--limit", "40", "--json").json
    assert rows["accuracy"] > 0.8
    shown = edgevlm("inspect", out, "--axes", "--json").json
    assert {p["role"] for p in shown["parts"]} == {
        "vision", "connector", "embed", "prefill", "decode",
    }  # fmt: skip
    assert all(p["axes"] for p in shown["parts"])


def test_profile_names_int8_kernels(made, edgevlm):
    ended = edgevlm("profile", made[0], "-n", "5", "--ops", "--power", "none", "--json")
    assert ended.status == 0, ended.err
    ops = [row["op"] for row in ended.json["ops"] if row["role"] == "prefill"]
    assert any(op.startswith("FullyConnected") and op.endswith("_i8") for op in ops)


def test_the_recipe_says_how_ties_are_broken_and_compiles_again(made, edgevlm, tmp_path):
    """And the same inputs give the same bytes."""
    out, ended = made
    recipe = (out / "recipe.toml").read_text()
    assert 'form = "openvino"' in recipe and 'target = "host-openvino"' in recipe
    again = tmp_path / "again.edgevlm"
    args = ("--recipe", out / "recipe.toml", "--payoff", "none", "--json")
    assert edgevlm(*COMPILE, *args, "-o", again).json["digest"] == ended.json["digest"]
    names = [p.name for p in (out / "openvino").iterdir()]
    assert sorted(names) == ["connector.onnx", "decode.onnx", "embed.onnx", "prefill.onnx",
                             "vision.onnx", "weights.bin"]  # fmt: skip
    for name in names:
        assert (out / "openvino" / name).read_bytes() == (again / "openvino" / name).read_bytes()


def test_a_recipe_of_one_runtime_is_not_taken_for_the_other(made, edgevlm, tmp_path):
    ended = edgevlm(
        "compile", "easyvqa-tiny", "--target", "cpu", "--recipe", made[0] / "recipe.toml",
        "-o", tmp_path / "b",
    )  # fmt: skip
    assert (ended.status, ended.code) == (2, "EV220")


def test_hostile_settings_are_refused(made, edgevlm, spoiled):
    bundle = spoiled(made[0], lambda m: m["artifacts"][0].update(settings={"threads": 10**6}))
    ended = edgevlm("run", bundle, *asked(made[0]))
    assert (ended.status, ended.code) == (1, "EV322") and "threads" in ended.err


@pytest.fixture
def spoiled(tmp_path):
    """A copy of a bundle with another manifest; its sums are those of the new one."""

    def spoil(bundle, change):
        copy = tmp_path / "spoiled.edgevlm"
        shutil.copytree(bundle, copy)
        manifest = json.loads((copy / "manifest.json").read_text())
        change(manifest)
        (copy / "manifest.json").write_text(json.dumps(manifest))
        write_sums(copy)
        return copy

    return spoil


def test_without_the_package_it_is_three_lines(edgevlm, made, tmp_path, monkeypatch):
    """Nothing is compiled in vain, and a bundle from elsewhere says the same."""
    from edgevlm.runtimes.openvino import package

    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(package, "version", gone)
    ended = edgevlm(*COMPILE, "-o", tmp_path / "b")
    assert (ended.status, ended.code) == (1, "EV302")
    assert "pip install 'edgevlm[openvino]'" in ended.err and not (tmp_path / "b").exists()
    package.engine.cache_clear()
    ended = edgevlm("run", made[0], *asked(made[0]))
    package.engine.cache_clear()
    assert (ended.status, ended.code) == (1, "EV302")
    assert "pip install 'edgevlm[openvino]'" in ended.err


def test_doctor_says_whether_it_is_there(edgevlm, monkeypatch):
    from edgevlm.devices import host

    def line() -> dict:
        checks = edgevlm("doctor", "--device", "openvino", "--json").json["checks"]
        return next(c for c in checks if c["name"] == "openvino")

    assert line()["ok"] is True and "host-openvino" in line()["needed_for"]
    real = host.tool_versions
    monkeypatch.setattr(host, "tool_versions", lambda names: {**real(names), "openvino": None})
    assert line()["ok"] is False and line()["fix"] == 'pip install "edgevlm[openvino]"'


@pytest.mark.parametrize(
    "args",
    [
        ("--quant", "w4a16"),
        ("--quant", "w4a8:block=32"),
        ("--quant", "dasq-w4a8:form=ell"),
        ("--quant", "w3a8", "--kv", "int8"),
    ],
)
def test_every_kind_of_rounding_compiles_and_answers(edgevlm, tmp_path, args):
    out = tmp_path / "b.edgevlm"
    ended = edgevlm(*COMPILE, *args, "--payoff", "none", "-o", out, "--json")
    assert ended.status == 0, ended.err
    assert ended.json["answers"]["agree_with_source"] == 12
    assert edgevlm("verify", out).status == 0
