"""Linear quantization of arrays and model files, with the arithmetic of coremltools to the last bit.

>>> import numpy as np, linquant
>>> weights = np.random.default_rng(0).normal(size=(64, 128)).astype(np.float32)
>>> quantized = linquant.quantize(weights, "int4", axis=0, block_size=32)
>>> quantized.codes.shape, quantized.scale.shape
((64, 128), (64, 4))
>>> restored = linquant.dequantize(quantized)

The same input gives the same bytes on every processor and with any number of threads. Functions on
arrays run on all cores (:func:`set_num_threads`) while other Python threads go on.
"""

from __future__ import annotations

import os

from . import coreml, errors
from ._activations import calibrate, evaluate, plot, run, wanted_activations
from ._arrays import Quantized, Stats, dequantize, fake_quantize, quantize
from ._call import command
from ._files import (
    convert_file,
    dequantize_file,
    diff,
    index,
    inspect,
    plan_file,
    quantize_activations_file,
    quantize_file,
)
from ._native import __version__, backends, forked, get_num_threads
from ._native import set_num_threads as _set_num_threads
from ._observers import (
    ChannelMinMaxObserver,
    EntropyObserver,
    MinMaxObserver,
    MovingAverageObserver,
    MseObserver,
    Observer,
    PercentileObserver,
)
from .errors import Error, LinquantWarning

__all__ = [
    "ChannelMinMaxObserver",
    "EntropyObserver",
    "Error",
    "LinquantWarning",
    "MinMaxObserver",
    "MovingAverageObserver",
    "MseObserver",
    "Observer",
    "PercentileObserver",
    "Quantized",
    "Stats",
    "__version__",
    "backends",
    "calibrate",
    "command",
    "convert_file",
    "coreml",
    "dequantize",
    "dequantize_file",
    "diff",
    "errors",
    "evaluate",
    "fake_quantize",
    "get_num_threads",
    "index",
    "inspect",
    "plan_file",
    "plot",
    "quantize",
    "quantize_activations_file",
    "quantize_file",
    "run",
    "set_num_threads",
    "wanted_activations",
]


def set_num_threads(threads: int) -> None:
    """How many threads work on an array; 0 means one per core.

    Raises:
        OptionError: A number that is not from 0 to 1024.
    """
    if not 0 <= threads <= 1024:
        raise errors.OptionError(f"{threads} threads", hint="give a number from 0 to 1024")
    _set_num_threads(threads)


# A child process has no threads but its own.
os.register_at_fork(after_in_child=forked)
