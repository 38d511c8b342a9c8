"""Packed rows give the logits of ordinary prompts, and stored folders are what loaders expect."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainers need: pip install 'edgevlm[torch]'")
transformers = pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")

from edgevlm.models.zoo.training import check, checkpoint, processor, spec  # noqa: E402
from edgevlm.models.zoo.training.packing import Packer, answer_logits  # noqa: E402

SMALL = spec.Spec(side=32, tower_layers=1, decoder_layers=2, decoder_hidden=64, positions=96)
ROWS = [
    [("is it red?", "yes"), ("where is the small blue circle?", "top left"), ("how many?", "3")],
    [("what colour is the leftmost of them all?", "blue")],
    [("is it red?", "no"), ("Where", "bottom right")],
]


@pytest.fixture(scope="module")
def made():
    """An untrained model, its tokenizer, and a picture a row."""
    torch.manual_seed(0)
    tokenizer = processor.build_tokenizer(
        SMALL, (q for row in ROWS for q, _ in row), (a for row in ROWS for _, a in row)
    )
    model = spec.build_model(SMALL, len(tokenizer)).eval()
    with torch.no_grad():  # the initial weights are too small for the questions to matter
        for weight in model.parameters():
            weight.mul_(3)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), np.uint8)
    return model, tokenizer, torch.from_numpy(pixels)


def test_packed_logits_are_those_of_separate_prompts(made):
    model, tokenizer, images = made
    packer = Packer(tokenizer, SMALL.image_tokens)
    assert check.packing_gap(model, packer, images, ROWS) < 1e-4
    packed = packer.pack(ROWS)
    with torch.no_grad():  # so small a gap says something only if pictures matter
        logits = [
            answer_logits(
                model,
                model.model.vision_tower(spec.normalise(shown)).last_hidden_state[:, 1:],
                packed,
            )
            for shown in (images, images.flip(0))
        ]
    assert (logits[0] - logits[1]).abs().max() > 1e-2
    ends = packed.target == spec.EOS
    assert packed.question[ends].tolist() == list(range(6))  # each answer is told to stop


def test_a_question_sees_neither_the_others_nor_padding(made):
    _, tokenizer, _ = made
    packer = Packer(tokenizer, SMALL.image_tokens)
    packed, alone = packer.pack(ROWS), packer.pack([ROWS[0][1:2]])
    place = int(packed.column[packed.question == 1][0])  # where the second answer is foretold
    seen = packed.mask[0, 0, place]
    end = int(alone.column[0]) + 1
    assert packed.ids[0][seen].tolist() == alone.ids[0, :end].tolist()
    assert packed.positions[0][seen].tolist() == list(range(end))


def test_a_stored_checkpoint_answers_alike_through_every_door(made, tmp_path):
    model, tokenizer, images = made
    checkpoint.write(SMALL, model, tokenizer, tmp_path / "made")
    names = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja",
            "preprocessor_config.json", "processor_config.json"} <= names  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
    found = check.both(tmp_path / "made", images, ROWS)
    assert found["same_answers"] == found["questions"] == 6 and found["packing_gap"] < 1e-4
    stored = transformers.LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "made", dtype=torch.float32
    ).state_dict()
    for name, weight in checkpoint.rounded(model).state_dict().items():
        assert torch.equal(stored[name], weight)


def test_any_text_can_be_encoded(made):
    _, tokenizer, _ = made
    for text in ("", "naïve ☃", "is it red?", "\x00\n\t"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_now_and_then_a_question_is_typed_carelessly():
    rng = np.random.default_rng(0)
    typed = [processor.vary(rng, "is it red?") for _ in range(2000)]
    assert set(typed) == {"is it red?", "Is it red?", "is it red", "Is it red"}
    assert 0.72 < typed.count("is it red?") / 2000 < 0.83
