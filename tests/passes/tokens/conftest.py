"""The kit: every method of the registry, at every kind of site it declares, in a miniature.

method_at                every (method, site) there is, a test each: a new method needs no line here
own_at                   each method at the site it names first, for what no site can change
leaving_at               every (method, site) where tokens that leave do not return
equivariant_at           those of methods that say that they do not go by place
place(method, at, keep)  the method in the miniature: `Placed`, whose `choose(rows)` asks the graph
host(at, grid)           the miniature for a site: one decoder layer, where the site is in front
put_in(model, ...)       the same in any model, never cached, with a spy on what was decided
small(...)               the miniature: 4 x 5 tokens, 3 vision blocks, 3 decoder layers, 4 heads
hostile(N, width)        features that a method has to live with, by name
select(method, x, keep)  a method that needs features alone, on nothing but those
llama, vit               an independent float64 Llama, and a ViT, that show all they computed
tiny_vit                 the bundled model's encoder by it
in_encoder(prune, K)     the bundled model with K tokens left at the method's sites, its budgets by
                         site, and pictures of probes that it answered
insert(model, ...)       one more node in the prefill of a model
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.pass_manager import run_passes
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes import make_passes
from edgevlm.passes.pipelines import Flags, compose
from edgevlm.passes.tokens.forms import FORMS
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.schedule import parse_asked
from edgevlm.passes.tokens.sites import Site
from edgevlm.passes.tokens.view import View


def _load(name: str) -> ModuleType:
    """A neighbour; under importlib mode no test file can import one."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"token_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


kit = _load("kit")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """No parameter that would have to be skipped is generated."""
    which = {
        "method_at": lambda: kit.EVERYWHERE,
        "own_at": lambda: kit.OWN,
        "leaving_at": lambda: [c for c in kit.EVERYWHERE if METHODS[c[0]].restore == "none"],
        "equivariant_at": lambda: [
            c for c in kit.EVERYWHERE if METHODS[c[0]].permutation == "equivariant"
        ],
    }
    for name in which:
        if name in metafunc.fixturenames:
            those = which[name]()
            metafunc.parametrize(name, those, ids=[f"{m}@{at}" for m, at in those])


@pytest.fixture(scope="session")
def small(make_micro):
    """small(grid=(4, 5)): shared, not to be edited."""

    sizes = {"layers": kit.LAYERS, "tower": kit.BLOCKS, "width": 16, "heads": 4, "kv_heads": 2}

    @functools.cache
    def make(grid: tuple[int, int], other: tuple[tuple[str, object], ...]) -> ExportedModel:
        return make_micro(grid=grid, **sizes | dict(other))

    return lambda grid=(4, 5), **other: make(grid, tuple(sorted(other.items())))


@pytest.fixture(scope="session")
def observed():
    """observed(model) -> Reference: what a method that is calibrated is handed."""
    return kit.observed


@pytest.fixture(scope="session")
def put_in():
    """put_in(model, method, at, keep, ...) -> Placed."""
    return kit.put


@pytest.fixture(scope="session")
def host(small):
    return lambda at, grid=(4, 5): small(grid, layers=kit.layers_for(at))


@pytest.fixture(scope="session")
def place(host):
    """place(method, at, keep, grid=..., form=..., position=...) -> Placed; each is built once."""

    @functools.cache
    def make(method: str, at: str, keep: int, grid=(4, 5), form="ort", position="original"):
        return kit.put(host(at, grid), method, at, keep, form=form, position=position)

    return make


@pytest.fixture(scope="session")
def hostile():
    return kit.hostile


@pytest.fixture(scope="session")
def select(graph):
    """select(method, tokens [N,D], keep, form) -> index [K], by ONNX Runtime."""

    @functools.cache
    def session(method: str, count: int, width: int, keep: int, form: str):
        shape = f"float[1,{count},{width}]"
        part = graph(f"({shape} tokens) => ({shape} same) {{ same = Identity(tokens) }}")
        build = GraphBuilder(part, "select")
        tokens = build("Reshape", part.graph.inputs[0], build.const([count, width]))
        site = Site.at("connector-out")
        view = View(build, site, None, FORMS[form], method, keep, count, tokens, width)
        part.graph.outputs[0] = METHODS[method]().choose(view).index
        build.finish()
        return open_session(part)

    def run(method: str, tokens: np.ndarray, keep: int, form: str = "ort") -> np.ndarray:
        made = session(method, *tokens.shape, keep, form)
        return made.run(None, {"tokens": tokens[None].astype(np.float32)})[0]

    return run


@pytest.fixture(scope="session")
def llama() -> ModuleType:
    """llama.py: an independent float64 Llama that shows all it computed."""
    return _load("llama")


@pytest.fixture(scope="session")
def vit() -> ModuleType:
    """vit.py: an independent float64 ViT, and miniatures of plain ViTs."""
    return _load("vit")


@pytest.fixture(scope="session")
def tiny_vit(vit, llama):
    """The bundled model's encoder in float64."""
    folder = bundled_folder("easyvqa-tiny").parent / "checkpoint"
    return vit.Vit.of_checkpoint(llama._read_safetensors(folder / "model.safetensors"), 4)


@pytest.fixture(scope="session")
def in_encoder(tiny_model, tiny_probes):
    probes = tiny_probes[::6]

    def place(prune: str, tokens: str, at: str | None = None):
        recipe = compose("host-cpu", "ort", Flags(parse_asked(tokens, prune, at)), tiny_model)
        steps = [step for step in make_passes(recipe) if step.name == "keep-tokens"]
        made, record, seen = run_passes(tiny_model, steps, probes)
        assert record and all(a.changed for a in record) and all(map(len, seen.answers))
        budgets = {step.options.at: step.options.keep for step in steps}
        return made, budgets, [probe.pixel_values[0] for probe in probes]

    return place


@pytest.fixture(scope="session")
def insert():
    """insert(model, "q_0", "Add", array): prefill with one more node behind a value."""

    def edit(model: ExportedModel, name: str, op: str, *constants: np.ndarray, **attributes: int):
        part = model.parts["prefill"].clone()
        value = next(v for node in part.graph for v in node.outputs if v.name == name)
        uses, build = list(value.uses()), GraphBuilder(part, "inserted")
        made = build(op, value, *(build.const(c, np.float32) for c in constants), **attributes)
        made.shape, made.dtype = value.shape, value.dtype
        for node, position in uses:
            node.replace_input_with(position, made)
        build.finish()
        return model.with_parts(prefill=part)

    return edit
