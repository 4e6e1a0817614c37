"""Makes coreai-opt-0.4.safetensors: what coreai-opt computes for small, hurtful tensors.

    pip install torch numpy ml_dtypes safetensors coreai-core==1.0.0b3
    pip install coreai-opt==0.4.0 coreai-torch==0.4.3
    python make_coreai.py

For each float type T (f32, f16, bf16) the file holds `T.input`, some rows of 128 values. For each
dialect D, T, integer type I, mode M (symmetric, affine) and group size G it holds what the reference
makes of these: `D.T.I.M.G.codes` (I8 or U8), `D.T.I.M.G.scales` and, where it has them,
`D.T.I.M.G.zero_points`. G is 128 for a scale per row.

D is `coreai`: the arithmetic of `coreai_opt.coreai_utils.quantize_weights`, which has no bf16; or
`coreai-torch`: coreai-opt's fake quantization of weights in torch, symmetric with clipping.
"""

import os
import random

import numpy as np
import torch
from coreai_opt.coreai_utils._coreai_imports import compression_types
from coreai_opt.coreai_utils._utils.quantize_utils import _compute_qparams_by_dtype
from coreai_opt.coreai_utils.common import DType, QScheme
from coreai_opt.quantization.spec.fake_quantize import _quantize_int
from coreai_opt.quantization.spec.qscheme import QuantizationScheme
from safetensors.torch import save_file
from torchao.quantization.quant_primitives import choose_qparams_affine_with_min_max

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
WIDTH = 128


def rows():
    random.seed(17)
    normal = lambda scale: [random.gauss(0, scale) for _ in range(WIDTH)]
    yield normal(0.02)
    yield normal(3.0)
    yield [0.0] * WIDTH
    yield [(-0.0, 0.0)[i % 2] for i in range(WIDTH)]
    yield [0.37] * WIDTH
    yield [-1.75] * WIDTH
    yield [-abs(x) for x in normal(1.0)]
    yield [100 + x for x in normal(1.0)]
    yield [(-1) ** i * 2.5 for i in range(WIDTH)]
    # Whole and half steps: of 8 bits, of 4 bits, of 2 bits.
    yield [i - 64.0 for i in range(WIDTH)]
    yield [127.0] + [i / 2 - 31.75 for i in range(WIDTH - 1)]
    yield [-7.0, 7.0] + [i / 8 - 7.25 for i in range(WIDTH - 2)]
    yield [(i % 64) * 0.5 for i in range(WIDTH)]
    yield [(i % 31) * 0.5 - 7.5 for i in range(WIDTH)]
    yield [-3.0, 252.0] + [i + 0.5 for i in range(WIDTH - 2)]
    # Where the epsilon counts.
    yield [2e-5 * (i % 7 - 3) for i in range(WIDTH)]
    # One far away, mostly zeros.
    yield [x if i % 64 else 40.0 for i, x in enumerate(normal(0.1))]
    yield [max(x - 1, 0.0) for x in normal(1.0)]


def coreai(inputs, dtype, mode, group):
    scheme = {"symmetric": QScheme.SYMMETRIC, "affine": QScheme.ASYMMETRIC}[mode]
    builtin = compression_types.string_to_builtin(DType(dtype))
    with np.errstate(all="ignore"):
        made = _compute_qparams_by_dtype(inputs.numpy(), builtin, scheme, [1, group])
    return [part if part is None else torch.from_numpy(part) for part in made]


def coreai_torch(inputs, dtype, mode, group):
    bits, signed = int(dtype.lstrip("uint")), dtype[0] == "i"
    scheme = {
        "symmetric": QuantizationScheme.SYMMETRIC_WITH_CLIPPING,
        "affine": QuantizationScheme.ASYMMETRIC,
    }[mode]
    target = torch.int8 if signed else torch.uint8
    low = -(2 ** (bits - 1)) if signed else 0
    low, high = QuantizationScheme._maybe_clip_bounds(scheme, target, low, low + 2**bits - 1)
    groups = inputs.reshape(len(inputs), -1, group)
    # As `StaticQParamsCalculator` has it.
    scales, zero_points = choose_qparams_affine_with_min_max(
        min_val=torch.clamp(groups.amin(-1), max=0),
        max_val=torch.clamp(groups.amax(-1), min=0),
        mapping_type=QuantizationScheme._to_mapping_type(scheme),
        block_size=(1, group),
        target_dtype=target,
        quant_min=low,
        quant_max=high,
        eps=torch.finfo(torch.float32).eps,
        zero_point_dtype=torch.int32,
    )
    # The calculator keeps scales in f32.
    buffer = scales.to(torch.empty(0).dtype)
    codes, _ = _quantize_int(
        groups, buffer.unsqueeze(-1), zero_points.unsqueeze(-1), 0.0, low, high
    )
    stored = zero_points.to(target) if mode == "affine" or not signed else None
    assert stored is not None or not zero_points.any()
    return codes.reshape(inputs.shape).to(target), scales, stored


tensors = {}
for name, float_type in TYPES.items():
    inputs = torch.tensor(list(rows()), dtype=torch.float32).to(float_type)
    assert inputs.isfinite().all()
    tensors[f"{name}.input"] = inputs
    for dialect, make, types in [
        ("coreai", coreai, ["int2", "uint2", "int4", "uint4", "int8", "uint8"]),
        ("coreai-torch", coreai_torch, ["int4", "uint4", "int8", "uint8"]),
    ]:
        if (dialect, name) == ("coreai", "bf16"):
            continue
        for dtype in types:
            for mode in ("symmetric", "affine"):
                for group in (32, 128) if dtype.endswith("8") else (32,):
                    codes, scales, zero_points = make(inputs, dtype, mode, group)
                    case = f"{dialect}.{name}.{dtype}.{mode}.{group}"
                    tensors |= {f"{case}.codes": codes, f"{case}.scales": scales}
                    if zero_points is not None:
                        tensors[f"{case}.zero_points"] = zero_points
folder = os.path.dirname(os.path.abspath(__file__))
path = os.path.join(folder, "coreai-opt-0.4.safetensors")
tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
save_file(tensors, path, metadata={"coreai-opt": "0.4.0", "coreai-core": "1.0.0b3"})
