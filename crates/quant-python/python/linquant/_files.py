"""Model files: paths in, paths out, with the options of the ``quant`` command."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from . import _native, _reports
from ._arrays import ArrayLike, as_numpy, one_size
from .errors import LinquantWarning, OptionError
from ._reports import Calibration, DequantizeReport, Difference, Evaluation, Inspection, QuantizeReport

PathLike: TypeAlias = "str | os.PathLike[str]"
Names: TypeAlias = "str | Iterable[str]"
#: Inputs of a model by their names; one array where it has one input.
Sample: TypeAlias = "ArrayLike | Mapping[str, ArrayLike]"


class Bar(Protocol):
    """A bar such as ``tqdm``'s."""

    def update(self, n: float = ..., /) -> object: ...


#: Called with bytes that are done and how many there are (0: nobody knows), or a bar.
Progress: TypeAlias = "Callable[[int, int], object] | Bar | None"


def _teller(progress: Progress) -> Callable[[int, int], object] | None:
    """A bar is told what is new."""
    if progress is None or not hasattr(progress, "update"):
        return progress
    bar: Any = progress
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if total and getattr(bar, "total", None) is None:
            bar.total = total
        bar.update(done - told)
        told = done

    return tell


def _flags(options: Mapping[str, Any]) -> Iterator[str]:
    """Options as the command has them; what is ``None`` or ``False`` is not given."""
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            yield flag
        elif isinstance(value, (str, os.PathLike)):
            yield f"{flag}={os.fspath(value)}"
        elif isinstance(value, Iterable):
            for one in value:
                yield f"{flag}={os.fspath(one) if isinstance(one, os.PathLike) else one}"
        else:
            yield f"{flag}={value}"


def command(
    name: str, paths: Iterable[PathLike], options: Mapping[str, Any], progress: Progress = None
) -> dict[str, Any]:
    """Runs a command, and returns what it prints with ``--json``."""
    # A plan is a document as it is.
    json_flag = [] if name == "plan" else ["--json"]
    line = ["quant", name, *json_flag, *_flags(options), "--", *(os.fspath(path) for path in paths)]
    text, warned = _native.call(line, _teller(progress))
    for one in warned:
        warnings.warn(one, LinquantWarning, stacklevel=3)
    document: dict[str, Any] = json.loads(text)
    return document


def _names(given: Names) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _word(given: str | None) -> str | None:
    """``per_channel`` is the command's ``per-channel``."""
    return None if given is None else given.replace("_", "-")


def _mode(given: str | None) -> str | None:
    return {"linear_symmetric": "symmetric", "linear": "affine"}.get(given or "", given)


@contextlib.contextmanager
def _document(document: object) -> Iterator[PathLike | None]:
    """The path of a document: of a file, of what its file would hold, or of coremltools' objects."""
    if document is None or isinstance(document, (str, os.PathLike)):
        yield document
        return
    if not isinstance(document, Mapping):
        from .coreml import config_dict

        document = config_dict(document)
    with tempfile.TemporaryDirectory(prefix="linquant-") as folder:
        path = Path(folder, "document.json")
        path.write_text(json.dumps(document))
        yield path


def _weights(
    dtype: str | None,
    mode: str | None,
    granularity: str | None,
    axis: int | None,
    block_size: int | Sequence[int] | None,
    block_axis: int | None,
) -> dict[str, Any]:
    """Options of weights; a block size for each axis has a name of its own."""
    size = None if block_size is None else one_size(block_size)
    is_one = size is None or isinstance(size, int)
    if granularity is None and isinstance(size, int):
        granularity = "per-block"
    return {
        "dtype": dtype,
        "mode": _mode(mode),
        "granularity": _word(granularity),
        "axis": axis,
        "block_axis": block_axis,
        "block_size": size if is_one else None,
        "block": None if isinstance(size, int) or size is None else ",".join(map(str, size)),
    }


