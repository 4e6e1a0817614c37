"""Golden vectors from coremltools 9.0: what its own functions compute for small, hurtful tensors.

    python -m venv venv
    venv/bin/pip install coremltools==9.0 safetensors numpy==2.4.6
    venv/bin/python make_golden.py [--check]

Writes coremltools-9.0.safetensors beside this script, the same bytes at each run; --check only compares.
Made on x86-64. Other processors convert NaN (all-zero blocks) to integers by other rules.

The file holds pools of values and `cases`, an I32 table into them. Its columns are named in the metadata:
    float                0 f32, 1 f16: says which of the pools `inputs_*`, `scales_*`, `dequantized_*`
    dtype, mode          0 int8, 1 uint8, 2 int4, 3 uint4; 0 symmetric, 1 affine
    error                1 where NUMERICS demands an error; such a case has an input and no outputs
    rank, shape*, block* block* is the length of a block on that axis, never 0; both padded with 0
    input, code, packed, scale, scale_count, zero_point, dequantized
                         offsets in elements, -1 where there is none. Packed only for 4-bit types, zero points
                         (as many as scales) only where coremltools stores them
    granularity, values  indices into the metadata lists `granularities` and `values`

Long: pools, cases and the layout of the one file that holds them; none is read without the others.
"""

import argparse
import json
import logging
import struct
import sys
from pathlib import Path

import coremltools
import numpy as np
import safetensors.numpy
from coremltools.optimize._utils import pack_elements_into_bits
from coremltools.optimize.coreml._quantization_passes import linear_quantize_weights

OUTPUT = Path(__file__).with_name("coremltools-9.0.safetensors")
MAX_BYTES = 2_000_000
MAX_RANK = 5
LAYOUTS_PER_KIND = 4

FLOATS = (np.float32, np.float16)
# (bits, signed, mode, qmin, qmax), in the order of the columns dtype and mode
SCHEMES = {
    (0, 0): (8, True, "LINEAR_SYMMETRIC", -127, 127),
    (0, 1): (8, True, "LINEAR", -128, 127),
    (1, 0): (8, False, "LINEAR_SYMMETRIC", 0, 254),
    (1, 1): (8, False, "LINEAR", 0, 255),
    (2, 0): (4, True, "LINEAR_SYMMETRIC", -7, 7),
    (2, 1): (4, True, "LINEAR", -8, 7),
    (3, 0): (4, False, "LINEAR_SYMMETRIC", 0, 14),
    (3, 1): (4, False, "LINEAR", 0, 15),
}

# Block sizes as coremltools takes them: 0 is the whole axis.
LAYOUTS = {
    "per_tensor": [
        ((7,), (0,)),
        ((3, 17), (0, 0)),
        ((2, 3, 7), (0, 0, 0)),
        ((1, 131), (0, 0)),
        ((2, 3, 2, 5), (0, 0, 0, 0)),
        ((2, 2, 2, 2, 3), (0, 0, 0, 0, 0)),
    ],
    "per_channel": [
        ((3, 37), (1, 0)),
        ((3, 33), (0, 1)),
        ((6, 8), (0, 1)),
        ((3, 5, 4), (0, 1, 0)),
        ((3, 3, 5, 1), (1, 0, 0, 0)),
        ((2, 3, 3, 2), (0, 1, 0, 0)),
        ((2, 3, 2, 2, 3), (0, 0, 0, 0, 1)),
        ((9,), (1,)),
    ],
    "per_block": [
        ((3, 16), (1, 4)),
        ((2, 64), (1, 32)),
        ((8, 5), (4, 1)),
        ((5, 15), (1, 5)),
        ((2, 6, 3, 2), (1, 2, 0, 0)),
        ((6, 2, 2, 3), (3, 1, 0, 0)),
        ((2, 6, 4), (0, 1, 2)),
        ((2, 4, 2, 1, 3), (1, 2, 0, 0, 0)),
    ],
    "general": [
        ((20,), (5,)),
        ((4, 12), (2, 3)),
        ((6, 9), (6, 9)),
        ((4, 6, 3), (2, 0, 1)),
        ((2, 4, 3, 2), (0, 2, 3, 1)),
        ((2, 34), (0, 17)),
        ((3, 5), (1, 1)),
        ((2, 2, 3, 2, 2), (1, 2, 3, 0, 1)),
    ],
}
GRANULARITIES = list(LAYOUTS)
COLUMNS = (
    ["float", "dtype", "mode", "error", "rank"]
    + [f"shape{axis}" for axis in range(MAX_RANK)]
    + [f"block{axis}" for axis in range(MAX_RANK)]
    + ["input", "code", "packed", "scale", "scale_count", "zero_point", "dequantized", "granularity", "values"]
)


