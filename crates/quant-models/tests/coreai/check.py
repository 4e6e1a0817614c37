"""Compares `quant quantize --dialect coreai` with coreai-opt's `quantize_weights`, and `--dialect
coreai-torch` with its quantizer of torch models, on small models of random weights that coreai-torch
converts.

    python check.py QUANT [--golden FOLDER]

Prints a line per case: the same codes, scales and zero points at the same weights; bitwise the same
answers of coreai-core's runtime to the same inputs, function by function; and, of each model, that a
result in which nothing changes is the same files, and that the runtime runs what `quant dequantize`
restores. With --golden, writes small models and what coreai-opt makes of them, which the tests of the
command read.
Needs torch, coreai-core 1.0.0b3, coreai-opt 0.4.0, coreai-torch 0.4.3, scikit-learn; `cargo xtask
formats coreai` makes the environment.
"""

import asyncio
import copy
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import numpy as np
import torch
from torch import nn

import coreai.runtime
from coreai.authoring import AIModelAsset, AIProgram
from coreai_opt.coreai_utils import quantize_weights
from coreai_opt.coreai_utils._coreai_imports import WalkResult, _get_constant_value_as_np_array
from coreai_opt.common import ExportBackend
from coreai_opt.coreai_utils.common import CompressionGranularity, DType, QScheme
from coreai_opt.quantization import (
    ExecutionMode,
    ModuleQuantizerConfig,
    QuantizationSpec,
    Quantizer,
    QuantizerConfig,
)
from coreai_opt.quantization.spec import (
    PerBlockGranularity,
    PerChannelGranularity,
    QuantizationScheme,
)
from coreai_torch import TorchConverter, get_decomp_table

logging.disable(logging.WARNING)
FLOATS = {"f32": torch.float32, "f16": torch.float16}
GRANULARITIES = {
    "per-tensor": CompressionGranularity.PER_TENSOR,
    "per-channel": CompressionGranularity.PER_CHANNEL,
    "per-block": CompressionGranularity.PER_BLOCK,
}
SCHEMES = {"symmetric": QScheme.SYMMETRIC, "affine": QScheme.ASYMMETRIC}
# Options beside `--dialect coreai-torch`, and what they are to coreai-opt; the first is Apple's preset for
# language models.
TORCH = [
    ("", torch.int4, "symmetric", PerBlockGranularity(axis=None, block_size=32)),
    ("--mode affine", torch.int4, "affine", PerBlockGranularity(axis=None, block_size=32)),
    ("--dtype uint4 --mode affine --block-size 16 --granularity per-block", torch.uint4, "affine",
     PerBlockGranularity(axis=None, block_size=16)),
    ("--dtype int8 --granularity per-channel", torch.int8, "symmetric", PerChannelGranularity(axis=0)),
    ("--dtype uint8 --granularity per-channel", torch.uint8, "symmetric", PerChannelGranularity(axis=0)),
    ("--dtype int8 --mode affine --granularity per-channel", torch.int8, "affine",
     PerChannelGranularity(axis=0)),
]
TORCH_SCHEMES = {
    "symmetric": QuantizationScheme.SYMMETRIC_WITH_CLIPPING,
    "affine": QuantizationScheme.ASYMMETRIC,
}
MLIRB = "main.mlirb"


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(64, 48), nn.Linear(48, 40, bias=False)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Product(nn.Module):
    """Weights on either side of a product, without a transposition."""

    def __init__(self):
        super().__init__()
        self.right = nn.Parameter(torch.randn(64, 48))
        self.left = nn.Parameter(torch.randn(32, 64))

    def forward(self, x):
        return x @ self.right, self.left @ x.transpose(0, 1)


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(32, 64, 3), nn.ConvTranspose2d(64, 32, 3)
        self.grouped, self.line = nn.Conv2d(32, 64, 3, groups=2), nn.Conv1d(32, 32, 5)

    def forward(self, x):
        return self.grouped(self.second(torch.relu(self.first(x)))), self.line(x[:, :, 0])


