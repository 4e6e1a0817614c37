"""Makes mlx-0.32.safetensors: what MLX itself computes on the CPU for small, hurtful tensors.

    pip install mlx==0.32.4 mlx-cpu==0.32.4
    python make_mlx.py

For each float type T (f32, f16, bf16) the file holds `T.input`, some rows of 128 values. For each T,
number of bits B and group size G it holds what `mlx.core.quantize` makes of these: `T.B.G.codes`
(U32, as MLX packs them), `T.B.G.scales` and `T.B.G.biases`; for groups of 64 also `T.B.G.values`, of
`mlx.core.dequantize`.
"""

import os
import random

import mlx.core as mx

TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}
WIDTH = 128


def rows():
    random.seed(7)
    normal = lambda scale: [random.gauss(0, scale) for _ in range(WIDTH)]
    yield normal(0.02)
    yield normal(3.0)
    yield [0.0] * WIDTH
    yield [0.37] * WIDTH
    yield [-1.75] * WIDTH
    yield [-abs(x) for x in normal(1.0)]
    yield [1000 + x for x in normal(1.0)]
    # The bounds are as large on both sides; on one side by very little.
    yield [(-1) ** i * 2.5 for i in range(WIDTH)]
    yield [(-1) ** i * 2.5 + (i == 5) * 0.01 - (i == 70) * 0.01 for i in range(WIDTH)]
    # Whole steps, half steps and what lies beside them.
    yield [float(i) for i in range(WIDTH)]
    yield [i / 2 for i in range(WIDTH)]
    yield [(i % 64) * 0.25 - 7.875 for i in range(WIDTH)]
    # So small that the least scale counts, and the edge's step is 0.
    yield [1e-8 * (i % 7 - 3) for i in range(WIDTH)]
    yield [3e-7 * (i % 5) for i in range(WIDTH)]
    # Large, one far away, mostly zeros, zeros of both signs.
    yield [x * 9000 for x in normal(1.0)]
    yield [x if i % 64 else 40.0 for i, x in enumerate(normal(0.1))]
    yield [max(x - 1, 0.0) for x in normal(1.0)]
    yield [(-0.0, 0.0)[i % 2] - (i == 64) for i in range(WIDTH)]


mx.set_default_device(mx.cpu)
tensors = {}
for name, dtype in TYPES.items():
    inputs = mx.array(list(rows())).astype(dtype)
    tensors[f"{name}.input"] = inputs
    for bits in (2, 3, 4, 5, 6, 8):
        for group in (32, 64, 128):
            codes, scales, biases = mx.quantize(inputs, group_size=group, bits=bits)
            case = f"{name}.{bits}.{group}"
            tensors |= {f"{case}.codes": codes, f"{case}.scales": scales, f"{case}.biases": biases}
            if group == 64:
                values = mx.dequantize(codes, scales, biases, group_size=group, bits=bits)
                tensors[f"{case}.values"] = values
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mlx-0.32.safetensors")
mx.save_safetensors(path, tensors, metadata={"mlx": mx.__version__})
