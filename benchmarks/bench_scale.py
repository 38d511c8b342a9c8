"""Compile a model of full size: the architecture of SmolVLM-256M with random weights.

No package carries the real checkpoint. Its answers would be nonsense, but graphs, sizes, time and
memory are those of the real thing: 12 + 30 layers, 1024 patches, 64 image tokens, 49,280 words.

    python benchmarks/bench_scale.py        writes benchmarks/results/scale.json  (several minutes)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
import transformers
from results import write_result
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

SPECIALS = ("<pad>", "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>")
IMAGE = {
    "image_size": 512,
    "patch_size": 16,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "intermediate_size": 3072,
}
TEXT = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49280,
    "pad_token_id": 0,
    "max_position_embeddings": 8192,
}
TEMPLATE = (
    "User:{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
    "<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}{% endfor %}\nAssistant:"
)


def write_checkpoint(folder: Path) -> int:
    """A folder as save_pretrained writes it; returns the number of parameters."""
    tokenizer = Tokenizer(
        models.WordLevel({t: i for i, t in enumerate((*SPECIALS, "<unk>"))}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIALS])
    torch.manual_seed(0)
    config = transformers.SmolVLMConfig(
        vision_config=IMAGE,
        text_config=TEXT,
        scale_factor=4,
        image_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    model = transformers.SmolVLMForConditionalGeneration(config)
    model.generation_config.eos_token_id = 1
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end_of_utterance>"}
        )
    )
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "SmolVLMImageProcessor",
                "max_image_size": {"longest_edge": 512},
                "size": {"longest_edge": 2048},
                "resample": 1,
                "image_mean": [0.5] * 3,
                "image_std": [0.5] * 3,
                "rescale_factor": 1 / 255,
            }
        )
    )
    return sum(p.numel() for p in model.parameters())


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, bundle = Path(scratch) / "smolvlm", Path(scratch) / "b.edgevlm"
        checkpoint.mkdir()
        parameters = write_checkpoint(checkpoint)
        environment = {**os.environ, "EDGEVLM_CACHE": str(Path(scratch) / "cache")}
        runs = []
        for name in ("first compile", "again, exported parts from the cache"):
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "edgevlm.cli",
                    "compile",
                    str(checkpoint),
                    "--target",
                    "cpu",
                    "--tokens",
                    "32",
                    "--payoff",
                    "none",
                    "--quant",
                    "w8",
                    "-o",
                    str(bundle),
                    "--force",
                    "--json",
                ],
                check=True,
                capture_output=True,
                text=True,
                env=environment,
            )
            report = json.loads(done.stdout)
            runs.append(
                {"run": name, **{k: report[k] for k in ("seconds", "peak_rss_mb", "bytes")}}
            )
            print(runs[-1], flush=True)
        record = json.loads((bundle / "record.json").read_text())
        merged = next(p for p in record["passes"] if p["name"] == "merge-duplicates")
        shown = subprocess.run(
            [sys.executable, "-m", "edgevlm.cli", "inspect", str(bundle), "--json"],
            check=True,
            capture_output=True,
            text=True,
        )
        parts = {p["role"]: p for p in json.loads(shown.stdout)["parts"]}
        ops = Counter(parts["prefill"]["ops"])
    write_result(
        "scale",
        {
            "parameters": parameters,
            "n": 1,
            "runs": runs,
            "passes": [{"name": p["name"], "seconds": p["seconds"]} for p in record["passes"]],
            "merged": [n["why"] for n in merged["notes"]],
            "prefill_cos_sin": [ops["Cos"], ops["Sin"]],
            "parts": [
                {k: p[k] for k in ("role", "bytes", "macs", "drift")} for p in record["parts"]
            ],
        },
    )


if __name__ == "__main__":
    main()
