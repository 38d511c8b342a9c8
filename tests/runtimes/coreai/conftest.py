"""Bundles for Core AI, and graphs run by it.

apple                        a device whose runtime is coreai: the file of an iPhone, under a name
                             of its own; no file that ships names this runtime yet
compile_for_apple(out, ...)  `edgevlm compile` for it
plain                        such a bundle: float, all tokens
run_coreai({name: part})     one function of all of them: feeds by name__input -> name__output
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgevlm import devices
from edgevlm.compiler.bundle import Bundle
from edgevlm.compiler.quiet import quietly
from edgevlm.devices import read_devices
from edgevlm.runtimes.coreai import asset
from edgevlm.runtimes.coreai.calling import wait_for

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
#: an asset has no wider numbers
NARROW = {np.dtype("i8"): np.int32, np.dtype("f8"): np.float32}


@pytest.fixture(scope="session", autouse=True)
def coreai_is_here():
    pytest.importorskip("coreai_torch", reason="Core AI needs: pip install 'edgevlm[coreai]'")


@pytest.fixture(scope="session", autouse=True)
def apple(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("devices")
    for file in resources.files("edgevlm.devices.data").iterdir():
        if file.name.endswith(".toml"):
            (folder / file.name).write_text(file.read_text())
    phone = (folder / "iphone-17-pro.toml").read_text()
    for old, new in (
        ('id = "iphone-17-pro"', 'id = "apple-27"'),
        ('aliases = ["iphone", "a19-pro"]', "aliases = []"),
        ('runtime = "coreml"', 'runtime = "coreai"'),
    ):
        assert phone.count(old) == 1
        phone = phone.replace(old, new)
    (folder / "apple-27.toml").write_text(phone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "list_devices", lambda: read_devices(folder))
        yield "apple-27"


@pytest.fixture(scope="session")
def compile_for_apple(apple, compile_tiny):
    def run(out: Path, **options: object) -> Bundle:
        return compile_tiny(out, apple, **options)

    return run


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, compile_for_apple) -> Bundle:
    return compile_for_apple(tmp_path_factory.mktemp("coreai") / "plain")


def side_by_side(parts: Mapping[str, ir.Model]) -> Any:
    """Parts that have nothing to do with each other as one function: exporting takes long."""
    import torch

    from edgevlm.compiler.to_torch.exported import PartWithState, example_of
    from edgevlm.runtimes.coreai.lower import COREAI, Function

    nets = {name: PartWithState(part, COREAI) for name, part in parts.items()}

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nets = torch.nn.ModuleList(nets.values())

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            left, made = list(values), []
            for net in self.nets:
                made += net(*(left.pop(0) for _ in net.inputs))
            return tuple(made)

    example = [v for n, net in nets.items() for v in example_of(parts[n], net.inputs)]
    net = Net().eval().requires_grad_(False)
    return Function(
        torch.export.export(net, tuple(example), strict=False),
        [f"{name}__{port}" for name, net in nets.items() for port in net.inputs],
        [f"{name}__{port}" for name, net in nets.items() for port in net.outputs],
    )


@pytest.fixture(scope="session")
def run_coreai(tmp_path_factory: pytest.TempPathFactory):
    def make(parts: Mapping[str, ir.Model]) -> Run:
        """Of feeds by PART__INPUT; outputs by PART__OUTPUT."""
        from edgevlm.runtimes.coreai.lower import write_asset

        path = tmp_path_factory.mktemp("graphs") / "graphs.aimodel"
        with quietly():
            write_asset({"all": side_by_side(parts)}, path)
            function = wait_for(asset._functions(path, {"all": "all"}))["all"]

        def run(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            given = {n: a.astype(NARROW.get(a.dtype, a.dtype)) for n, a in feeds.items()}
            made = wait_for(function(asset._arrays(given), {}))
            return {n: np.array(value.numpy()) for n, value in made.items()}

        return run

    return make
