"""Observers beside NumPy; pickled, copied, merged."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import linquant
from linquant import errors

KINDS = [
    linquant.MinMaxObserver,
    linquant.MovingAverageObserver,
    linquant.PercentileObserver,
    linquant.EntropyObserver,
    linquant.MseObserver,
]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_arrays_are_nothing(kind: type[linquant.Observer]) -> None:
    assert "values in None" in repr(kind().observe(np.empty((0, 3), np.float32)))


def test_channels_need_memory() -> None:
    with pytest.raises(errors.MemoryLimitError, match="1000000000000 channels"):
        linquant.ChannelMinMaxObserver(10**12)


@pytest.mark.parametrize("kind", KINDS)
def test_states_survive(kind: type[linquant.Observer], rng: np.random.Generator) -> None:
    observer = kind()
    assert observer.range() is None and observer.samples == 0
    for _ in range(3):
        assert observer.observe(rng.normal(size=(4, 1000)).astype(np.float32)) is observer
    assert (observer.samples, observer.count, observer.non_finite) == (3, 12_000, 0)
    for again in [pickle.loads(pickle.dumps(observer)), copy.copy(observer), copy.deepcopy(observer)]:
        assert again == observer and again.range() == observer.range()
        again.observe(np.float32([100.0]))
        assert again != observer and observer.samples == 3


@pytest.mark.parametrize("kind", KINDS)
def test_merged_is_observed_at_once(kind: type[linquant.Observer], rng: np.random.Generator) -> None:
    samples = [rng.normal(size=500).astype(np.float32) for _ in range(4)]
    whole, left, right = kind(), kind(), kind()
    for i, sample in enumerate(samples):
        whole.observe(sample)
        (left if i % 2 else right).observe(sample)
    if kind is linquant.MovingAverageObserver:
        with pytest.raises(errors.MergeError):
            left.merge(right)
        return
    assert left.merge(right) is left and left == whole and left.range() == whole.range()
    with pytest.raises(errors.MergeError):
        left.merge(linquant.PercentileObserver(50.0))
    with pytest.raises(errors.MergeError):
        left.merge(linquant.ChannelMinMaxObserver(3))  # type: ignore[arg-type]


def test_ranges_are_numpys(rng: np.random.Generator) -> None:
    sample = rng.normal(size=10_000).astype(np.float32)
    sample[5], sample[6] = np.nan, np.inf
    finite = sample[np.isfinite(sample)]
    observer = linquant.MinMaxObserver().observe(sample)
    assert observer.range() == (finite.min(), finite.max()) == observer.observed
    assert observer.non_finite == 2
    percentile = linquant.PercentileObserver(99.0).observe(sample)
    low, high = percentile.range("int8", "affine")
    assert np.mean((finite >= low) & (finite <= high)) == pytest.approx(0.99, abs=0.002)
    counts, edges = percentile.histogram()
    wanted, _ = np.histogram(finite, edges)
    np.testing.assert_array_equal(counts, wanted)
    assert linquant.MinMaxObserver().histogram() is None


def test_moving_averages_are_torchs() -> None:
    observer = linquant.MovingAverageObserver(constant=0.5)
    observer.observe(np.float32([0, 4])).observe(np.float32([-2, 2]))
    assert observer.range() == (-1.0, 3.0)
    observer = linquant.MovingAverageObserver(ratio=0.75)
    observer.observe(np.float32([0, 4])).observe(np.float32([-2, 2]))
    low, high = observer.range()
    assert low < 0 < high


def test_params_are_those_of_activations() -> None:
    observer = linquant.MinMaxObserver().observe(np.float32([-1, 2]))
    scale, zero_point = observer.params("uint8", "affine", rule="torch")
    assert (scale, zero_point) == (np.float32(3) / np.float32(255), 85)
    assert linquant.MinMaxObserver().params("int8", "symmetric")[0] > 0


def test_settings_out_of_range_are_refused() -> None:
    for call in [
        lambda: linquant.PercentileObserver(0.0),
        lambda: linquant.PercentileObserver(101.0),
        lambda: linquant.EntropyObserver(bins=100),
        lambda: linquant.MovingAverageObserver(constant=0.0),
        lambda: linquant.MovingAverageObserver(ratio=1.0),
        lambda: linquant.MovingAverageObserver(constant=0.1, ratio=0.1),
        lambda: linquant.MinMaxObserver().range("int9"),
        lambda: linquant.ChannelMinMaxObserver(-1),
    ]:
        with pytest.raises(errors.OptionError):
            call()
    with pytest.raises(TypeError):
        linquant.Observer()
    with pytest.raises(errors.ArrayError):
        linquant.MinMaxObserver().observe(np.arange(3))


def test_damaged_states_are_refused() -> None:
    state = linquant.MseObserver().observe(np.float32([1, 2])).__getstate__()
    for bad in ["", "{}", state.replace('"count":2', '"count":1'), state.replace("mse", "min-max")]:
        with pytest.raises(errors.OptionError):
            linquant.MseObserver().__setstate__(bad)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_channels_are_numpys(axis: int, rng: np.random.Generator) -> None:
    samples = [rng.normal(size=(5, 5, 7)[: 2] + (5,)).astype(np.float16) for _ in range(3)]
    observer = linquant.ChannelMinMaxObserver(5, axis=axis)
    other = linquant.ChannelMinMaxObserver(5, axis=axis)
    observer.observe(samples[0]).observe(samples[1])
    observer.merge(other.observe(samples[2]))
    rest = tuple(it for it in range(3) if it != axis % 3)
    stacked = np.stack(samples)
    axes = (0, *(it + 1 for it in rest))
    wanted = np.stack([stacked.min(axis=axes), stacked.max(axis=axes)], 1)
    np.testing.assert_array_equal(observer.ranges(), wanted)
    assert pickle.loads(pickle.dumps(observer)) == observer
    assert observer.count == 3 * 125 and observer.non_finite == 0
    with pytest.raises(errors.ShapeError):
        observer.observe(np.zeros((4, 4, 4), np.float32))
