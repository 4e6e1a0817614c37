"""Golden observers: ranges, thresholds, scales and zero points that other frameworks compute.

    python -m venv venv
    venv/bin/pip install coremltools==9.0 torch==2.15.0 onnxruntime==1.32.0 onnx numpy==2.4.6
    venv/bin/python make_observers.py [--check]

Writes observers.json beside this script, the same bytes at each run; --check only compares. Numbers are decimals of
f64, which hold every f32 exactly; null stands for NaN and infinities. Fields:
    torch        data sets of a few batches: `min-max` and `moving-average` (MinMaxObserver,
                 MovingAverageMinMaxObserver) with the parameters that torch makes of the range for each integer type
                 and mode; `ratio` (EMAMinMaxObserver of coremltools.optimize.torch), the range only
    coremltools  what the pass insert_prefix_quantize_dequantize_pair puts before a pooling for a given range; it
                 fails with a scale of 0 where a zero point is stored
    onnxruntime  thresholds of HistogramCollector for data that `data` makes, as quant_testkit::observers::data does
"""

import argparse
import contextlib
import io
import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np

logging.disable(logging.ERROR)
warnings.simplefilter("ignore")

import coremltools as ct
import torch
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types
from coremltools.converters.mil.mil.passes.graph_pass import PassOption
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from coremltools.optimize.coreml import OpLinearQuantizerConfig, OptimizationConfig
from coremltools.optimize.torch.quantization.modules.observers import EMAMinMaxObserver
from onnxruntime.quantization.calibrate import HistogramCollector
from torch.ao.quantization.observer import MinMaxObserver, MovingAverageMinMaxObserver

OUTPUT = Path(__file__).with_name("observers.json")
# (quant_min, quant_max) of the 4-bit types, for which torch has none of its own.
TORCH_TYPES = {
    "int8": (torch.qint8, {}),
    "uint8": (torch.quint8, {}),
    "int4": (torch.qint8, {"quant_min": -8, "quant_max": 7}),
    "uint4": (torch.quint8, {"quant_min": 0, "quant_max": 15}),
}
MODES = {"symmetric": torch.per_tensor_symmetric, "affine": torch.per_tensor_affine}


def number(value):
    value = float(value)
    return value if np.isfinite(value) else None


def torch_cases():
    rng = np.random.default_rng(7)
    normal = lambda scale, shift=0.0: [
        (rng.standard_normal(count) * scale + shift).astype(np.float32) for count in (17, 1, 32, 5)
    ]
    sets = [normal(scale) for scale in (1.0, 0.003, 1e-7, 1e-38, 5e8, 1e30)]
    sets += [normal(1.0, shift) for shift in (0.7, -0.7, 10.0, -10.0, 1000.0, -1e6)]
    sets += [[np.abs(batch) for batch in normal(2.0)], [-np.abs(batch) for batch in normal(2.0)]]
    sets += [
        [np.zeros(3, np.float32)],
        [np.zeros(3, np.float32), np.ones(2, np.float32)],
        [np.full(2, 0.25, np.float32), np.full(2, 0.3, np.float32)],
        [np.array([-1.0, 2.0 ** -20], np.float32)],
    ]
    for _ in range(24):
        scale, shift = 2.0 ** rng.uniform(-12, 12), rng.uniform(-2, 2)
        sets.append(normal(scale, shift * scale))

    def run(observer, batches):
        for batch in batches:
            observer(torch.from_numpy(batch))
        return {"min": number(observer.min_val), "max": number(observer.max_val)}

    for batches in sets:
        case = {"batches": [[number(value) for value in batch] for batch in batches]}
        for name, make in [
            ("min-max", lambda **kwargs: MinMaxObserver(**kwargs)),
            ("moving-average", lambda **kwargs: MovingAverageMinMaxObserver(averaging_constant=0.01, **kwargs)),
        ]:
            found = {"params": []}
            for dtype, (torch_type, codes) in TORCH_TYPES.items():
                for mode, qscheme in MODES.items():
                    observer = make(dtype=torch_type, qscheme=qscheme, **codes)
                    found |= run(observer, batches)
                    scale, zero_point = observer.calculate_qparams()
                    params = {"scale": number(scale), "zero_point": int(zero_point)}
                    found["params"].append({"dtype": dtype, "mode": mode} | params)
            case[name] = found
        case["ratio"] = run(EMAMinMaxObserver(ema_ratio=0.9), batches)
        yield case


def coremltools_params(low, high, source, dtype, mode):
    """Scale and zero point of the pair that the pass inserts before a pooling of `x`."""
    float_type = {"f16": types.fp16, "f32": types.fp32}[source]

    @mb.program(
        input_specs=[mb.TensorSpec(shape=(1, 1, 4, 4), dtype=float_type)], opset_version=ct.target.iOS17
    )
    def program(x):
        return mb.max_pool(x=x, kernel_sizes=[2, 2], pad_type="valid", name="pooled")

    config = OptimizationConfig(
        global_config=OpLinearQuantizerConfig(mode=f"linear{'_symmetric' if mode == 'symmetric' else ''}", dtype=dtype)
    )
    insert = PASS_REGISTRY["compression::insert_prefix_quantize_dequantize_pair"]
    insert.set_options([PassOption("config", config)])
    insert.set_options([PassOption("activation_stats", {"x": {"rmin": low, "rmax": high}})])
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            insert.apply(program)
    except ValueError as error:
        assert "scale cannot be 0" in str(error)
        return {"scale": 0.0, "zero_point": 0, "stored": True}
    (quantize,) = program.functions["main"].find_ops(op_type="quantize")
    assert quantize.scale.val.dtype == {"f16": np.float16, "f32": np.float32}[source]
    zero_point = quantize.zero_point
    return {
        "scale": number(quantize.scale.val),
        "zero_point": 0 if zero_point is None else int(zero_point.val),
        "stored": zero_point is not None,
    }


