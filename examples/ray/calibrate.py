"""Calibrates a Core ML package by pieces of the samples, on all machines of a Ray cluster.

    python calibrate.py /shared/Model.mlpackage s3://bucket/samples ranges.json --option observer=percentile

The ranges are those of one machine that sees all samples: what observers hold does not depend on how
samples are split, but for the moving average, which is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import linquant
import ray
from storage import Folder, option


@ray.remote(num_cpus=1, max_retries=5)
def piece(model: str, samples: str, names: list[str], options: dict[str, Any]) -> bytes:
    """What observers hold after these samples. One thread, so that sums are the same everywhere."""
    folder = Folder(samples)
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(folder.local(name)) for name in names]
        made = Path(stack.enter_context(tempfile.TemporaryDirectory()), "ranges.json")
        linquant.calibrate(model, made, samples=files, threads=1, **options)
        return made.read_bytes()


def calibrate(model: str, samples: str, output: str, size: int, options: dict[str, Any]) -> None:
    """Pieces of `size` samples, in their order, and then their union."""
    given = Folder(samples)
    names = sorted(name for name in given.names() if not name.startswith("."))
    if not names:
        raise SystemExit(f"{samples}: no samples")
    pieces = [names[i : i + size] for i in range(0, len(names), size)]
    states = ray.get([piece.remote(model, given.address, names, options) for names in pieces])
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, state in enumerate(states):
            files.append(Path(folder, f"{number:06}.json"))
            files[-1].write_bytes(state)
        found = linquant.calibrate(files, output, merge=True, force=True)
    print(f"{output}: {len(found.activations)} activations, {len(names)} samples in {len(pieces)} pieces")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a path that all machines see")
    parser.add_argument("samples")
    parser.add_argument("output")
    parser.add_argument("--piece", type=int, default=64, metavar="COUNT", help="samples of a task")
    parser.add_argument("--option", action="append", type=option, default=[], metavar="NAME=VALUE")
    parser.add_argument("--address", help="of a cluster that runs; without it, one on this machine")
    arguments = parser.parse_args()
    # Other machines get what stands beside this file.
    ray.init(address=arguments.address, runtime_env={"working_dir": str(Path(__file__).resolve().parent)})
    model = str(Path(arguments.model).resolve())
    calibrate(model, arguments.samples, arguments.output, arguments.piece, dict(arguments.option))
