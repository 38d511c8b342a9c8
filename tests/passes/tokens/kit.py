"""A method of the registry at one site of a miniature VLM, and features that it has to live with.

conftest.py loads this file and hands it over as fixtures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256

import numpy as np
import onnx_ir as ir
import onnxruntime

from edgevlm.compiler.executor import open_session
from edgevlm.compiler.exported_model import ExportedModel
from edgevlm.compiler.reference import Reference, observe
from edgevlm.models.answer import inputs_of
from edgevlm.passes.tokens.forms import FORMS, Form
from edgevlm.passes.tokens.method import Method
from edgevlm.passes.tokens.methods import METHODS
from edgevlm.passes.tokens.placing import PLACES, Request
from edgevlm.passes.tokens.sites import Site, parse_site
from edgevlm.passes.tokens.view import Choice, View

__all__ = ["EVERYWHERE", "OWN", "Placed", "digests", "hostile", "observed", "put"]

LAYERS, BLOCKS = 3, 3  # of the miniature


def layers_for(at: str) -> int:
    """Decoder layers that a test of a site needs: what stands in front of them needs no more."""
    return LAYERS if at.startswith("llm") else 1


def _depth(method: type[Method], kind: str) -> int:
    """Where the method itself goes, or with something in front and something behind."""
    own = [s.depth for s in method().default_sites(LAYERS, BLOCKS) if s.kind == kind]
    return own[0] if own else 2 * (kind in ("vision", "llm"))


#: (method, site): every kind of site that a method declares
EVERYWHERE = [
    (name, str(Site.at(kind, _depth(method, kind))))
    for name, method in METHODS.items()
    for kind in method.sites
]
#: of those, where each method is at the kind of site that it names first
OWN = [(name, at) for name, at in EVERYWHERE if parse_site(at).kind == METHODS[name].sites[0]]
ROLE = {"vision": "vision", "vision-out": "vision", "connector-out": "connector", "llm": "prefill"}
WORDS_BEFORE = 2  # rows of words in front of the image, in a prompt of six


@dataclass
class Placed:
    """A method at one site of the miniature, and how to ask it."""

    before: ExportedModel
    model: ExportedModel
    site: Site
    method: Method
    seen: dict[str, bool] = field(default_factory=dict)  # what its Choice had: merges, counts
    notes: list[str] = field(default_factory=list)

    @property
    def role(self) -> str:
        return ROLE[self.site.kind]

    @property
    def count(self) -> int:
        return self.before.contract.image_tokens

    @property
    def index(self) -> str:
        return f"image_index_{self.site.depth}" if self.site.kind == "llm" else "image_index"

    @property
    def width(self) -> int:
        """Numbers that a token has in what its part is fed."""
        c = self.before.contract
        return {"vision": 12, "connector": c.vision_width, "prefill": c.width}[self.role]

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        return open_session(self.model.parts[self.role])

    def feeds(self, rows: np.ndarray, positions: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """[N,width] in the image's place of what the part is fed; all else is always the same."""
        rng, c = np.random.default_rng(9), self.before.contract
        rows = rows.astype(np.float32)
        if self.role == "vision":
            grid = rows.reshape(*c.grid, 3, 2, 2).transpose(2, 0, 3, 1, 4)
            return {"pixel_values": grid.reshape(1, 3, c.image_height, c.image_width)}
        if self.role == "connector":
            lead = rng.normal(size=(c.vision_tokens - len(rows), self.width))
            return {"image_features": np.concatenate([lead, rows])[None].astype(np.float32)}
        start, words = WORDS_BEFORE, rng.normal(size=(c.prompt_capacity, self.width))
        x = np.concatenate([words[:start], rows, words[start:]])[None].astype(np.float32)
        place = np.arange(x.shape[1])
        if positions is not None:
            place[start : start + len(rows)] = start + positions
        last = np.array([start + len(rows) + 2])  # three words behind, the last row is idle
        return {
            "inputs_embeds": x,
            "position_ids": place[None],
            "last_index": last,
            "image_start": np.array([start]),
        }

    def run(self, rows: np.ndarray, **more: np.ndarray) -> dict[str, np.ndarray]:
        names = [v.name for v in self.session.get_outputs()]
        fed = self.feeds(rows, **more)
        taken = {v.name for v in self.session.get_inputs()}
        out = self.session.run(names, {k: v for k, v in fed.items() if k in taken})
        return dict(zip(names, out, strict=True))

    def choose(self, rows: np.ndarray, **more: np.ndarray) -> np.ndarray:
        """Places kept, int64 [K], by ONNX Runtime with its optimiser off."""
        return self.run(rows, **more)[self.index]

    def rows(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(self.count, self.width))


