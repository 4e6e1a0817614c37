"""Arrays beside what NumPy computes of the same formulas."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from conftest import FLOATS, float_dtype

import linquant
from linquant import errors

BITS = {"int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int2": 2, "uint3": 3, "int5": 5, "uint6": 6}


def unpacked(packed: np.ndarray, count: int, dtype: str) -> np.ndarray:
    """Codes of a stream of bits, by NumPy."""
    bits = BITS[dtype]
    stream = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    codes = (stream.astype(np.int32) << np.arange(bits)).sum(axis=1)
    if not dtype.startswith("u"):
        codes = np.where(codes >= 1 << (bits - 1), codes - (1 << bits), codes)
    return codes


def test_int8_symmetric_per_channel_is_the_formula(weights: np.ndarray) -> None:
    found = linquant.quantize(weights, axis=0)
    most = np.abs(weights).max(axis=1, keepdims=True)
    scale = (most - -most) / np.float32(254)
    assert found.scale.dtype == np.float32 and found.scale.shape == (48, 1)
    np.testing.assert_array_equal(found.scale, scale)
    codes = np.clip(np.round(weights / scale), -127, 127)
    np.testing.assert_array_equal(found.codes, codes.astype(np.int8))
    assert found.codes.dtype == np.int8 and found.zero_point is None and found.bias is None
    np.testing.assert_array_equal(found.dequantize(), found.codes * scale)


def test_affine_has_zero_points(weights: np.ndarray) -> None:
    found = linquant.quantize(np.abs(weights), "uint8", "affine")
    assert found.scale.shape == (1, 1) and found.zero_point is not None
    assert found.zero_point.dtype == np.uint8 and found.zero_point.item() == 0
    assert found.codes.max() == 255


@pytest.mark.parametrize("name", FLOATS)
def test_scales_are_of_the_arrays_type_but_in_f32(name: str, weights: np.ndarray) -> None:
    array = weights.astype(float_dtype(name))
    assert linquant.quantize(array, axis=0).scale.dtype == array.dtype
    wide = linquant.quantize(array, axis=0, dialect="f32")
    assert wide.scale.dtype == np.float32 and wide.dequantize().dtype == array.dtype
    assert wide.dequantize(dtype=np.float32).dtype == np.float32


@pytest.mark.parametrize("dtype", BITS)
def test_packed_codes_are_the_others(dtype: str, weights: np.ndarray) -> None:
    array = weights[:7, :9].copy()
    plain = linquant.quantize(array, dtype, axis=0)
    packed = linquant.quantize(array, dtype, axis=0, packed=True)
    assert packed.codes.dtype == np.uint8 and packed.codes.size == -(-63 * BITS[dtype] // 8)
    np.testing.assert_array_equal(unpacked(packed.codes, 63, dtype).reshape(7, 9), plain.codes)
    np.testing.assert_array_equal(packed.dequantize(), plain.dequantize())
    assert packed.stats == plain.stats


@pytest.mark.parametrize("chunks", [65_536, 65_537, 200_000])
def test_large_arrays_of_4_bits_come_back(chunks: int, rng: np.random.Generator) -> None:
    array = rng.normal(size=chunks).astype(np.float32)
    plain = linquant.quantize(array, "int4", block_size=[32])
    packed = linquant.quantize(array, "int4", block_size=[32], packed=True)
    np.testing.assert_array_equal(plain.dequantize(), packed.dequantize())
    np.testing.assert_array_equal(unpacked(packed.codes, chunks, "int4"), plain.codes)


def test_blocks(weights: np.ndarray) -> None:
    found = linquant.quantize(weights, axis=0, block_size=32)
    assert found.scale.shape == (48, 2) and found.block_sizes == (1, 32)
    same = linquant.quantize(weights, granularity="per_block", block_size=(1, 32))
    np.testing.assert_array_equal(found.codes, same.codes)
    ragged = linquant.quantize(weights, axis=1, block_axis=0, block_size=30)
    assert ragged.scale.shape == (2, 64)
    numpys = linquant.quantize(weights, axis=np.int64(0), block_size=np.int32(32))
    np.testing.assert_array_equal(found.codes, numpys.codes)
    whole = linquant.quantize(weights, block_size=(0, 0))
    np.testing.assert_array_equal(whole.codes, linquant.quantize(weights).codes)
    negative = linquant.quantize(weights, axis=-2, block_axis=-1, block_size=32)
    np.testing.assert_array_equal(found.codes, negative.codes)


def test_mlx_has_biases(weights: np.ndarray) -> None:
    found = linquant.quantize(weights, "uint4", "affine", axis=0, block_size=32, dialect="mlx")
    assert found.bias is not None and found.zero_point is None
    wanted = found.codes * np.repeat(found.scale, 32, 1) + np.repeat(found.bias, 32, 1)
    np.testing.assert_allclose(found.dequantize(), wanted, rtol=1e-6, atol=1e-6)
    with pytest.raises(errors.OptionError):
        linquant.quantize(weights, "int4", axis=0, dialect="mlx")


def test_any_layout_is_the_contiguous_one(weights: np.ndarray) -> None:
    for array in [
        weights.T,
        weights[::2, ::-3],
        np.asfortranarray(weights),
        weights.astype(">f4"),
        np.frombuffer(b"\0" + weights.tobytes(), np.uint8)[1:].view(np.float32).reshape(48, 64),
    ]:
        wanted = linquant.quantize(np.array(array, np.float32, order="C"), axis=0)
        found = linquant.quantize(array, axis=0)
        np.testing.assert_array_equal(found.codes, wanted.codes)
        with pytest.raises(errors.ArrayError, match="copy"):
            linquant.quantize(array, axis=0, copy=False)
    linquant.quantize(weights, copy=False)
    frozen = weights.copy()
    frozen.flags.writeable = False
    linquant.quantize(frozen, copy=False)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 1, 1)])
def test_shapes_of_few_elements(shape: tuple[int, ...]) -> None:
    found = linquant.quantize(np.ones(shape, np.float32))
    assert found.codes.shape == shape and (found.codes == 127).all()
    assert found.dequantize().shape == shape
    found = linquant.quantize(np.ones(shape, np.float32), "int4", packed=True)
    assert found.codes.shape == ((found.codes.size),) and found.dequantize().shape == shape


def test_buffers_are_filled(weights: np.ndarray) -> None:
    codes, values = np.empty((48, 64), np.int8), np.empty((48, 64), np.float32)
    found = linquant.quantize(weights, axis=0, out=codes)
    assert found.codes is codes and found.dequantize(out=values) is values
    np.testing.assert_array_equal(values, linquant.quantize(weights, axis=0).dequantize())
    packed = np.empty(48 * 32, np.uint8)
    assert linquant.quantize(weights, "int4", packed=True, out=packed).codes is packed
    again = np.empty_like(weights)
    assert linquant.fake_quantize(weights, axis=0, out=again) is again
    np.testing.assert_array_equal(again, values)


def test_wrong_buffers_are_refused(weights: np.ndarray) -> None:
    for bad in [np.empty((48, 64), np.uint8), np.empty((48, 63), np.int8), np.empty(3, np.int8)]:
        with pytest.raises(errors.ShapeError):
            linquant.quantize(weights, out=bad)
    for bad in [np.empty((48, 128), np.int8)[:, ::2], np.frombuffer(bytes(48 * 64), np.int8).reshape(48, 64)]:
        with pytest.raises(errors.ArrayError):
            linquant.quantize(weights, out=bad)
    with pytest.raises(errors.ArrayError, match="memory that is read"):
        linquant.quantize(weights, out=weights.view(np.int8).reshape(-1)[: 48 * 64].reshape(48, 64))
    with pytest.raises(errors.ArrayError, match="memory that is read"):
        linquant.fake_quantize(weights, out=weights)


def test_what_is_wrong_has_a_class_and_a_hint(weights: np.ndarray) -> None:
    bad = weights.copy()
    bad[3, 4] = np.nan
    for kind, call in [
        (errors.NonFiniteError, lambda: linquant.quantize(bad)),
        (errors.ShapeError, lambda: linquant.quantize(weights, axis=2)),
        (errors.ShapeError, lambda: linquant.quantize(weights, axis=0, block_axis=0, block_size=8)),
        (errors.ShapeError, lambda: linquant.quantize(weights, axis=0, block_size=65)),
        (errors.ShapeError, lambda: linquant.quantize(weights, block_size=(1, 2, 3))),
        (errors.ArrayError, lambda: linquant.quantize(weights.astype(np.float64))),
        (errors.ArrayError, lambda: linquant.quantize([1.0, 2.0])),
        (errors.ArrayError, lambda: linquant.quantize(np.arange(3))),
        (errors.OptionError, lambda: linquant.quantize(weights, granularity="channels")),
        (errors.OptionError, lambda: linquant.quantize(weights, axis=0, block_size=0)),
        (errors.OptionError, lambda: linquant.quantize(weights, axis=0, granularity="per_tensor")),
        (errors.OptionError, lambda: linquant.fake_quantize(weights, zero_point=3)),
    ]:
        with pytest.raises(kind) as raised:
            call()
        error = raised.value
        assert isinstance(error, linquant.Error) and error.hint and error.hint in str(error)
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)
    for call in [
        lambda: linquant.quantize(weights, "int7"),
        lambda: linquant.quantize(weights, mode="bool"),
        lambda: linquant.quantize(weights, dialect="nobody"),
    ]:
        with pytest.raises(errors.OptionError, match="expected"):
            call()
    with pytest.raises(errors.ScaleError):
        linquant.quantize(np.array([3e38, -3e38], np.float32))
    with pytest.raises(errors.NonFiniteError, match="1 values are NaN or Inf, the first at position 196"):
        linquant.quantize(bad)


def test_numpys_types_are_types(weights: np.ndarray) -> None:
    for dtype in [np.int8, np.dtype(np.int8), "int8"]:
        np.testing.assert_array_equal(
            linquant.quantize(weights, dtype).codes, linquant.quantize(weights).codes
        )
    assert linquant.quantize(weights, np.uint8, "linear").mode == "affine"


def test_parts_from_elsewhere_are_checked(weights: np.ndarray) -> None:
    from dataclasses import replace

    found = linquant.quantize(weights, "int4", axis=0)
    assert found.nbytes == 48 * 64 + 48 * 4
    np.testing.assert_array_equal(replace(found, codes=np.asfortranarray(found.codes)).dequantize(), found.dequantize())
    with pytest.raises(errors.ArrayError, match="outside of int4"):
        replace(found, codes=np.full((48, 64), 8, np.int8)).dequantize()
    with pytest.raises(errors.ShapeError, match="codes"):
        replace(found, codes=found.codes[1:]).dequantize()
    with pytest.raises(errors.ShapeError, match="scale"):
        replace(found, scale=found.scale.astype(np.float64)).dequantize()
    with pytest.raises(errors.ScaleError):
        replace(found, scale=np.nan * found.scale).dequantize()
    np.testing.assert_array_equal(replace(found, scale=-found.scale).dequantize(), -found.dequantize())
    of_8_bits = linquant.quantize(weights, "int8", axis=0)
    with pytest.raises(errors.ScaleError, match="below 0"):
        replace(of_8_bits, scale=-of_8_bits.scale).dequantize()
    with pytest.raises(errors.ArrayError, match="zero_point"):
        replace(found, mode="affine").dequantize()


def test_stats_are_numpys(weights: np.ndarray) -> None:
    found = linquant.quantize(weights, "int4", axis=0)
    error = (weights - found.dequantize()).astype(np.float64)
    stats = found.stats
    assert stats is not None and stats.count == weights.size and stats.non_finite == 0
    assert stats.max_abs_error == np.abs(error).max()
    assert stats.mean_abs_error == pytest.approx(np.abs(error).mean(), rel=1e-6)
    signal = (weights.astype(np.float64) ** 2).sum()
    assert stats.sqnr_db == pytest.approx(10 * np.log10(signal / (error**2).sum()), rel=1e-6)
    assert linquant.quantize(weights, stats=False).stats is None


@pytest.mark.parametrize("name", FLOATS)
def test_fake_quantization_is_both_ways(name: str, weights: np.ndarray) -> None:
    array = weights.astype(float_dtype(name))
    for options in [{}, {"axis": 0}, {"axis": 0, "block_size": 16}, {"mode": "affine"}]:
        found = linquant.fake_quantize(array, "int4", **options)
        assert found.dtype == array.dtype
        wanted = linquant.quantize(array, "int4", **options).dequantize()
        np.testing.assert_array_equal(found, wanted)


def test_given_scales() -> None:
    values = np.array([1.0, -0.75, 0.25, 1e9, np.nan, -np.inf], np.float32)
    found = linquant.fake_quantize(values, scale=0.5)
    np.testing.assert_array_equal(found, np.float32([1.0, -1.0, 0.0, 63.5, 0.0, -63.5]))
    found = linquant.fake_quantize(values[:4], "uint4", "affine", scale=0.5, zero_point=3)
    np.testing.assert_array_equal(found, np.float32([1.0, -1.0, 0.0, 6.0]))
    for bad in [-1.0, np.nan, np.inf]:
        with pytest.raises(errors.ScaleError):
            linquant.fake_quantize(values, scale=bad)
    with pytest.raises(errors.ScaleError):
        linquant.fake_quantize(values, scale=0.5, mode="affine", zero_point=999)
    for options in [{"axis": 0}, {"zero_point": 3}, {"dialect": "mlx", "dtype": "uint8", "mode": "affine"}]:
        with pytest.raises(errors.OptionError):
            linquant.fake_quantize(values, scale=0.5, **options)


def test_results_can_be_pickled(weights: np.ndarray) -> None:
    found = linquant.quantize(weights, "uint4", "affine", axis=0, packed=True)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.dequantize(), found.dequantize())
    assert again.stats == found.stats and again.shape == found.shape


def test_backends_and_threads() -> None:
    assert linquant.backends()[-1] == "scalar" or "scalar" in linquant.backends()
    linquant.set_num_threads(1)
    assert linquant.get_num_threads() == 1
    linquant.set_num_threads(0)
    assert linquant.get_num_threads() >= 1
    for bad in (-1, 5000):
        with pytest.raises(errors.OptionError):
            linquant.set_num_threads(bad)


def test_a_block_size_in_words_is_refused(weights: np.ndarray) -> None:
    with pytest.raises(errors.OptionError, match="block_size '32'"):
        linquant.quantize(weights, block_size="32")  # type: ignore[arg-type]


def test_nothing_is_quantized_to_nothing() -> None:
    nothing = linquant.fake_quantize(np.empty((0, 4), np.float32), scale=0.5)
    assert nothing.shape == (0, 4)
