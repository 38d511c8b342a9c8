"""Training batches: a mirrored picture comes with the labels and answers of the mirrored scene."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainers need: pip install 'edgevlm[torch]'")
pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")

from edgevlm.models.zoo.scenes import data, dataset, facts, questions, scenes  # noqa: E402
from edgevlm.models.zoo.scenes.config import SPEC  # noqa: E402
from edgevlm.models.zoo.scenes.learner import Learner  # noqa: E402
from edgevlm.models.zoo.scenes.train import WEIGHTS  # noqa: E402
from edgevlm.models.zoo.training.packing import Packer  # noqa: E402
from edgevlm.models.zoo.training.processor import build_tokenizer  # noqa: E402
from edgevlm.models.zoo.training.spec import build_model  # noqa: E402

COUNT = 12


@pytest.fixture(scope="module")
def drawn():
    return data.Drawn(scenes.TRAIN, COUNT)


@pytest.fixture(scope="module")
def batch(drawn):
    return drawn.batch(np.random.default_rng(0), COUNT, 1)


def lay(scene, things, flip):
    """Labels of each patch, written out patch by patch from the things as they then lie."""
    owner, centre = (x[:, ::-1] if flip else x for x in facts.owners(scene, SPEC.patch))
    classes, figures = facts.labels(things)
    return (
        np.where(owner.reshape(-1, 1) < 0, -100, classes[np.maximum(owner, 0).reshape(-1)]),
        figures[np.maximum(owner, 0).reshape(-1)],
        centre.reshape(-1),
    )


def test_labels_turn_with_the_picture(drawn, batch):
    made = [scenes.make_scene(scenes.TRAIN, i) for i in range(COUNT)]
    flips = 0
    for image, classes, figures, centre in zip(
        batch.images, batch.classes, batch.figures, batch.centre, strict=True
    ):
        pixels = image.permute(1, 2, 0).numpy()
        (scene, flip), = [
            (s, f)
            for s in made
            for f in (False, True)
            if np.array_equal(pixels, s.image[:, ::-1] if f else s.image)
        ]  # fmt: skip
        flips += flip
        things = scenes.mirrored(scene.things) if flip else scene.things
        want = lay(scene, things, flip)
        assert np.array_equal(classes.numpy(), want[0]) and np.array_equal(centre.numpy(), want[2])
        owned = want[0][:, 0] > 0
        np.testing.assert_allclose(figures.numpy()[owned], want[1][owned], atol=1e-6)
    assert 0 < flips < COUNT


def test_one_question_of_every_kind_and_the_bits_of_its_scene(drawn, batch):
    for pairs in batch.rows:
        typed = [q if q.endswith("?") else f"{q}?" for q, _ in pairs]
        assert [questions.kind(q) for q in typed] == list(questions.KINDS)
    assert {tuple(b) for b in batch.bits.tolist()} == {tuple(b) for b in drawn.bits.tolist()}


def test_held_out_questions_are_those_of_the_data_set(drawn):
    rows = data.held_out(scenes.VALIDATION, 5, dataset.EACH)
    assert rows[3] == [(q, a) for _, q, a in dataset.asked(scenes.VALIDATION, 3)]
    whole = drawn.all([[] for _ in range(COUNT)])
    assert torch.equal(whole.images, drawn.images) and torch.equal(whole.bits, drawn.bits)


def test_every_loss_reaches_the_tower(batch):
    torch.manual_seed(0)
    tokenizer = build_tokenizer(
        SPEC, (q for row in batch.rows for q, _ in row), (a for row in batch.rows for _, a in row)
    )
    learner = Learner(build_model(SPEC, len(tokenizer)), tokenizer)
    assert learner.parameter_count() < 2_000_000
    losses = learner.losses(batch, Packer(tokenizer, SPEC.image_tokens).pack(batch.rows))
    assert set(losses) == {*WEIGHTS, "answer", "phrase"}
    weight = learner.model.model.vision_tower.embeddings.patch_embedding.weight
    for loss in losses.values():
        assert math.isfinite(loss.item())
        (grad,) = torch.autograd.grad(loss, weight, retain_graph=True)
        assert grad.abs().max() > 0


def test_easy_pictures_are_asked_as_many_questions_as_the_others():
    drawn = data.Drawn(scenes.TRAIN, 6, easy=4)
    assert [len(things) for things in drawn.things[6:]] == [1, 2, 1, 2]
    batch = drawn.batch(np.random.default_rng(0), 4, 2, easier=3, easy=3)
    assert [len(pairs) for pairs in batch.rows] == [13] * 4
    assert (batch.centre.sum(1) <= 2).tolist() == [True, True, True, False]
