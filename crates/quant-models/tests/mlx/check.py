"""Compares `quant quantize --format mlx` with `mlx_lm.convert -q`, on small models of random weights.

    python check.py QUANT [--golden FOLDER]

Prints a line per case: the same tensors, configuration and index; and, of some, that mlx_lm loads
the folder and generates the same tokens, and that `quant dequantize` gives what MLX gives.
With --golden, writes small models and what mlx_lm makes of them, which the tests of the command read.
Needs mlx, mlx-cpu, mlx-lm (0.32) and numpy; `cargo xtask formats` makes the environment.
"""

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm import utils
from mlx_lm.convert import mixed_quant_predicate_builder

HIDDEN = 128
COMMON = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 96,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "head_dim": 32,
    "torch_dtype": "float32",
    "eos_token_id": 2,
    "_name_or_path": "somewhere",
}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
# A family's configuration, beside the common one.
FAMILIES = {
    "llama": {"tie_word_embeddings": False},
    "llama-tied": {"model_type": "llama", "tie_word_embeddings": True},
    "llama-silent": {"model_type": "llama"},
    "mistral": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"tie_word_embeddings": False},
    "gemma": {},
    "gemma2": {
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "query_pre_attn_scalar": 32.0,
    },
    "phi3": {"rope_scaling": None, "original_max_position_embeddings": 256},
    "olmo2": {"tie_word_embeddings": False},
    "starcoder2": {"norm_epsilon": 1e-5, "tie_word_embeddings": True},
    "stablelm": {
        "layer_norm_eps": 1e-5,
        "use_qkv_bias": True,
        "partial_rotary_factor": 0.25,
    },
    "smollm3": {"tie_word_embeddings": True},
    "seed_oss": {"tie_word_embeddings": False, "attention_bias": False,
                 "attention_out_bias": False},
    "granite": {
        "logits_scaling": 8.0,
        "attention_multiplier": 0.1,
        "embedding_multiplier": 2.0,
        "residual_multiplier": 0.2,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    },
    "mixtral": {**EXPERTS, "tie_word_embeddings": False},
    "qwen2_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "shared_expert_intermediate_size": 64,
        "tie_word_embeddings": False,
    },
    "qwen3_moe": {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 64,
        "norm_topk_prob": True,
        "tie_word_embeddings": False,
    },
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "tie_word_embeddings": False},
    "phimoe": {
        **EXPERTS,
        "rope_scaling": {
            "long_factor": [1.0] * 16,
            "short_factor": [1.0] * 16,
            "long_mscale": 1.0,
            "short_mscale": 1.0,
            "type": "longrope",
        },
        "original_max_position_embeddings": 256,
    },
    "deepseek_v2": {
        "kv_lora_rank": 32,
        "q_lora_rank": 64,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 32,
        "v_head_dim": 32,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "moe_intermediate_size": 64,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "n_group": 1,
        "topk_group": 1,
        "num_key_value_heads": 4,
        "rope_scaling": {
            "type": "yarn",
            "factor": 2.0,
            "original_max_position_embeddings": 128,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    },
}
# How mlx-lm's stacks of experts are called on Hugging Face.
OF_ONE = {"mixtral": ("w1", "w2", "w3"), "phimoe": ("w1", "w2", "w3")}
DTYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def config_of(family, dtype, **more):
    config = {**COMMON, "model_type": family, **FAMILIES[family], **more}
    config["torch_dtype"] = NAMES[dtype]
    return config


def make(family, dtype, folder, shards=1, more={}):
    """A float model as it would be on Hugging Face."""
    config = config_of(family, dtype, **more)
    kind = config["model_type"]
    model_class, args = utils._get_classes(config)
    model = model_class(args.from_dict(config))
    mx.random.seed(7)
    weights = {}
    projections = OF_ONE.get(kind, ("gate_proj", "down_proj", "up_proj"))
    names = dict(zip(("gate_proj", "down_proj", "up_proj"), projections))
    for name, value in tree_flatten(model.parameters()):
        value = mx.random.normal(value.shape, scale=0.1).astype(DTYPES[dtype])
        if ".switch_mlp." in name:
            before, after = name.split(".switch_mlp.")
            after, end = after.split(".", 1)
            for expert in range(value.shape[0]):
                weights[f"{before}.experts.{expert}.{names[after]}.{end}"] = value[expert]
        else:
            weights[name] = value
    if config.get("tie_word_embeddings", kind == "llama") and kind in ("llama", "qwen2"):
        # A copy that loaders drop, as they do this buffer.
        weights["lm_head.weight"] = mx.zeros((96, HIDDEN), dtype=DTYPES[dtype])
    if kind == "llama":
        name = "model.layers.0.self_attn.rotary_emb.inv_freq"
        weights[name] = mx.zeros((16,), dtype=mx.float32)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 5]}')
    files = {}
    for place, name in enumerate(weights):
        file = "model.safetensors"
        if shards > 1:
            # So that experts of one layer lie in several files.
            file = f"model-{place % shards + 1:05}-of-{shards:05}.safetensors"
        files.setdefault(file, {})[name] = weights[name]
    for file, content in files.items():
        mx.save_safetensors(str(folder / file), content, metadata={"format": "pt"})
    if shards > 1:
        weight_map = {name: file for file, content in files.items() for name in content}
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return config


