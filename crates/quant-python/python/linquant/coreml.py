"""coremltools' quantization of Core ML packages, without its time, and on any system.

:func:`linear_quantize_weights` and :func:`linear_quantize_activations` take what the functions of that
name in ``coremltools.optimize.coreml`` take, and return what they return. ``weight.bin`` is the same, byte
for byte::

    import coremltools as ct
    import linquant

    config = ct.optimize.coreml.OptimizationConfig(
        global_config=ct.optimize.coreml.OpLinearQuantizerConfig(dtype="int4", granularity="per_block")
    )
    model = ct.models.MLModel("Model.mlpackage")
    linquant.coreml.linear_quantize_weights(model, config).save("Small.mlpackage")

coremltools is imported only where a model of it comes in or goes out: from path to path it is not needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import _activations, _files
from ._arrays import quantize
from ._call import PathLike, Progress
from .errors import Error, LinquantWarning, OptionError, UnsupportedError

__all__ = ["accelerated", "config_dict", "linear_quantize_activations", "linear_quantize_weights"]


def config_dict(config: Any) -> dict[str, Any]:
    """What a configuration file would hold for an ``OptimizationConfig`` of coremltools.

    Raises:
        OptionError: Another object.
        UnsupportedError: A configuration of a deprecated function, which selects operations by code.
    """
    fields = ("global_config", "op_type_configs", "op_name_configs")
    if not all(hasattr(config, field) for field in fields):
        raise OptionError(
            f"a {type(config).__name__} is no configuration",
            hint="give a coremltools.optimize.coreml.OptimizationConfig",
        )
    if getattr(config, "_op_selector", None) is not None:
        raise UnsupportedError("an op_selector", hint="name operations in op_name_configs")
    document: dict[str, Any] = {"config_type": "OpLinearQuantizerConfig"}
    if config.global_config is not None:
        document["global_config"] = _entry(config.global_config)
    for field in fields[1:]:
        entries = getattr(config, field) or {}
        document[field] = {name: _entry(entry) for name, entry in entries.items()}
    return document


def _entry(entry: Any) -> dict[str, Any] | None:
    """One configuration. Of another kind, its name is enough to be refused."""
    if entry is None:
        return None
    kind = type(entry).__name__
    if kind != "OpLinearQuantizerConfig":
        return {"config_type": kind}
    size = entry.block_size
    return {
        "config_type": kind,
        "mode": entry.mode.lower(),
        "dtype": _name(entry.dtype),
        "granularity": entry.granularity.name.lower(),
        "block_size": [int(one) for one in size] if isinstance(size, Sequence) else int(size),
        "weight_threshold": entry.weight_threshold,
    }


def _name(dtype: Any) -> str:
    """coremltools' integer type by its name."""
    return f"{'uint' if dtype.is_unsigned() else 'int'}{dtype.get_bitwidth()}"


