"""SmolVLM and Idefics3 with random weights: export, prune, and the same answers as transformers.

No package carries the real checkpoint, so the architecture is real and the weights are not.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the HF frontend needs: pip install 'edgevlm[torch]'")
transformers = pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers  # noqa: E402

from edgevlm.compiler.executor import ReferenceParts  # noqa: E402
from edgevlm.compiler.generate import encode_image, generate  # noqa: E402
from edgevlm.models.answer import text_processor  # noqa: E402
from edgevlm.models.hf.checkpoint import Capacity, export_checkpoint  # noqa: E402
from edgevlm.passes.tokens.keep_tokens import KeepTokens  # noqa: E402

SPECIALS = (
    "<|im_start|>",
    "<end_of_utterance>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<pad>",
)
WORDS = [
    "User",
    ":",
    "Assistant",
    "What",
    "is",
    "in",
    "the",
    "picture",
    "how",
    "many",
    "red",
    "a",
    "of",
    "?",
    "\n",
]
TEMPLATE = (
    "<|im_start|>{% for m in messages %}User:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def tokenizer_json() -> str:
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, "<unk>", *dict.fromkeys(WORDS)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    return tokenizer.to_str()


@pytest.fixture(scope="module", params=["SmolVLM", "Idefics3"])
def checkpoint(request, tmp_path_factory):
    """A folder as save_pretrained writes it, 4 + 3 layers, 64 patches folded into 16 tokens."""
    folder = tmp_path_factory.mktemp(request.param)
    tokens = Tokenizer.from_str(tokenizer_json())
    ids = {t: tokens.token_to_id(t) for t in SPECIALS}
    torch.manual_seed(0)
    config = getattr(transformers, f"{request.param}Config")(
        vision_config={
            "image_size": 64,
            "patch_size": 8,
            "hidden_size": 48,
            "num_attention_heads": 4,
            "num_hidden_layers": 4,
            "intermediate_size": 96,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 128,
            "vocab_size": 64,
            "max_position_embeddings": 256,
            "pad_token_id": ids["<pad>"],
            "initializer_range": 0.3,
        },
        scale_factor=2,
        image_token_id=ids["<image>"],
        pad_token_id=ids["<pad>"],
    )
    model = getattr(transformers, f"{request.param}ForConditionalGeneration")(config)
    model.generation_config.eos_token_id = ids["<end_of_utterance>"]
    model.generation_config.pad_token_id = ids["<pad>"]
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end_of_utterance>"}
        )
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": f"{request.param}ImageProcessor",
                "do_image_splitting": True,
                "max_image_size": {"longest_edge": 64},
                "size": {"longest_edge": 256},
                "resample": 1,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "rescale_factor": 1 / 255,
            }
        )
    )
    return folder, model.eval(), ids


@pytest.fixture(scope="module")
def exported(checkpoint):
    return export_checkpoint(checkpoint[0], Capacity(prompt=24, answer=8))


QUESTIONS = ("What is in the picture ?", "how many red ?", "What of a red picture ?")


def answers(model, seed: int) -> list[list[int]]:
    pixels = np.random.default_rng(seed).standard_normal((1, 3, 64, 64)).astype(np.float32)
    parts = ReferenceParts(model.parts)
    text = text_processor(model.processor, model.tokenizer)
    image = encode_image(model.contract, parts, pixels)
    out = []
    for question in QUESTIONS:
        prompt = text.encode(question, model.contract.prompt_capacity)
        out.append(
            list(
                generate(
                    model.contract,
                    parts,
                    image,
                    prompt.before,
                    prompt.after,
                    text.eos_ids,
                    max_new=6,
                )
            )
        )
    return out


@pytest.mark.parametrize("seed", range(4))
def test_greedy_answers_equal_token_for_token(checkpoint, exported, seed) -> None:
    _, model, ids = checkpoint
    pixels = np.random.default_rng(seed).standard_normal((1, 3, 64, 64)).astype(np.float32)
    text = text_processor(exported.processor, exported.tokenizer)
    for question, got in zip(QUESTIONS, answers(exported, seed), strict=True):
        prompt = text.encode(question, 24)
        row = [*prompt.before, *[ids["<image>"]] * 16, *prompt.after]
        with torch.no_grad():
            out = model.generate(
                input_ids=torch.tensor([row]),
                attention_mask=torch.ones(1, len(row), dtype=int),
                pixel_values=torch.from_numpy(pixels)[None],
                do_sample=False,
                max_new_tokens=6,
            )
        want = out[0, len(row) :].tolist()
        ends = [i for i, token in enumerate(want) if token in text.eos_ids]
        assert got == want[: ends[0] if ends else None]


def test_prompt_is_the_processors(exported, checkpoint) -> None:
    ids = checkpoint[2]
    prompt = text_processor(exported.processor, exported.tokenizer).encode("how many red ?", 24)
    assert prompt.before[-2:] == (ids["<fake_token_around_image>"], ids["<global-img>"])
    assert prompt.after[0] == ids["<fake_token_around_image>"]
    assert exported.processor.image["resample"] == "lanczos"


@pytest.mark.parametrize("method", ["stride", "dart"])
def test_tokens_are_pruned_behind_the_pixel_shuffle(exported, method) -> None:
    """keep-tokens knows no family: budget, cache and answers hold for this one too."""
    pruned = KeepTokens(keep=5, method=method)(exported).model
    assert pruned.contract.kv_capacity == exported.contract.kv_capacity - 11
    assert list(pruned.parts["connector"].graph.outputs[0].shape) == [1, 5, 64]
    full = KeepTokens(keep=16, method=method)(exported)
    assert not full.changed
    assert all(answers(pruned, 0)), "a pruned model that answers nothing was not tested"
