"""quant's kernels beside ONNX Runtime's operators, NumPy, coremltools and gguf, one thread, by turns.

    pip install onnx onnxruntime coremltools gguf numpy
    cargo build --release -p benches --bin report
    taskset -c 0 python benches/beside_python.py target/release/report

ONNX Runtime is given the scales, as QuantizeLinear is; quant finds those of blocks itself, and so does
coremltools; gguf computes GGUF's blocks by NumPy. The best of all turns counts. ONNX Runtime copies
nothing: inputs and outputs are bound to arrays.
"""

import argparse
import json
import subprocess
import time
from importlib.metadata import version

import numpy as np
import onnxruntime as ort
from coremltools.converters.mil.mil import types
from coremltools.optimize import _utils as coremltools
from gguf import GGMLQuantizationType, quants
from onnx import TensorProto, helper

BLOCK = 32
SIZES = {"16Ki": 1 << 14, "1Mi": 1 << 20, "16Mi": 1 << 24}


def session(op, source, target, scale_shape, shape, **attributes):
    """A model of one operator, on one thread."""
    one = helper.make_node(op, ["x", "scale"], ["y"], **attributes)
    graph = helper.make_graph(
        [one],
        op,
        [
            helper.make_tensor_value_info("x", source, shape),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, scale_shape),
        ],
        [helper.make_tensor_value_info("y", target, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


def bound(op, source, target, scale, x, y, **attributes):
    """A call that writes `y`."""
    run = session(op, source, target, list(scale.shape), list(x.shape), **attributes)
    binding = run.io_binding()
    for name, array, kind in (("x", x, source), ("scale", scale, TensorProto.FLOAT)):
        binding.bind_input(name, "cpu", 0, kind, array.shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, target, y.shape, y.ctypes.data)
    return lambda: run.run_with_iobinding(binding)


def contenders(count):
    """For each of the report's kernels, what others do in its place."""
    random = np.random.default_rng(7)
    x = random.standard_normal((count // BLOCK, BLOCK), np.float32)
    scale = np.array(np.abs(x).max() / 127, np.float32)
    scales = (np.abs(x).max(axis=1, keepdims=True) / 127).astype(np.float32)
    codes = np.zeros(x.shape, np.int8)
    back = np.zeros_like(x)
    int8, floats = TensorProto.INT8, TensorProto.FLOAT
    q = np.clip(np.round(x / scale), -128, 127).astype(np.int8)
    blocked = {"axis": 1, "block_size": BLOCK}

    def found(dtype):
        return lambda: coremltools.compute_qparams_by_dtype(x, dtype, "LINEAR_SYMMETRIC", [1, BLOCK])

    return {
        "A": {
            "ONNX Runtime": bound("QuantizeLinear", floats, int8, scale, x, codes, output_dtype=int8),
            "NumPy": lambda: np.clip(np.round(x / scale), -128, 127).astype(np.int8),
        },
        "B": {
            "ONNX Runtime": bound("DequantizeLinear", int8, floats, scale, q, back),
            "NumPy": lambda: q.astype(np.float32) * scale,
        },
        "C": {
            "ONNX Runtime, scales given": bound(
                "QuantizeLinear", floats, int8, scales, x, codes, output_dtype=int8, **blocked
            ),
            "coremltools": found(types.int8),
        },
        "D": {"coremltools": found(types.int4)},
        "O8": {"gguf": lambda: quants.quantize(x, GGMLQuantizationType.Q8_0)},
        "O4": {"gguf": lambda: quants.quantize(x, GGMLQuantizationType.Q4_0)},
    }


def least(call, seconds):
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - before)
    return best


def ours(program, kernels, size):
    """The best backend's Gel/s, and its name, by kernel."""
    command = [program, "--json", "--rounds", "10", "--sizes", size, "--kernels", ",".join(kernels)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    best = {}
    for row in told["rows"]:
        if row["by"] in ("avx512", "avx2", "neon", "scalar"):
            best[row["kernel"]] = max(best.get(row["kernel"], (0, "")), (row["gels"], row["by"]))
    return told["cpu"], best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["1Mi", "16Mi"])
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    packages = ", ".join(f"{it} {version(it)}" for it in ("onnxruntime", "numpy", "coremltools", "gguf"))
    for size in options.sizes:
        others = contenders(SIZES[size])
        best, theirs = {}, {}
        for _ in range(options.turns):
            cpu, now = ours(options.report, others, size)
            best = {name: max(best.get(name, (0, "")), now[name]) for name in others}
            for kernel, calls in others.items():
                for name, call in calls.items():
                    took = min(theirs.get((kernel, name), float("inf")), least(call, 0.5))
                    theirs[kernel, name] = took
        print(f"{size} values, Gel/s, {cpu}; {packages}")
        for (kernel, name), took in theirs.items():
            gels, backend = best[kernel]
            speed = SIZES[size] / took / 1e9
            print(f"{kernel:2} {name:28} {speed:7.3f}   quant {backend:6} {gels:6.2f}   {gels / speed:7.1f} times")


if __name__ == "__main__":
    main()
