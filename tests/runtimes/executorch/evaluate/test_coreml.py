"""Delegates of Core ML: the package in a program, unpacked and run where Core ML is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgevlm.compiler.compare_parts import compare_parts
from edgevlm.compiler.errors import JobFault, UsageFault
from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.reference import observe
from edgevlm.devices import find_device
from edgevlm.runtimes import find_runtime

pytest.importorskip("coremltools", reason="pip install 'edgevlm[coreml]' brings it")
ROLES = ("prefill", "decode")
LEAST_DB = 38  # float16


@pytest.fixture(scope="module")
def coreml(lowered):
    return lowered("none", "coreml", ROLES)


@pytest.fixture(scope="module")
def packed(coreml):
    """The one package of all methods."""
    from edgevlm.runtimes.executorch.evaluate.file import open_program

    (data,) = open_program(coreml.folder / coreml.artifacts[0].file).named.values()
    return data


def test_it_computes_what_its_graphs_do(coreml):
    seen = observe(coreml.source, coreml.probes)
    found = compare_parts(ReferenceParts(coreml.model.parts), coreml.parts, seen, ROLES)
    assert set(found) == set(ROLES)
    assert min(drift.sqnr_db for drift in found.values()) >= LEAST_DB


def test_caches_are_the_program_s(coreml):
    shape = coreml.model.contract.inputs("decode")[-1].shape
    rng = np.random.default_rng(2)
    caches = {f"{k}_0": rng.normal(size=shape).astype(np.float32) for k in ("key", "value")}
    coreml.parts.write(caches)
    for name, array in caches.items():
        np.testing.assert_array_equal(coreml.parts.read(name), array)


def test_files_are_what_executorch_unpacks(packed, tmp_path):
    from executorch.backends.apple.coreml import executorchcoreml

    from edgevlm.runtimes.executorch.evaluate.coreml import files_of

    assert executorchcoreml.unflatten_directory_contents(packed, str(tmp_path))
    root = next(tmp_path.rglob("metadata.json")).parent
    theirs = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert files_of(packed) == theirs and len(theirs) >= 4


def forged(payload: bytes, change) -> bytes:
    """The same files with another tree behind them."""
    tree, end = json.JSONDecoder().raw_decode(payload[::-1].decode("utf-8", "replace"))
    change(tree["nodes"])
    return payload[:-end] + json.dumps(tree).encode()[::-1]


@pytest.mark.parametrize("name", ["..", "/etc", "a/b", "", ".hidden", "a\\b"])
def test_no_name_leads_out_of_it(packed, name):
    from edgevlm.runtimes.executorch.evaluate.coreml import files_of

    def rename(nodes):
        nodes[-1]["children"][name] = nodes[-1]["children"].pop("metadata.json")

    assert "metadata.json" in files_of(forged(packed, lambda nodes: None))
    with pytest.raises(ValueError, match="no file of a payload"):
        files_of(forged(packed, rename))


def test_trees_that_do_not_end_or_point_elsewhere(packed):
    from edgevlm.runtimes.executorch.evaluate.coreml import files_of

    def loop(nodes):
        nodes[-1]["children"]["again"] = len(nodes) - 1

    def far(nodes):
        nodes[nodes[-1]["children"]["metadata.json"]]["dataRegion"]["size"] = 10**12

    def twice(nodes):
        """A node in two places; through sixteen folders of ten names it would be 10^15 files."""
        nodes[-1]["children"]["again"] = nodes[-1]["children"]["metadata.json"]

    def endless(nodes):
        nodes[nodes[-1]["children"]["metadata.json"]]["dataRegion"]["offset"] = float("inf")

    changes = (
        loop,
        far,
        twice,
        endless,
        lambda nodes: nodes.clear(),
        lambda nodes: nodes.append(1),
    )
    for change in changes:
        with pytest.raises(ValueError, match="a payload of Core ML"):
            files_of(forged(packed, change))
    for data in (b"", b"nothing", packed[:-1], packed[: len(packed) // 2]):
        with pytest.raises(ValueError):
            files_of(data)


def test_an_order_that_is_none():
    from edgevlm.runtimes.executorch.evaluate.coreml import _order

    for told in ({"methods": []}, {"methods": {"a": 1}}, [], {"methods": {"a": {"inputNames": 1}}}):
        with pytest.raises(ValueError, match="does not name its inputs"):
            _order(json.dumps(told).encode(), "a")


def test_where_it_may_be_asked_for():
    iphone, pixel = find_device("iphone"), find_device("pixel-9")
    aimed = find_runtime("coreml").aimed_at(iphone, "executorch")
    assert aimed.sdk == {"backend": "coreml"} and "nothing of Core ML ran" in aimed.proved_by
    with pytest.raises(UsageFault, match="Apple's systems alone") as caught:
        find_runtime("executorch").aimed_at(pixel, "coreml")
    assert caught.value.code == "EV308"


def test_another_package_than_its_delegate_s_is_told(coreml, tmp_path):
    name = coreml.artifacts[0].file
    whole = (coreml.folder / name).read_bytes()
    (tmp_path / "executorch").mkdir()
    for was, now in (
        (b'"functionName": "decode"', b'"functionName": "decodf"'),
        (b"CMJR", b"CMJX"),
    ):
        assert was in whole
        (tmp_path / name).write_bytes(whole.replace(was, now))
        with pytest.raises(JobFault) as caught:
            coreml.runtime.open_artifacts(tmp_path, coreml.artifacts, coreml.model.contract)
        assert caught.value.code == "EV304"
