"""Weights of few bits in the package: the numbers are those of the weights taken apart by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

import torch
from torch import nn

from edgevlm.runtimes.coreml.mil_evaluator import MilProgram

WIDTH, INNER = 64, 96


def block() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, INNER), nn.GELU(), nn.Linear(INNER, WIDTH)).eval()


X = torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def dense(convert, tools):
    """The model of coremltools, before weights are made smaller."""
    path = convert(block(), (X,), outputs=[tools.TensorType(name="y")])
    return tools.models.MLModel(str(path), skip_model_load=True), path


def weights_of(path, kind: str) -> list[np.ndarray]:
    """Both, as the evaluator unpacked them, float64."""
    program = MilProgram(path)
    main = program.functions["main"]
    unpacked = [op for op in main.ops if op.type.startswith("constexpr")]
    assert [op.type for op in unpacked] == [kind, kind]
    names = [op.gives[0][0] for op in unpacked]
    found = program.call("main", {next(iter(main.inputs)): X.numpy()}, also=names)
    return [found[name].astype(np.float64) for name in names]


def run(path) -> np.ndarray:
    program = MilProgram(path)
    name = next(iter(program.functions["main"].inputs))
    return program.call("main", {name: X.numpy()})["y"].astype(np.float64)


def half_weights() -> list[np.ndarray]:
    """As the dense package has them."""
    module = block()
    return [module[i].weight.detach().half().double().numpy() for i in (0, 2)]


def with_weights(weights: list[np.ndarray]) -> np.ndarray:
    """What torch gives with these."""
    module = block().double()
    with torch.no_grad():
        for layer, weight in zip((module[0], module[2]), weights, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
        return module(X.double()).numpy()


def alike(want: np.ndarray, found: np.ndarray, decibel: float) -> None:
    """Signal to noise; float16 between the layers leaves some 60 dB here."""
    noise = 10 * np.log10((want**2).sum() / ((want - found) ** 2).sum())
    assert noise > decibel, noise


@pytest.mark.parametrize(
    ("options", "bits", "size"),
    [
        ({"dtype": "int8", "granularity": "per_channel"}, 8, 0),
        ({"dtype": "int4", "granularity": "per_block", "block_size": 32}, 4, 32),
    ],
)
def test_rounded_weights(dense, saved, options, bits, size):
    """Each is a whole number of steps, and half a step from what it was at most."""
    import coremltools.optimize.coreml as smaller

    config = smaller.OpLinearQuantizerConfig(mode="linear_symmetric", **options)
    made = saved(smaller.linear_quantize_weights(dense[0], smaller.OptimizationConfig(config)))
    found = weights_of(made, "constexpr_blockwise_shift_scale")
    for was, now in zip(half_weights(), found, strict=True):
        was, now = (w.reshape(len(w), -1, size or w.shape[1]) for w in (was, now))
        step = np.abs(was).max(-1, keepdims=True) / (2 ** (bits - 1) - 1)
        assert (np.abs(was - now) <= 0.6 * step).all() and np.abs(was - now).any()  # of float16
        assert np.abs(now / step - np.round(now / step)).max() < 0.1
    alike(with_weights(found), run(made), 55)


def test_palettes(dense, saved):
    """Each group of 16 rows has 16 numbers of its own, in even steps over its range."""
    import coremltools.optimize.coreml as smaller

    config = smaller.OpPalettizerConfig(
        mode="uniform", nbits=4, granularity="per_grouped_channel", group_size=16
    )
    made = saved(smaller.palettize_weights(dense[0], smaller.OptimizationConfig(config)))
    found = weights_of(made, "constexpr_lut_to_dense")
    for was, now in zip(half_weights(), found, strict=True):
        palettes = set()
        for rows in range(0, len(was), 16):
            group, numbers = was[rows : rows + 16], now[rows : rows + 16]
            step = (group.max() - group.min()) / 15
            assert (np.abs(group - numbers) <= 0.52 * step).all()
            assert 8 < len(np.unique(numbers)) <= 16
            palettes.add(tuple(np.unique(numbers)))
        assert len(palettes) > 2
    alike(with_weights(found), run(made), 55)
    program = MilProgram(made)
    one, other = (program._planner.plan(program.functions["main"]).constants for _ in range(2))
    assert len(one) == 2 and all(one[name] is other[name] for name in one)  # unpacked once
    first, second = one.values()
    assert first is not second


def test_weights_of_the_same_shape_are_told_apart(emit):
    """What was unpacked for one is not taken for another of other numbers or other scales."""
    data = np.random.default_rng(0).integers(-128, 128, (4, 6)).astype(np.int8)
    scale = np.full((4, 1), 0.5, np.float32)
    kinds = [(data, scale), (data[::-1].copy(), scale), (data, scale * 2)]
    x = np.ones((4, 6), np.float32)

    def build(mb, x):
        weights = [mb.constexpr_blockwise_shift_scale(data=d, scale=s) for d, s in kinds]
        return [mb.mul(x=x, y=weight) for weight in weights]

    found = MilProgram(emit(build, {"x": x})).call("main", {"x": x})
    for i, (numbers, scales) in enumerate(kinds):
        np.testing.assert_array_equal(found[f"out{i}"], numbers * scales)


def test_half_of_the_weights_taken_away(dense, saved):
    import coremltools.optimize.coreml as smaller

    config = smaller.OpMagnitudePrunerConfig(target_sparsity=0.5, weight_threshold=1000)
    made = saved(smaller.prune_weights(dense[0], smaller.OptimizationConfig(config)))
    found = weights_of(made, "constexpr_sparse_to_dense")
    for was, now in zip(half_weights(), found, strict=True):
        gone = now == 0
        np.testing.assert_array_equal(now[~gone], was[~gone])
        assert gone.mean() == pytest.approx(0.5, abs=0.01)
        assert np.abs(was[gone]).max() <= np.abs(was[~gone]).min()
    alike(with_weights(found), run(made), 55)


@pytest.mark.parametrize("kind", ["quantised", "palette"])
def test_what_coremltools_makes_of_it_uncompressed(dense, saved, kind):
    """The same package, decompressed by coremltools itself, gives the same numbers."""
    import coremltools.optimize.coreml as smaller

    if kind == "quantised":
        config = smaller.OpLinearQuantizerConfig(mode="linear", dtype="uint8")
        made = smaller.linear_quantize_weights(dense[0], smaller.OptimizationConfig(config))
    else:
        config = smaller.OpPalettizerConfig(mode="uniform", nbits=6)
        made = smaller.palettize_weights(dense[0], smaller.OptimizationConfig(config))
    small, large = saved(made), saved(smaller.decompress_weights(made))
    kinds = [[op.type for op in MilProgram(path).functions["main"].ops] for path in (small, large)]
    assert [any(k.startswith("constexpr") for k in both) for both in kinds] == [True, False]
    np.testing.assert_array_equal(run(small), run(large))


class W8A8(nn.Module):
    """int8 weights, a scale a row; int8 activations, one scale: as PT2E writes it."""

    SCALE = 0.03

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(INNER, WIDTH, generator=torch.Generator().manual_seed(4))
        scale = weight.abs().amax(1) / 127
        self.register_buffer("weight", torch.round(weight / scale[:, None]).to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros(INNER, dtype=torch.int64))

    def forward(self, x):
        ops, bounds = torch.ops.quantized_decomposed, (-128, 127, torch.int8)
        x = ops.quantize_per_tensor(x, self.SCALE, 0, *bounds)
        x = ops.dequantize_per_tensor(x, self.SCALE, 0, *bounds)
        weight = ops.dequantize_per_channel(self.weight, self.scale, self.zero, 0, *bounds)
        return torch.nn.functional.linear(x, weight)


def test_integers_of_eight_bits_both_ways(convert, tools):
    import torch.ao.quantization.fx._decomposed  # noqa: F401  (makes the ops)

    module = W8A8()
    path = convert(module, (X,), "FLOAT32", outputs=[tools.TensorType(name="y")])
    kinds = [op.type for op in MilProgram(path).functions["main"].ops]
    assert {"quantize", "dequantize", "constexpr_blockwise_shift_scale"} <= set(kinds)
    whole = np.clip(np.round(X.numpy() / np.float32(module.SCALE)), -128, 127)
    weight = module.weight.numpy().astype(np.float64) * module.scale.numpy()[:, None]
    np.testing.assert_allclose(run(path), (whole * module.SCALE) @ weight.T, rtol=1e-4, atol=1e-3)
