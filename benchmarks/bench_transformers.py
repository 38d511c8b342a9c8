"""The compiled bundle against transformers' eager `generate`: same weights, CPU and questions.

The answerers take turns in blocks of 20 questions, so that a change of the machine's speed meets
all of them, and the first 3 of a block are not counted, so that nobody pays for the other's caches:
transformers (image processor, tokenizer, generate with KV cache), the source bundle (float, all
tokens), the compiled bundle (16 of 64 tokens, int8 weights). End to end: decoded picture in, text
out. transformers runs with 1 and with 2 threads; the faster one is what we compare with.

    python benchmarks/bench_transformers.py [-n 400]    writes benchmarks/results/transformers.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

import torch
import transformers
from results import write_result

from edgevlm.commands.compile import compile_model
from edgevlm.commands.compile_options import CompileOptions
from edgevlm.commands.session import open_for_answers
from edgevlm.compiler.bundle import open_bundle
from edgevlm.devices.stats import summarise
from edgevlm.models.datasets import load_dataset
from edgevlm.models.datasets.scoring import Tally
from edgevlm.models.processing.image import load_image
from edgevlm.models.zoo import bundled_folder
from edgevlm.passes.pipelines import Flags
from edgevlm.passes.tokens.schedule import parse_asked

CHECKPOINT = bundled_folder("easyvqa-tiny").parent / "checkpoint"
BUNDLES = {"source": Flags(), "compiled": Flags(parse_asked("16", "dart", None), "w8")}
BLOCK, WARM_UP = 20, 3


class Eager:
    """transformers' own pipeline on the checkpoint the parts were exported from."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.model = transformers.LlavaForConditionalGeneration.from_pretrained(
            CHECKPOINT, dtype=torch.float32
        ).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(CHECKPOINT)
        self.images = transformers.CLIPImageProcessorPil.from_pretrained(CHECKPOINT)

    def __call__(self, rgb: object, question: str) -> str:
        torch.set_num_threads(self.threads)
        text = "<s>USER: " + "<image>" * 64 + f"\n{question} ASSISTANT:"
        inputs = self.tokenizer(text, return_tensors="pt")
        pixels = self.images(rgb, return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            out = self.model.generate(
                **inputs, pixel_values=pixels, do_sample=False, max_new_tokens=8
            )
        return self.tokenizer.decode(
            out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        ).strip()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-n", type=int, default=400)
    n = parser.parse_args().n
    answerers = {"transformers, 1 thread": Eager(1), "transformers, 2 threads": Eager(2)}
    built = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in BUNDLES.items():
            path = Path(scratch) / f"{name}.edgevlm"
            built[name] = compile_model(
                "easyvqa-tiny", CompileOptions("cpu", path, flags, payoff="none")
            )
            opened = open_for_answers(open_bundle(path)).answerer
            answerers[name] = lambda rgb, q, opened=opened: opened.answer(rgb, q).text
        rows = load_dataset("easy-vqa", "test", limit=n).rows
        seconds = {name: [] for name in answerers}
        tallies = {name: Tally() for name in answerers}
        for at in range(0, n, BLOCK):
            block = [(load_image(row.image), row) for row in rows[at : at + BLOCK]]
            for name, answer in answerers.items():
                for rgb, row in block[:WARM_UP]:
                    answer(rgb, row.question)
                for rgb, row in block:
                    start = perf_counter()
                    text = answer(rgb, row.question)
                    seconds[name].append(perf_counter() - start)
                    tallies[name].add(text, row.answer, row.kind)
    summaries = {name: summarise(values, "measured-host") for name, values in seconds.items()}
    best = min((s.p50_ms, name) for name, s in summaries.items() if "transformers" in name)
    table = [
        {
            "answerer": name,
            **s.as_json(),
            "speed_vs_best_transformers": round(best[0] / s.p50_ms, 2),
            "accuracy": tallies[name].overall.accuracy,
        }
        for name, s in summaries.items()
    ]
    for row in table:
        print(row)
    write_result(
        "transformers",
        {
            "n": n,
            "block": BLOCK,
            "warmup_a_block": WARM_UP,
            "best_transformers": best[1],
            "rows": table,
            "compile": {
                k: {"seconds": v["seconds"], "peak_rss_mb": v["peak_rss_mb"], "bytes": v["bytes"]}
                for k, v in built.items()
            },
        },
    )


if __name__ == "__main__":
    main()
