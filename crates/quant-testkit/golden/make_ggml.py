"""Makes ggml.safetensors: what ggml's reference quantizers make of small, hurtful blocks.

    pip install gguf==0.19.0 numpy safetensors scikit-build-core
    pip download --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36
    tar xzf llama_cpp_python-*.tar.gz && cd llama_cpp_python-*/vendor/llama.cpp/ggml
    gcc -O2 -ffp-contract=off -shared -fPIC -Iinclude -Isrc src/ggml-quants.c -o libquants.so -lm
    python make_ggml.py libquants.so

For each float type T (f32, f16, bf16) the file holds `T.input`, rows of 32 values of T as f32. For each
block type B it holds `T.B`, the bytes of `quantize_row_B_ref`, of the rows that it makes no infinity
of (`T.B.rows` are their numbers), and for f32 `B.values`, of `dequantize_row_B`. The script says how many of these
the package gguf computes otherwise: those where numpy takes another of two zeros for the smallest
or largest, and those whose scale has an infinite reciprocal, which is undefined in C as in numpy.
"""

import ctypes
import os
import random
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

BLOCKS = {"q8_0": 34, "q4_0": 18, "q4_1": 20, "q5_0": 22, "q5_1": 24}
LIBRARY = ctypes.CDLL(sys.argv[1], mode=os.RTLD_LAZY)


def rows():
    random.seed(11)
    normal = lambda scale: [random.gauss(0, scale) for _ in range(32)]
    for scale in (0.02, 1.0, 30.0, 2000.0, 1e5):
        yield normal(scale)
        yield normal(scale)
    # Zeros of both signs, alone and as the smallest.
    yield [0.0] * 32
    yield [-0.0] * 32
    yield [(-0.0, 0.0)[i % 2] for i in range(32)]
    yield [(0.0, -0.0)[i % 2] for i in range(32)]
    yield [(0.0, -0.0, 1.5)[i % 3] for i in range(32)]
    yield [(3.0, -0.0, 0.0, 1.5)[i % 4] for i in range(32)]
    yield [-abs(x) for x in normal(1.0)][:31] + [-0.0]
    # Constants, one value, one side.
    yield [0.37] * 32
    yield [-1.75] * 32
    yield [0.0] * 17 + [2.5] + [0.0] * 14
    yield [0.0] * 31 + [-2.5]
    yield [abs(x) for x in normal(1.0)]
    yield [-abs(x) for x in normal(1.0)]
    yield [1000 + x for x in normal(1.0)]
    # The largest magnitude with both signs: the first counts.
    yield [(-1) ** i * 2.5 for i in range(32)]
    yield [-((-1) ** i) * 2.5 for i in range(32)]
    yield normal(0.1)[:20] + [1.0, -1.0] + normal(0.1)[:10]
    yield normal(0.1)[:20] + [-1.0, 1.0] + normal(0.1)[:10]
    # Whole and half steps, of 8, 4 and 5 bits; neighbours of half steps.
    yield [127.0, -127.0] + [i + 0.5 for i in range(30)]
    yield [127.0] + [-i - 0.5 for i in range(31)]
    yield [-127.0] + [i * 4 + 0.5 for i in range(31)]
    yield [-8.0, 8.0] + [i / 2 - 7.5 for i in range(30)]
    yield [8.0] + [i / 2 - 7.5 for i in range(31)]
    yield [-16.0, 16.0] + [i - 14.5 for i in range(30)]
    yield [16.0] + [i - 14.5 for i in range(31)]
    yield [0.0, 15.0] + [i / 2 for i in range(30)]
    yield [0.0, 31.0] + [i + 0.5 for i in range(30)]
    yield [127.0] + [float(np.nextafter(np.float32(i + 0.5), np.float32(0))) for i in range(31)]
    yield [127.0] + [float(np.nextafter(np.float32(i + 0.5), np.float32(99))) for i in range(31)]
    # Scales that are subnormal or 0 as f16, and as f32; reciprocals that are infinite.
    for scale in (1e-4, 1e-6, 1e-8, 1e-30, 1e-37, 2e-38, 1e-38, 3e-39, 1e-42):
        yield normal(scale)
    for bits in (1, 2, 7, 8, 15, 16, 31, 64, 127, 128, 200):
        yield [2.0**-149 * (bits if i == 5 else -(i % (bits + 1))) for i in range(32)]
    # As large as f16 scales allow.
    for largest in (8.3e6, 9e5, 5.24e5, 65504.0):
        yield [largest] + normal(largest / 8)[1:]
    # Far apart.
    yield [x if i % 16 else 40.0 for i, x in enumerate(normal(0.1))]
    yield [10.0 ** (i % 8 - 4) * (-1) ** i for i in range(32)]
    yield [max(x - 1, 0.0) for x in normal(1.0)]


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def as_type(values, name):
    if name == "f16":
        return values.astype(np.float16).astype(np.float32)
    if name == "bf16":
        bits = values.view(np.uint32)
        bits = bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000
        return bits.astype(np.uint32).view(np.float32)
    return values


def is_left_open(row, block):
    """Whether zeros of both signs are bounds of the row, or its scale's reciprocal is infinite."""
    if np.signbit(row[row == 0]).any() and (row.min() == 0 or row.max() == 0):
        return True
    steps = {"q8_0": 127, "q4_0": 8, "q5_0": 16, "q4_1": 15, "q5_1": 31}[block]
    width = row.max() - row.min() if block.endswith("1") else abs(row).max()
    with np.errstate(over="ignore"):
        return np.isinf(np.float32(1) / (width / np.float32(steps)))


tensors = {}
differ = total = 0
for name in ("f32", "f16", "bf16"):
    with np.errstate(over="ignore"):
        inputs = as_type(np.array(list(rows()), dtype=np.float32), name)
    inputs = inputs[np.isfinite(inputs).all(axis=1)]
    tensors[f"{name}.input"] = inputs
    for block, size in BLOCKS.items():
        out = np.zeros((len(inputs), size), np.uint8)
        quantize = getattr(LIBRARY, f"quantize_row_{block}_ref")
        quantize(pointer(inputs), pointer(out), ctypes.c_int64(inputs.size))
        floats = out[:, : 4 if block.endswith("1") else 2].copy().view(np.float16)
        kept = np.isfinite(floats).all(axis=1)
        tensors[f"{name}.{block}.rows"] = np.nonzero(kept)[0].astype(np.uint8)
        tensors[f"{name}.{block}"] = out = np.ascontiguousarray(out[kept])
        with np.errstate(all="ignore"):
            kind = gguf.GGMLQuantizationType[block.upper()]
            again = gguf.quantize(inputs[kept], kind)
        for row, ours, theirs in zip(inputs[kept], out, again):
            if not (ours == theirs).all():
                assert is_left_open(row, block), (name, block, row, ours, theirs)
                differ += 1
        total += len(out)
        if name == "f32":
            values = np.zeros((len(out), 32), np.float32)
            dequantize = getattr(LIBRARY, f"dequantize_row_{block}")
            dequantize(pointer(out), pointer(values), ctypes.c_int64(values.size))
            assert np.array_equal(gguf.dequantize(out, kind).view(np.uint32), values.view(np.uint32))
            tensors[f"{block}.values"] = values
print(f"{total} blocks, of which gguf computes {differ} otherwise")
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "ggml.safetensors")
save_file(tensors, path, metadata={"gguf": "0.19.0", "llama-cpp-python": "0.3.36"})
