"""coremltools' `linear_quantize_weights` and ours by turns, from package to package.

    python crates/quant-python/benches/beside_coremltools.py

with linquant and coremltools 9.0 installed. On both sides, loading, quantizing and saving are timed, and
importing is not. The models are the digits net of examples/digits and one of 300 MB; `weight.bin` must be
the same, byte for byte. Processor time is that of all threads: it says more where a machine is busy.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import struct
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import coremltools as ct
import linquant
import numpy as np
from coremltools.converters.mil import Builder as mb

cto = ct.optimize.coreml
DIGITS = Path(__file__).resolve().parents[3] / "examples/digits/digits.safetensors"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
LAYERS, WIDTH = 12, 1024


def digits_tensors() -> dict[str, Any]:
    with open(DIGITS, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {
        name: np.frombuffer(data[slice(*one["data_offsets"])], np.float32).reshape(one["shape"])
        for name, one in header.items()
    }


def digits() -> Any:
    tensors = digits_tensors()

    @mb.program(input_specs=[mb.TensorSpec((1, 1, 8, 8))], opset_version=ct.target.iOS17)
    def net(x: Any) -> Any:
        for number in (1, 2, 3):
            weight, bias = tensors[f"conv{number}.weight"], tensors[f"conv{number}.bias"]
            x = mb.relu(x=mb.conv(x=x, weight=weight, bias=bias, pad_type="same"))
            if number > 1:
                x = mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
        x = mb.reshape(x=x, shape=(1, -1))
        x = mb.relu(x=mb.linear(x=x, weight=tensors["fc1.weight"], bias=tensors["fc1.bias"]))
        return mb.linear(x=x, weight=tensors["fc2.weight"], bias=tensors["fc2.bias"])

    return net


def transformer() -> Any:
    """The shapes of a transformer's layers, 12 million weights each."""
    rng = np.random.default_rng(9)

    def weight(rows: int, columns: int) -> Any:
        return (rng.standard_normal((rows, columns), dtype=np.float32) * 0.03).astype(np.float16)

    half = ct.converters.mil.mil.types.fp16

    @mb.program(input_specs=[mb.TensorSpec((1, WIDTH), dtype=half)], opset_version=ct.target.iOS17)
    def net(x: Any) -> Any:
        for _ in range(LAYERS):
            for _ in range(4):
                x = mb.relu(x=mb.linear(x=x, weight=weight(WIDTH, WIDTH)))
            x = mb.relu(x=mb.linear(x=x, weight=weight(4 * WIDTH, WIDTH)))
            x = mb.linear(x=x, weight=weight(WIDTH, 4 * WIDTH))
        return x

    return net


def theirs(source: Path, target: Path, config: Any) -> None:
    model = ct.models.MLModel(str(source), skip_model_load=True)
    cto.linear_quantize_weights(model, config).save(str(target))


def ours(source: Path, target: Path, config: Any) -> None:
    linquant.coreml.linear_quantize_weights(source, config, output=target)


def timed(call: Callable[[Path, Path, Any], None], *arguments: Any) -> tuple[float, float]:
    """Seconds, and those of processors."""
    start, busy = time.perf_counter(), time.process_time()
    call(*arguments)
    return time.perf_counter() - start, time.process_time() - busy


def beside(name: str, program: Any, folder: Path, rounds: int) -> None:
    source, mine, other = (folder / f"{one}.mlpackage" for one in ("source", "ours", "theirs"))
    target = ct.target.iOS17
    model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True)
    model.save(str(source))
    del model
    config = cto.OptimizationConfig(global_config=cto.OpLinearQuantizerConfig(dtype="int8"))
    turns = []
    for _ in range(rounds):
        slow = timed(theirs, source, other, config)
        # Three turns to each of theirs: they are short.
        fast = [timed(ours, source, mine, config)]
        same = (mine / WEIGHTS).read_bytes() == (other / WEIGHTS).read_bytes()
        shutil.rmtree(mine)
        for _ in range(2):
            fast.append(timed(ours, source, mine, config))
            shutil.rmtree(mine)
        if not same:
            raise SystemExit(f"{name}: weight.bin differs")
        shutil.rmtree(other)
        turns.append((slow, [statistics.median(column) for column in zip(*fast)]))
    slow, fast = ([statistics.median(column) for column in zip(*side)] for side in zip(*turns))
    size = (source / WEIGHTS).stat().st_size / 1e6
    print(
        f"{name}, {size:.1f} MB: the same weight.bin; coremltools {slow[0]:.3f} s, linquant {fast[0]:.4f} s, "
        f"{slow[0] / fast[0]:.0f} times as fast; seconds of processors {slow[1]:.3f} and {fast[1]:.4f}, "
        f"{slow[1] / fast[1]:.0f} times",
        flush=True,
    )
    shutil.rmtree(source)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        beside("the digits net", digits(), Path(folder), options.rounds)
        beside("layers of a transformer", transformer(), Path(folder), options.rounds)
