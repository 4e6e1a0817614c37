"""Makes compressed-tensors-0.20.safetensors: what compressed-tensors computes for small, hurtful
tensors.

    pip install torch numpy pydantic loguru transformers
    pip install --no-deps compressed-tensors==0.20.0
    python make_compressed_tensors.py

For each float type T (f32, f16, bf16) the file holds `T.input`, some rows of 128 values. For each T,
number of bits B, mode M (symmetric, affine) and group size G it holds what `calculate_qparams` and
`quantize` make of these: `T.B.M.G.codes` (I8), `T.B.M.G.scales` and, if affine,
`T.B.M.G.zero_points` (I8). G is 128 for a scale per row. For G = 64 also `T.B.M.G.values`, of
`dequantize`.
"""

import os
import random

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import save_file

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
WIDTH = 128


def rows():
    random.seed(13)
    normal = lambda scale: [random.gauss(0, scale) for _ in range(WIDTH)]
    yield normal(0.02)
    yield normal(0.02)
    yield normal(3.0)
    yield [0.0] * WIDTH
    yield [(-0.0, 0.0)[i % 2] for i in range(WIDTH)]
    yield [0.37] * WIDTH
    yield [-1.75] * WIDTH
    yield [-abs(x) for x in normal(1.0)]
    yield [abs(x) for x in normal(1.0)]
    yield [1000 + x for x in normal(1.0)]
    yield [(-1) ** i * 2.5 for i in range(WIDTH)]
    # Whole and half steps: of 8 bits, of 4 bits, and with a zero point that turns ties round.
    yield [i - 64.0 for i in range(WIDTH)]
    yield [127.5] + [i / 2 - 31.75 for i in range(WIDTH - 1)]
    yield [-7.5, 7.5] + [i / 8 - 7.25 for i in range(WIDTH - 2)]
    yield [(i % 64) * 0.5 for i in range(WIDTH)]
    yield [(i % 32) * 0.5 - 0.5 for i in range(WIDTH)]
    yield [(i % 31) * 0.5 - 7.5 for i in range(WIDTH)]
    yield [-3.0, 252.0] + [i * 2 + 0.5 for i in range(WIDTH - 2)]
    # So small that scales are subnormal, or 0.
    yield [1e-6 * (i % 7 - 3) for i in range(WIDTH)]
    yield [6e-8 * (i % 3 - 1) for i in range(WIDTH)]
    yield [6e-8 * (i % 2) for i in range(WIDTH)]
    yield [-6e-8 * (i % 2) for i in range(WIDTH)]
    yield [1e-45 * (i % 5 - 2) for i in range(WIDTH)]
    yield [1e-39 * (i % 5) for i in range(WIDTH)]
    # Large, one far away, mostly zeros.
    yield [x * 9000 for x in normal(1.0)]
    yield [x if i % 64 else 40.0 for i, x in enumerate(normal(0.1))]
    yield [max(x - 1, 0.0) for x in normal(1.0)]


tensors = {}
for name, dtype in TYPES.items():
    inputs = torch.tensor(list(rows()), dtype=torch.float32).to(dtype)
    assert inputs.isfinite().all()
    tensors[f"{name}.input"] = inputs
    for bits in (4, 8):
        for mode in ("symmetric", "affine"):
            for group in (32, 64, 128):
                args = QuantizationArgs(
                    num_bits=bits,
                    symmetric=mode == "symmetric",
                    strategy="group",
                    group_size=group,
                    zp_dtype="torch.int8",
                )
                groups = inputs.reshape(len(inputs), -1, group)
                bounds = groups.amin(-1), groups.amax(-1)
                scales, zero_points = calculate_qparams(*bounds, args)
                codes = quantize(inputs, scales, zero_points, args, dtype=torch.int8)
                case = f"{name}.{bits}.{mode}.{group}"
                tensors |= {f"{case}.codes": codes, f"{case}.scales": scales}
                if mode == "affine":
                    tensors[f"{case}.zero_points"] = zero_points
                else:
                    assert not zero_points.any()
                if group == 64:
                    values = dequantize(codes, scales, zero_points, args)
                    tensors[f"{case}.values"] = values
folder = os.path.dirname(os.path.abspath(__file__))
path = os.path.join(folder, "compressed-tensors-0.20.safetensors")
tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
save_file(tensors, path, metadata={"compressed-tensors": "0.20.0"})
