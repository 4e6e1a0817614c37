"""Times `quant`, coremltools 9.0 and `cp -r` by turns on an f16 package of about 300 MB.

    venv/bin/python crates/quant-models/tests/coreml/time_packages.py target/release/quant

quant: the whole command, start, reading and syncing to disk included. coremltools:
linear_quantize_weights alone, without import, load and save. `cargo xtask coreml --time` does it.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import coremltools as ct
import coremltools.optimize as cto
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from make_fixtures import WEIGHTS

LAYERS, WIDTH = 12, 1024
CASES = {
    "int8 per channel": (["--dtype", "int8"], {"dtype": "int8"}),
    "int4 per block of 32": (
        ["--dtype", "int4", "--granularity", "per-block", "--block-size", "32"],
        {"dtype": "int4", "granularity": "per_block", "block_size": 32},
    ),
}


def build(path):
    """The shapes of a transformer's layers, 12 million weights each."""
    rng = np.random.default_rng(9)

    def weight(rows, columns):
        return (rng.standard_normal((rows, columns), dtype=np.float32) * 0.03).astype(np.float16)

    @mb.program(input_specs=[mb.TensorSpec((1, WIDTH), dtype=types.fp16)], opset_version=ct.target.iOS18)
    def program(x):
        for _ in range(LAYERS):
            for _ in range(4):
                x = mb.relu(x=mb.linear(x=x, weight=weight(WIDTH, WIDTH)))
            x = mb.relu(x=mb.linear(x=x, weight=weight(4 * WIDTH, WIDTH)))
            x = mb.linear(x=x, weight=weight(WIDTH, 4 * WIDTH))
        return x

    target = ct.target.iOS18
    ct.convert(program, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True).save(str(path))


def watch(command):
    """Seconds, those of processors, and peaks of anonymous and of all memory in MiB."""
    peaks, done = [0, 0], threading.Event()
    start = time.perf_counter()
    process = subprocess.Popen(command)

    def look():
        while not done.is_set():
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                return
            for i, field in enumerate(("RssAnon:", "VmHWM:")):
                lines = [line for line in status.splitlines() if line.startswith(field)]
                if lines:
                    peaks[i] = max(peaks[i], int(lines[0].split()[1]) / 1024)
            time.sleep(0.002)

    watcher = threading.Thread(target=look)
    watcher.start()
    _, code, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    assert code == 0, command
    return seconds, used.ru_utime + used.ru_stime, *peaks


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("quant", type=Path)
    options.add_argument("--pairs", type=int, default=7, help="rounds of quant and cp")
    options.add_argument("--slow-pairs", type=int, default=2, help="rounds of coremltools")
    options.add_argument("--folder", type=Path, help="where to work")
    options = options.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder or "target"))
    source, ours, copy = (folder / f"{name}.mlpackage" for name in ("source", "ours", "copy"))
    build(source)
    megabytes = (source / WEIGHTS).stat().st_size / 1e6
    os.sync()
    print(f"{megabytes:.0f} MB of f16, {os.cpu_count()} cores; medians of seconds", flush=True)
    for name, (arguments, config) in CASES.items():
        command = [options.quant.resolve(), "quantize", source, "-o", ours, "--quiet", *arguments]
        rounds = []
        for turn in range(options.pairs + 1):
            quant = watch(command)
            shutil.rmtree(ours)
            copied = watch(["cp", "-r", source, copy])[:2]
            shutil.rmtree(copy)
            synced = watch(["sh", "-c", 'cp -r "$0" "$1" && sync "$1/$2"', source, copy, WEIGHTS])[0]
            shutil.rmtree(copy)
            if turn > 0:
                rounds.append((*quant, *copied, synced))
        slow = []
        configuration = cto.coreml.OptimizationConfig(global_config=cto.coreml.OpLinearQuantizerConfig(**config))
        for _ in range(options.slow_pairs):
            model = ct.models.MLModel(str(source), skip_model_load=True)
            start = time.perf_counter()
            cto.coreml.linear_quantize_weights(model, configuration)
            slow.append(time.perf_counter() - start)
        columns = list(zip(*rounds))
        quant, busy, anonymous, resident, copied, copying, synced = map(statistics.median, columns)
        ratio = statistics.median(one[0] / one[4] for one in rounds)
        synced_ratio = statistics.median(one[0] / one[6] for one in rounds)
        best = min(columns[0]) / min(columns[4])
        slow = statistics.median(slow)
        print(
            f"{name}: quant {quant:.3f}, cp -r {copied:.3f}, cp -r and sync {synced:.3f}, coremltools {slow:.2f}; "
            f"quant is {slow / quant:.0f} times as fast as coremltools, takes {ratio:.2f} times cp -r "
            f"(the fastest runs of both: {best:.2f}) and {synced_ratio:.2f} times cp -r and sync; seconds of "
            f"processors: quant {busy:.3f}, cp -r {copying:.3f}; {anonymous:.1f} MiB anonymous, {resident:.0f} MiB resident",
            flush=True,
        )
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
