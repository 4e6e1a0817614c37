"""What the tests share."""

from __future__ import annotations

import numpy as np
import pytest

FLOATS = ["float32", "float16", "bfloat16"]


def float_dtype(name: str) -> np.dtype:
    if name == "bfloat16":
        return np.dtype(pytest.importorskip("ml_dtypes").bfloat16)
    return np.dtype(name)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def weights(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(48, 64)).astype(np.float32)