def quantize_file(
    src: PathLike,
    dst: PathLike | None = None,
    *,
    format: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    preset: str | None = None,
    dtype: str | None = None,
    mode: str | None = None,
    granularity: str | None = None,
    axis: int | None = None,
    block_size: int | Sequence[int] | None = None,
    block_axis: int | None = None,
    dialect: str | None = None,
    config: PathLike | Mapping[str, Any] | object | None = None,
    min_elements: int | None = None,
    include: Names = (),
    exclude: Names = (),
    experts: Names = (),
    expert_axes: str | None = None,
    plan: PathLike | Mapping[str, Any] | None = None,
    ranges: PathLike | None = None,
    activation_dtype: str | None = None,
    activation_mode: str | None = None,
    exact_selection: bool = False,
    target: str | None = None,
    non_finite: str | None = None,
    strict: bool = False,
    dry_run: bool = False,
    weights_only: bool = False,
    stats: bool = True,
    force: bool = False,
    threads: int = 0,
    backend: str | None = None,
    progress: Progress = None,
) -> QuantizeReport:
    """Quantizes the weights of a model: a ``.safetensors`` file, a folder of these, or an ``.mlpackage``.

    Args:
        src: The model.
        dst: The result, which appears whole or not at all; by default beside the model.
        format: Safetensors: how quantized tensors lie in the files; ``"native"`` if not given. With
            ``bits`` and ``group_size`` where the format has a dialect of its own.
        preset: With the format ``"compressed-tensors"``: ``"w4a16"`` (if not given), ``"w4a16-asym"``,
            ``"w8a16"``, ``"w8a8"``.
        dtype: ``"int8"`` (if not given), ``"uint8"``, ``"int4"``, ``"uint4"``.
        mode: ``"symmetric"`` (if not given) or ``"affine"``.
        granularity: ``"per_channel"``, ``"per_tensor"``, ``"per_block"``; if not given, the last where
            there is a ``block_size``, else the first.
        axis, block_axis: The axes of output and input channels; if not given, as the format says.
        block_size: Elements per block along ``block_axis``, or one number for each axis (0: all of it).
        config: In place of the options above: a configuration file of coremltools, the dictionary that it
            holds, or an ``OptimizationConfig``.
        min_elements: Only tensors with more elements, 2048 if not given.
        include, exclude: Regular expressions of names.
        experts, expert_axes: Safetensors: stacks of experts, and how these lie.
        plan: In place of all these: what :func:`plan_file` returned or wrote, changed as you like.
        ranges: Core ML: quantize activations too, as this file of :func:`calibrate` says;
            ``activation_dtype``, ``activation_mode``.
        exact_selection: Core ML: leave alone whatever coremltools leaves alone.
        target: Core ML: warn of what runs badly on ``"ane"``, ``"gpu"`` or ``"cpu"``.
        non_finite: ``"error"`` (if not given) or ``"skip"`` tensors with NaN or infinities.
        strict: Write nothing if something that was selected cannot be quantized.
        dry_run: Say what would be done, and write nothing.
        weights_only: Sharded models: do not copy what a loader needs beside the weights.
        stats: Measure what is lost, tensor by tensor.
        force: Replace what is at ``dst``.
        threads: 0 means one per core.
        backend: One of :func:`linquant.backends`.
        progress: Called as ``progress(done, total)`` with bytes, from this thread; or a bar with an
            ``update`` method, such as ``tqdm(unit="B", unit_scale=True)``. What it raises ends the work.

    Returns:
        What was done, tensor by tensor. Its ``warnings`` are also :class:`LinquantWarning`.

    Raises:
        FileAccessError, FileError, TensorError: What is wrong with which file and tensor.
        OptionError: Options that make no sense.
        StrictError: With ``strict``.
        KeyboardInterrupt: After Ctrl-C. Nothing is left behind, then as after any exception.

    >>> report = linquant.quantize_file("model.safetensors", "small.safetensors",
    ...                                 dtype="int4", block_size=32)  # doctest: +SKIP
    """
    with _document(config) as config_file, _document(plan) as plan_file_:
        options = {
            **_weights(dtype, mode, granularity, axis, block_size, block_axis),
            "output": dst,
            "format": format,
            "bits": bits,
            "group_size": group_size,
            "preset": preset,
            "dialect": dialect,
            "config": config_file,
            "min_elements": min_elements,
            "include": _names(include),
            "exclude": _names(exclude),
            "experts": _names(experts),
            "expert_axes": _word(expert_axes),
            "plan": plan_file_,
            "ranges": ranges,
            "activation_dtype": activation_dtype,
            "activation_mode": _mode(activation_mode),
            "exact_selection": exact_selection,
            "target": target,
            "non_finite": non_finite,
            "strict": strict,
            "dry_run": dry_run,
            "weights_only": weights_only,
            "quiet": not stats,
            "force": force,
            "threads": threads,
            "backend": backend,
        }
        return _reports.quantize_report(command("quantize", [src], options, progress))


