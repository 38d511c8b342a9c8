"""The HF frontend against transformers itself: the same answers, token for token."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the HF frontend needs: pip install 'edgevlm[torch]'")
transformers = pytest.importorskip("transformers", reason="needs: pip install 'edgevlm[torch]'")
pytest.importorskip("easy_vqa", reason="the test images need: pip install 'edgevlm[data]'")

from edgevlm.compiler.executor import ReferenceParts  # noqa: E402
from edgevlm.compiler.validate import validate  # noqa: E402
from edgevlm.models.answer import Answerer  # noqa: E402
from edgevlm.models.datasets import load_dataset  # noqa: E402
from edgevlm.models.hf.checkpoint import Capacity, export_checkpoint  # noqa: E402
from edgevlm.models.processing.image import load_image  # noqa: E402
from edgevlm.models.zoo import BUNDLED, bundled_folder  # noqa: E402

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
QUESTIONS = 200


@pytest.fixture(scope="module")
def exported():
    return export_checkpoint(CHECKPOINT, Capacity(prompt=32, answer=8))


@pytest.fixture(scope="module")
def source():
    """transformers' own model, image processor and tokenizer on the same folder."""
    model = transformers.LlavaForConditionalGeneration.from_pretrained(
        CHECKPOINT, dtype=torch.float32
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(CHECKPOINT)
    images = transformers.CLIPImageProcessorPil.from_pretrained(CHECKPOINT)
    return model, tokenizer, images


def ask_transformers(source, rgb: np.ndarray, question: str) -> list[int]:
    model, tokenizer, images = source
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]}]
    template = (CHECKPOINT / "chat_template.jinja").read_text()
    text = tokenizer.apply_chat_template(
        chat, chat_template=template, add_generation_prompt=True, tokenize=False
    ).replace("<image>", "<image>" * 64)
    inputs = tokenizer(text, return_tensors="pt")
    pixels = images(rgb, return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    with torch.no_grad():
        out = model.generate(**inputs, pixel_values=pixels, do_sample=False, max_new_tokens=8)
    ids = out[0, inputs["input_ids"].shape[1] :].tolist()
    return [i for i in ids if i not in (tokenizer.eos_token_id, tokenizer.pad_token_id)]


def test_greedy_answers_equal_token_for_token(exported, source) -> None:
    answerer = Answerer(
        exported.contract, exported.processor, exported.tokenizer, ReferenceParts(exported.parts)
    )
    rows = load_dataset("easy-vqa", "test", limit=QUESTIONS).rows
    assert len(rows) == QUESTIONS
    for row in rows:
        rgb = load_image(row.image)
        want = ask_transformers(source, rgb, row.question)
        assert list(answerer.answer(rgb, row.question).token_ids) == want, row.question
        assert want, "transformers answered nothing, so equality would mean nothing"


def test_parts_are_static_and_at_opset_23(exported) -> None:
    validate(exported)
    assert set(exported.parts) == {"vision", "connector", "embed", "prefill", "decode"}
    assert {part.opset_imports[""] for part in exported.parts.values()} == {23}


def test_decoder_keeps_its_fused_ops(exported) -> None:
    ops = {node.op_type for node in exported.parts["decode"].graph}
    assert {"Attention", "RMSNormalization", "RotaryEmbedding"} <= ops
    assert "Expand" not in ops, "grouped kv heads were repeated"


def test_export_leaks_no_path_and_no_stack_trace(exported) -> None:
    import onnx_ir as ir

    for part in exported.parts.values():
        text = ir.to_proto(part).SerializeToString()
        assert b"/site-packages/" not in text and b"stack_trace" not in text


def test_committed_parts_are_those_of_the_committed_checkpoint(exported) -> None:
    from edgevlm.compiler.exported_model import load_model

    shipped = load_model(bundled_folder("easyvqa-tiny"))
    assert BUNDLED["easyvqa-tiny"].startswith("easyvqa/")
    assert shipped.source.digest == exported.source.digest
    assert shipped.contract == exported.contract
    for role, part in exported.parts.items():
        ours = {n: v.const_value.numpy() for n, v in shipped.parts[role].graph.initializers.items()}
        theirs = {n: v.const_value.numpy() for n, v in part.graph.initializers.items()}
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[n], theirs[n]) for n in ours)