def coremltools_cases():
    rng = np.random.default_rng(8)
    ranges = [
        (0.0, 0.0), (0.0, 6.0), (-6.0, 0.0), (-1.0, 1.0), (1.0, 3.0), (-3.0, -1.0), (0.5, 0.5), (-0.5, -0.5),
        (-1e-6, 1e-6), (-1e-8, 1e-8), (0.0, 1e-7), (-3e-5, 1e-4), (0.0, 600.0), (-600.0, 0.0), (-1.0, 600.0),
        (-300.0, 300.0), (-250.0, 250.0), (0.0, 65504.0), (-65504.0, 0.0), (-40000.0, 40000.0), (0.0, 70000.0),
        (-32752.0, 32752.0), (-1.0, 257.5), (-257.5, 1.0), (0.1, 0.2),
    ]
    for _ in range(40):
        low, high = np.sort(rng.standard_normal(2) * 2.0 ** rng.uniform(-10, 7))
        ranges.append((float(np.float32(low)), float(np.float32(high))))
    for low, high in ranges:
        for dtype in ("int8", "uint8"):
            for mode in MODES:
                case = {"min": low, "max": high, "dtype": dtype, "mode": mode}
                found = {source: coremltools_params(low, high, source, dtype, mode) for source in ("f16", "f32")}
                assert found["f16"] == found["f32"]
                yield case | found["f16"]


def data(shape, seed, count, peak):
    """Numbers that look random, made by integer arithmetic, and the peak at the end. No number is within a sixteenth
    of a bin of an edge, where onnxruntime's f32 arithmetic would decide on its bin: a few values more or less in a
    bin are enough for another of two minima of the divergence that are as good."""
    index = np.arange(count, dtype=np.uint64)

    def random(lane):
        # splitmix64
        z = (np.uint64(seed) << np.uint64(32)) + index * np.uint64(8) + np.uint64(lane)
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    if shape == "uniform":
        numerators, bits = (random(0) >> np.uint64(40)).astype(np.int64) - (1 << 23), 23
    else:
        pieces = [random(lane) >> np.uint64(16 * piece) & np.uint64(0xFFFF) for lane in range(4) for piece in range(4)]
        numerators, bits = sum(pieces).astype(np.int64) - 16 * 0x8000, 16
    values = numerators.astype(np.float32) / np.float32(1 << bits)
    if shape == "relu":
        values = np.maximum(values, np.float32(0))
    if shape == "heavy":
        octave = np.minimum(np.bitwise_count(random(4) & ~random(5) & np.uint64(0xFFFFF)), 11)
        values = values * np.exp2(octave.astype(np.float32) - 5)
    grid = np.float32(np.exp2(np.ceil(np.log2(abs(peak)))) / 8192)
    values = (np.floor(values.astype(np.float32) / grid) + np.float32(0.5)) * grid
    return np.append(values, np.float32(peak))


def onnxruntime_cases():
    # The peak is the largest f32 below a power of two, so that the bins are those of quant up to 2^-24.
    below = lambda bound: float(np.nextafter(np.float32(bound), np.float32(0)))
    recipes = [
        ("normal", 1, 20000, below(8)),
        ("normal", 2, 20000, -below(32)),
        ("relu", 3, 20000, below(8)),
        ("relu", 4, 30000, below(16)),
        ("heavy", 5, 30000, below(512)),
        ("heavy", 6, 20000, -below(256)),
        ("uniform", 7, 20000, below(1)),
        ("uniform", 8, 20000, -below(4)),
    ]
    methods = [("entropy", None, None, 2048)]
    for percentile in (99.999, 99.9, 99.0, 90.1):
        methods += [("percentile", percentile, "symmetric", 1024), ("percentile", percentile, "affine", 2048)]
    for shape, seed, count, peak in recipes:
        values = data(shape, seed, count, peak)
        for method, percentile, mode, bins in methods:
            collector = HistogramCollector(method, mode == "symmetric", bins, 128, percentile or 0, None)
            with contextlib.redirect_stdout(io.StringIO()):
                # The first batch has the peak: later ones do not change the bins.
                collector.collect({"x": values[count // 2 :]})
                collector.collect({"x": values[: count // 2]})
                low, high = collector.compute_collection_result()["x"][:2]
            yield {
                "data": {"shape": shape, "seed": seed, "count": count, "peak": peak},
                "method": method,
                "percentile": percentile,
                "mode": mode,
                "low": number(low),
                "high": number(high),
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare with the committed file")
    check = parser.parse_args().check
    sections = {"torch": torch_cases(), "coremltools": coremltools_cases(), "onnxruntime": onnxruntime_cases()}
    lines = [
        f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]" for name, cases in sections.items()
    ]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if check:
        sys.exit(OUTPUT.read_text() != text and f"{OUTPUT.name} differs")
    OUTPUT.write_text(text)
    print(f"{OUTPUT.name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