# Values. Each generator gives one block: f(rng, D, n, scheme, block) -> n values of type D.


def bits_to_float(D, bits):
    return bits.astype(np.uint32 if D is np.float32 else np.uint16).view(D)


def random_sign(rng, n):
    return np.where(rng.integers(0, 2, n) == 1, 1.0, -1.0)


def nudge(rng, w, ulps):
    """Each value moved by up to `ulps` representable values."""
    w = w.copy()
    steps = rng.integers(-ulps, ulps + 1, w.size)
    for i, step in enumerate(steps):
        for _ in range(abs(int(step))):
            w[i] = np.nextafter(w[i], w.dtype.type(np.inf if step > 0 else -np.inf))
    return w


def with_anchors(rng, w, anchors):
    """`w` with the values that determine the scale put at random places."""
    at = rng.permutation(w.size)[: len(anchors)]
    w[at] = anchors[: len(at)]
    return w


def normal(rng, D, n, scheme, block):
    return (rng.standard_normal(n) * 10.0 ** rng.uniform(-2, 1)).astype(D)


def random_bits(rng, D, n, scheme, block):
    limit = D(1.3e36) if D is np.float32 else D(120)
    w = np.empty(0, D)
    while w.size < n:
        draw = bits_to_float(D, rng.integers(0, 1 << (8 * D().itemsize), n))
        w = np.concatenate([w, draw[np.abs(draw) < limit]])
    return w[:n]


def random_mantissas(rng, D, n, scheme, block):
    w = np.ldexp(1.0 + rng.random(n), rng.integers(-6, 3, n)) * random_sign(rng, n)
    return w.astype(D)


def exact_ties(rng, D, n, scheme, block):
    """(k + 1/2) * scale, all of it representable."""
    *_, mode, qmin, qmax = scheme
    levels = qmax - qmin
    lo = -levels // 2 if mode == "LINEAR_SYMMETRIC" else -int(rng.integers(0, levels + 1))
    scale = float(rng.choice([1, 3])) * 2.0 ** int(rng.integers(-10, -3 if D is np.float16 else 8))
    w = rng.integers(lo, lo + levels, n) + 0.5
    anchors = [lo + levels] if mode == "LINEAR_SYMMETRIC" else [lo, lo + levels]
    return (with_anchors(rng, w, anchors) * scale).astype(D)


def near_ties(rng, D, n, scheme, block):
    """(k + 1/2) * scale for an arbitrary scale, then up to 2 ulp aside."""
    *_, mode, qmin, qmax = scheme
    levels = qmax - qmin
    span = D(10.0 ** rng.uniform(-2, 1.5))
    if mode == "LINEAR_SYMMETRIC":
        mn, mx = -span, span
    else:
        mn = D(-span * D(rng.random()))
        mx = D(span + mn)
    scale = D(D(mx - mn) / D(levels))
    k = rng.integers(np.ceil(float(mn / scale)), np.floor(float(mx / scale)), n) + 0.5
    w = nudge(rng, (k * float(scale)).astype(D), 2)
    w = np.clip(w, mn, mx)
    return with_anchors(rng, w, [mx] if mode == "LINEAR_SYMMETRIC" else [mn, mx])


def zero_point_ties(rng, D, n, scheme, block):
    """A range whose affine zero point is a half-integer, or 1 ulp aside."""
    *_, qmin, qmax = scheme
    levels = qmax - qmin - (qmax - qmin) % 2 + 1
    scale = float(rng.choice([1, 3])) * 2.0 ** int(rng.integers(-10, -3 if D is np.float16 else 8))
    lo = -int(rng.integers(0, levels)) - 0.5
    w = (rng.uniform(lo, lo + levels, n) * scale).astype(D)
    anchors = (np.array([lo, lo + levels]) * scale).astype(D)
    return with_anchors(rng, w, nudge(rng, anchors, block % 2))


def signed_zeros(rng, D, n, scheme, block):
    w = rng.standard_normal(n).astype(D)
    zero = rng.integers(0, 3, n)
    w[zero == 1] = D(0.0)
    w[zero == 2] = D(-0.0)
    return w


def all_zero(rng, D, n, scheme, block):
    return bits_to_float(D, rng.integers(0, 2, n) << (8 * D().itemsize - 1))


