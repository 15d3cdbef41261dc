"""Tools of the benchmarks: timing in turns, separate processes, counting operations."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def best_times(steps: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, float]:
    """Return the best time of each step in seconds. They take turns, so a temporary slowdown affects all of them."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first turn is a warm-up
                times[name].append(time.perf_counter() - began)
    best = {name: min(values) for name, values in times.items()}
    for name, seconds in best.items():
        print(f"{name:<32}{seconds * 1000:10.1f} ms")
    return best


def ratio(times: dict[str, float]) -> float:
    """Return how many times faster the second step is than the first."""
    first, second = times.values()
    return first / second


def in_new_process(function: Callable, *arguments: Any, **environment: str) -> Any:
    """Run a function in a new process without this one's memory and caches, discard its output, return its result."""
    os.environ |= environment
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_silence) as pool:
        return pool.submit(function, *arguments).result()


def _silence() -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (for the rest of the process)


def count_operations(step: Callable[[], Any]) -> int:
    """Count the floating-point operations of a step on a CPU or GPU."""

    def forward(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **keywords: object) -> int:
        return sdpa_flop_count(query, key, value)

    def backward(gradient: torch.Size, *shapes: torch.Size, **keywords: object) -> int:
        return 5 * forward(*shapes) // 2  # five matrix products; the forward pass has two

    # FlopCounterMode does not know the attention kernels of the CPU.
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    with FlopCounterMode(display=False, custom_mapping={attention: forward, attention_backward: backward}) as counter:
        step()
    return counter.get_total_flops()