class Tied(nn.Module):
    """One weight that two operations take."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(96, 64), nn.Linear(64, 96)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


class Block(nn.Module):
    def __init__(self, width=64, heads=4):
        super().__init__()
        self.heads, self.norm, self.norm2 = heads, nn.LayerNorm(width), nn.RMSNorm(width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=it) for it in (True, False, True))
        self.o = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        y = self.norm(x)
        split = lambda t: t.view(batch, length, self.heads, -1).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(
            split(self.q(y)), split(self.k(y)), split(self.v(y)), is_causal=True
        )
        x = x + self.o(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(nn.functional.silu(self.up(self.norm2(x))))


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(96, 64), nn.Linear(64, 48)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


def exported(model, *inputs):
    program = torch.export.export(model.eval(), inputs)
    return program.run_decompositions(get_decomp_table())


def programs():
    """Programs by their names, each with its float type."""
    for name, dtype in FLOATS.items():
        random = lambda *shape: torch.randn(*shape).to(dtype)
        models = {
            "linear": (Linear(), random(2, 64)),
            "product": (Product(), random(2, 64)),
            "convolution": (Convolution(), random(1, 32, 8, 8)),
            "tied": (Tied(), torch.tensor([[1, 2, 3, 95]])),
            "block": (Block(), random(1, 8, 64)),
        }
        for model, (module, given) in models.items():
            mode = TorchConverter.Mode.DEBUG if model == "tied" else TorchConverter.Mode.RELEASE
            converter = TorchConverter(mode=mode)
            converter.add_exported_program(exported(module.to(dtype), given))
            yield f"{model} {name}", converter.to_coreai()
        # The same weights in two functions, and others.
        shared, other = Linear().to(dtype), Product().to(dtype)
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        for entry, module, given in [
            ("main", shared, random(2, 64)),
            ("longer", shared, random(8, 64)),
            ("other", other, random(2, 64)),
        ]:
            converter.add_exported_program(exported(module, given), entrypoint_name=entry)
        yield f"functions {name}", converter.to_coreai()


def constant(operation):
    text = str(operation.attributes["value"])
    # numpy has no number of few bits, of which all are the same.
    if text.startswith("dense<") and any(f"i{bits}>" in text for bits in (2, 4)):
        return np.array([text])
    return _get_constant_value_as_np_array(operation.opview)


def torch_quantized(module, given, dtype, mode, granularity):
    """What coreai-opt makes of a torch model, as a program."""
    spec = QuantizationSpec(dtype=dtype, qscheme=TORCH_SCHEMES[mode], granularity=granularity)
    weights = ModuleQuantizerConfig(
        op_input_spec=None, op_output_spec=None, op_state_spec={"weight": spec}
    )
    config = QuantizerConfig(global_config=weights, execution_mode=ExecutionMode.EAGER)
    quantizer = Quantizer(copy.deepcopy(module).eval(), config)
    with torch.no_grad():
        quantizer.prepare((given,))(given)
    converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
    final = quantizer.finalize(backend=ExportBackend.CoreAI)
    return converter.add_exported_program(exported(final, given)).to_coreai()


def quantized(path):
    """Codes, scales, zero points of every quantized weight in a model, in the order of the program."""
    found = []
    program = AIProgram._load_bytecode(path / MLIRB)

    def visit(operation):
        if operation.name == "coreai.blockwise_shift_scale":
            parts = [operand.owner for operand in operation.operands]
            values = [constant(part) for part in parts]
            kinds = [str(part.results[0].type) for part in parts]
            found.append((kinds, values))
        return WalkResult.ADVANCE

    program._module._mlir_module.operation.walk(visit)
    return found


def answers(path):
    """What the runtime answers, function by function."""

    async def run():
        found = {}
        async with AIModelAsset.load(path).executable() as model:
            for name in sorted(model.function_names):
                function = model.load_function(name)
                random = np.random.default_rng(5)
                inputs = {}
                for given in function.desc.input_names:
                    wanted = function.desc.input_descriptor(given)
                    kind, shape = str(wanted.dtype), tuple(wanted.shape)
                    values = random.standard_normal(shape)
                    if "int" in kind:
                        values = random.integers(0, 90, shape)
                    inputs[given] = coreai.runtime.NDArray(values.astype(kind))
                for output, value in (await function(inputs)).items():
                    found[name, output] = value.numpy()
        return found

    return asyncio.run(run())


def same_answers(ours, theirs):
    ours, theirs = answers(ours), answers(theirs)
    assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
    return all(ours[key].tobytes() == theirs[key].tobytes() for key in theirs)


def same_weights(ours, theirs, in_order=True):
    ours, theirs = quantized(ours), quantized(theirs)
    if not in_order:
        # Another conversion may have its constants in another order.
        first = lambda weight: (weight[0], weight[1][0].tobytes())
        ours, theirs = sorted(ours, key=first), sorted(theirs, key=first)
    if [kinds for kinds, _ in ours] != [kinds for kinds, _ in theirs]:
        return False
    pairs = [pair for (_, a), (_, b) in zip(ours, theirs) for pair in zip(a, b)]
    return all(np.array_equal(a, b) for a, b in pairs)


class Checker:
    def __init__(self, quant, folder):
        self.quant, self.folder = quant, folder
        self.cases = self.equal = 0

    def run(self, *arguments):
        done = subprocess.run([self.quant, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def say(self, name, **found):
        self.cases += 1
        self.equal += all(found.values())
        words = ", ".join(f"{what.replace('_', ' ')}: {'yes' if it else 'NO'}" for what, it in found.items())
        print(f"  {name:60} {words}", flush=True)

    def path(self, name):
        path = self.folder / f"{name}.aimodel"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def unchanged(self, name, model):
        ours = self.path("ours")
        self.run("quantize", model, "--dialect", "coreai", "--min-elements", 10**9, "-o", ours)
        files = lambda folder: {it.name: it.read_bytes() for it in folder.iterdir()}
        self.say(f"{name}, nothing to quantize", same_files=files(ours) == files(model))

    def coreai(self, name, program, model, dtype, mode, granularity):
        theirs, ours, restored = self.path("theirs"), self.path("ours"), self.path("restored")
        made = quantize_weights(program, DType(dtype), SCHEMES[mode], GRANULARITIES[granularity])
        made.save_asset(theirs)
        options = ["--dtype", dtype, "--mode", mode, "--granularity", granularity]
        self.run("quantize", model, "--dialect", "coreai", *options, "-o", ours)
        self.run("dequantize", ours, "-o", restored)
        self.say(
            f"{name}, {dtype} {mode} {granularity}",
            same_weights=same_weights(ours, theirs),
            same_answers=same_answers(ours, theirs),
            restored_runs=not quantized(restored) and bool(answers(restored)),
        )

    def coreai_torch(self, name, module, given, options, *wanted):
        model, theirs, ours = self.path("model"), self.path("theirs"), self.path("ours")
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        converter.add_exported_program(exported(module, given)).to_coreai().save_asset(model)
        torch_quantized(module, given, *wanted).save_asset(theirs)
        self.run("quantize", model, "--dialect", "coreai-torch", *options.split(), "-o", ours)
        self.say(
            f"{name}, --dialect coreai-torch {options}",
            same_weights=same_weights(ours, theirs, in_order=False),
            same_answers=same_answers(ours, theirs),
        )


class Small(nn.Module):
    """A weight of two operations that agree, of a product, of a convolution, and one that stays."""

    def __init__(self):
        super().__init__()
        self.embedding, self.right = nn.Embedding(40, 32), nn.Parameter(torch.randn(32, 40))
        self.convolution, self.added = nn.Conv2d(32, 8, 3), nn.Parameter(torch.randn(40, 40))

    def forward(self, tokens):
        found = self.embedding(tokens)
        image = found.transpose(0, 1).reshape(1, 32, 5, 8)
        product = found @ self.right + found @ self.embedding.weight.transpose(0, 1)
        return product + self.added, self.convolution(image)


# Small models, and how coreai-opt quantizes each.
GOLDEN = {
    "int8": (torch.float32, DType.INT8, QScheme.SYMMETRIC, CompressionGranularity.PER_CHANNEL),
    "uint4": (torch.float16, DType.UINT4, QScheme.ASYMMETRIC, CompressionGranularity.PER_BLOCK),
}


def write_golden(folder):
    for name, (dtype, *wanted) in GOLDEN.items():
        converter = TorchConverter(mode=TorchConverter.Mode.RELEASE)
        small = Small().to(dtype)
        for entry in ("main", "again"):
            tokens = torch.arange(40)
            converter.add_exported_program(exported(small, tokens), entrypoint_name=entry)
        program = converter.to_coreai()
        program.save_asset(folder / name / "float.aimodel")
        quantize_weights(program, *wanted).save_asset(folder / name / "quantized.aimodel")


def main():
    quant = Path(sys.argv[1]).resolve()
    torch.manual_seed(3)
    if "--golden" in sys.argv:
        return write_golden(Path(sys.argv[sys.argv.index("--golden") + 1]))
    with tempfile.TemporaryDirectory() as folder:
        checker = Checker(quant, Path(folder))
        for name, program in programs():
            model = checker.path("model")
            program.save_asset(model)
            checker.unchanged(name, model)
            for dtype in ("int8", "uint8", "int4", "uint4", "int2", "uint2"):
                for mode in SCHEMES:
                    wide = ["per-tensor", "per-channel"] if dtype.endswith("8") else []
                    for granularity in [*wide, "per-block"]:
                        checker.coreai(name, program, model, dtype, mode, granularity)
        for name, dtype in FLOATS.items():
            for options, *wanted in TORCH:
                for model, (module, given) in {
                    "linear": (nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32)), torch.randn(2, 64)),
                    "embedding": (Embedding(), torch.tensor([[1, 2, 3, 95]])),
                    "block": (Block(), torch.randn(1, 8, 64)),
                }.items():
                    given = given if given.dtype == torch.int64 else given.to(dtype)
                    checker.coreai_torch(f"{model} {name}", module.to(dtype), given, options, *wanted)
    print(f"{checker.cases} cases, {checker.equal} equal")
    sys.exit(checker.cases != checker.equal)


if __name__ == "__main__":
    main()