def _link(source: str, target: str) -> None:
    """A copy that takes no room, where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextlib.contextmanager
def _package(model: Any) -> Iterator[Path]:
    """The package of a model as it is now: its description may have been changed."""
    if isinstance(model, (str, os.PathLike)):
        yield Path(model)
        return
    if not getattr(model, "is_package", False):
        raise UnsupportedError(
            "a model that is no ML program", hint="convert it with convert_to='mlprogram'"
        )
    from coremltools.models.utils import _get_model_spec_path, save_spec

    with tempfile.TemporaryDirectory(prefix="linquant-") as folder:
        package = Path(folder, "Model.mlpackage")
        shutil.copytree(model.package_path, package, copy_function=_link)
        description = _get_model_spec_path(str(package))
        # Else it would be written into the original, too.
        os.unlink(description)
        save_spec(model.get_spec(), description)
        yield package


@contextlib.contextmanager
def _output(model: Any, output: PathLike | None) -> Iterator[Path]:
    """Where the result goes: a package that goes with the interpreter, where none is given.

    Raises:
        OptionError: The package that the model lives in, which it would lose.
    """
    if output is not None:
        own = getattr(model, "package_path", None)
        if own is not None:
            mine, its = Path(output).resolve(), Path(own).resolve()
            if mine == its or mine in its.parents or its in mine.parents:
                raise OptionError(
                    f"the output {os.fspath(output)} is, holds or lies in the package of the model itself",
                    hint="choose another output",
                )
        yield Path(output)
        return
    folder = Path(tempfile.mkdtemp(prefix="linquant-", suffix=".mlpackage"))
    folder.rmdir()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _result(model: Any, package: Path, output: PathLike | None) -> Any:
    """A model of coremltools, or the path that was given."""
    if output is not None:
        return package
    from coremltools.models import MLModel

    if isinstance(model, (str, os.PathLike)):
        return MLModel(str(package), is_temp_package=True)
    return MLModel(
        str(package),
        is_temp_package=True,
        compute_units=model.compute_unit,
        skip_model_load=model.__proxy__ is None,
    )


def linear_quantize_weights(
    mlmodel: Any,
    config: Any,
    joint_compression: bool = False,
    *,
    output: PathLike | None = None,
    force: bool = False,
    sync: bool = False,
    threads: int = 0,
    progress: Progress = None,
) -> Any:
    """Quantizes the weights of an ML program, as the function of that name in coremltools does.

    Args:
        mlmodel: An ``MLModel``, or the path of an ``.mlpackage``.
        config: An ``OptimizationConfig`` with ``OpLinearQuantizerConfig``, the path of its YAML or JSON file,
            or the dictionary that this holds.
        joint_compression: Not supported.
        output: Write the package there, and return its path; ``force`` replaces what is there.
        sync: Wait until the package is on the disk, as :func:`linquant.quantize_file` does, so that it
            outlives a power cut. coremltools does not.
        threads, progress: As in :func:`linquant.quantize_file`.

    Returns:
        A new ``MLModel``; with ``output``, a ``Path``.

    Raises:
        UnsupportedError: ``joint_compression``, or a model that is no ML program.
        FileError: A configuration of palettization or pruning, a package that cannot be read.
        TensorError, OptionError: As :func:`linquant.quantize_file`.
    """
    if joint_compression:
        raise UnsupportedError(
            "joint_compression of palettized or pruned weights", hint="use coremltools' own function"
        )
    with _output(mlmodel, output) as target, _package(mlmodel) as package:
        report = _files.quantize_file(
            package,
            target,
            config=config,
            exact_selection=True,
            non_finite="skip",
            stats=False,
            force=force,
            threads=threads,
            progress=progress,
            no_sync=not sync,
        )
        for tensor in report.tensors:
            if tensor.skipped:
                message = f"{tensor.name} was left in float: {tensor.reason}"
                warnings.warn(message, LinquantWarning, stacklevel=2)
        return _result(mlmodel, target, output)


def _named(mlmodel: Any, sample: Mapping[str | None, Any]) -> dict[str, Any]:
    """A sample whose only input may go without a name."""
    if None not in sample:
        return {str(name): _array(value) for name, value in sample.items()}
    if len(sample) > 1:
        raise OptionError("a sample with several inputs, one of them without a name")
    if isinstance(mlmodel, (str, os.PathLike)):
        raise OptionError("a sample without the name of its input", hint="give {name: array}")
    inputs = mlmodel.get_spec().description.input
    if len(inputs) != 1:
        raise OptionError("a sample without names for a model of several inputs")
    return {inputs[0].name: _array(sample[None])}


def _array(value: Any) -> Any:
    if hasattr(value, "getbands"):
        raise UnsupportedError(
            "samples of images", hint="save them, and give the files to linquant.calibrate"
        )
    return value


def linear_quantize_activations(
    mlmodel: Any,
    config: Any,
    sample_data: Sequence[Mapping[str | None, Any]],
    calibration_op_group_size: int = -1,
    *,
    output: PathLike | None = None,
    force: bool = False,
    sync: bool = False,
    round_f16: bool = False,
    threads: int = 0,
    progress: Progress = None,
) -> Any:
    """Quantizes the activations of an ML program, as the function of that name in coremltools does.

    The model runs here, on the CPU of any system, where coremltools needs macOS; so the ranges may differ
    from those of Apple's hardware in their last digits. Of the same ranges comes the same package.

    Args:
        mlmodel: An ``MLModel`` for iOS17 or later, or the path of an ``.mlpackage``.
        config: As in :func:`linear_quantize_weights`, with ``dtype`` ``int8`` or ``uint8``.
        sample_data: For each sample its inputs by their names; ``None`` names the only one.
        calibration_op_group_size: Has no effect: values are observed as they are computed.
        output, force, sync, threads, progress: As in :func:`linear_quantize_weights`.
        round_f16: Round every float16 value to float16 while the model runs; without it, in float32.

    Returns:
        A new ``MLModel``; with ``output``, a ``Path``.

    Raises:
        OptionError: No samples, or some without names.
        FileError: A model that cannot be run, or is for iOS16 or earlier.
    """
    del calibration_op_group_size
    if not sample_data:
        raise OptionError("no samples", hint="give at least one")
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(_output(mlmodel, output))
        package = stack.enter_context(_package(mlmodel))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="linquant-"))
        ranges = Path(folder, "ranges.json")
        _activations.calibrate(
            package,
            ranges,
            samples=[_named(mlmodel, sample) for sample in sample_data],
            round_f16=round_f16,
            threads=threads,
            progress=progress,
        )
        _files.quantize_activations_file(
            package, target, ranges=ranges, config=config, force=force, no_sync=not sync
        )
        return _result(mlmodel, target, output)


_DTYPES = frozenset({"int8", "uint8", "int4", "uint4"})


@contextlib.contextmanager
def accelerated() -> Iterator[None]:
    """While it lasts, coremltools' own functions compute scales and codes with this package.

    They return the same, and whatever else they do stays as it is: for who needs what only they do, such as
    joint compression. At most 3.8 times faster, since most of their time goes elsewhere;
    :func:`linear_quantize_weights` is for the rest. It holds for the whole process.

    >>> with linquant.coreml.accelerated():  # doctest: +SKIP
    ...     model = ct.optimize.coreml.linear_quantize_weights(model, config)
    """
    from coremltools.converters.mil.mil import types
    from coremltools.optimize import _utils

    theirs = _utils.compute_qparams_by_dtype

    def ours(weight: Any, dtype: Any, quantization_mode: str, block_sizes: Sequence[int]) -> Any:
        names = {"LINEAR_SYMMETRIC": "symmetric", "LINEAR": "affine"}
        mode = names.get(quantization_mode)
        fits = (
            isinstance(weight, np.ndarray)
            and weight.dtype in (np.float32, np.float16)
            and mode is not None
            and types.is_int(dtype)
            and _name(dtype) in _DTYPES
            and len(block_sizes) == weight.ndim
            and all(size <= 0 or dim % size == 0 for size, dim in zip(block_sizes, weight.shape))
        )
        if not fits:
            return theirs(weight, dtype, quantization_mode, block_sizes)
        sizes = [max(size, 0) for size in block_sizes]
        try:
            found = quantize(weight, _name(dtype), mode, block_size=sizes, stats=False)  # type: ignore[arg-type]
        except Error:
            # What is refused here goes on there as it always has.
            return theirs(weight, dtype, quantization_mode, block_sizes)
        codes = types.nptype_from_builtin(dtype)
        point = found.zero_point
        return found.codes.astype(codes), found.scale, None if point is None else point.astype(codes)

    _utils.compute_qparams_by_dtype = ours
    try:
        yield
    finally:
        _utils.compute_qparams_by_dtype = theirs