def zero_blocks(rng, D, n, scheme, block):
    return all_zero(rng, D, n, scheme, block) if block % 2 else normal(rng, D, n, scheme, block)


def constant_positive(rng, D, n, scheme, block):
    return np.full(n, D(10.0 ** rng.uniform(-3, 1.5)))


def constant_negative(rng, D, n, scheme, block):
    return -constant_positive(rng, D, n, scheme, block)


def subnormals(rng, D, n, scheme, block):
    cap = int(rng.choice([190, 300, 1 << 9, (1 << 10) - 1] + ([1 << 15, 1 << 22] if D is np.float32 else [])))
    w = bits_to_float(D, rng.integers(0, cap, n))
    w[rng.integers(0, n)] = bits_to_float(D, np.array([cap]))[0]
    return w * random_sign(rng, n).astype(D)


def smallest_normals(rng, D, n, scheme, block):
    """Around the smallest normal number: the scale is subnormal, and coarse."""
    return (float(np.finfo(D).tiny) * rng.uniform(0.2, 8.0, n) * random_sign(rng, n)).astype(D)


def towards_zero(D, x):
    y = D(x)
    return np.nextafter(y, D(0)) if abs(float(y)) > abs(x) else y


def largest_range(D, scheme):
    """The largest [lo, hi] for which no step overflows."""
    *_, mode, qmin, qmax = scheme
    largest = float(np.finfo(D).max)
    if mode == "LINEAR_SYMMETRIC":
        return -towards_zero(D, largest / 2), towards_zero(D, largest / 2)
    lo = -towards_zero(D, largest / qmax)
    hi = towards_zero(D, (largest / -qmin) if qmin else (largest + float(lo)) * 0.98)
    return lo, hi


def largest(rng, D, n, scheme, block):
    lo, hi = largest_range(D, scheme)
    w = rng.uniform(float(lo), float(hi), n).astype(D)
    return with_anchors(rng, w, [[lo, hi], [hi], [lo]][block % 3])


def dequantizes_to_infinity(rng, D, n, scheme, block):
    """A range that just fits, whose scale was rounded up: scale * 255 overflows."""
    *_, qmin, qmax = scheme
    while True:
        hi = np.finfo(D).max * D(rng.uniform(0.99, 1.0))
        if np.isinf(D(np.float32(D(hi / D(qmax))) * np.float32(qmax))):
            return with_anchors(rng, (rng.uniform(0, 1, n) * float(hi)).astype(D), [hi])


def one_sided_positive(rng, D, n, scheme, block):
    return (np.abs(rng.standard_normal(n)) + (block % 2) * 3.0).astype(D)


def one_sided_negative(rng, D, n, scheme, block):
    return -one_sided_positive(rng, D, n, scheme, block)


def tiny_channels(rng, D, n, scheme, block):
    exponent = rng.uniform(-36, 0) if D is np.float32 else rng.uniform(-4.5, 0)
    return (rng.standard_normal(n) * 10.0**exponent).astype(D)


def outlier(rng, D, n, scheme, block):
    w = rng.standard_normal(n) * 2e-2
    w[rng.integers(0, n)] = 50.0 * (-1) ** block
    return w.astype(D)


# Values for which NUMERICS demands an error.


def error_nan(rng, D, n, scheme, block):
    return with_anchors(rng, normal(rng, D, n, scheme, block), [D(np.nan)])


def error_infinity(rng, D, n, scheme, block):
    return with_anchors(rng, normal(rng, D, n, scheme, block), [D(np.inf) * D((-1) ** block)])


def error_scale_overflow(rng, D, n, scheme, block):
    x = D(float(np.finfo(D).max) * 0.6)
    return with_anchors(rng, normal(rng, D, n, scheme, block), [x, -x])


def error_scale_underflow(rng, D, n, scheme, block):
    cap = 60 if scheme[0] == 8 else 3
    return bits_to_float(D, rng.integers(1, cap + 1, n)) * random_sign(rng, n).astype(D)


def error_affine_overflow(rng, D, n, scheme, block):
    lo, hi = largest_range(D, scheme)
    low, high = (1.3, 0.5) if block % 2 or scheme[3] == 0 else (0.5, 1.3)
    lo, hi = D(float(lo) * low), D(float(hi) * high)
    return with_anchors(rng, normal(rng, D, n, scheme, block), [lo, hi])


def error_affine_overflow_one_sided(rng, D, n, scheme, block):
    """Step 5 overflows to an infinity that the clip happens to make right; an error all the same."""
    lo, hi = largest_range(D, scheme)
    x = float(lo) if block % 2 or scheme[3] == 0 else float(hi)
    return (rng.uniform(0.5, 1.0, n) * x * 1.5).astype(D) if n > 1 else np.array([x * 1.5], D)


