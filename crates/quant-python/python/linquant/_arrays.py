"""Arrays: from floats to codes and scales, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from . import _native
from .errors import ArrayError, OptionError, ShapeError

Dtype: TypeAlias = Literal[
    "int8", "uint8", "int4", "uint4", "int2", "uint2", "int3", "uint3", "int5", "uint5", "int6", "uint6"
]
Mode: TypeAlias = Literal["symmetric", "affine", "linear_symmetric", "linear"]
Granularity: TypeAlias = Literal["per_tensor", "per_channel", "per_block"]
Dialect: TypeAlias = Literal[
    "coremltools", "f32", "torch", "coremltools-activations", "mlx", "compressed-tensors", "coreai", "coreai-torch"
]
#: What functions take: a NumPy array, or whatever gives one by DLPack, such as a torch tensor.
ArrayLike: TypeAlias = Any
Bytes: TypeAlias = NDArray[np.uint8]

_FLOATS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_MODES = {"linear_symmetric": "symmetric", "linear": "affine"}


@dataclass(frozen=True)
class Floats:
    """An array as the native half takes it."""

    bytes: Bytes
    shape: tuple[int, ...]
    source: str
    original: NDArray[Any]


def float_dtype(source: str) -> np.dtype[Any]:
    """NumPy's type of that name; bfloat16 is ml_dtypes'."""
    if source != "bf16":
        return np.dtype(_DTYPES[source])
    try:
        import ml_dtypes
    except ImportError:
        raise ArrayError(
            "bfloat16 needs the package ml_dtypes", hint="pip install 'linquant[bfloat16]'"
        ) from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


class _Exported:
    """A capsule for NumPy, which asks an object for one."""

    def __init__(self, capsule: object, device: tuple[int, int]) -> None:
        self._capsule = capsule
        self._device = device

    def __dlpack__(self, **_: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device


def as_numpy(array: ArrayLike, name: str = "array") -> NDArray[Any]:
    """A NumPy array over the same memory; other libraries' arrays come by DLPack."""
    if isinstance(array, np.ndarray):
        return array
    if not hasattr(array, "__dlpack__"):
        return np.asarray(array)
    device = array.__dlpack_device__()
    if device[0] != 1:
        raise ArrayError(
            f"{name} is not in the memory of the CPU", hint="move it there first, such as by .cpu()"
        )
    try:
        capsule = array.__dlpack__()
    except (BufferError, RuntimeError, TypeError) as error:
        raise ArrayError(
            f"{name} cannot be exported: {error}", hint="of a torch tensor, give .detach()"
        ) from error
    is_bfloat = _native.retype_bfloat16(capsule)
    found: NDArray[Any] = np.from_dlpack(_Exported(capsule, device))  # type: ignore[arg-type]
    return found.view(float_dtype("bf16")) if is_bfloat else found


def _nothing() -> Bytes:
    """No bytes. Each time others: a buffer is borrowed while it is written."""
    return np.empty(0, np.uint8)


def _flat(array: NDArray[Any]) -> Bytes:
    """The bytes of a C-contiguous array, without a copy."""
    if array.size == 0:
        return _nothing()
    return array.reshape(-1).view(np.uint8)


def as_floats(array: ArrayLike, name: str = "array", *, copy: bool | None = None) -> Floats:
    """The bytes of an array of floats, copied only where they are not in order."""
    found = as_numpy(array, name)
    source = _FLOATS.get(found.dtype.name)
    if source is None:
        raise ArrayError(
            f"{name} is of {found.dtype}, not of float32, float16 or bfloat16",
            hint="convert it, such as by .astype(numpy.float32)",
        )
    native = found.dtype.isnative and found.flags.c_contiguous and found.flags.aligned
    if not native and copy is False:
        raise ArrayError(
            f"{name} is not C-contiguous, aligned and of native byte order, and copy=False",
            hint="give numpy.ascontiguousarray(array), or copy=None",
        )
    order = found if native else np.ascontiguousarray(found, found.dtype.newbyteorder("="))
    return Floats(_flat(order), found.shape, source, found)


