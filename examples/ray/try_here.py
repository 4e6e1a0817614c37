"""Tries both programs on a cluster of two workers on this machine, one of which is killed meanwhile.

    python try_here.py FOLDER --gigabytes 4

It makes a model of 8 shards, quantizes it on one machine and on the cluster, and compares the bytes; then
the same with the ranges of a small Core ML package, where `--package Model.mlpackage` and `--samples DIR`
give one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import linquant
import numpy as np
from ray.cluster_utils import Cluster

HERE = Path(__file__).resolve().parent
SHARDS = 8
ROWS, COLUMNS = 4096, 2048


def make(folder: Path, size: int) -> None:
    """A model of `size` bytes of float16, in shards of equal size."""
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).normal(scale=0.02, size=(ROWS, COLUMNS)).astype(np.float16)
    count = max(1, size // SHARDS // values.nbytes)
    for shard in range(SHARDS):
        names = [f"layers.{shard}.{number}.weight" for number in range(count)]
        header = {
            name: {
                "dtype": "F16",
                "shape": [ROWS, COLUMNS],
                "data_offsets": [number * values.nbytes, (number + 1) * values.nbytes],
            }
            for number, name in enumerate(names)
        }
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(folder / f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for number in range(count):
                # Each tensor is another one.
                file.write(np.roll(values, shard * count + number).tobytes())
    (folder / "config.json").write_text('{"model_type": "none"}\n')
    linquant.index(folder)


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.iterdir()):
        with open(path, "rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def program(name: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, HERE / name, *map(str, arguments)])


def finished(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise SystemExit("it failed, see above")


def quantized(folder: Path, cluster: Cluster, victim: object) -> None:
    """On one machine and on the cluster; what it is given again is not done again."""
    one, many = folder / "one", folder / "many"
    options = ["--option", "dtype=int4", "--option", "block_size=32", "--address", cluster.address]
    start = time.monotonic()
    linquant.quantize_file(folder / "model", one, dtype="int4", block_size=32, threads=2)
    print(f"one machine: {time.monotonic() - start:.1f} s", flush=True)
    start = time.monotonic()
    process = program("quantize.py", folder / "model", many, *options)
    while process.poll() is None and len(list(many.glob("*.safetensors"))) < 2:
        time.sleep(0.02)
    done = len(list(many.glob("*.safetensors")))
    if process.poll() is not None:
        raise SystemExit("it ended before a worker could be killed: take more gigabytes")
    cluster.remove_node(victim, allow_graceful=False)
    print(f"a worker was killed after {done} of {SHARDS} shards", flush=True)
    finished(process)
    print(f"two workers, one of them killed: {time.monotonic() - start:.1f} s", flush=True)
    if digests(one) != digests(many):
        raise SystemExit(f"not the same bytes:\n{digests(one)}\n{digests(many)}")
    print(f"the same bytes in {len(digests(many))} files", flush=True)
    # As after a crash of everything: one shard is missing.
    missing = sorted(many.glob("*.safetensors"))[3]
    times = {path: path.stat().st_mtime_ns for path in many.glob("*.safetensors") if path != missing}
    missing.unlink()
    finished(program("quantize.py", folder / "model", many, *options))
    if digests(one) != digests(many) or any(path.stat().st_mtime_ns != it for path, it in times.items()):
        raise SystemExit("the missing shard was not the only one that was made")
    print("only what was missing was made again", flush=True)


def calibrated(folder: Path, cluster: Cluster, package: Path, samples: Path) -> None:
    for observer in ["min-max", "percentile"]:
        one, many = folder / f"{observer}-one.json", folder / f"{observer}-many.json"
        linquant.calibrate(package, one, samples=sorted(samples.iterdir()), observer=observer, threads=1)
        options = ["--piece", 5, "--option", f"observer={observer}", "--address", cluster.address]
        finished(program("calibrate.py", package, samples, many, *options))
        if one.read_bytes() != many.read_bytes():
            raise SystemExit(f"{observer}: the ranges differ")
        print(f"{observer}: the same ranges.json", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="which must not exist")
    parser.add_argument("--gigabytes", type=float, default=4)
    parser.add_argument("--package", type=Path)
    parser.add_argument("--samples", type=Path)
    arguments = parser.parse_args()
    make(arguments.folder / "model", int(arguments.gigabytes * 2**30))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        victim = cluster.add_node(num_cpus=1)
        cluster.add_node(num_cpus=1)
        quantized(arguments.folder, cluster, victim)
        if arguments.package and arguments.samples:
            calibrated(arguments.folder, cluster, arguments.package, arguments.samples)
    finally:
        cluster.shutdown()