def observed(model: ExportedModel) -> Reference:
    """What a model does on its probes, as the pass manager hands it to passes."""
    return observe(model, inputs_of(model))


def put(
    before: ExportedModel,
    method: Method | str,
    at: str,
    keep: int,
    *,
    form: str | Form = "ort",
    position: str = "original",
    spy: bool = False,
    bare: bool = False,
    **options: object,
) -> Placed:
    """Straight to the placing, without the conditions of the pass.

    spy: the part has further outputs: spy/tokens, spy/index, spy/content and spy/sizes.
    bare: the method's choice and nothing else of it, so that kept tokens stay what they were.
    """
    made = METHODS[method](**options) if isinstance(method, str) else method
    if made.calibrated:
        made.calibration = observed(before)
    form = FORMS[form] if isinstance(form, str) else form
    site, seen = parse_site(at), {}
    made.choose = _watching(made.choose, seen, spy, bare)
    request = Request(before, site, made, keep, form, position)
    model = PLACES[site.kind](request)
    return Placed(before, model, site, made, seen, [note.why for note in request.notes])


def digests(placed: Callable[[str, str], Placed]) -> dict[str, str]:
    """Of the bytes of every part that some method at some site has changed."""
    found = {}
    for name, at in EVERYWHERE:
        made = placed(name, at)
        for role, part in made.model.parts.items():
            if part is not made.before.parts[role]:
                data = ir.to_proto(part).SerializeToString(deterministic=True)
                found[f"{name}@{at}/{role}"] = sha256(data).hexdigest()
    return found


def _watching(
    choose: Callable[[View], Choice], seen: dict[str, bool], spy: bool, bare: bool
) -> Callable[[View], Choice]:
    def watch(view: View) -> Choice:
        choice = choose(view)
        seen.update(merges=choice.content is not None, counts=choice.sizes is not None)
        values = {"tokens": view.tokens, "index": choice.index, "content": choice.content}
        for name, value in (values | {"sizes": choice.sizes}).items() if spy else ():
            if value is not None:
                out = view.build("Identity", value)
                out.name = f"spy/{name}"
                out.dtype = ir.DataType.INT64 if name == "index" else ir.DataType.FLOAT
                view.build.graph.outputs.append(out)
        return Choice(choice.index) if bare else choice

    return watch


def hostile(count: int, width: int) -> dict[str, np.ndarray]:
    """float64 [count,width] by name."""
    plain = np.random.default_rng(0).normal(size=(count, width))
    half = count // 2

    def holding(value: object, *rows: int) -> np.ndarray:
        made = plain.copy()
        made[list(rows), 1] = value
        return made

    return {
        "random": plain,
        "constant": np.full((count, width), 3.5),
        "equal tokens": np.tile(plain[0], (count, 1)),
        "zeros": np.zeros((count, width)),
        "one token only": np.eye(count, width) * 7,
        "duplicates": np.repeat(plain[: count // 3 + 1], 3, axis=0)[:count],
        "all but equal": plain[0] + 1e-7 * plain,
        "opposites": np.concatenate([plain[:half], -plain[: count - half]]),
        "one direction": np.outer(np.arange(1, count + 1), plain[0]),
        "nan somewhere": holding(np.nan, 0, half),
        "nan everywhere": np.full((count, width), np.nan),
        "inf somewhere": holding(np.inf, 0, count - 1),
        "-inf somewhere": holding(-np.inf, half),
        "inf and nan": np.where(plain > 1, np.inf, np.where(plain < -1, np.nan, plain)),
        "inf everywhere": np.full((count, width), np.inf),
        "-inf everywhere": np.full((count, width), -np.inf),
        "inf in a row": np.where(np.arange(count)[:, None] == count // 3, np.inf, plain),
        "huge": plain * 1e38,
        "huge somewhere": holding(3e38, *range(half)),
        "tiny": plain * 1e-38,
        "subnormal": plain * 1e-42,
    }
