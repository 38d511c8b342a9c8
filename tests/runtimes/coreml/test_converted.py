"""Modules of torch through coremltools' converter: what it emits gives what torch gave."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="the evaluator needs: pip install 'edgevlm[coreml]'")
pytest.importorskip("coremltools", reason="Core ML needs: pip install 'edgevlm[coreml]'")

import torch
import torch.nn.functional as F
from torch import nn

from edgevlm.runtimes.coreml.mil_evaluator import MilProgram


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Says(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


class Block(nn.Module):
    """A vision transformer: patches by convolution, separate q, k, v, softmax written out."""

    def __init__(self, width: int = 32, heads: int = 2, patch: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.qkv = nn.ModuleList([nn.Linear(width, width) for _ in range(3)])
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        q, k, v = (part(y).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.qkv)
        weights = torch.softmax(q @ k.transpose(2, 3) * q.shape[-1] ** -0.5, -1)
        x = x + self.out((weights @ v).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norms[1](x))
        return self.norms[2](x)


class Pruned(nn.Module):
    """Keeps the 6 rows of highest score, in their order: topk, sort, gather."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, x):
        places = self.score(x).squeeze(-1).topk(6, dim=1).indices.sort(dim=1).values
        return torch.gather(x, 1, places.unsqueeze(-1).expand(-1, -1, 16))


def rotary(x):
    angles = torch.arange(5.0)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    turned = torch.cat([-x[..., 4:], x[..., :4]], -1)
    return x * cos + turned * sin


def tanh_gelu(x):
    """Written out, which the converter folds into one op."""
    return 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3))))


def sums(x):
    y = x.cumsum(1) - x.mean(-1, keepdim=True) + x.amax(1, keepdim=True)
    return y + torch.logsumexp(x, -1)[..., None]


def whole(x):
    return (x // 3) * 2 + x % 3, torch.logical_or(x == 4, x > 7)


MODULES = {
    "block": (Block, (drawn(1, 3, 32, 32),)),
    "gelu": (lambda: Says(tanh_gelu), (drawn(3, 8),)),
    "pruned": (Pruned, (drawn(2, 12, 16),)),
    "attention": (lambda: Says(F.scaled_dot_product_attention),
                  tuple(drawn(1, 2, 7, 8, seed=s) for s in range(3))),
    "rotary": (lambda: Says(rotary), (drawn(1, 2, 5, 8),)),
    "swiglu": (lambda: Says(lambda x, y: F.silu(x) * y), (drawn(2, 8), drawn(2, 8, seed=1))),
    "convolutions": (lambda: nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid()),
        (drawn(1, 4, 10, 12),)),
    "pools": (lambda: nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, ceil_mode=True)),
              (drawn(1, 2, 11, 13),)),
    "picture": (lambda: nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReflectionPad2d(1),
        nn.PixelUnshuffle(2), nn.Upsample(scale_factor=3, mode="nearest")),
        (drawn(1, 3, 7, 9),)),
    "slices": (lambda: Says(lambda x: torch.cat([x[:, -2:], x[:, ::2].flip(-1), x[:, 1:2]], 1)),
               (drawn(2, 5, 4),)),
    "sums": (lambda: Says(sums), (drawn(2, 5, 4),)),
    "whole": (lambda: Says(whole), (torch.arange(-9, 12, dtype=torch.int32),)),
    "products": (lambda: Says(lambda x, y: torch.einsum("bhqc,bhkc->bhqk", x, y)),
                 (drawn(1, 2, 5, 4), drawn(1, 2, 7, 4, seed=1))),
    "normalised": (lambda: nn.Sequential(nn.InstanceNorm2d(4, affine=True), nn.GroupNorm(2, 4)),
                   (drawn(2, 4, 5, 6),)),
}  # fmt: skip


@pytest.mark.parametrize("precision", ["FLOAT16", "FLOAT32"])
@pytest.mark.parametrize("name", MODULES)
def test_it_gives_what_torch_gives(name, precision, convert):
    make, args = MODULES[name]
    torch.manual_seed(0)
    module = make().eval().requires_grad_(False)
    program = MilProgram(convert(module, args, precision))
    main = program.functions["main"]
    feeds = {n: a.numpy() for n, a in zip(main.inputs, args, strict=True)}
    found = list(program.call("main", feeds).values())
    want = module(*args)
    want = [w.numpy() for w in (want if isinstance(want, tuple) else (want,))]
    bound = 1e-2 if precision == "FLOAT16" else 1e-5
    for got, right in zip(found, want, strict=True):
        if right.dtype.kind in "ib":
            np.testing.assert_array_equal(got, right)
            continue
        error = np.abs(got.astype(np.float64) - right).max()
        assert error <= bound * np.abs(right).max(), error
        if precision == "FLOAT16":
            free = MilProgram(program.folder, rounding="float32").call("main", feeds)
            closer = np.abs(list(free.values())[found.index(got)] - right).max()
            assert closer <= error + 1e-6  # what is left without rounding is of the weights


def test_it_follows_the_program_and_not_the_source(convert):
    """coremltools 9 drops `approximate="tanh"` of an exported gelu: its numbers are of the op."""
    x = drawn(40, 40)
    program = MilProgram(convert(nn.GELU("tanh"), (x,), "FLOAT32"))
    (step,) = [s for s in program._plan("main").steps if s.op.type == "gelu"]
    kind = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}[step.fixed["mode"]]
    name = next(iter(program.functions["main"].inputs))
    (found,) = program.call("main", {name: x.numpy()}).values()
    apart = {k: float((torch.from_numpy(found) - F.gelu(x, approximate=k)).abs().max())
             for k in ("none", "tanh")}  # fmt: skip
    assert apart[kind] < 1e-6 and max(apart.values()) > 1e-4
