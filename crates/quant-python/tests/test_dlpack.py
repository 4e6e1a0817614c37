"""Arrays of other libraries, by DLPack."""

from __future__ import annotations

import numpy as np
import pytest

import linquant
from linquant import errors

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_tensors_are_arrays(name: str) -> None:
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    tensor = torch.randn(16, 32, generator=torch.Generator().manual_seed(1)).to(getattr(torch, name))
    found = linquant.quantize(tensor, "int4", axis=0)
    assert str(found.scale.dtype) == name
    back = torch.from_numpy(found.dequantize(dtype="float32"))
    assert (back - tensor.float()).abs().max() < 0.6 * found.scale.astype(np.float32).max()
    observed = linquant.MinMaxObserver().observe(tensor).range()
    assert observed == (tensor.float().min().item(), tensor.float().max().item())


def test_transposed_and_sliced_tensors() -> None:
    tensor = torch.arange(48, dtype=torch.float32).reshape(6, 8)
    for view in [tensor.T, tensor[::2], tensor[:, 3:]]:
        wanted = linquant.quantize(np.ascontiguousarray(view.numpy()), axis=0)
        np.testing.assert_array_equal(linquant.quantize(view, axis=0).codes, wanted.codes)


def test_torchs_dialect_is_torchs() -> None:
    tensor = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    from torch.ao.quantization import MinMaxObserver

    observer = MinMaxObserver(dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    observer(tensor)
    scale, zero_point = observer.calculate_qparams()
    found = linquant.quantize(tensor, "uint8", "affine", dialect="torch")
    assert found.scale.item() == scale.item() and found.zero_point.item() == zero_point.item()
    wanted = torch.fake_quantize_per_tensor_affine(tensor, scale.item(), zero_point.item(), 0, 255)
    np.testing.assert_allclose(found.dequantize(), wanted.numpy(), rtol=1e-6, atol=1e-6)


def test_what_cannot_be_exported_is_said() -> None:
    with pytest.raises(errors.ArrayError, match="detach"):
        linquant.quantize(torch.ones(3, requires_grad=True))
    with pytest.raises(errors.ArrayError, match="CPU"):
        linquant.quantize(Elsewhere())
    with pytest.raises(errors.ArrayError, match="float64"):
        linquant.quantize(torch.ones(3, dtype=torch.float64))
    with pytest.raises(errors.ArrayError):
        linquant.quantize(NoTensor())


class Elsewhere:
    """An array of a GPU, which cannot be had here."""

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("not to be called")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class NoTensor:
    """What gives something else."""

    def __dlpack__(self, **_: object) -> object:
        import datetime

        return datetime.datetime_CAPI  # type: ignore[attr-defined]

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


def test_buffers_of_torch_are_filled() -> None:
    tensor = torch.randn(8, 8)
    codes = torch.empty(8, 8, dtype=torch.int8)
    found = linquant.quantize(tensor, axis=0, out=codes)
    assert (torch.from_numpy(found.codes) == codes).all() and codes.abs().max() == 127


def test_buffers_of_torchs_bfloat16_are_filled() -> None:
    pytest.importorskip("ml_dtypes")
    tensor = torch.randn(8, 64, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    found = linquant.quantize(tensor, axis=0)
    filled = torch.empty_like(tensor)
    found.dequantize(out=filled)
    assert (filled.float() - tensor.float()).abs().max() < 0.05
    again = torch.empty_like(tensor)
    linquant.fake_quantize(tensor, axis=0, out=again)
    assert torch.equal(again, filled)
    with pytest.raises(errors.ShapeError, match="bfloat16, not float32"):
        found.dequantize(dtype="float32", out=torch.empty_like(tensor))
