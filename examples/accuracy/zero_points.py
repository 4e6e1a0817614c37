"""What a search of zero points would gain beyond that of scales: figures of docs/accuracy.md.

    pip install numpy safetensors
    python zero_points.py FOLDER

FOLDER is that of weights.py, which has to be run before. int4, affine; the mean of the tensors' SQNR in dB,
of rows and of blocks of 32 input channels: plain parameters, the scale searched among 16 and fitted to its
codes as `--search mse` does it, the same with zero points one less and one more tried with every scale, and
with both ends of the range narrowed by any two of the 16 factors.
"""

import pathlib
import sys

import numpy
from safetensors.numpy import load_file

FACTORS = [numpy.float32((25 - k) / 25) for k in range(16)]
LOW, HIGH = -8, 7
#: Values of a tensor that are looked at, at most.
MOST = 200_000


def params(low, high):
    scale = (high - low) / numpy.float32(HIGH - LOW)
    scale = numpy.where(scale == 0, 1, scale).astype(numpy.float32)
    return scale, numpy.clip(numpy.rint(LOW - low / scale), LOW, HIGH).astype(numpy.float32)


def steps(values, scale, zero):
    return numpy.clip(numpy.rint(values / scale), LOW - zero, HIGH - zero)


def noise(values, scale, zero):
    error = values - scale * steps(values, scale, zero)
    return numpy.square(error).sum(1, dtype=float)


def best(values, candidates):
    """The first of the candidates of least error for each row, fitted to its codes twice."""
    found = None
    for scale, zero in candidates:
        error = noise(values, scale, zero)
        if found is None:
            found, scales, zeros = error, scale.copy(), zero.copy()
        less = error < found
        found[less], scales[less], zeros[less] = error[less], scale[less], zero[less]
    for _ in range(2):
        codes = steps(values, scales, zeros)
        squares = numpy.square(codes).sum(1, keepdims=True, dtype=float)
        fitted = (values * codes).sum(1, keepdims=True, dtype=float) / numpy.where(squares == 0, 1, squares)
        scales = numpy.where(squares == 0, scales, fitted).astype(numpy.float32)
    return noise(values, scales, zeros)


def ways(values):
    low = numpy.minimum(values.min(1, keepdims=True), 0)
    high = numpy.maximum(values.max(1, keepdims=True), 0)
    scale, zero = params(low, high)
    moved = [(scale * factor, numpy.clip(zero + by, LOW, HIGH)) for factor in FACTORS for by in (0, -1, 1)]
    ends = (params(low * a, high * b) for a in FACTORS for b in FACTORS)
    return {
        "plain": noise(values, scale, zero),
        "scales": best(values, [(scale * factor, zero) for factor in FACTORS]),
        "zero points": best(values, moved),
        "both ends": best(values, ends),
    }


def blocks(weights, size):
    if size is None:
        return weights.reshape(len(weights), -1)
    if weights.shape[1] % size:
        return None
    return weights.reshape(len(weights) * (weights.shape[1] // size), -1)


def main():
    folder = pathlib.Path(sys.argv[1])
    for size in (None, 32):
        for model in ("minilm", "ppocr", "nudenet", "silero"):
            found = {}
            for weights in load_file(folder / f"{model}.safetensors").values():
                values = blocks(weights, size)
                if values is None or values.shape[1] < 2 or not values.any():
                    continue
                values = values[:: max(1, values.size // MOST)]
                signal = numpy.square(values.astype(float)).sum()
                for way, errors in ways(values).items():
                    if errors.sum() > 0:
                        found.setdefault(way, []).append(10 * numpy.log10(signal / errors.sum()))
            row = ", ".join(f"{way} {numpy.mean(it):.2f}" for way, it in found.items())
            print(f"{model}, {'rows' if size is None else f'blocks of {size}'}: {row}", flush=True)


if __name__ == "__main__":
    main()