# Each kind of values, and whether it depends on the scheme. The others share one input among all schemes.
VALUES = [
    (normal, False),
    (random_bits, False),
    (random_mantissas, False),
    (exact_ties, True),
    (near_ties, True),
    (zero_point_ties, True),
    (signed_zeros, False),
    (all_zero, False),
    (zero_blocks, False),
    (constant_positive, False),
    (constant_negative, False),
    (subnormals, False),
    (smallest_normals, False),
    (largest, True),
    (dequantizes_to_infinity, True),
    (one_sided_positive, False),
    (one_sided_negative, False),
    (tiny_channels, False),
    (outlier, False),
    (error_nan, False),
    (error_infinity, False),
    (error_scale_overflow, True),
    (error_scale_underflow, True),
    (error_affine_overflow, True),
    (error_affine_overflow_one_sided, True),
]


def possible(generate, D, scheme):
    *_, mode, qmin, _ = scheme
    if generate in (error_affine_overflow, error_affine_overflow_one_sided):
        return mode == "LINEAR"
    if generate is dequantizes_to_infinity:
        # The quotients of the largest f32 by 255 and by 15 are not rounded up.
        return mode == "LINEAR" and qmin == 0 and D is np.float16
    return True


def is_error(block, scheme):
    """Whether NUMERICS demands an error for this block."""
    *_, mode, qmin, qmax = scheme
    D = block.dtype.type
    if not np.isfinite(block).all():
        return True
    mn, mx = block.min(), block.max()
    if mode == "LINEAR_SYMMETRIC":
        mx = max(abs(mn), abs(mx))
        mn = -mx
    else:
        mn, mx = min(D(0), mn), max(D(0), mx)
    span = D(mx - mn)
    if span == 0:
        return False
    scale = D(span / D(qmax - qmin))
    steps = [span, scale]
    if mode == "LINEAR":
        low, high = D(D(qmin) * mx), D(D(qmax) * mn)
        steps += [low, high, D(low - high), D(D(low - high) / span)]
    return scale == 0 or not np.isfinite(steps).all()


def block_length(shape, ct_blocks):
    return int(np.prod([block or dim for dim, block in zip(shape, ct_blocks)]))


