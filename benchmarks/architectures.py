"""Measure LGNet's experts, voting in one batch, memory format, fused AdamW and loading processes.

    python benchmarks/architectures.py [--quick]

Without an accelerator everything runs on the CPU. Each result is a line `ratio NAME VALUE`: the time of the alternative
divided by ours, so larger is better. `lgnet_16_experts_vs_2_*` tests the claim of the LGNet paper that more experts cost
nothing: 0.91 means 1.1 times the time.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from measuring import best_times, ratio
from torch.utils.data import DataLoader

from hfmgc.data.collation import TrackCollator
from hfmgc.models.configuration_crnn import DivideAndConquerCRNNConfig
from hfmgc.models.configuration_lgnet import LGNetConfig
from hfmgc.models.modeling_crnn import DivideAndConquerCRNNForAudioClassification
from hfmgc.models.modeling_lgnet import LGNetForAudioClassification


GENRES = [f"genre {index}" for index in range(10)]
FRAMES, BINS = 194, 128


def main() -> None:
    """Run all comparisons and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller steps, for a smoke test")
    quick = parser.parse_args().quick
    repeats, batch = (3, 8) if quick else (7, 64)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"{device}, {torch.get_num_threads()} threads, batches of {batch} windows of {FRAMES} x {BINS}")
    ratios = {
        **experts(batch, repeats, device),
        **voting(batch, repeats, device),
        **memory_format(batch, repeats, device),
        **fused_adamw(repeats, device),
        **loading_processes(batch, repeats),
    }
    for name, value in ratios.items():
        print(f"ratio {name} {value:.3f}")


def experts(batch: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Compare LGNet with 2 and with 16 experts: training steps and inference."""
    values = torch.randn(batch, FRAMES, BINS, device=device)
    labels = torch.randint(len(GENRES), (batch,), device=device)
    models = {count: lgnet(count).to(device) for count in (2, 16)}
    training = best_times(
        {f"LGNet-{count}, training step": training_step(model, values, labels) for count, model in models.items()},
        repeats,
        device,
    )
    inference = best_times(
        {f"LGNet-{count}, inference": forward(model, values) for count, model in models.items()}, repeats, device
    )
    return {
        "lgnet_16_experts_vs_2_training": ratio(training),
        "lgnet_16_experts_vs_2_inference": ratio(inference),
    }


def voting(batch: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Compare voting within the model, over a batch with 10 snippets of 3 s per track, to a loop over the snippets."""
    model = DivideAndConquerCRNNForAudioClassification(
        DivideAndConquerCRNNConfig(
            num_frames=130,
            channels=[16, 32, 64],
            pools=[[2, 2], [2, 2], [2, 16]],
            gru_hidden_sizes=[128],
            num_labels=len(GENRES),
        )
    ).to(device)
    stacks = torch.randn(max(2, batch // 8), 10, 130, BINS, device=device)

    @torch.no_grad()
    def one_by_one() -> None:
        model.eval()
        for track in stacks:
            torch.stack([model(window.unsqueeze(0)).logits.softmax(-1) for window in track]).mean(dim=0)

    times = best_times(
        {"snippets one by one": one_by_one, "snippets in one batch": forward(model, stacks)}, repeats, device
    )
    return {"vote_in_one_batch_vs_loop": ratio(times)}


def memory_format(batch: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Compare channels last to channels first in training steps of ResNet-18, in float32 and bfloat16."""
    values = torch.randn(batch, FRAMES, BINS, device=device)
    labels = torch.randint(len(GENRES), (batch,), device=device)
    ratios = {}
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        first, last = lgnet(0).to(device), lgnet(0).to(device, memory_format=torch.channels_last)
        times = best_times(
            {
                f"channels first, {name}": training_step(first, values, labels, dtype),
                f"channels last, {name}": training_step(last, values, labels, dtype),
            },
            repeats,
            device,
        )
        ratios[f"channels_last_{name}"] = ratio(times)
    return ratios


def fused_adamw(repeats: int, device: torch.device) -> dict[str, float]:
    """Compare fused AdamW to a loop over tensors in one update of ResNet-18."""
    steps = {}
    for name, fused in (("AdamW, tensor by tensor", False), ("AdamW, fused", True)):
        model = lgnet(0).to(device)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        steps[name] = torch.optim.AdamW(model.parameters(), fused=fused, foreach=False if not fused else None).step
    return {"fused_adamw": ratio(best_times(steps, repeats, device))}


def loading_processes(batch: int, repeats: int) -> dict[str, float]:
    """Compare two loading processes to none, on batches of stored spectrograms that are cropped and masked."""
    examples = StoredExamples(8 * batch)
    times = best_times(
        {f"loading in {workers or 'the training'} process": loading(examples, batch, workers) for workers in (0, 2)},
        max(2, repeats // 2),
        torch.device("cpu"),
    )
    return {"two_loading_processes_vs_none": ratio(times)}


class StoredExamples(torch.utils.data.Dataset):
    """Spectrograms as in a recipe: cut, masked and with a genre."""

    def __init__(self, count: int):
        from hfmgc.training.spectrogram_augmentation import SpecAugment

        self.stored = np.random.default_rng(0).random((count, 2 * FRAMES, BINS), dtype=np.float32)
        self.masks = SpecAugment(time_masks=2, time_mask_frames=24, frequency_masks=2, frequency_mask_bins=16)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: int) -> dict:
        generator = np.random.default_rng(index)
        start = int(generator.integers(FRAMES))
        window = self.masks(self.stored[index, start : start + FRAMES], generator)
        return {"input_values": window, "genre": GENRES[index % len(GENRES)]}


def loading(examples: StoredExamples, batch: int, workers: int) -> Callable[[], None]:
    """Return a function that loads all examples once."""
    loader = DataLoader(
        examples,
        batch_size=batch,
        num_workers=workers,
        collate_fn=TrackCollator({genre: index for index, genre in enumerate(GENRES)}),
    )

    def one_pass() -> None:
        for _ in loader:
            pass

    return one_pass


def lgnet(num_experts: int) -> LGNetForAudioClassification:
    """Build the paper's model; without experts it is ResNet-18."""
    return LGNetForAudioClassification(LGNetConfig(num_experts=num_experts, num_labels=len(GENRES)))


def training_step(
    model: torch.nn.Module, values: torch.Tensor, labels: torch.Tensor, dtype: torch.dtype | None = None
) -> Callable[[], None]:
    """Return a function that runs forward pass, backward pass and update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model.train()
        with torch.autocast(values.device.type, dtype=dtype, enabled=dtype is not None):
            loss = model(values, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def forward(model: torch.nn.Module, values: torch.Tensor) -> Callable[[], None]:
    """Return a function that runs inference."""

    @torch.no_grad()
    def step() -> None:
        model.eval()(values)

    return step


if __name__ == "__main__":
    main()