def convert(folder, to, bits, group, recipe=None):
    """What mlx_lm.convert does, without a tokenizer."""
    model, config = utils.load_model(folder, lazy=True)
    dtype = getattr(mx, config["torch_dtype"])
    cast = getattr(model, "cast_predicate", lambda _: True)
    flat = tree_flatten(model.parameters())
    model.load_weights(
        [(k, v.astype(dtype) if cast(k) and mx.issubdtype(v.dtype, mx.floating) else v)
         for k, v in flat]
    )
    predicate = recipe and mixed_quant_predicate_builder(recipe, model, group)
    with contextlib.redirect_stdout(io.StringIO()):
        model, config = utils.quantize_model(
            model, config, group, bits, quant_predicate=predicate
        )
    utils.save_model(to, model, donate_model=False)
    utils.save_config(config, to / "config.json")


def tensors(folder):
    found = {}
    for file in sorted(folder.glob("model*.safetensors")):
        content, metadata = mx.load(str(file), return_metadata=True)
        assert metadata == {"format": "mlx"}, metadata
        found.update(content)
    return found


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bytes(memoryview(a.view(mx.uint8))) == bytes(
        memoryview(b.view(mx.uint8))
    )


def read(folder, name):
    return json.loads((folder / name).read_text())


def compare(ours, theirs):
    """What differs, in a line; None where nothing does."""
    a, b = tensors(ours), tensors(theirs)
    if a.keys() != b.keys():
        return f"names: only ours {sorted(a.keys() - b.keys())[:4]}, only theirs {sorted(b.keys() - a.keys())[:4]}"
    for name in a:
        if not same(a[name], b[name]):
            return f"{name}: {a[name].dtype} {a[name].shape}, {b[name].dtype} {b[name].shape}"
    if (x := read(ours, "config.json")) != (y := read(theirs, "config.json")):
        keys = [key for key in x.keys() | y.keys() if x.get(key) != y.get(key)]
        return f"config.json: {[(key, x.get(key), y.get(key)) for key in keys]}"
    if list(x) != list(y):
        return "config.json: order of keys"
    name = "model.safetensors.index.json"
    if (x := read(ours, name)) != (y := read(theirs, name)):
        return f"index: {x['metadata']} {y['metadata']}"
    return None


def generate(folder):
    model, _ = utils.load_model(folder)
    tokens = mx.array([[1, 5, 9, 33]])
    for _ in range(12):
        logits = model(tokens)[:, -1, :]
        tokens = mx.concatenate([tokens, mx.argmax(logits, axis=-1)[:, None]], axis=1)
    return tokens.tolist(), logits.astype(mx.float32)


def restored(quantized, floats):
    """Whether floats are what MLX's own dequantize gives."""
    config = read(quantized, "config.json")["quantization"]
    stored, found = tensors(quantized), {}
    for name, value in stored.items():
        module = name.removesuffix(".weight")
        if f"{module}.scales" in stored and name.endswith(".weight"):
            spec = config.get(module, config)
            found[name] = mx.dequantize(
                value, stored[f"{module}.scales"], stored[f"{module}.biases"],
                spec["group_size"], spec["bits"],
            )
        elif not name.endswith((".scales", ".biases")):
            found[name] = value
    ours = {}
    for file in sorted(floats.glob("model*.safetensors")):
        ours.update(mx.load(str(file)))
    if ours.keys() != found.keys():
        return f"restored names {sorted(ours.keys() ^ found.keys())[:4]}"
    for name in ours:
        if not same(ours[name], found[name]):
            return f"restored {name}"
    if "quantization" in read(floats, "config.json"):
        return "restored config.json"
    return None


