"""Threads, and processes that are forked from others with threads."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np

import linquant


def test_threads_share_observers(rng: np.random.Generator) -> None:
    samples = [rng.normal(size=2000).astype(np.float32) for _ in range(16)]
    shared, alone = linquant.MseObserver(), linquant.MseObserver()
    threads = [threading.Thread(target=shared.observe, args=(sample,)) for sample in samples]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sample in samples:
        alone.observe(sample)
    assert shared == alone


def test_threads_quantize_one_array(weights: np.ndarray) -> None:
    wanted = linquant.quantize(weights, "int4", axis=0).codes
    found: list[np.ndarray] = []
    work = lambda: found.append(linquant.quantize(weights, "int4", axis=0).codes)  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and all((codes == wanted).all() for codes in found)


def test_other_threads_go_on_meanwhile() -> None:
    array = np.ones(1 << 24, np.float32)
    ticks, done = 0, threading.Event()

    def work() -> None:
        for _ in range(3):
            linquant.quantize(array, "int4", block_size=[32])
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.001)
    thread.join()
    assert ticks > 3


def test_a_child_has_threads_of_its_own(weights: np.ndarray) -> None:
    wanted = linquant.quantize(weights, axis=0).codes
    for depth in range(3):
        child = os.fork()
        if child == 0:
            # Deeper with every turn: a child of a child.
            same = (linquant.quantize(weights, axis=0).codes == wanted).all()
            if depth == 2:
                grandchild = os.fork()
                if grandchild == 0:
                    os._exit(0 if (linquant.quantize(weights).codes != 0).any() else 1)
                same &= os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 0
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def quantized(array: np.ndarray) -> linquant.Quantized:
    return linquant.quantize(array, "int4", axis=0, packed=True)


def test_pools_of_processes_exchange_results(weights: np.ndarray) -> None:
    wanted = quantized(weights)
    for method in ["fork", "spawn"]:
        with multiprocessing.get_context(method).Pool(2) as pool:
            for found in pool.map(quantized, [weights] * 3):
                np.testing.assert_array_equal(found.codes, wanted.codes)
                assert found.stats == wanted.stats


def test_other_libraries_are_not_imported() -> None:
    program = "import linquant, sys; print(sorted({'torch', 'coremltools', 'ml_dtypes', 'tqdm'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
