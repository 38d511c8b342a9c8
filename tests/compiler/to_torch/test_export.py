"""torch.export takes a part: a static list of calls, no shape in it that is computed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the bridge needs: pip install 'edgevlm[torch]'")

from edgevlm.compiler.pass_manager import apply_unchecked  # noqa: E402
from edgevlm.compiler.reference import observe  # noqa: E402
from edgevlm.compiler.to_torch import to_torch  # noqa: E402
from edgevlm.passes import make_passes  # noqa: E402
from edgevlm.passes.pipelines import Flags, compose  # noqa: E402
from edgevlm.passes.tokens.schedule import parse_asked  # noqa: E402


class Positional(torch.nn.Module):
    """Tensors in, tensors out, in the order of the graph's ports."""

    def __init__(self, part) -> None:
        super().__init__()
        self.net = to_torch(part)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.net(dict(zip(self.net.inputs, values, strict=True))).values())


@pytest.fixture(scope="module", params=["all", "pruned"])
def model(request, tiny_model, tiny_probes):
    asked = {"all": None, "pruned": parse_asked("24", "prumerge", None)}[request.param]
    recipe = compose("host-cpu", "ort", Flags(asked), tiny_model)
    return apply_unchecked(tiny_model, make_passes(recipe), tiny_probes[:1])


@pytest.mark.parametrize("role", ["vision", "connector", "embed", "prefill", "decode"])
def test_an_exported_program_computes_what_onnx_runtime_does(role, model, tiny_probes, ort):
    part, feeds = model.parts[role], dict(observe(model, tiny_probes[:1]).feeds[0][role])
    net = Positional(part)
    values = tuple(torch.from_numpy(feeds[name].copy()) for name in net.net.inputs)
    program = torch.export.export(net, values, strict=False)
    with torch.no_grad():
        found = program.module()(*values)
    for (name, want), got in zip(ort(part, **feeds).items(), found, strict=True):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-3, atol=1e-3, err_msg=name)
    # parameters of the program are those of the part, and every size in it is a number
    assert len(program.state_dict) == len(list(net.parameters()))
    assert not program.range_constraints
    program.run_decompositions()
