"""The VLMs that ship: small, complete, the weights of the log, as good as the README says."""

import json

import numpy as np
import pytest

from edgevlm.compiler.executor import ReferenceParts
from edgevlm.compiler.exported_model import load_model
from edgevlm.models.answer import Answerer
from edgevlm.models.datasets import load_dataset
from edgevlm.models.datasets.scoring import Tally
from edgevlm.models.zoo import bundled_folder

MOST_BYTES = 8_000_000
TEST_SET = {"easyvqa-tiny": "easy-scenes", "scenes-tiny": "scenes"}


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def final(name):
    lines = (bundled_folder(name).parent / "train.log.jsonl").read_text().splitlines()
    return json.loads(lines[-1])


@pytest.mark.parametrize("name", TEST_SET)
def test_small_and_complete(name):
    folder = bundled_folder(name)
    assert size(folder) <= MOST_BYTES and size(folder.parent / "checkpoint") <= MOST_BYTES
    model = load_model(folder)
    assert model.source.name == name and set(model.parts) >= {"vision", "prefill", "decode"}
    kinds = load_dataset(TEST_SET[name], "test", limit=200).kinds
    assert len(model.probes) % len(kinds) == 0 and all(p.answer for p in model.probes)


@pytest.mark.parametrize("name", TEST_SET)
def test_the_exported_weights_are_the_checkpoint(name):
    """The token table is in both; a checkpoint trained again must be exported again."""
    safetensors = pytest.importorskip("safetensors.numpy", reason="edgevlm[torch]")
    stored = safetensors.load_file(bundled_folder(name).parent / "checkpoint/model.safetensors")
    (table,) = [v for k, v in stored.items() if k.endswith("embed_tokens.weight")]
    weights = load_model(bundled_folder(name)).parts["embed"].graph.initializers.values()
    assert any(
        w.shape == table.shape and np.array_equal(w.const_value.numpy(), table.astype(np.float32))
        for w in weights
    )


@pytest.mark.parametrize("name", TEST_SET)
def test_as_good_as_the_log_says(name):
    """A sample of the test set, answered by ONNX Runtime, lies where the log puts the whole."""
    model = load_model(bundled_folder(name))
    answerer, tally = (
        Answerer(model.contract, model.processor, model.tokenizer, ReferenceParts(model.parts)),
        Tally(),
    )
    for row in load_dataset(TEST_SET[name], "test", limit=150).rows:
        tally.add(answerer.answer(row.image, row.question).text, row.answer, row.kind)
    figures = final(name)
    logged = figures["test" if name == "scenes-tiny" else "easy_scenes"]["overall"]
    low, high = tally.overall.interval
    assert low - 0.02 <= logged <= high + 0.02
