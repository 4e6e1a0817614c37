"""GPTQ in NumPy, in f64, column by column: writes golden.json, which mod.rs compares codes with.

    pip install numpy
    python reference.py

Weights and inputs are made of integers, so that both sides have the same: see `made`. Scales and zero points
are those of coremltools, by the original weights. There are no blocks of columns here: what a column has lost
goes to all later ones at once.
"""

import json
import pathlib

import numpy

#: Name, bits, mode, block, by size, groups, outputs, inputs.
CASES = [
    ("int4", 4, "symmetric", 0, False, 1, 6, 140),
    ("int4_by_size", 4, "symmetric", 0, True, 1, 6, 140),
    ("int4_affine_blocks", 4, "affine", 20, False, 1, 5, 140),
    ("int4_blocks_by_size", 4, "symmetric", 35, True, 1, 5, 140),
    ("int8_affine", 8, "affine", 0, False, 1, 4, 130),
    ("int4_groups", 4, "symmetric", 0, False, 3, 6, 18),
]


def made(count, salt):
    """Numbers of 1/64 that look like noise, from integers."""
    i = numpy.arange(count, dtype=numpy.uint64)
    mixed = (i * 2654435761 + salt * 40503) % 4294967296
    mixed = (mixed ^ (mixed >> 15)) * 2246822519 % 4294967296
    return ((mixed >> 13) % 193).astype(numpy.float64) / 64 - 1.5


def inputs_of(groups, inputs, rows=60):
    """Rows whose columns have to do with each other, of different sizes; the fourth is always zero."""
    x = made(groups * rows * inputs, 7).reshape(groups, rows, inputs)
    x[:, :, 1:] += 0.75 * x[:, :, :-1]
    x *= 1 + numpy.arange(inputs) % 5
    x[:, :, 3] = 0
    return x.astype(numpy.float32).astype(numpy.float64)


def params(weights, bits, mode):
    """Scale and zero point of some weights, in f32, as coremltools has them."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    f32 = numpy.float32
    if mode == "symmetric":
        return f32(f32(2 * abs(weights).max()) / f32(2 * high)), 0, -high, high
    least, most = f32(min(weights.min(), 0)), f32(max(weights.max(), 0))
    width = f32(most - least)
    zero = f32(f32(f32(low * most) - f32(high * least)) / width)
    return f32(width / f32(high - low)), int(numpy.rint(zero)), low, high


def gptq(weights, moments, bits, mode, block, by_size):
    """Codes of one group's weights."""
    outputs, n = weights.shape
    block = block or n
    grid = [[params(row[at : at + block], bits, mode) for at in range(0, n, block)] for row in weights]
    diagonal = numpy.diag(moments)
    order = numpy.argsort(-diagonal, kind="stable") if by_size else numpy.arange(n)
    mean = diagonal.mean()
    damped = moments + numpy.diag(numpy.where(diagonal == 0, mean, 0.01 * mean))
    damped = damped[order][:, order]
    upper = numpy.linalg.cholesky(numpy.linalg.inv(damped)).T
    left = weights[:, order].copy()
    codes, nearest = (numpy.zeros((outputs, n), int) for _ in range(2))
    restored, rounded = (numpy.zeros((outputs, n)) for _ in range(2))
    for at, column in enumerate(order):
        for row in range(outputs):
            scale, zero, low, high = grid[row][column // block]
            # Rounding is coremltools', in f32.
            steps = left[row, at] / float(scale), numpy.float32(weights[row, column]) / scale
            for quotient, to, back in zip(steps, (codes, nearest), (restored, rounded)):
                code = numpy.clip(numpy.rint(quotient) + zero, low, high)
                to[row, column] = code
                back[row, column] = numpy.float32(scale * numpy.float32(code - zero))
        error = (left[:, at] - restored[:, column]) / upper[at, at]
        left[:, at + 1 :] -= numpy.outer(error, upper[at, at + 1 :])
    # An output that loses more than by rounding is rounded.
    loss = lambda back: numpy.einsum("ri,ij,rj->r", *[(weights - back)[:, order], damped, (weights - back)[:, order]])
    better = loss(restored) < loss(rounded)
    return numpy.where(better[:, None], codes, nearest), loss(rounded).sum(), numpy.minimum(loss(restored), loss(rounded)).sum()


def main():
    found = {}
    for name, bits, mode, block, by_size, groups, outputs, inputs in CASES:
        weights = made(outputs * inputs, 3).reshape(groups, outputs // groups, inputs)
        x = inputs_of(groups, inputs)
        done = [gptq(w, one.T @ one, bits, mode, block, by_size) for w, one in zip(weights, x)]
        found[name] = {
            "bits": bits,
            "mode": mode,
            "block": block,
            "by_size": by_size,
            "groups": groups,
            "shape": [outputs, inputs],
            "codes": numpy.concatenate([codes for codes, _, _ in done]).ravel().tolist(),
            "loss": [sum(plain for _, plain, _ in done), sum(loss for _, _, loss in done)],
        }
    path = pathlib.Path(__file__).with_name("golden.json")
    path.write_text("{\n" + ",\n".join(f'"{k}": {json.dumps(v, separators=(",", ":"))}' for k, v in found.items()) + "\n}\n")


main()
