"""Compares `quant quantize --format compressed-tensors` with llm-compressor's `model_free_ptq`, on
small models of random weights.

    python check.py QUANT [--golden FOLDER]

Prints a line per case: how many tensors both quantize, and whether their bytes and the configuration
are equal; that transformers loads the folder, and how far its answers are from the float model's;
and that `quant dequantize` gives what compressed-tensors gives.
With --golden, writes small models and what model_free_ptq makes of them, which the tests of the
command read. Needs torch, transformers, compressed-tensors 0.20 and llmcompressor; `cargo xtask
formats` makes the environment.
"""

import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"
warnings.filterwarnings("ignore")

import torch
import transformers
from loguru import logger
from safetensors import safe_open
from safetensors.torch import save_file

with contextlib.redirect_stderr(io.StringIO()):
    from llmcompressor import model_free_ptq

logger.remove()
transformers.logging.set_verbosity_error()
logging.disable(logging.WARNING)

PRESETS = {"w4a16": "W4A16", "w4a16-asym": "W4A16_ASYM", "w8a16": "W8A16", "w8a8": "W8A8"}
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
COMMON = {
    "hidden_size": 256,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "max_position_embeddings": 128,
}
EXPERTS = {
    "moe_intermediate_size": 128,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "head_dim": 64,
}
MODELS = {
    "llama": ("Llama", {"tie_word_embeddings": False}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "qwen3-moe": ("Qwen3Moe", {**EXPERTS, "tie_word_embeddings": False}),
}


def make(kind, dtype, folder, shards, sizes={}):
    name, more = MODELS[kind]
    config = getattr(transformers, name + "Config")(**{**COMMON, **more, **sizes})
    torch.manual_seed(3)
    model = getattr(transformers, name + "ForCausalLM")(config).to(DTYPES[dtype])
    model.save_pretrained(folder)
    if shards == 1:
        return
    # save_pretrained cuts by size; here tensors of one layer lie in several files.
    tensors = read(folder)
    os.remove(folder / "model.safetensors")
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        some = {name: tensors[name] for name in list(tensors)[shard::shards]}
        save_file(some, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(some, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def read(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys()}
    return tensors


def files(folder):
    """Which tensors lie in which file."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            found[file.name] = sorted(opened.keys())
    return found


def same(a, b):
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def reference(folder, to, preset, ignored):
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        model_free_ptq(str(folder), str(to), scheme=PRESETS[preset], ignore=ignored, device="cpu")


def run(*arguments):
    subprocess.run([str(it) for it in arguments], check=True, stdout=subprocess.DEVNULL)


def compare(ours, theirs):
    """Tensors both quantize, those that differ, and what differs in the configurations."""
    mine, other = read(ours), read(theirs)
    differ = [name for name in mine if name in other and not same(mine[name], other[name])]
    scales = [name for name in mine if name.endswith("_scale")]
    missing = sorted(set(mine) ^ set(other))
    configs = [json.loads((it / "config.json").read_text()) for it in (ours, theirs)]
    for config in configs:
        quantization = config["quantization_config"]
        quantization.pop("ignore"), quantization.pop("version")
    return len(scales), differ, missing, configs[0] == configs[1]


def logits(folder):
    """A model's answers; none if transformers cannot load it (5.24: zero points; bytes of experts)."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    except RuntimeError:
        return None
    tokens = torch.arange(48).reshape(2, 24) % 96
    with torch.no_grad():
        return model(tokens).logits.float()


def case(quant, kind, dtype, preset, folder, shards):
    source = folder / f"{kind}-{dtype}-{shards}"
    if not source.exists():
        make(kind, dtype, source, shards)
    ours, theirs = folder / "ours", folder / "theirs"
    for each in (ours, theirs):
        shutil.rmtree(each, ignore_errors=True)
    run(quant, "quantize", source, "--format", "compressed-tensors", "--preset", preset, "-o",
        ours, "--quiet")
    ignored = json.loads((ours / "config.json").read_text())["quantization_config"]["ignore"]
    reference(source, theirs, preset, ignored)
    count, differ, missing, same_config = compare(ours, theirs)
    same_files = files(ours) == files(theirs)
    line = f"{kind:10} {dtype:4} {preset:10} {shards} file(s): {count} quantized tensors"
    good = not differ and not missing and same_config and same_files
    line += ", equal" if good else f", DIFFERENT {differ[:3]} {missing[:3]} {same_config} {same_files}"
    expected, own, other = logits(source), logits(ours), logits(theirs)
    if own is None or other is None:
        line += "; transformers loads " + ("neither" if own is other else "ONE ONLY")
        good &= own is other
    else:
        error = ((own - expected).norm() / expected.norm()).item()
        line += f"; answers off by {error:.3f}" + ("" if torch.equal(own, other) else ", OTHERS")
        good &= torch.equal(own, other) and error < 0.5
    back = folder / "back"
    shutil.rmtree(back, ignore_errors=True)
    run(quant, "dequantize", ours, "-o", back, "--quiet")
    config = json.loads((back / "config.json").read_text())
    restored = read(back)
    original = read(source)
    shapes = {name: tensor.shape for name, tensor in restored.items()}
    good &= shapes == {name: tensor.shape for name, tensor in original.items()}
    good &= "quantization_config" not in config
    worst = max(
        ((restored[name].float() - original[name].float()).norm() / original[name].float().norm()).item()
        for name in original
    )
    line += f"; restored within {worst:.3f}"
    good &= worst < 0.2
    print(line, "" if good else "  <-- WRONG", flush=True)
    return good


def golden(folder):
    for kind, dtype, preset, shards in GOLDEN:
        place = folder / f"{kind}-{preset}"
        shutil.rmtree(place, ignore_errors=True)
        make(kind, dtype, place / "float", shards, SMALL)
        ignored = ["lm_head", "re:.*embed_tokens$", "re:.*mlp.gate$"]
        reference(place / "float", place / "compressed", preset, ignored)


SMALL = {"hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 1, "vocab_size": 16}
GOLDEN = [
    ("llama", "bf16", "w4a16", 2),
    ("llama-tied", "f16", "w4a16-asym", 1),
    ("llama", "bf16", "w8a8", 1),
    ("llama", "f16", "w8a16", 1),
]


def main():
    quant = sys.argv[1]
    if sys.argv[2:3] == ["--golden"]:
        return golden(Path(sys.argv[3]))
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in MODELS:
            for dtype in DTYPES:
                for preset in PRESETS:
                    shards = 2 if kind == "llama" else 1
                    results.append(case(quant, kind, dtype, preset, Path(folder), shards))
    print(f"{len(results)} cases, {sum(results)} equal")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
