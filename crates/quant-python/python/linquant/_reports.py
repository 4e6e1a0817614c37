"""What functions on files return: the documents that ``--json`` prints, as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def _made(kind: type[T], document: Mapping[str, Any], **parts: Any) -> T:
    """A dataclass from the fields of a document that it has; documents may have others."""
    names = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in document.items() if name in names}
    return kind(**{**given, **parts})


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


@dataclass(frozen=True)
class Consumer:
    """What a tensor of a Core ML package feeds."""

    #: Type of the operation, such as ``conv``.
    operation: str
    #: Its name.
    name: str
    #: Which of its inputs.
    input: str


def _consumers(document: Mapping[str, Any]) -> list[Consumer]:
    return [_made(Consumer, one) for one in document.get("consumers", [])]


@dataclass(frozen=True)
class Scheme:
    """How a tensor in a file is quantized."""

    #: Type of the codes.
    dtype: str
    #: ``symmetric`` or ``affine``.
    mode: str
    #: Whose arithmetic.
    dialect: str
    #: Shape of the tensor.
    shape: list[int]
    #: Elements per block along each axis.
    blocks: list[int]
    #: Type of the float tensor.
    source: str
    #: How its scales were chosen, where they were searched.
    search: str | None = None


def _scheme(document: Mapping[str, Any]) -> Scheme | None:
    found = document.get("scheme")
    return None if found is None else _made(Scheme, found)


@dataclass(frozen=True)
class TensorReport:
    """What was done with one tensor. Sizes are in bytes."""

    name: str
    #: Type in the input, such as ``F16``.
    dtype: str
    shape: list[int]
    bytes_before: int
    #: Scales and zero points included.
    bytes_after: int
    #: ``None`` where it was left alone.
    scheme: Scheme | None
    #: Why it was left alone.
    reason: str | None
    #: Whether it was left alone although it was selected.
    skipped: bool
    #: Core ML only.
    consumers: list[Consumer]
    #: Signal to quantization noise in dB; ``None`` without error, or where nothing was measured.
    sqnr_db: float | None = None
    mean_abs_error: float | None = None
    max_abs_error: float | None = None
    #: Values that were clipped.
    saturated: int | None = None
    #: Values that are infinite once they are restored.
    non_finite: int | None = None


@dataclass(frozen=True)
class QuantizedActivation:
    """An activation that was quantized."""

    activation: str
    #: Which input of the operation; ``None`` for the output of its pattern.
    input: str | None
    min: float
    max: float
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True)
class OperationReport:
    """What was done with the activations of one operation."""

    name: str
    #: Its type, such as ``conv``.
    operation: str
    quantized: list[QuantizedActivation]
    #: Why they were left in float.
    reason: str | None
    #: Whether that is for want of a range.
    skipped: bool


@dataclass(frozen=True)
class QuantizeReport:
    """What :func:`linquant.quantize_file` and :func:`linquant.quantize_activations_file` did."""

    input: Path
    #: ``None`` after a dry run.
    output: Path | None
    seconds: float
    #: Bytes of all files.
    bytes_before: int
    #: ``None`` after a dry run.
    bytes_after: int | None
    warnings: list[str]
    operations: list[OperationReport]
    tensors: list[TensorReport]
    #: What was chosen where the options leave a choice.
    notes: list[str]
    #: The small files beside the weights that were copied.
    copied: list[str]


def quantize_report(document: Mapping[str, Any]) -> QuantizeReport:
    tensors = [
        _made(TensorReport, one, scheme=_scheme(one), consumers=_consumers(one))
        for one in document.get("tensors", [])
    ]
    operations = [
        _made(OperationReport, one, quantized=[_made(QuantizedActivation, it) for it in one["quantized"]])
        for one in document.get("operations", [])
    ]
    return _made(
        QuantizeReport,
        {"notes": [], "copied": [], **document},
        input=Path(document["input"]),
        output=_path(document["output"]),
        tensors=tensors,
        operations=operations,
    )


@dataclass(frozen=True)
class ConvertReport:
    """What :func:`linquant.convert_file` has done."""

    input: Path
    output: Path
    #: How many tensors are said in other words.
    tensors: int
    #: Of the output.
    bytes: int
    warnings: list[str]
    #: The small files beside the weights that were copied.
    copied: list[str]


def convert_report(document: Mapping[str, Any]) -> ConvertReport:
    paths = {name: Path(document[name]) for name in ("input", "output")}
    return _made(ConvertReport, document, **paths)


@dataclass(frozen=True)
class DequantizeReport:
    """What :func:`linquant.dequantize_file` did."""

    input: Path
    output: Path
    #: Of the output.
    bytes: int
    warnings: list[str]
    #: The small files beside the weights that were copied.
    copied: list[str]


def dequantize_report(document: Mapping[str, Any]) -> DequantizeReport:
    paths = {name: Path(document[name]) for name in ("input", "output")}
    return _made(DequantizeReport, document, **paths)


@dataclass(frozen=True)
class TensorInfo:
    """A tensor in a file. Sizes are in bytes."""

    name: str
    #: Its type; that of the codes where it is quantized.
    dtype: str
    shape: list[int]
    #: Scales and zero points included.
    bytes: int
    bits_per_weight: float
    #: How it is quantized.
    scheme: Scheme | None
    scale_min: float | None
    scale_max: float | None
    #: Core ML only.
    consumers: list[Consumer]
    #: How it is stored, where that is something else, such as a palette.
    kind: str | None = None
    #: With ``values``: share of values of magnitude 1e-12 or less.
    sparsity: float | None = None
    #: With ``values``.
    unique_values: int | None = None


@dataclass(frozen=True)
class Inspection:
    """What :func:`linquant.inspect` found."""

    tensors: list[TensorInfo]
    bytes: int
    elements: int
    bits_per_weight: float


def inspection(document: Mapping[str, Any]) -> Inspection:
    tensors = [
        _made(TensorInfo, one, scheme=_scheme(one), consumers=_consumers(one))
        for one in document["tensors"]
    ]
    return _made(Inspection, document, tensors=tensors)


@dataclass(frozen=True)
class TensorDifference:
    """How two tensors of one name differ."""

    name: str
    equal: bool
    #: Why they cannot be compared.
    reason: str | None
    #: ``None`` unless both are quantized by the same scheme.
    codes_equal: bool | None
    #: As ``codes_equal``.
    scales_equal: bool | None
    #: ``None`` where the values are equal.
    sqnr_db: float | None
    max_abs_error: float | None
    #: How many values are NaN or infinite in one, and not the same in the other.
    non_finite: int | None
    #: The index of the first of these.
    first_non_finite: list[int] | None


@dataclass(frozen=True)
class Difference:
    """What :func:`linquant.diff` found."""

    equal: bool
    tensors: list[TensorDifference]


def difference(document: Mapping[str, Any]) -> Difference:
    tensors = [_made(TensorDifference, one) for one in document["tensors"]]
    return _made(Difference, document, tensors=tensors)


@dataclass(frozen=True)
class ActivationRange:
    """The range of an activation, and where it comes from."""

    #: ``None`` without finite values; so are the others.
    min: float | None
    max: float | None
    observed_min: float | None
    observed_max: float | None
    samples: int
    elements: int
    non_finite: int
    #: ``None`` where float16 cannot hold it.
    scale: float | None
    zero_point: int | None
    #: Share of finite values in bins outside of the range; ``None`` without a histogram.
    clipped: float | None


@dataclass(frozen=True)
class Calibration:
    """What :func:`linquant.calibrate` found and wrote."""

    output: Path
    seconds: float
    warnings: list[str]
    #: By the names of activations.
    activations: dict[str, ActivationRange]


def calibration(document: Mapping[str, Any]) -> Calibration:
    activations = {
        name: _made(ActivationRange, one) for name, one in document["activations"].items()
    }
    return _made(Calibration, document, output=Path(document["output"]), activations=activations)


@dataclass(frozen=True)
class Score:
    """How one value of a model differs from that of another, over all samples."""

    name: str
    #: The type of the operation that computes it.
    operation: str
    elements: int
    #: ``None`` where it is not finite: see ``exact``.
    sqnr_db: float | None
    cosine: float | None
    max_error: float | None
    #: Whether nothing differs.
    exact: bool


@dataclass(frozen=True)
class OutputScore(Score):
    """The same of an output."""

    #: Share of rows whose greatest element is the same one; ``None`` without rows of classes.
    top1: float | None
    #: Share of rows whose greatest element is among the other's five greatest.
    top5: float | None
    #: Share of samples whose greatest element is that of the label, for each of the models.
    accuracy: list[float] | None


@dataclass(frozen=True)
class Evaluation:
    """What :func:`linquant.evaluate` found."""

    samples: int
    outputs: list[OutputScore]
    #: The values that both models compute, in the order of the program.
    intermediates: list[Score]
    #: Values that were not compared for want of memory.
    not_compared: int
    #: Such as where a model first gives NaN.
    warnings: list[str]


def evaluation(document: Mapping[str, Any]) -> Evaluation:
    outputs = [_made(OutputScore, one) for one in document["outputs"]]
    intermediates = [_made(Score, one) for one in document["intermediates"]]
    return _made(Evaluation, document, outputs=outputs, intermediates=intermediates)


@dataclass(frozen=True)
class IndexReport:
    """What :func:`linquant.index` wrote."""

    #: The index.
    output: Path
    #: How many shards it names.
    shards: int
    #: How many tensors it names.
    tensors: int
    #: Of all tensors.
    bytes: int
    warnings: list[str]


def index_report(document: Mapping[str, Any]) -> IndexReport:
    return _made(IndexReport, document, output=Path(document["output"]))


@dataclass(frozen=True)
class WantedActivation:
    """An activation that needs a range."""

    #: As in ``ranges.json``.
    name: str
    #: Which function it is of, where the model has several.
    function: str | None
    #: ``None`` for a dimension that is not constant.
    shape: list[int | None]
    #: The type of the operation that gives it; ``None`` for an input.
    given_by: str | None
    #: What takes it, quantized or not.
    taken_by: list[Consumer]


def wanted(document: Mapping[str, Any]) -> list[WantedActivation]:
    return [
        _made(WantedActivation, one, taken_by=[_made(Consumer, it) for it in one["taken_by"]])
        for one in document["activations"]
    ]
