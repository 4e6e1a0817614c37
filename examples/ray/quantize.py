"""Quantizes a sharded model, a shard a task, on all machines of a Ray cluster.

    python quantize.py s3://bucket/model s3://bucket/small --option dtype=int4 --option block_size=32

What is finished is not done again: a second run goes on where the first was ended.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import linquant
import ray
from storage import Folder, option

INDEX = "model.safetensors.index.json"


@ray.remote(num_cpus=1, max_retries=5)
def shard(source: str, target: str, name: str, options: dict[str, Any]) -> tuple[str, int, int]:
    """Quantizes one. Ray runs it again elsewhere, if its worker or machine dies."""
    with Folder(source).local(name) as given, Folder(target).created(name) as made:
        report = linquant.quantize_file(given, made, threads=1, force=True, **options)
    return name, report.bytes_before, report.bytes_after or 0


def quantize(source: str, target: str, options: dict[str, Any]) -> int:
    """All shards that are not there yet; returns how many these were."""
    given, made = Folder(source), Folder(target)
    shards = [name for name in given.names() if name.endswith(".safetensors")]
    if not shards:
        raise SystemExit(f"{source}: no .safetensors files")
    done = made.names()
    waiting = [shard.remote(given.address, made.address, name, options) for name in sorted(shards) if name not in done]
    total = len(waiting)
    while waiting:
        [first], waiting = ray.wait(waiting)
        name, before, after = ray.get(first)
        print(f"{name}: {before:,} -> {after:,} bytes, {len(waiting)} left", flush=True)
    finish(given, made, sorted(shards))
    return total


def finish(given: Folder, made: Folder, shards: list[str]) -> None:
    """What a loader needs beside the shards, and then the index: with it, the model is complete."""
    for name in given.names():
        if name.endswith((".json", ".txt", ".model")) and name != INDEX:
            with given.local(name) as file, made.created(name) as copy:
                copy.write_bytes(file.read_bytes())
    with made.headers(shards) as folder:
        written = linquant.index(folder, force=True)
        if not made.is_local:
            with made.created(INDEX) as copy:
                copy.write_bytes(written.output.read_bytes())
    print(f"{made.address}: {written.shards} shards, {written.tensors} tensors, {written.bytes:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--option", action="append", type=option, default=[], metavar="NAME=VALUE")
    parser.add_argument("--address", help="of a cluster that runs; without it, one on this machine")
    arguments = parser.parse_args()
    # Other machines get what stands beside this file.
    ray.init(address=arguments.address, runtime_env={"working_dir": str(Path(__file__).resolve().parent)})
    quantize(arguments.source, arguments.target, dict(arguments.option))
