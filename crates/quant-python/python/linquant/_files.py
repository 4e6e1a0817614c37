"""Model files: paths in, paths out, with the options of the ``quant`` command.

Functions name the options that people use most; ``**options`` takes the others as they stand, so that
the command's list is the only one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import _reports
from ._arrays import one_size
from ._call import Names, PathLike, Progress, document_file, mode_word, names_of, run_command, with_others, word
from ._reports import ConvertReport, DequantizeReport, Difference, IndexReport, Inspection, QuantizeReport


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
        "mode": mode_word(mode),
        "granularity": word(granularity),
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
    block_type: str | None = None,
    requantize: bool = False,
    dtype: str | None = None,
    mode: str | None = None,
    granularity: str | None = None,
    axis: int | None = None,
    block_size: int | Sequence[int] | None = None,
    block_axis: int | None = None,
    dialect: str | None = None,
    search: str | None = None,
    importance: PathLike | None = None,
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
    **options: Any,
) -> QuantizeReport:
    """Quantizes the weights of a model: a ``.safetensors`` file, a folder of these, an ``.mlpackage``, or a
    ``.gguf`` file.

    Args:
        src: The model.
        dst: The result, which appears whole or not at all; by default beside the model.
        format: How quantized tensors lie in the files; ``"native"`` if not given, ``"gguf"`` of a
            ``.gguf`` file. With ``bits`` and ``group_size`` where the format has a dialect of its own.
        preset: With the format ``"compressed-tensors"``: ``"w4a16"`` (if not given), ``"w4a16-asym"``,
            ``"w8a16"``, ``"w8a8"``.
        block_type: With the format ``"gguf"``: ``"q8_0"`` (if not given), ``"q4_0"``, ``"q4_1"``,
            ``"q5_0"``, ``"q5_1"``.
        requantize: With the format ``"gguf"``: quantize anew what is in blocks already.
        dtype: ``"int8"`` (if not given), ``"uint8"``, ``"int4"``, ``"uint4"``, ``"int2"``, ``"uint2"``.
        mode: ``"symmetric"`` (if not given) or ``"affine"``.
        granularity: ``"per_channel"``, ``"per_tensor"``, ``"per_block"``; if not given, the last where
            there is a ``block_size``, else the first.
        axis, block_axis: The axes of output and input channels; if not given, as the format says.
        block_size: Elements per block along ``block_axis``, or one number for each axis (0: all of it).
        search: ``"mse"``: of 16 scales for each channel or block, the one of least squared error, then
            fitted to its codes.
        importance: With ``search``: weigh errors by how large the inputs of weights are, as this file of
            ``quant calibrate --importance``, or an importance matrix of llama.cpp, says.
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
        stats: Measure the error, tensor by tensor.
        force: Replace what is at ``dst``.
        threads: 0 means one per core.
        backend: One of :func:`linquant.backends`.
        progress: Called as ``progress(done, total)`` with bytes, from this thread; or a bar with an
            ``update`` method, such as ``tqdm(unit="B", unit_scale=True)``. What it raises ends the work.
        options: Any other option of ``quant quantize``, ``-`` as ``_``: ``report="report.json"``.

    Returns:
        What was done, tensor by tensor. Its ``warnings`` are also :class:`LinquantWarning`.

    Raises:
        FileAccessError, FileError, TensorError: What is wrong with which file and tensor.
        OptionError: Options that make no sense.
        StrictError: With ``strict``.
        KeyboardInterrupt: After Ctrl-C. Nothing is left behind, then as after any exception; but what
            ``progress`` raises, or a warning that is an error, may come when the output has its name: it
            is whole then, and stays.

    >>> report = linquant.quantize_file("model.safetensors", "small.safetensors",
    ...                                 dtype="int4", block_size=32)  # doctest: +SKIP
    """
    with document_file(config) as config_file, document_file(plan) as plan_file_:
        given = {
            **_weights(dtype, mode, granularity, axis, block_size, block_axis),
            "output": dst,
            "format": format,
            "bits": bits,
            "group_size": group_size,
            "preset": preset,
            "type": block_type,
            "requantize": requantize,
            "dialect": dialect,
            "search": search,
            "importance": importance,
            "config": config_file,
            "min_elements": min_elements,
            "include": names_of(include),
            "exclude": names_of(exclude),
            "experts": names_of(experts),
            "expert_axes": word(expert_axes),
            "plan": plan_file_,
            "ranges": ranges,
            "activation_dtype": activation_dtype,
            "activation_mode": mode_word(activation_mode),
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
        return _reports.quantize_report(run_command("quantize", [src], with_others(given, options), progress))


def plan_file(
    src: PathLike,
    *,
    format: str | None = None,
    bits: int | None = None,
    group_size: int | None = None,
    preset: str | None = None,
    block_type: str | None = None,
    requantize: bool = False,
    dtype: str | None = None,
    mode: str | None = None,
    granularity: str | None = None,
    axis: int | None = None,
    block_size: int | Sequence[int] | None = None,
    block_axis: int | None = None,
    dialect: str | None = None,
    search: str | None = None,
    importance: PathLike | None = None,
    config: PathLike | Mapping[str, Any] | object | None = None,
    min_elements: int | None = None,
    include: Names = (),
    exclude: Names = (),
    experts: Names = (),
    expert_axes: str | None = None,
    exact_selection: bool = False,
    non_finite: str | None = None,
    progress: Progress = None,
    **options: Any,
) -> dict[str, Any]:
    """What :func:`quantize_file` would do with each tensor, with the same arguments.

    ``options`` are any other ones of ``quant plan``.

    Returns:
        A plan: its ``tensors`` say how each is quantized, or why it stays as it is. Change it as you like,
        and give it to ``quantize_file(plan=...)``. It can be stored as JSON.
    """
    with document_file(config) as config_file:
        given = {
            **_weights(dtype, mode, granularity, axis, block_size, block_axis),
            "format": format,
            "bits": bits,
            "group_size": group_size,
            "preset": preset,
            "type": block_type,
            "requantize": requantize,
            "dialect": dialect,
            "search": search,
            "importance": importance,
            "config": config_file,
            "min_elements": min_elements,
            "include": names_of(include),
            "exclude": names_of(exclude),
            "experts": names_of(experts),
            "expert_axes": word(expert_axes),
            "exact_selection": exact_selection,
            "non_finite": non_finite,
            # The plan is what is returned.
            "output": None,
        }
        return run_command("plan", [src], with_others(given, options), progress)


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
    **options: Any,
) -> QuantizeReport:
    """Quantizes the activations of an ``.mlpackage`` as ``ranges`` says, and leaves its weights.

    The arguments and what is raised are those of :func:`quantize_file`; ``dtype`` is ``"int8"`` or
    ``"uint8"``.
    """
    with document_file(config) as file:
        given = {
            "output": dst,
            "ranges": ranges,
            "dtype": dtype,
            "mode": mode_word(mode),
            "config": file,
            "include": names_of(include),
            "exclude": names_of(exclude),
            "strict": strict,
            "dry_run": dry_run,
            "force": force,
        }
        return _reports.quantize_report(run_command("activations", [src], with_others(given, options)))


def dequantize_file(
    src: PathLike,
    dst: PathLike | None = None,
    *,
    weights_only: bool = False,
    force: bool = False,
    threads: int = 0,
    progress: Progress = None,
    **options: Any,
) -> DequantizeReport:
    """Turns a quantized model back into a float one.

    The arguments and what is raised are those of :func:`quantize_file`; ``options`` are any other ones of
    ``quant dequantize``.
    """
    given = {"output": dst, "weights_only": weights_only, "force": force, "threads": threads}
    return _reports.dequantize_report(run_command("dequantize", [src], with_others(given, options), progress))


def convert_file(
    src: PathLike,
    dst: PathLike | None = None,
    *,
    format: str,
    weights_only: bool = False,
    force: bool = False,
    threads: int = 0,
    progress: Progress = None,
    **options: Any,
) -> ConvertReport:
    """Writes a quantized model in another format, with the same codes, scales and zero points.

    Nothing is quantized anew: a tensor that cannot be said there with the same values is an error.

    The arguments and what is raised are those of :func:`quantize_file`; ``options`` are any other ones of
    ``quant convert``.
    """
    given = {
        "output": dst,
        "format": format,
        "weights_only": weights_only,
        "force": force,
        "threads": threads,
    }
    return _reports.convert_report(run_command("convert", [src], with_others(given, options), progress))


def inspect(
    path: PathLike, *, values: bool = False, progress: Progress = None, **options: Any
) -> Inspection:
    """Lists the tensors of a model.

    Args:
        values: Look at the values too: share of zeros, number of different values.

    Raises:
        FileAccessError, FileError: A model that cannot be read.
    """
    return _reports.inspection(run_command("inspect", [path], with_others({"values": values}, options), progress))


def diff(a: PathLike, b: PathLike, *, progress: Progress = None, **options: Any) -> Difference:
    """Compares two models, quantized or not, tensor by tensor.

    Raises:
        FileAccessError, FileError: A model that cannot be read; an ``.mlpackage`` and another model.
    """
    return _reports.difference(run_command("diff", [a, b], with_others({}, options), progress))


def index(folder: PathLike, *, force: bool = False, **options: Any) -> IndexReport:
    """Writes ``model.safetensors.index.json`` for the shards that are in a folder.

    So shards may be quantized one by one, by several machines too, and be a model again.

    Raises:
        FileAccessError, FileError: No shards, one that cannot be read, two with tensors of one name.
    """
    return _reports.index_report(run_command("index", [folder], with_others({"force": force}, options)))