def plan_file(
    src: PathLike,
    *,
    format: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    preset: str | None = None,
    dtype: str | None = None,
    mode: str | None = None,
    granularity: str | None = None,
    axis: int | None = None,
    block_size: int | Sequence[int] | None = None,
    block_axis: int | None = None,
    dialect: str | None = None,
    config: PathLike | Mapping[str, Any] | object | None = None,
    min_elements: int | None = None,
    include: Names = (),
    exclude: Names = (),
    experts: Names = (),
    expert_axes: str | None = None,
    exact_selection: bool = False,
    non_finite: str | None = None,
    progress: Progress = None,
) -> dict[str, Any]:
    """What :func:`quantize_file` would do with each tensor, with the same arguments.

    Returns:
        A plan: its ``tensors`` say how each is quantized, or why it stays as it is. Change it as you like,
        and give it to ``quantize_file(plan=...)``. It can be stored as JSON.
    """
    with _document(config) as config_file:
        options = {
            **_weights(dtype, mode, granularity, axis, block_size, block_axis),
            "format": format,
            "bits": bits,
            "group_size": group_size,
            "preset": preset,
            "dialect": dialect,
            "config": config_file,
            "min_elements": min_elements,
            "include": _names(include),
            "exclude": _names(exclude),
            "experts": _names(experts),
            "expert_axes": _word(expert_axes),
            "exact_selection": exact_selection,
            "non_finite": non_finite,
        }
        return command("plan", [src], options, progress)


def quantize_activations_file(
    src: PathLike,
    dst: PathLike | None = None,
    *,
    ranges: PathLike,
    dtype: str | None = None,
    mode: str | None = None,
    config: PathLike | Mapping[str, Any] | object | None = None,
    include: Names = (),
    exclude: Names = (),
    strict: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> QuantizeReport:
    """Quantizes the activations of an ``.mlpackage`` as ``ranges`` says, and leaves its weights.

    The arguments and what is raised are those of :func:`quantize_file`; ``dtype`` is ``"int8"`` or
    ``"uint8"``.
    """
    with _document(config) as file:
        options = {
            "output": dst,
            "ranges": ranges,
            "dtype": dtype,
            "mode": _mode(mode),
            "config": file,
            "include": _names(include),
            "exclude": _names(exclude),
            "strict": strict,
            "dry_run": dry_run,
            "force": force,
        }
        return _reports.quantize_report(command("activations", [src], options))


def dequantize_file(
    src: PathLike,
    dst: PathLike | None = None,
    *,
    weights_only: bool = False,
    force: bool = False,
    threads: int = 0,
    progress: Progress = None,
) -> DequantizeReport:
    """Turns a quantized model back into a float one.

    The arguments and what is raised are those of :func:`quantize_file`.
    """
    options = {"output": dst, "weights_only": weights_only, "force": force, "threads": threads}
    return _reports.dequantize_report(command("dequantize", [src], options, progress))


def inspect(path: PathLike, *, values: bool = False, progress: Progress = None) -> Inspection:
    """Lists the tensors of a model.

    Args:
        values: Look at the values too: share of zeros, number of different values.

    Raises:
        FileAccessError, FileError: A model that cannot be read.
    """
    return _reports.inspection(command("inspect", [path], {"values": values}, progress))


def diff(a: PathLike, b: PathLike, *, progress: Progress = None) -> Difference:
    """Compares two models of one format, quantized or not, tensor by tensor.

    Raises:
        FileAccessError, FileError: A model that cannot be read, or two of different formats.
    """
    return _reports.difference(command("diff", [a, b], {}, progress))


@contextlib.contextmanager
def _files_of(samples: Iterable[Sample] | PathLike) -> Iterator[list[Any]]:
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

    The other arguments and what is raised are those of ``quant calibrate`` and :func:`quantize_file`.
    After Ctrl-C, a checkpoint stays beside ``dst``.
    """
    options: dict[str, Any] = {
        "output": dst,
        "observer": _word(observer),
        "bins": bins,
        "percentile": percentile,
        "averaging": averaging,
        "dtype": dtype,
        "mode": _mode(mode),
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
        return _reports.calibration(command("calibrate", paths, options, progress))
    with _files_of(samples) as files:
        options["samples"] = files
        return _reports.calibration(command("calibrate", paths, options, progress))


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
) -> Evaluation:
    """How far apart the answers of two ``.mlpackage`` are, and where that begins.

    Args:
        samples: As for :func:`calibrate`.
        labels: The class of each sample, in their order, or a file of these.

    The other arguments are those of ``quant evaluate``.
    """
    options: dict[str, Any] = {
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
    with _files_of(samples) as files, tempfile.TemporaryDirectory(prefix="linquant-") as folder:
        options["samples"] = files
        if labels is not None and not isinstance(labels, (str, os.PathLike)):
            path = Path(folder, "labels.txt")
            path.write_text("".join(f"{int(label)}\n" for label in labels))
            labels = path
        options["labels"] = labels
        return _reports.evaluation(command("evaluate", [first, second], options, progress))
