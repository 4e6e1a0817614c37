"""What `mypy --strict` must accept: how the package is used from typed code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import linquant


def smallest_error(weights: NDArray[np.float32]) -> float:
    quantized = linquant.quantize(weights, "int4", axis=0, block_size=32, out=None)
    restored: NDArray[np.float32] = linquant.dequantize(quantized)
    faked: NDArray[np.float32] = linquant.fake_quantize(weights, np.int8, axis=0)
    if quantized.stats is None or restored.shape != faked.shape:
        raise linquant.errors.OptionError("no statistics", hint="ask for them")
    return quantized.stats.mean_abs_error


def activation(samples: list[NDArray[np.float32]]) -> tuple[float, int]:
    observer = linquant.PercentileObserver(99.9)
    for sample in samples:
        observer.observe(sample).merge(linquant.PercentileObserver(99.9))
    found = observer.range("uint8", "affine")
    return observer.params("uint8", "affine") if found else (1.0, 0)
