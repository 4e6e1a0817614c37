"""Activations: what models compute, which ranges that takes, and how far apart two of them are."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _reports
from ._arrays import ArrayLike, as_numpy
from ._call import Names, PathLike, Progress, document_file, mode_word, names_of, run_command, with_others, word
from ._reports import Calibration, Evaluation, WantedActivation
from .errors import OptionError

#: Inputs of a model by their names; one array where it has one input.
Sample: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"


@contextlib.contextmanager
def sample_files(samples: Iterable[Sample] | PathLike) -> Iterator[list[Any]]:
    """Paths of samples; arrays are written to files for as long as they are needed."""
    given: list[Any] = [samples] if isinstance(samples, (str, os.PathLike)) else list(samples)
    if all(isinstance(one, (str, os.PathLike)) for one in given):
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="linquant-") as folder:
        for number, sample in enumerate(given):
            path = Path(folder, f"{number:08}")
            if isinstance(sample, Mapping):
                arrays = {name: as_numpy(array) for name, array in sample.items()}
                np.savez(path.with_suffix(".npz"), allow_pickle=False, **arrays)
            else:
                np.save(path.with_suffix(".npy"), as_numpy(sample), allow_pickle=False)
        yield [folder]


def calibrate(
    data: PathLike | Iterable[PathLike],
    dst: PathLike,
    *,
    samples: Iterable[Sample] | PathLike | None = None,
    observer: str | None = None,
    bins: int | None = None,
    percentile: float | None = None,
    averaging: str | None = None,
    dtype: str | None = None,
    mode: str | None = None,
    name: str | None = None,
    merge: bool = False,
    samples_limit: int | None = None,
    sequence: bool = False,
    image_fit: str | None = None,
    function: str | None = None,
    round_f16: bool = False,
    memory: str | None = None,
    max_iterations: int | None = None,
    record: PathLike | None = None,
    resume: bool = False,
    checkpoint: int | None = None,
    force: bool = False,
    threads: int = 0,
    backend: str | None = None,
    progress: Progress = None,
    **options: Any,
) -> Calibration:
    """Finds the ranges of activations, and writes them to a JSON file.

    Args:
        data: Files and folders of recordings; with ``samples``, an ``.mlpackage``; with ``merge``, earlier
            results.
        dst: The result.
        samples: Pass these through the model: files and folders, or arrays: a dictionary by the names of
            inputs for each sample, or one array where the model has one input.
        observer: ``"min-max"`` (if not given), ``"moving-average"``, ``"percentile"``, ``"entropy"``,
            ``"mse"``; with ``bins``, ``percentile``, and ``averaging`` such as ``"constant=0.01"``.
        dtype, mode: What the ranges are for: ``"int8"`` or ``"uint8"``, ``"symmetric"`` or ``"affine"``.
        name: The activation of every npy file.
        resume: Go on where a run that was ended has left ``dst`` with ``.checkpoint``.

    The other arguments, ``options`` among them, and what is raised are those of ``quant calibrate`` and
    :func:`quantize_file`.
    After Ctrl-C, a checkpoint stays beside ``dst``.
    """
    given: dict[str, Any] = {
        "output": dst,
        "observer": word(observer),
        "bins": bins,
        "percentile": percentile,
        "averaging": averaging,
        "dtype": dtype,
        "mode": mode_word(mode),
        "name": name,
        "merge": merge,
        "samples_limit": samples_limit,
        "sequence": sequence,
        "image_fit": image_fit,
        "function": function,
        "round_f16": round_f16,
        "memory": memory,
        "max_iterations": max_iterations,
        "record": record,
        "resume": resume,
        "checkpoint": checkpoint,
        "force": force,
        "threads": threads,
        "backend": backend,
    }
    paths = [data] if isinstance(data, (str, os.PathLike)) else list(data)
    if any(os.fspath(path) == "-" for path in paths):
        raise OptionError("`-` is the standard input of a program", hint="give files")
    if samples is None:
        return _reports.calibration(run_command("calibrate", paths, with_others(given, options), progress))
    with sample_files(samples) as files:
        given["samples"] = files
        return _reports.calibration(run_command("calibrate", paths, with_others(given, options), progress))


def evaluate(
    first: PathLike,
    second: PathLike,
    samples: Iterable[Sample] | PathLike,
    *,
    labels: PathLike | Sequence[int] | None = None,
    only: str | None = None,
    report: PathLike | None = None,
    samples_limit: int | None = None,
    sequence: bool = False,
    image_fit: str | None = None,
    function: str | None = None,
    round_f16: bool = False,
    memory: str | None = None,
    max_iterations: int | None = None,
    force: bool = False,
    threads: int = 0,
    progress: Progress = None,
    **options: Any,
) -> Evaluation:
    """How far apart the answers of two ``.mlpackage`` are, and where that begins.

    Args:
        samples: As for :func:`calibrate`.
        labels: The class of each sample, in their order, or a file of these.

    The other arguments, ``options`` among them, are those of ``quant evaluate``.
    """
    given: dict[str, Any] = {
        "only": only,
        "report": report,
        "samples_limit": samples_limit,
        "sequence": sequence,
        "image_fit": image_fit,
        "function": function,
        "round_f16": round_f16,
        "memory": memory,
        "max_iterations": max_iterations,
        "force": force,
        "threads": threads,
    }
    with sample_files(samples) as files, tempfile.TemporaryDirectory(prefix="linquant-") as folder:
        given["samples"] = files
        if labels is not None and not isinstance(labels, (str, os.PathLike)):
            path = Path(folder, "labels.txt")
            path.write_text("".join(f"{int(label)}\n" for label in labels))
            labels = path
        given["labels"] = labels
        return _reports.evaluation(run_command("evaluate", [first, second], with_others(given, options), progress))


def run(
    model: PathLike,
    inputs: Sample | PathLike | Mapping[str, ArrayLike | PathLike],
    *,
    image_fit: str | None = None,
    function: str | None = None,
    round_f16: bool = False,
    memory: str | None = None,
    max_iterations: int | None = None,
    threads: int = 0,
    progress: Progress = None,
    **options: Any,
) -> dict[str, NDArray[Any]]:
    """Runs an ``.mlpackage`` once, on the CPU of any system.

    Args:
        inputs: Arrays or files by the names of inputs; one of these where the model has one input.
        image_fit: ``"crop"`` (if not given), and the other words of ``quant run``, for images of another
            size than the model's.
        round_f16: Round every float16 value to float16; without it, in float32.

    The other arguments, ``options`` among them, are those of ``quant run``.

    Returns:
        The outputs by their names.

    Raises:
        FileAccessError, FileError: A model or input that cannot be read or run.
        MemoryLimitError: More memory than ``memory``.
    """
    with tempfile.TemporaryDirectory(prefix="linquant-") as folder:
        files = []
        by_name = inputs if isinstance(inputs, Mapping) else {"": inputs}
        for number, (name, value) in enumerate(by_name.items()):
            if not isinstance(value, (str, os.PathLike)):
                path = Path(folder, f"{number}.npy")
                np.save(path, as_numpy(value), allow_pickle=False)
                value = path
            files.append(f"{name}={os.fspath(value)}" if name else os.fspath(value))
        output = Path(folder, "outputs.npz")
        given = {
            "input": files,
            "output": output,
            "image_fit": word(image_fit),
            "function": function,
            "round_f16": round_f16,
            "memory": memory,
            "max_iterations": max_iterations,
            "threads": threads,
        }
        run_command("run", [model], with_others(given, options), progress)
        with np.load(output, allow_pickle=False) as arrays:
            return dict(arrays)


def wanted_activations(
    model: PathLike,
    *,
    config: PathLike | Mapping[str, Any] | object | None = None,
    include: Names = (),
    exclude: Names = (),
    **options: Any,
) -> list[WantedActivation]:
    """Which activations of an ``.mlpackage`` need a range, in the order of the program.

    The arguments are those of :func:`quantize_activations_file`, as ``quant activations --list`` has them.
    """
    with document_file(config) as file:
        given = {
            "list": True,
            "config": file,
            "include": names_of(include),
            "exclude": names_of(exclude),
        }
        return _reports.wanted(run_command("activations", [model], with_others(given, options)))


def plot(ranges: PathLike, dst: PathLike | None = None, *, force: bool = False, **options: Any) -> Path:
    """Draws what :func:`calibrate` has seen of each activation: a page (``.html``) or a picture (``.svg``).

    Args:
        ranges: What ``calibrate`` wrote.
        dst: The result; by default beside the ranges.

    Returns:
        The path of the result.
    """
    given = {"output": dst, "force": force}
    return Path(run_command("plot", [ranges], with_others(given, options))["output"])
