"""`linquant.quantize` of 16 Mi float32 into a buffer, and the Rust tensor driver, by turns in one run.

    cargo build --release -p benches --bin driver
    python crates/quant-python/benches/beside_driver.py target/release/driver

The program makes the same array, and quantizes it once for each line that it reads, which it answers with
nanoseconds and a digest of the codes. Medians of turns are compared, and the least ones: those are least
disturbed where a machine is busy.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
import zlib

import linquant
import numpy as np

ROWS, COLUMNS = 4096, 4096


def values() -> np.ndarray:
    """What the program computes, too: no two rows alike."""
    numbers = np.arange(ROWS * COLUMNS, dtype=np.uint32) * np.uint32(2654435761)
    return (numbers.view(np.int32).astype(np.float32) * np.float32(2**-31)).reshape(ROWS, COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("driver")
    parser.add_argument("--turns", type=int, default=60)
    options = parser.parse_args()
    array, codes = values(), np.empty((ROWS, COLUMNS), np.int8)
    program = subprocess.Popen(options.driver, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdin is not None and program.stdout is not None
    ours, theirs = [], []
    for turn in range(options.turns + 2):
        start = time.perf_counter_ns()
        linquant.quantize(array, "int8", axis=0, out=codes)
        took = time.perf_counter_ns() - start
        program.stdin.write("go\n")
        program.stdin.flush()
        nanoseconds, digest = map(int, program.stdout.readline().split())
        if digest != zlib.crc32(codes.tobytes()):
            raise SystemExit("not the same codes")
        # The first turns touch memory for the first time.
        if turn >= 2:
            ours.append(took)
            theirs.append(nanoseconds)
    program.stdin.close()
    program.wait()
    for name, of in [("median", statistics.median), ("least", min)]:
        mine, other = of(ours) / 1e6, of(theirs) / 1e6
        print(f"{name}: linquant {mine:.2f} ms, driver {other:.2f} ms, {mine / other:.3f} times")


if __name__ == "__main__":
    main()
