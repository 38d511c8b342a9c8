"""A selector on its own: a graph that looks at tokens and says which it keeps."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from edgevlm.compiler.builder import GraphBuilder
from edgevlm.compiler.executor import open_session
from edgevlm.passes.tokens.selectors import SELECTORS


@pytest.fixture(scope="session")
def select(graph):
    """select(method, tokens [N,D], keep) -> index [K], by ONNX Runtime."""

    @functools.cache
    def session(method, count, width, keep):
        shape = f"float[1,{count},{width}]"
        part = graph(f"({shape} tokens) => ({shape} same) {{ same = Identity(tokens) }}")
        build = GraphBuilder(part, "select")
        part.graph.outputs[0] = SELECTORS[method](build, part.graph.inputs[0], keep)
        build.finish()
        return open_session(part)

    def run(method: str, tokens: np.ndarray, keep: int) -> np.ndarray:
        made = session(method, *tokens.shape, keep)
        return made.run(None, {"tokens": tokens[None].astype(np.float32)})[0]

    return run