class Check:
    def __init__(self, quant, root):
        self.quant, self.root = quant, root
        self.cases, self.equal = 0, 0

    def run(self, *arguments):
        done = subprocess.run([self.quant, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)

    def case(self, title, family, dtype, bits, group, shards=1, deep=False, recipe=None, more={}):
        self.cases += 1
        folder = self.root / f"case{self.cases}"
        problem = None
        try:
            make(family, dtype, folder / "float", shards, more)
            convert(folder / "float", folder / "theirs", bits, group, recipe)
            options = ["--format", "mlx", "--bits", bits, "--group-size", group]
            if recipe:
                self.run("plan", folder / "float", *options, "-o", folder / "plan.json")
                edit(folder / "plan.json", folder / "theirs")
                options = ["--plan", folder / "plan.json"]
            self.run("quantize", folder / "float", *options, "-o", folder / "ours", "--quiet")
            problem = compare(folder / "ours", folder / "theirs") if not recipe else None
            if recipe:
                a, b = tensors(folder / "ours"), tensors(folder / "theirs")
                if a.keys() != b.keys() or not all(same(a[name], b[name]) for name in a):
                    problem = "tensors of the recipe"
            if deep and not problem:
                (a, x), (b, y) = generate(folder / "ours"), generate(folder / "theirs")
                if a != b or not mx.array_equal(x, y):
                    problem = f"tokens {a} {b}"
            if deep and not problem:
                self.run("dequantize", folder / "ours", "-o", folder / "back", "--quiet")
                problem = restored(folder / "ours", folder / "back")
                utils.load_model(folder / "back")
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        self.equal += problem is None
        print(f"{title:46} {'equal' if problem is None else problem}", flush=True)
        shutil.rmtree(folder)


def edit(path, theirs):
    """Writes what another folder's configuration says into a plan."""
    plan, config = json.loads(path.read_text()), read(theirs, "config.json")["quantization"]
    for tensor in plan["tensors"]:
        spec = config.get(tensor["name"].removesuffix(".weight"))
        if isinstance(spec, dict):
            tensor["quantize"] = {"bits": spec["bits"], "group_size": spec["group_size"]}
    path.write_text(json.dumps(plan))


def check(quant):
    with tempfile.TemporaryDirectory() as root:
        checks = Check(quant, Path(root))
        for family in FAMILIES:
            checks.case(f"{family} bf16, 4 bits, groups of 64", family, "bf16", 4, 64, deep=True)
        for family in ["llama", "mixtral", "qwen3_moe"]:
            for dtype in DTYPES:
                for bits in [2, 3, 4, 5, 6, 8]:
                    for group in [32, 64, 128]:
                        # Products of f16 in the same order, at least once for each width.
                        deep = group == 64 and dtype != "f16"
                        title = f"{family} {dtype}, {bits} bits, groups of {group}"
                        checks.case(title, family, dtype, bits, group, deep=deep)
        for family in ["llama", "mixtral", "qwen3_moe", "llama-tied"]:
            checks.case(f"{family} in 3 files", family, "bf16", 4, 64, shards=3, deep=True)
        odd = {"intermediate_size": 160, "moe_intermediate_size": 96}
        for family in ["llama", "mixtral", "qwen3_moe"]:
            title = f"{family}, rows that groups do not divide"
            checks.case(title, family, "f32", 4, 64, deep=True, more=odd)
        for recipe in ["mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6"]:
            checks.case(f"llama {recipe}, by a plan", "llama", "bf16", 4, 64, deep=True, recipe=recipe)
    print(f"{checks.cases} cases, {checks.equal} equal")
    return checks.cases == checks.equal


def golden(folder):
    """Small models, and what mlx_lm makes of them."""
    shutil.rmtree(folder, ignore_errors=True)
    small = {"hidden_size": 64, "head_dim": 16, "intermediate_size": 96, "vocab_size": 32,
             "num_hidden_layers": 1, "moe_intermediate_size": 64}
    cases = {}
    for family, dtype, bits, group, shards in [
        ("llama", "bf16", 4, 64, 1),
        ("mixtral", "f16", 3, 32, 2),
        ("qwen3_moe", "f32", 6, 64, 1),
    ]:
        make(family, dtype, folder / family / "float", shards, small)
        convert(folder / family / "float", folder / family / "mlx", bits, group)
        cases[family] = {"bits": bits, "group_size": group}
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    mx.set_default_device(mx.cpu)
    if "--golden" in sys.argv:
        golden(Path(sys.argv[sys.argv.index("--golden") + 1]))
    else:
        sys.exit(0 if check(sys.argv[1]) else 1)