def block_indices(shape, blocks):
    """The flat indices of each block's elements, blocks in the order of the scale tensor."""
    counts = [dim // block for dim, block in zip(shape, blocks)]
    labels = np.zeros(shape, np.int64)
    for axis, (dim, block, count) in enumerate(zip(shape, blocks, counts)):
        coordinate = np.arange(dim) // block
        labels = labels * count + coordinate.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    labels = labels.ravel()
    return [np.flatnonzero(labels == label) for label in range(int(np.prod(counts)))]


def make_input(generate, seed, D, shape, blocks, schemes):
    """One tensor, good for all of `schemes`; for an error kind, one block of it is bad."""
    rng = np.random.default_rng(seed)
    indices = block_indices(shape, blocks)
    wants_error = generate.__name__.startswith("error_")
    bad = int(rng.integers(0, len(indices))) if wants_error else None
    w = np.empty(int(np.prod(shape)), D)
    for block, at in enumerate(indices):
        for _ in range(100_000):
            f = normal if wants_error and block != bad else generate
            values = f(rng, D, at.size, schemes[0], block)
            if all(is_error(values, scheme) == (block == bad) for scheme in schemes):
                break
        else:
            sys.exit(f"no values: {generate.__name__} {D.__name__} {shape} {blocks} {schemes}")
        w[at] = values
    return w.reshape(shape)


class Pool:
    """Concatenated arrays; an array that is already there is not stored again."""

    def __init__(self, dtype):
        self.dtype, self.parts, self.size, self.known = dtype, [], 0, {}

    def add(self, values):
        values = np.ascontiguousarray(values).ravel()
        assert values.dtype == self.dtype, (values.dtype, self.dtype)
        key = values.tobytes()
        if key not in self.known:
            self.known[key] = self.size
            self.parts.append(values)
            self.size += values.size
        return self.known[key]

    def array(self):
        return np.concatenate(self.parts)


def make_file():
    pools = {name: Pool(np.uint8) for name in ("codes", "packed", "zero_points")}
    for name in ("inputs", "scales", "dequantized"):
        pools[f"{name}_f32"], pools[f"{name}_f16"] = Pool(np.float32), Pool(np.float16)
    rows = []

    def add_case(float_, dtype, mode, w, ct_blocks, granularity, kind, error):
        bits, signed, ct_mode, *_ = SCHEMES[dtype, mode]
        suffix = ("f32", "f16")[float_]
        pad = [0] * (MAX_RANK - w.ndim)
        blocks = [block or dim for block, dim in zip(ct_blocks, w.shape)]
        row = [float_, dtype, mode, int(error), w.ndim, *w.shape, *pad, *blocks, *pad]
        row.append(pools[f"inputs_{suffix}"].add(w))
        if error:
            row += [-1, -1, -1, 0, -1, -1]
        else:
            params = linear_quantize_weights.blockwise_compress(w, bits, ct_mode, signed, list(ct_blocks))
            assert params.data.dtype == (np.int8 if signed else np.uint8) and params.data.shape == w.shape
            # A scale of -0.0 would depend on how numpy's minimum and maximum order the zeros.
            assert np.isfinite(params.scale).all() and not np.signbit(params.scale).any()
            row.append(pools["codes"].add(params.data.view(np.uint8)))
            row.append(pools["packed"].add(pack_elements_into_bits(params.data, 4)) if bits == 4 else -1)
            row += [pools[f"scales_{suffix}"].add(params.scale), params.scale.size]
            stored = params.offset is not None
            row.append(pools["zero_points"].add(params.offset.view(np.uint8)) if stored else -1)
            row.append(pools[f"dequantized_{suffix}"].add(linear_quantize_weights.decompress(params)))
        rows.append(row + [granularity, kind])

    for granularity, layouts in enumerate(LAYOUTS.values()):
        for kind, (generate, by_scheme) in enumerate(VALUES):
            error = generate.__name__.startswith("error_")
            count = 1 if error else LAYOUTS_PER_KIND
            # Some errors need two values in a block.
            fit = [l for l, (shape, sizes) in enumerate(layouts) if not error or block_length(shape, sizes) > 1]
            for i in range(count):
                layout = fit[(kind * LAYOUTS_PER_KIND + i) % len(fit)]
                shape, ct_blocks = layouts[layout]
                blocks = [block or dim for block, dim in zip(ct_blocks, shape)]
                for float_, D in enumerate(FLOATS):
                    for (dtype, mode), scheme in SCHEMES.items():
                        if not possible(generate, D, scheme):
                            continue
                        seed = [granularity, layout, kind, float_]
                        if by_scheme:
                            # Symmetric int8 and uint8 differ by the zero point only, and can share.
                            sharing = mode == 0 or generate in (exact_ties, near_ties, zero_point_ties)
                            seed += [scheme[0] if sharing else dtype, mode]
                        schemes = [scheme] if by_scheme else list(SCHEMES.values())
                        w = make_input(generate, seed, D, shape, blocks, schemes)
                        add_case(float_, dtype, mode, w, ct_blocks, granularity, kind, error)

    tensors = {name: pool.array() for name, pool in pools.items()}
    tensors["cases"] = np.array(rows, np.int32)
    metadata = {
        "columns": ",".join(COLUMNS),
        "granularities": ",".join(GRANULARITIES),
        "values": ",".join(generate.__name__ for generate, _ in VALUES),
        "coremltools": coremltools.__version__,
        "numpy": np.__version__,
    }
    return sort_header(safetensors.numpy.save(tensors, metadata)), tensors["cases"]


def sort_header(file):
    """The same file with its header in one fixed order: the package's order of metadata is random."""
    (length,) = struct.unpack("<Q", file[:8])
    header = json.dumps(json.loads(file[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    return file[:8] + header.ljust(length) + file[8 + length :]


def main():
    arguments = argparse.ArgumentParser(description="Make the golden vectors.")
    arguments.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    check = arguments.parse_args().check
    assert coremltools.__version__ == "9.0", coremltools.__version__
    # All-zero blocks divide 0 by 0, on purpose.
    np.seterr(all="ignore")
    logging.disable()
    file, cases = make_file()
    assert len(file) <= MAX_BYTES, len(file)
    if check:
        if file != OUTPUT.read_bytes():
            sys.exit(f"{OUTPUT.name} differs from what this script makes")
    else:
        OUTPUT.write_bytes(file)
    errors = int(cases[:, COLUMNS.index("error")].sum())
    print(f"{OUTPUT.name}: {len(file)} bytes, {len(cases)} cases, {errors} of them errors")


if __name__ == "__main__":
    main()
