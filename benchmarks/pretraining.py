"""Measure how much of this machine's matrix-product rate Deformer's pre-training reaches, in float32 and bfloat16.

    python benchmarks/pretraining.py [--batch 16] [--repeats 3] [--layers 12] [--device cuda]

Training steps and matrix products alternate; the medians are printed. The operations of a step are those of its forward and
backward pass. On a CPU, processor time is measured, so that other load on the machine matters little; set OMP_NUM_THREADS=1.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from measuring import count_operations

from hfmgc.models.configuration_deformer import DeformerConfig
from hfmgc.models.modeling_deformer import DeformerForPreTraining


SIZE = 2048


def main() -> None:
    """Measure both types and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = DeformerForPreTraining(DeformerConfig(backbone_config={"num_hidden_layers": options.layers})).to(
        options.device
    )
    model.train()
    trainable = (parameter for parameter in model.parameters() if parameter.requires_grad)
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, betas=(0.9, 0.98))
    windows, seeds = torch.rand(options.batch, 224, 224, device=options.device), torch.arange(options.batch)

    def step(dtype: torch.dtype) -> None:
        with torch.autocast(options.device, dtype=dtype, enabled=dtype != torch.float32):
            loss = model(windows, seeds=seeds).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    operations = count_operations(lambda: step(torch.float32))
    print(
        f"Deformer, {options.layers} layers, batch {options.batch}, {options.device}, {torch.get_num_threads()} threads"
    )
    print(f"{operations / 1e9:.0f} GFLOP per step; reference: a product of {SIZE} x {SIZE} matrices")
    for dtype in (torch.float32, torch.bfloat16):
        left, right = (torch.rand(SIZE, SIZE, device=options.device).to(dtype) for _ in range(2))
        steps, products = [], []
        for _ in range(options.repeats):
            products.append(measure_seconds(lambda a=left, b=right: a @ b, options.device))
            steps.append(measure_seconds(lambda dtype=dtype: step(dtype), options.device))
        seconds, rate = statistics.median(steps), 2 * SIZE**3 / statistics.median(products)
        print(
            f"{str(dtype).removeprefix('torch.'):<9} {seconds:7.3f} s per step, {operations / seconds / 1e9:7.1f} GFLOP/s, "
            f"{operations / seconds / rate:5.1%} of {rate / 1e9:.1f} GFLOP/s"
        )


def measure_seconds(function: Callable[[], object], device: str) -> float:
    """Return the seconds of a call after a warm-up call; on a CPU, the processor time of all threads."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    began = clock()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


if __name__ == "__main__":
    main()
