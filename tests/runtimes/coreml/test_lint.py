"""The lint: rules are data with a source, each fires where it should, and nothing else does."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

from edgevlm.runtimes.coreml.ane_rules import FORM_RULES, OP_RULES
from edgevlm.runtimes.coreml.lint import lint

HALF = np.zeros((1, 4, 64), np.float16)
PLACES = np.zeros((1, 4), np.int32)


def weight(out: int, width: int = 64) -> np.ndarray:
    return np.ones((out, width), np.float16)


@pytest.fixture(scope="module")
def linted(emit):
    def run(build, feeds, chip: int | None = None):
        return lint(emit(build, feeds), chip)

    return run


def reasons(found, kind: str) -> set[str]:
    """Why ops of that type were found, as keys of the rules."""
    whys = {rule.why: name for name, rule in (OP_RULES | FORM_RULES).items()}
    return {whys[f.why] for f in found.findings if f.type == kind}


def test_every_rule_has_a_source_and_says_how_it_is_known():
    for name, rule in (OP_RULES | FORM_RULES).items():
        assert re.match(r"https://[\w./-]+$", rule.source), name
        assert rule.known in ("documented", "measured", "reported") and len(rule.why) > 6
        assert rule.effect in ("leaves", "slows") and (rule.until is None or 11 <= rule.until <= 20)


def test_rules_of_ops_are_of_ops_that_mil_has(tools):
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    assert set(OP_RULES) <= set(SSAOpRegistry.core_ops)


def test_what_it_is_made_for_is_not_found(linted):
    def build(mb, x):
        y = mb.gelu(x=mb.linear(x=x, weight=weight(128)))
        return mb.softmax(x=mb.layer_norm(x=y, axes=[-1]))

    found = linted(build, {"x": HALF})
    assert found.label == "predicted" and not found.leaving()
    assert [kind for _, kind, _ in found.all_ops if kind != "identity"] == [
        "linear", "gelu", "layer_norm", "softmax"]  # fmt: skip


def test_pruning_leaves_with_its_indices(linted):
    def build(mb, x):
        _, places = mb.topk(x=mb.reduce_mean(x=x, axes=[-1]), k=2)
        wide = mb.tile(x=mb.expand_dims(x=places, axes=[2]), reps=[1, 1, 64])
        kept = mb.gather_along_axis(x=x, indices=wide, axis=1)
        return mb.linear(x=kept, weight=weight(32))

    found = linted(build, {"x": HALF})
    left = {finding.type for finding in found.leaving().values()}
    assert left == {"topk", "expand_dims", "tile", "gather_along_axis"}
    assert found.share_leaving("main") == 0  # none of them multiplies
    assert all(f.source.startswith("https://") for f in found.findings)


@pytest.mark.parametrize(
    ("kind", "build", "feeds", "wanted"),
    [
        ("add", lambda mb, x: mb.add(x=x, y=np.int32(1)), {"x": PLACES}, {"integers"}),
        ("cast", lambda mb, x: mb.cast(x=x, dtype="fp16"), {"x": PLACES}, {"cast"}),
        ("relu", lambda mb, x: mb.relu(x=x), {"x": HALF.astype(np.float32)}, {"float32"}),
        ("transpose", lambda mb, x: mb.transpose(x=x, perm=[4, 0, 1, 2, 3]),
         {"x": np.zeros((1, 1, 2, 3, 32), np.float16)}, {"rank5moved"}),
        ("matmul", lambda mb, x: mb.matmul(x=x, y=x, transpose_y=True),
         {"x": np.zeros((1, 1, 2, 3, 32), np.float16)}, {"rank5"}),
        ("linear", lambda mb, x: mb.linear(x=x, weight=weight(20_000)), {"x": HALF},
         {"extent16384"}),
        ("linear", lambda mb, x: mb.linear(x=x, weight=weight(70_000)), {"x": HALF},
         {"extent65536"}),
        ("reduce_argmax", lambda mb, x: mb.reduce_argmax(x=x),
         {"x": np.zeros((1, 4096), np.float16)}, {"argument", "integers"}),
        ("cumsum", lambda mb, x: mb.cumsum(x=x, axis=-1), {"x": HALF}, {"cumsum"}),
        ("relu", lambda mb, x: mb.relu(x=x), {"x": HALF[..., :7]}, {"ragged"}),
    ],
)  # fmt: skip
def test_a_form_that_leaves_or_slows(linted, kind, build, feeds, wanted):
    assert reasons(linted(build, feeds), kind) == wanted


@pytest.mark.parametrize(("chip", "found"), [(None, True), (14, True), (15, False), (17, False)])
def test_what_later_chips_have_is_told_of_earlier_ones_only(linted, chip, found):
    told = linted(lambda mb, x: mb.sin(x=x), {"x": HALF}, chip)
    assert bool(told.leaving()) is found


@pytest.mark.parametrize(("size", "wanted"), [(8, set()), (14, {"kernel13"}), (17, {"kernel16"})])
def test_wide_kernels(linted, size, wanted):
    kernel = np.ones((4, 3, size, size), np.float16)
    picture = np.zeros((1, 3, 32, 32), np.float16)
    found = linted(lambda mb, x: mb.conv(x=x, weight=kernel), {"x": picture})
    assert reasons(found, "conv") == wanted


def test_shares_of_products_are_counted_by_hand(linted):
    kernel = np.ones((4, 2, 3, 3), np.float16)

    def build(mb, q, v, p, e, f):
        attended = mb.scaled_dot_product_attention(query=q, key=v, value=v)
        weights = mb.matmul(x=q, y=v, transpose_y=True)
        mixed = mb.einsum(values=(e, f), equation="nchw,nwhu->nchu")
        grown = mb.conv_transpose(x=p, weight=np.ones((4, 3, 2, 2), np.float16))
        large = mb.linear(x=q, weight=weight(20_000, 32))
        return attended, weights, mixed, grown, mb.conv(x=p, weight=kernel, groups=2), large

    feeds = {"q": (1, 2, 5, 32), "v": (1, 2, 7, 32), "p": (1, 4, 6, 6), "e": (1, 3, 2, 32),
             "f": (1, 32, 2, 64)}  # fmt: skip
    found = linted(build, {name: np.zeros(shape, np.float16) for name, shape in feeds.items()})
    sums = {
        "einsum": 3 * 2 * 64 * 32,
        "conv_transpose": 4 * 6 * 6 * (3 * 2 * 2),
        "attention": 2 * 5 * 7 * (32 + 32),
        "matmul": 2 * 5 * 7 * 32,
        "conv": 4 * 4 * 4 * (2 * 9),
        "linear": 2 * 5 * 20_000 * 32,
    }
    share = sums["linear"] / sum(sums.values())
    assert found.share_leaving("main") == pytest.approx(share, rel=1e-9)


def test_it_is_told_as_data_and_to_a_person(linted):
    found = linted(lambda mb, x: mb.cumsum(x=x, axis=-1), {"x": HALF})
    data = found.as_json()
    assert data["label"] == "predicted"
    assert data["functions"]["main"] == {"ops": 2, "leaving": 1, "macs_share_leaving": 0}
    assert data["findings"][0]["known"] == "measured" and data["findings"][0]["type"] == "cumsum"
    first, second = found.lines()
    assert first.startswith("predicted for the Neural Engine, main: 1 of 2 ops likely leave it")
    assert "cumsum" in second and "https://" in second
    assert found.lines(most=0)[-1] == "  and 1 more"