def _torch_memory(out: Any, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    """The memory of a torch tensor. NumPy does not know torch's bfloat16: it goes as integers."""
    tensor = out.detach()
    if str(tensor.dtype) != "torch.bfloat16":
        memory: NDArray[Any] = tensor.numpy()
        return memory
    if dtype.name != "bfloat16":
        raise ShapeError(f"{name} is bfloat16, not {dtype}")
    bits: NDArray[Any] = tensor.view(sys.modules["torch"].int16).numpy()
    return bits.view(dtype)


def out_buffer(
    out: ArrayLike, shape: tuple[int, ...], dtype: np.dtype[Any], source: NDArray[Any], name: str = "out"
) -> NDArray[Any]:
    """A buffer to be filled, checked."""
    # NumPy takes what comes by DLPack for read-only; a torch tensor knows a way that is not.
    is_torch = type(out).__module__.split(".")[0] == "torch"
    found = _torch_memory(out, dtype, name) if is_torch else as_numpy(out, name)
    if found.dtype != dtype or found.shape != shape:
        raise ShapeError(
            f"{name} is {found.dtype} of shape {found.shape}, not {dtype} of shape {shape}"
        )
    if not (found.flags.c_contiguous and found.flags.aligned and found.flags.writeable):
        raise ArrayError(
            f"{name} is not C-contiguous, aligned and writeable", hint="give numpy.empty(shape, dtype)"
        )
    if np.may_share_memory(found, source):
        raise ArrayError(f"{name} lies in the memory that is read", hint="give a buffer of its own")
    return found


@dataclass(frozen=True)
class Stats:
    """The error of a quantization. It does not depend on the machine, nor on the number of threads."""

    #: Elements compared.
    count: int
    #: Elements whose quantized value is not finite: they are in none of the figures below.
    non_finite: int
    #: Elements whose code was clipped.
    saturated: int
    #: Signal to quantization noise in dB; ``inf`` without any error.
    sqnr_db: float
    #: Mean absolute error.
    mean_abs_error: float
    #: Largest absolute error.
    max_abs_error: float


@dataclass(frozen=True, eq=False)
class Quantized:
    """A quantized array. It can be pickled, and be made of arrays from elsewhere.

    The value of a code is ``scale * (code - zero_point)``, or ``scale * code + bias`` where the dialect
    stores a bias.
    """

    #: Codes. One per byte (``int8`` or ``uint8``) in the shape of the array; or, where ``packed``, a
    #: ``uint8`` array of one axis, the first code in the lowest bits of the first byte.
    codes: NDArray[Any]
    #: One per block, ``ceil(shape / block_sizes)`` along each axis: ``float32``, or the array's type in
    #: the dialects that say so.
    scale: NDArray[Any]
    #: As ``scale`` in shape and as ``codes`` in type; ``None`` where the scheme stores none.
    zero_point: NDArray[Any] | None
    #: As ``scale`` in shape and type; ``None`` but in the dialect ``mlx``.
    bias: NDArray[Any] | None
    #: The shape of the array.
    shape: tuple[int, ...]
    #: Type of the codes, such as ``"int4"``.
    dtype: str
    #: ``"symmetric"`` or ``"affine"``.
    mode: str
    #: Whose arithmetic.
    dialect: str
    #: Elements per block along each axis.
    block_sizes: tuple[int, ...]
    #: The type of the array: ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    source: str
    #: Whether several codes share a byte.
    packed: bool = False
    #: The error, where it was measured.
    stats: Stats | None = field(default=None, compare=False)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales, zero points and biases."""
        parts = (self.codes, self.scale, self.zero_point, self.bias)
        return sum(part.nbytes for part in parts if part is not None)

    def dequantize(self, *, dtype: Any = None, out: ArrayLike | None = None) -> NDArray[Any]:
        """See :func:`linquant.dequantize`."""
        return dequantize(self, dtype=dtype, out=out)


def one_size(given: int | Sequence[int]) -> int | Sequence[int]:
    """Whole numbers of other libraries are numbers."""
    return int(given) if hasattr(given, "__index__") else given


def _cut(
    granularity: str | None,
    axis: int | None,
    block_axis: int | None,
    block_size: int | Sequence[int] | None,
) -> tuple[str, int, int, int, Sequence[int]]:
    """Which elements share a scale, as the native half takes it."""
    given = granularity.replace("-", "_") if granularity is not None else None
    if given is None:
        given = "per_block" if block_size is not None else "per_channel" if axis is not None else "per_tensor"
    if given not in ("per_tensor", "per_channel", "per_block"):
        raise OptionError(
            f"unknown granularity {granularity!r}", hint="give per_tensor, per_channel or per_block"
        )
    if given != "per_block" and not (block_size is None and block_axis is None):
        raise OptionError(f"block_size or block_axis beside {given}", hint="give granularity='per_block'")
    if given == "per_tensor" and axis is not None:
        raise OptionError("axis beside per_tensor", hint="give granularity='per_channel'")
    first = 0 if axis is None else axis
    if given != "per_block":
        return given, first, 0, 0, ()
    if isinstance(block_size, (str, bytes)):
        raise OptionError(f"block_size {block_size!r}", hint="give a number of elements, such as 32")
    size = one_size(32 if block_size is None else block_size)
    if isinstance(size, int):
        if size <= 0:
            raise OptionError(f"block_size {size}", hint="give a number of elements, such as 32")
        return given, first, 1 if block_axis is None else block_axis, size, ()
    if axis is not None or block_axis is not None:
        raise OptionError("axis or block_axis beside a block size for each axis")
    sizes = [int(one) for one in size]
    if any(one < 0 for one in sizes):
        raise OptionError(f"block_size {tuple(sizes)}", hint="give numbers of at least 0; 0 means all of the axis")
    return "blocks", 0, 0, 0, sizes


def _type_name(dtype: Any) -> str:
    """The name of a type, which may be NumPy's."""
    return dtype if isinstance(dtype, str) else str(np.dtype(dtype).name)


def scheme_names(dtype: object, mode: str, dialect: str) -> tuple[str, str, str]:
    """Names as the native half has them."""
    return _type_name(dtype), _MODES.get(mode, mode), dialect


def _code_dtype(dtype: str, packed: bool) -> np.dtype[Any]:
    return np.dtype(np.uint8 if packed or dtype.startswith("u") else np.int8)


def quantize(
    array: ArrayLike,
    dtype: Dtype | type | np.dtype[Any] = "int8",
    mode: Mode = "symmetric",
    granularity: Granularity | None = None,
    axis: int | None = None,
    block_size: int | Sequence[int] | None = None,
    dialect: Dialect = "coremltools",
    *,
    block_axis: int | None = None,
    packed: bool = False,
    stats: bool = True,
    out: ArrayLike | None = None,
    copy: bool | None = None,
) -> Quantized:
    """Quantizes an array: ``code = clip(round(value / scale) + zero_point)``.

    Args:
        array: ``float32``, ``float16`` or ``bfloat16`` (of ``ml_dtypes``), of any shape: a NumPy array, or
            what gives one by DLPack, such as a torch tensor. Read in place where it is C-contiguous,
            aligned and of native byte order; any other layout is copied once.
        dtype: Type of the codes: ``int8``, ``uint8``, or so of 2 to 6 bits, such as ``"int4"``.
        mode: ``"symmetric"`` about zero, or ``"affine"``: the range of the values and zero. coremltools'
            ``"linear_symmetric"`` and ``"linear"`` are the same.
        granularity: Which elements share a scale: ``"per_tensor"``; ``"per_channel"``, a scale for each
            index of ``axis``; ``"per_block"``, a scale for each index of ``axis`` and ``block_size``
            indices of ``block_axis``. Without it, what ``axis`` and ``block_size`` ask for.
        axis: The axis of the output channels, 0 if not given; negative axes count from the end.
        block_size: Elements per block along ``block_axis``, 32 if not given; or one for each axis, where 0
            is all of the axis.
        dialect: Whose arithmetic, to the last bit: ``"coremltools"``; ``"f32"``, the same all in float32;
            ``"torch"``; ``"coremltools-activations"``; ``"mlx"``, which stores biases (affine and unsigned
            types only); ``"compressed-tensors"``; ``"coreai"`` or ``"coreai-torch"``, as coreai-opt.
        block_axis: The axis that is cut into blocks, 1 if not given.
        packed: Codes of fewer than 8 bits share bytes; otherwise each has its own.
        stats: Measure the error, which takes a third of the time.
        out: A buffer for the codes, C-contiguous and of their type and shape; the result's ``codes``.
        copy: ``False`` refuses an array that would have to be copied.

    Returns:
        Codes, scales, zero points and, with ``stats``, the error.

    Raises:
        OptionError: An unknown name, or options that contradict each other.
        ArrayError: An array or buffer of another type, device or layout.
        ShapeError: An axis or block size that the array does not have; a buffer of another shape.
        NonFiniteError: NaN or infinities.
        ScaleError: Values so large or small that their scale overflows, or underflows to 0.

    >>> import numpy as np
    >>> weights = np.array([[0.5, -1.27], [0.02, 1.0]], np.float32)
    >>> quantize(weights, axis=0).codes
    array([[  50, -127],
           [   3,  127]], dtype=int8)
    """
    values = as_floats(array, copy=copy)
    scheme = scheme_names(dtype, mode, dialect)
    cut = _cut(granularity, axis, block_axis, block_size)
    quantizer = _native.Quantizer(values.shape, values.source, scheme, cut, packed)
    shape = (quantizer.codes_len,) if packed else values.shape
    code_dtype = _code_dtype(scheme[0], packed)
    if out is None:
        codes = np.empty(shape, code_dtype)
    else:
        codes = out_buffer(out, shape, code_dtype, values.original)
    scale_shape = tuple(quantizer.scale_shape)
    scale = np.empty(scale_shape, float_dtype(quantizer.scale_type))
    zero_point = bias = None
    if quantizer.offset == "zero_point":
        zero_point = np.empty(scale_shape, _code_dtype(scheme[0], False))
    elif quantizer.offset == "bias":
        bias = np.empty(scale_shape, scale.dtype)
    offset = zero_point if zero_point is not None else bias
    lost = quantizer.quantize(
        values.bytes,
        _flat(codes),
        _flat(scale),
        _nothing() if offset is None else _flat(offset),
        stats,
    )
    return Quantized(
        codes,
        scale,
        zero_point,
        bias,
        values.shape,
        *scheme,
        tuple(quantizer.block_sizes),
        _DTYPES[values.source],
        packed,
        None if lost is None else Stats(*lost),
    )


def _part(array: NDArray[Any] | None, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> Bytes:
    """The bytes of a part of a quantized array, which may come from elsewhere."""
    if array is None:
        raise ArrayError(f"no {name}, which the scheme stores")
    if array.dtype != dtype or array.shape != shape:
        raise ShapeError(f"{name} is {array.dtype} of shape {array.shape}, not {dtype} of shape {shape}")
    return _flat(np.ascontiguousarray(array))


def dequantize(
    quantized: Quantized, *, dtype: Any = None, out: ArrayLike | None = None
) -> NDArray[Any]:
    """The values that codes stand for, of shape ``quantized.shape``.

    Args:
        quantized: What :func:`quantize` returned, or made of arrays from elsewhere.
        dtype: Type of the values: ``"float32"``, ``"float16"`` or ``"bfloat16"``; by default that of the
            array that was quantized.
        out: A C-contiguous buffer of that type and shape, which is returned.

    Raises:
        ArrayError, ShapeError: Parts of another type or shape; a code outside its type.
        ScaleError: A scale or zero point that cannot be.

    >>> import numpy as np
    >>> quantized = quantize(np.array([0.5, -1.27, 0.0], np.float32))
    >>> dequantize(quantized)
    array([ 0.5 , -1.27,  0.  ], dtype=float32)
    """
    source = _FLOATS.get(quantized.source)
    target = source if dtype is None else _FLOATS.get(_type_name(dtype))
    if source is None or target is None:
        raise OptionError(f"unknown type {quantized.source if source is None else dtype!r}",
                          hint="give float32, float16 or bfloat16")
    scheme = (quantized.dtype, quantized.mode, quantized.dialect)
    cut = ("blocks", 0, 0, 0, quantized.block_sizes)
    quantizer = _native.Quantizer(quantized.shape, source, scheme, cut, quantized.packed)
    shape = (quantizer.codes_len,) if quantized.packed else quantized.shape
    scale_shape = tuple(quantizer.scale_shape)
    scale_dtype = float_dtype(quantizer.scale_type)
    codes = _part(quantized.codes, _code_dtype(quantized.dtype, quantized.packed), shape, "codes")
    scale = _part(quantized.scale, scale_dtype, scale_shape, "scale")
    offset = _nothing()
    if quantizer.offset == "zero_point":
        kind = _code_dtype(quantized.dtype, False)
        offset = _part(quantized.zero_point, kind, scale_shape, "zero_point")
    elif quantizer.offset == "bias":
        offset = _part(quantized.bias, scale_dtype, scale_shape, "bias")
    value_dtype = float_dtype(target)
    if out is None:
        values = np.empty(quantized.shape, value_dtype)
    else:
        values = out_buffer(out, quantized.shape, value_dtype, quantized.codes)
    quantizer.dequantize(codes, scale, offset, target, _flat(values))
    return values


def fake_quantize(
    array: ArrayLike,
    dtype: Dtype | type | np.dtype[Any] = "int8",
    mode: Mode = "symmetric",
    granularity: Granularity | None = None,
    axis: int | None = None,
    block_size: int | Sequence[int] | None = None,
    dialect: Dialect = "coremltools",
    *,
    block_axis: int | None = None,
    scale: float | None = None,
    zero_point: int = 0,
    out: ArrayLike | None = None,
) -> NDArray[Any]:
    """Quantizes and dequantizes: what an array becomes, in its own type and shape.

    Args:
        scale: Given instead of found, one for the whole array, with ``zero_point``; values outside of the
            codes' range are clipped, NaN becomes 0.
        out: A C-contiguous buffer of the array's type and shape, which is returned.

    The other arguments, and what is raised, are those of :func:`quantize`.

    >>> import numpy as np
    >>> fake_quantize(np.array([0.6, -2.0, 100.0], np.float32), scale=0.5)
    array([ 0.5, -2. , 63.5], dtype=float32)
    """
    values = as_floats(array)
    # What is wrong with the buffer is said before the work.
    if out is not None:
        out = out_buffer(out, values.shape, values.original.dtype, values.original)
    if scale is None:
        if zero_point != 0:
            raise OptionError("zero_point without scale", hint="give both")
        found = quantize(
            array, dtype, mode, granularity, axis, block_size, dialect, block_axis=block_axis, stats=False
        )
        return dequantize(found, out=out)
    if not (granularity in (None, "per_tensor") and axis is None and block_size is None):
        raise OptionError("a scale beside a granularity", hint="a given scale is that of the whole array")
    scheme = scheme_names(dtype, mode, dialect)
    quantizer = _native.Quantizer(values.shape, values.source, scheme, ("per_tensor", 0, 0, 0, ()), False)
    if quantizer.offset == "bias" or (quantizer.offset == "none" and zero_point != 0):
        raise OptionError(
            f"the dialect {dialect} stores no zero point for {scheme[0]} {scheme[1]}",
            hint="give mode='affine' and another dialect, or no zero_point",
        )
    codes = np.empty(values.shape, _code_dtype(scheme[0], False))
    _native.quantize_given(values.bytes, values.source, scheme, scale, zero_point, _flat(codes))
    scale_shape = tuple(quantizer.scale_shape)
    scale_dtype = float_dtype(quantizer.scale_type)
    point = None
    if quantizer.offset == "zero_point":
        point = np.full(scale_shape, zero_point, codes.dtype)
    given = Quantized(
        codes,
        np.full(scale_shape, scale, scale_dtype),
        point,
        None,
        values.shape,
        *scheme,
        tuple(quantizer.block_sizes),
        _DTYPES[values.source],
    )
    return dequantize(given, out=out)
