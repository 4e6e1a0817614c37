"""Observers: the ranges of activations, from values that are seen once and not kept."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arrays import _MODES, ArrayLike, Mode, as_floats
from .errors import MergeError, OptionError

Self = TypeVar("Self", bound="Observer")
Range = tuple[float, float]


class Observer:
    """The base of the observers of whole arrays: use :class:`MinMaxObserver` and the like.

    One call of :meth:`observe` is one sample. NaN and infinities are counted, and left out. What an
    observer holds does not depend on the order of samples, nor on how they were split among observers
    that are merged (but for :class:`MovingAverageObserver`). Observers can be pickled, copied and
    compared, and may be given values by several threads.
    """

    _kind: ClassVar[str] = ""
    _state: _native.ObserverState

    def __init__(self) -> None:
        if not self._kind:
            raise TypeError("Observer is a base; make a MinMaxObserver, PercentileObserver or the like")
        self._state = _native.ObserverState(self._kind)

    def observe(self: Self, array: ArrayLike) -> Self:
        """Takes a sample: an array of ``float32``, ``float16`` or ``bfloat16``, of any shape.

        Raises:
            ArrayError: An array of another type or device.
        """
        values = as_floats(array)
        self._state.observe(values.bytes, values.source)
        return self

    def merge(self: Self, other: Observer) -> Self:
        """As if the samples of ``other`` had been observed here.

        Raises:
            MergeError: An observer of another kind or with other settings; moving averages.
        """
        if not isinstance(other, Observer):
            raise MergeError(f"a {type(other).__name__} is no observer of whole arrays")
        self._state.merge(other._state)
        return self

    def range(self, dtype: str = "int8", mode: Mode = "symmetric") -> Range | None:
        """The smallest and the largest value to be kept; ``None`` as long as there was none.

        Type and mode matter to :class:`PercentileObserver` and :class:`MseObserver` only.
        """
        return self._state.range(dtype, _MODES.get(mode, mode))

    def params(
        self, dtype: str = "int8", mode: Mode = "symmetric", rule: str = "coremltools"
    ) -> tuple[float, int]:
        """Scale and zero point of a ``float32`` activation with this range.

        Args:
            rule: Whose arithmetic, ``"coremltools"`` or ``"torch"``.

        Raises:
            ScaleError: A range without a usable scale.
        """
        low, high = self.range(dtype, mode) or (0.0, 0.0)
        return _native.activation_params(low, high, dtype, _MODES.get(mode, mode), rule, "f32")

    @property
    def samples(self) -> int:
        """Samples that were observed."""
        return self._state.samples()

    @property
    def count(self) -> int:
        """Values that were observed, non-finite ones included."""
        return self._state.counts()[0]

    @property
    def non_finite(self) -> int:
        """How many of them were NaN or infinite."""
        return self._state.counts()[1]

    @property
    def observed(self) -> Range | None:
        """The exact range of the finite values; ``None`` where there are none."""
        return self._state.observed()

    def histogram(self) -> tuple[NDArray[np.uint64], NDArray[np.float64]] | None:
        """Counts and edges of bins, as :func:`numpy.histogram` returns them; ``None`` without bins."""
        found = self._state.histogram()
        if found is None:
            return None
        counts, first, width = found
        edges = first + width * np.arange(len(counts) + 1, dtype=np.float64)
        return np.array(counts, np.uint64), edges

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Observer)
            and type(self) is type(other)
            and self._state.same(other._state)
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> str:
        return self._state.to_json()

    def __setstate__(self, state: str) -> None:
        self._state = _native.ObserverState.from_json(state)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.samples} samples, values in {self.observed}>"


class MinMaxObserver(Observer):
    """Keeps all values.

    >>> import numpy as np
    >>> MinMaxObserver().observe(np.array([0.5, -2.0], np.float32)).range()
    (-2.0, 0.5)
    """

    _kind = "min-max"


class MovingAverageObserver(Observer):
    """Averages the smallest and the largest value of each sample, in order.

    Args:
        constant: How far an average moves towards a sample, in (0, 1]; torch's ``averaging_constant``.
        ratio: Or how much of it stays, in [0, 1), as coremltools' recordings have it.
    """

    _kind = "moving-average"

    def __init__(self, *, constant: float | None = None, ratio: float | None = None) -> None:
        if constant is not None and ratio is not None:
            raise OptionError("constant and ratio", hint="give one of them")
        averaging = ("constant", 0.01 if constant is None else constant)
        if ratio is not None:
            averaging = ("ratio", ratio)
        self._state = _native.ObserverState(self._kind, averaging=averaging)


class PercentileObserver(Observer):
    """Keeps all but the outermost values.

    Args:
        percentile: Percent of the values that are kept, in (0, 100].
        bins: Bins of the histogram, a power of two from 128 to 8192.
    """

    _kind = "percentile"

    def __init__(self, percentile: float = 99.999, *, bins: int = 2048) -> None:
        self._state = _native.ObserverState(self._kind, bins=bins, percentile=percentile)


class EntropyObserver(Observer):
    """Keeps what loses the least information, by Kullback-Leibler divergence, as TensorRT finds it.

    Args:
        bins: Bins of the histogram, a power of two from 128 to 8192.
    """

    _kind = "entropy"

    def __init__(self, *, bins: int = 2048) -> None:
        self._state = _native.ObserverState(self._kind, bins=bins)


class MseObserver(Observer):
    """Keeps what has the least mean squared error in a type and mode.

    Args:
        bins: Bins of the histogram, a power of two from 128 to 8192.
    """

    _kind = "mse"

    def __init__(self, *, bins: int = 2048) -> None:
        self._state = _native.ObserverState(self._kind, bins=bins)


class ChannelMinMaxObserver:
    """Keeps the range of each channel.

    Args:
        channels: How many there are.
        axis: Along which axis they lie; negative axes count from the end. Other axes may differ from one
            sample to the next.
    """

    _state: _native.ChannelState

    def __init__(self, channels: int, *, axis: int = 0) -> None:
        if channels < 0:
            raise OptionError(f"{channels} channels")
        self.axis = axis
        self._state = _native.ChannelState(channels)

    def observe(self, array: ArrayLike) -> ChannelMinMaxObserver:
        """Takes a sample.

        Raises:
            ArrayError: An array of another type or device.
            ShapeError: No such axis, or another number of channels; then nothing was observed.
        """
        values = as_floats(array)
        self._state.observe(values.bytes, values.source, values.shape, self.axis)
        return self

    def merge(self, other: ChannelMinMaxObserver) -> ChannelMinMaxObserver:
        """As if the samples of ``other`` had been observed here.

        Raises:
            MergeError: Another kind of observer, or another number of channels.
        """
        if not isinstance(other, ChannelMinMaxObserver):
            raise MergeError(f"a {type(other).__name__} is no observer of channels")
        self._state.merge(other._state)
        return self

    def ranges(self) -> NDArray[np.float32]:
        """Shape ``(channels, 2)``: the smallest and the largest value; NaN where there was none."""
        found = [bounds or (np.nan, np.nan) for _, _, bounds in self._state.channels()]
        return np.array(found, np.float32).reshape(-1, 2)

    @property
    def count(self) -> int:
        """Values that were observed, non-finite ones included."""
        return sum(count for count, _, _ in self._state.channels())

    @property
    def non_finite(self) -> int:
        """How many of them were NaN or infinite."""
        return sum(non_finite for _, non_finite, _ in self._state.channels())

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ChannelMinMaxObserver)
            and self.axis == other.axis
            and self._state.same(other._state)
        )

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {"axis": self.axis, "state": self._state.to_json()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.axis = state["axis"]
        self._state = _native.ChannelState.from_json(state["state"])
