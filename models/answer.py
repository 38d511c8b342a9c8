"""A picture and a question in, words out: processor and tokenizer around the token loop.

A model without words gets a picture alone, and gives classes or a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from edgevlm.compiler.beside import Probe, ProbeInput, Processor
from edgevlm.compiler.contract import Contract
from edgevlm.compiler.errors import JobFault
from edgevlm.compiler.generate import ImageTokens, Trace, classify, encode_image, generate
from edgevlm.models.processing.preprocess import ImageProcessor
from edgevlm.models.processing.text import Prompt, PromptTemplate, StreamDecoder, TextProcessor

if TYPE_CHECKING:  # a device asks its bundle too, and has no onnx
    from edgevlm.compiler.executor import PartCaller
    from edgevlm.compiler.exported_model import ExportedModel

__all__ = [
    "Answer",
    "Answerer",
    "Viewer",
    "image_processor",
    "inputs_of",
    "map_samples",
    "probe_inputs",
    "same_samples",
    "text_processor",
]

#: values of a map that stand for it in a golden, evenly spread; a prime, so that they lie in
#: many columns
SAMPLES = 31
#: of the greatest of them; another machine rounds otherwise
SAMPLES_NEAR = 1e-3


@dataclass(frozen=True)
class Answer:
    """What came out, and what it took. `seconds` by stage; `decode` has one entry a token."""

    text: str
    token_ids: tuple[int, ...]
    seconds: dict[str, list[float]]


def text_processor(processor: Processor, tokenizer: bytes) -> TextProcessor:
    """Raises EV104 for a broken tokenizer, or a template without its two placeholders."""
    try:
        template = PromptTemplate(text=processor.template, image=processor.image_token)
    except ValidationError as error:
        raise JobFault(
            "EV104",
            "the prompt template of the model",
            error.errors()[0]["msg"],
            "export the model again, or take the bundle from where it was compiled",
        ) from error
    return TextProcessor(
        tokenizer, template, processor.image_token, processor.eos_ids, processor.bos_id
    )


def image_processor(contract: Contract, processor: Processor) -> ImageProcessor:
    """Raises EV103 (settings it cannot follow), EV106 (pictures of another size than the graph)."""
    try:
        images = ImageProcessor(**processor.image)
    except (ValidationError, TypeError) as error:
        why = error.errors()[0] if isinstance(error, ValidationError) else {"msg": str(error)}
        raise JobFault(
            "EV103",
            f"image processor, {'.'.join(map(str, why.get('loc', ()))) or 'its settings'}",
            str(why["msg"]),
            "export the model again, or take the bundle from where it was compiled",
        ) from error
    made, wanted = (images.height, images.width), (contract.image_height, contract.image_width)
    if made != wanted:
        raise JobFault(
            "EV106",
            "the image processor breaks the contract",
            f"it makes {made[0]} x {made[1]} pixels, the vision part takes "
            f"{wanted[0]} x {wanted[1]}",
            "export the model again, or pass the original checkpoint",
        )
    return images


class Answerer:
    """One model, opened: ask it as often as you like."""

    def __init__(
        self, contract: Contract, processor: Processor, tokenizer: bytes, parts: PartCaller
    ) -> None:
        self.contract, self.parts = contract, parts
        self.images = image_processor(contract, processor)
        self.text = text_processor(processor, tokenizer)

    def look(self, rgb: np.ndarray, trace: Trace | None = None) -> ImageTokens:
        """uint8 [H,W,3] -> image tokens, good for any number of questions."""
        trace = trace or Trace()
        start = perf_counter()
        pixels = self.images(rgb)
        trace.seconds.setdefault("preprocess", []).append(perf_counter() - start)
        return encode_image(self.contract, self.parts, pixels, trace)

    def prompt(self, question: str) -> Prompt:
        """The question as token ids. Raises EV120-EV123 (UsageFault), EV104 (JobFault)."""
        prompt = self.text.encode(question, self.contract.prompt_capacity)
        _check_ids(prompt, self.contract)
        return prompt

    def stream(
        self,
        image: ImageTokens,
        question: str,
        *,
        max_new: int | None = None,
        trace: Trace | None = None,
        ids: list[int] | None = None,
    ) -> Iterator[str]:
        """Pieces of the answer as they are decoded; `ids` collects the token ids.

        Raises EV120-EV123 (UsageFault) for a question that cannot be asked.
        """
        prompt = self.prompt(question)
        decoder = StreamDecoder(self.text)
        for token in generate(
            self.contract,
            self.parts,
            image,
            prompt.before,
            prompt.after,
            self.text.eos_ids,
            max_new=max_new,
            trace=trace,
        ):
            if ids is not None:
                ids.append(token)
            if piece := decoder.push(token):
                yield piece
        if rest := decoder.flush():
            yield rest

    def answer(
        self, rgb: np.ndarray | ImageTokens, question: str, *, max_new: int | None = None
    ) -> Answer:
        """One whole answer."""
        trace, ids = Trace(), []
        start = perf_counter()
        image = rgb if isinstance(rgb, ImageTokens) else self.look(rgb, trace)
        text = "".join(self.stream(image, question, max_new=max_new, trace=trace, ids=ids))
        trace.seconds["end_to_end"] = [perf_counter() - start]
        return Answer(text, tuple(ids), trace.seconds)


class Viewer:
    """A model without words, opened: show it as many pictures as you like."""

    def __init__(self, contract: Contract, processor: Processor, parts: PartCaller) -> None:
        self.parts, self.images = parts, image_processor(contract, processor)

    def look(self, rgb: np.ndarray, trace: Trace | None = None) -> np.ndarray:
        """uint8 [H,W,3] -> float32: logits [1,classes], or a map [1,channels,H',W']."""
        trace = trace or Trace()
        start = perf_counter()
        pixels = self.images(rgb)
        trace.seconds.setdefault("preprocess", []).append(perf_counter() - start)
        return classify(self.parts, pixels, trace)


def map_samples(seen: np.ndarray) -> str:
    """A map as a golden holds it: some of its values, in order."""
    flat = seen.reshape(-1)
    picked = flat[np.linspace(0, flat.size - 1, SAMPLES).round().astype(np.int64)]
    return " ".join(f"{value:.6g}" for value in picked)


def same_samples(text: str, golden: str) -> bool:
    """Whether two texts of `map_samples` are one map, but for rounding; not if either is broken."""
    try:
        a, b = (np.array([float(word) for word in said.split()]) for said in (text, golden))
    except ValueError:
        return False
    if a.shape != (SAMPLES,) or b.shape != a.shape:
        return False
    return bool((np.abs(a - b) <= SAMPLES_NEAR * np.abs(b).max()).all())  # a NaN is never near


def probe_inputs(
    contract: Contract, processor: Processor, tokenizer: bytes, probes: tuple[Probe, ...]
) -> list[ProbeInput]:
    """Probes as tensors and token ids."""
    images = image_processor(contract, processor)
    if contract.kind != "vlm":
        return [ProbeInput(images(p.image), truth=p.answer) for p in probes]
    text = text_processor(processor, tokenizer)
    prompts = [text.encode(p.question, contract.prompt_capacity) for p in probes]
    for prompt in prompts:
        _check_ids(prompt, contract)
    return [
        ProbeInput(images(p.image), q.before, q.after, p.answer, _said(text, p))
        for p, q in zip(probes, prompts, strict=True)
    ]


def inputs_of(model: ExportedModel, probes: Sequence[Probe] | None = None) -> list[ProbeInput]:
    """For a model: its own probes, or others."""
    shown = model.probes if probes is None else probes
    return probe_inputs(model.contract, model.processor, model.tokenizer, shown)


def _said(text: TextProcessor, probe: Probe) -> tuple[int, ...]:
    return text.answer_ids(probe.question, probe.answer) if probe.answer else ()


def _check_ids(prompt: Prompt, contract: Contract) -> None:
    """A tokenizer of another model would make the embedding read past its table."""
    top = max((*prompt.before, *prompt.after), default=0)
    if top >= contract.vocabulary:
        raise JobFault(
            "EV104",
            f"tokenizer.json gives token {top}",
            f"the model knows {contract.vocabulary} tokens, 0 to {contract.vocabulary - 1}",
            "take the tokenizer.json that belongs to the checkpoint",
        )
