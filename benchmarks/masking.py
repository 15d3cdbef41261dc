"""Measure how much faster M2D's pre-training is because masked patches are dropped.

    python benchmarks/masking.py [--quick] [--bfloat16]

The online encoder (ViT-B, windows of 608 x 80) runs forward and backward on 30 % of the patches and on all of them, in turns.
The last line is `ratio NAME VALUE`: the time with masking divided by the time with all patches, so smaller is better.
"""

import argparse

import torch
from measuring import best_times, ratio

from hfmgc.models.configuration_m2d import M2DConfig
from hfmgc.models.modeling_m2d import M2DForPreTraining


FRAMES, BINS = 608, 80


def main() -> None:
    """Time both variants and print their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer layers and windows, for a smoke test")
    parser.add_argument("--bfloat16", action="store_true", help="under autocast")
    arguments = parser.parse_args()
    batch, layers, repeats = (2, 2, 2) if arguments.quick else (2, 12, 4)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = M2DForPreTraining(M2DConfig(num_hidden_layers=layers, predictor_num_hidden_layers=1)).to(device)
    values = torch.randn(batch, FRAMES, BINS, device=device)
    steps, rows = model.model.grid(FRAMES, BINS)
    visible, _ = model.draw_masks(batch, steps * rows, torch.arange(batch), device)
    print(
        f"{device}, {torch.get_num_threads()} threads, {batch} windows of {FRAMES} x {BINS}, {layers} layers, "
        f"{visible.shape[1]} of {steps * rows} patches visible"
    )

    def step(selected: torch.Tensor | None) -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=arguments.bfloat16):
            encoded = model.model.encoder(model.model.embeddings(values, selected))
        encoded.float().square().mean().backward()
        model.zero_grad()

    times = best_times({"visible patches": lambda: step(visible), "all patches": lambda: step(None)}, repeats, device)
    print(f"ratio m2d_online_encoder_masked_vs_all {ratio(times):.3f}")


if __name__ == "__main__":
    main()
