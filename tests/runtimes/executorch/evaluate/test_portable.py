"""Programs of the CPU's own kernels: our evaluator against ExecuTorch's runtime, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.reference import observe
from edgevlm.runtimes.executorch.backends import BACKENDS, find_backend


@pytest.fixture(scope="module")
def portable(lowered):
    """The miniature with no delegate at all."""
    plain = dataclasses.replace(find_backend("xnnpack"), name="none", partitioners="nothing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "none", plain)
        made = lowered("none", "none", ("connector", "decode"))
        yield made


@pytest.fixture(scope="module")
def evaluated(portable):
    from edgevlm.runtimes.executorch.evaluate.parts import EvaluatedParts

    return EvaluatedParts(portable.folder, portable.artifacts, portable.model.contract)


def test_it_is_executorch_s_own_result(portable, evaluated):
    """Every part on its probes; kernels of both add in another order."""
    seen = observe(portable.source, portable.probes)
    for role in portable.model.parts:
        for feeds in seen.fed(role)[:2]:
            want, found = (side.call(role, feeds) for side in (portable.parts, evaluated))
            assert set(want) == set(found)
            for name in want:
                np.testing.assert_allclose(
                    np.asarray(found[name]), np.asarray(want[name]), rtol=2e-4, atol=2e-5
                )


def test_caches_are_those_of_all_methods(portable, evaluated):
    shape = portable.model.contract.inputs("decode")[-1].shape
    rng = np.random.default_rng(1)
    caches = {f"{k}_0": rng.normal(size=shape).astype(np.float32) for k in ("key", "value")}
    evaluated.write(caches)
    for name, array in caches.items():
        np.testing.assert_array_equal(evaluated.read(name), array)


def test_feeds_of_another_shape_are_told(evaluated):
    with pytest.raises(JobFault) as caught:
        evaluated.run("connector", {"image_features": np.zeros((1, 2, 3), np.float32)})
    assert caught.value.code == "EV307"


def test_a_broken_program_is_told(portable, tmp_path):
    from edgevlm.runtimes.executorch.evaluate.parts import EvaluatedParts

    name = portable.artifacts[0].file
    whole = (portable.folder / name).read_bytes()
    (tmp_path / "executorch").mkdir()
    rng, codes = np.random.default_rng(0), []
    broken = [b"", b"no program", *(whole[:n] for n in (30, 1000, len(whole) // 2, len(whole) - 9))]
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, 16000, 8):
            data[at] = rng.integers(256)
        broken.append(bytes(data))
    for data in broken:
        (tmp_path / name).write_bytes(data)
        try:
            EvaluatedParts(tmp_path, portable.artifacts, portable.model.contract)
        except JobFault as fault:
            codes.append(fault.code)
    assert codes[:5] == ["EV304"] * 5 and set(codes) <= {"EV303", "EV304"} and len(codes) > 20


def test_an_op_that_reads_files_is_not_called():
    from edgevlm.runtimes.executorch.evaluate.kernels import Unknown, aten, kernel

    for name in ("aten::from_file.out", "aten::add.none_such", "prim::Print", "other::add.out"):
        with pytest.raises(Unknown, match="op "):
            kernel(name)
    with pytest.raises(Unknown):
        aten("aten.from_file.default")
