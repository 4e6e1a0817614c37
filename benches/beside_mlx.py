"""quant's kernels for MLX's blocks beside MLX's own on the CPU, the same shape by turns.

    pip install mlx mlx-cpu
    cargo build --release -p benches --bin mlx
    OMP_NUM_THREADS=1 taskset -c 0 python benches/beside_mlx.py target/release/mlx

Both run on the processor that they are bound to; the least time of all turns counts.
"""

import subprocess
import sys
import time
from importlib.metadata import version

import mlx.core as mx

mx.set_default_device(mx.cpu)
TYPES = {"f32": mx.float32, "f16": mx.float16, "bf16": mx.bfloat16}


def least(times, work):
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        mx.eval(work())
        best = min(best, time.perf_counter() - start)
    return best


def main():
    program = sys.argv[1]
    rows, columns, group = 1024, 1024, 64
    count = rows * columns
    print(f"{count} values in groups of {group}, Gel/s: MLX {version('mlx')}, quant, ratio")
    for name, dtype in TYPES.items():
        for bits in (4, 8, 2, 3, 5, 6):
            values = mx.random.normal((rows, columns)).astype(dtype)
            mx.eval(values)
            theirs, ours = [float("inf")] * 2, [float("inf")] * 2
            for _ in range(4):
                quantize = lambda: mx.quantize(values, group_size=group, bits=bits)
                theirs[0] = min(theirs[0], least(5, quantize))
                parts = quantize()
                mx.eval(parts)
                back = lambda: mx.dequantize(*parts, group_size=group, bits=bits)
                theirs[1] = min(theirs[1], least(5, back))
                told = subprocess.run(
                    [program, name, str(bits), str(group), str(count), "50"],
                    check=True, capture_output=True, text=True,
                ).stdout
                ours = [min(a, float(b)) for a, b in zip(ours, told.split())]
            for what, a, b in zip(("quantize", "dequantize"), theirs, ours):
                print(f"{name:4} {bits} bits {what:10} {count / a / 1e9:8.2f} {count / b / 1e9:8.2f} {a / b:8.1f}")


if __name__ == "__main__":
    main()
