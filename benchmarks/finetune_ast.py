"""Compare fine-tuning AST-base on the stored output of its frozen layers with transformers' Trainer and PEFT.

    python benchmarks/finetune_ast.py [--quick]

The training is that of the AST report: DoRA (r = 2) on the last linear layer of layers 10 and 11, windows of 1,024 frames and
128 mel bins, the report's head, one batch of all clips per epoch. The plain side trains `ASTForAudioClassification` with
`Trainer` (micro-batches of 2, as in the report) on features in memory. Ours reads the same features from disk, fills its store
(timed), and trains on it (micro-batches of 4). Both start from the same random weights, without dropout, so the printed losses
must agree. They run alternately, each in a separate process, and the best epoch counts. Each result is a line
`ratio NAME VALUE`: the plain side divided by ours, so larger is better.

With --quick the plain side runs fewer epochs, and the time of 13 epochs is estimated from its best epoch.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
from measuring import count_operations, in_new_process
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


EPOCHS = 13
FRAMES, BINS = 1024, 128
GENRES = [f"genre {index}" for index in range(10)]
MICRO_BATCH = {"plain": 2, "ours": 4}
ADAPTED = [f"layers.{layer}.mlp.fc2" for layer in (10, 11)]
RANK, ALPHA, LEARNING_RATE, WEIGHT_DECAY = 2, 8.493977318, 1.3221e-4, 0.067624


def main() -> None:
    """Run the comparison and print its ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer clips, and fewer epochs of the plain side")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), quick=quick)


def compare(workdir: Path, *, quick: bool) -> None:
    """Run both sides in turns and compare them."""
    clips, turns, plain_epochs = (8, 1, 2) if quick else (16, 2, EPOCHS)
    torch.manual_seed(0)
    ASTForAudioClassification(ASTConfig(num_labels=527)).save_pretrained(workdir / "ast")  # random weights
    results: dict[str, list[dict]] = {"plain": [], "ours": []}
    for turn in range(turns):
        folder = workdir / f"turn{turn}"
        for name, train, epochs in (("plain", train_plain, plain_epochs), ("ours", train_ours, EPOCHS)):
            environment = {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
            results[name].append(in_new_process(train, folder, clips, epochs, **environment))
    plain, ours = (min(runs, key=lambda run: min(run["epochs"])) for runs in results.values())
    print(f"{plain['device']}, {clips} clips of {FRAMES} x {BINS}, DoRA r = {RANK} on {', '.join(ADAPTED)}")
    matmul_rate = max(run["matmul_rate"] for runs in results.values() for run in runs)
    for label, run in (("Trainer + PEFT", plain), ("hfmgc, stored prefix", ours)):
        best = min(run["epochs"])
        rate = run["flops_per_clip"] * clips / best
        print(
            f"{label:<20}{best:8.2f} s per epoch ({1000 * best / clips:6.0f} ms per clip), "
            f"{run['flops_per_clip'] / 1e9:6.1f} GFLOP per clip, {rate / 1e9:6.1f} GFLOP/s: {rate / matmul_rate:.0%} of this machine's "
            f"{matmul_rate / 1e9:.0f} in matrix products; peak memory {run['peak_mib']:.0f} MiB"
        )
    last = len(plain["losses"])
    print(f"filling the store: {ours['filling']:.2f} s, {ours['store_mib']:.0f} MiB")
    print(f"loss of epoch {last}: {plain['losses'][-1]:.6f} plain, {ours['losses'][last - 1]:.6f} ours")
    if abs(plain["losses"][-1] - ours["losses"][last - 1]) > 1e-3:
        raise SystemExit("the losses of the two sides differ, so their times cannot be compared")
    plain_total = sum(plain["epochs"]) if plain_epochs == EPOCHS else EPOCHS * min(plain["epochs"])
    ours_total = ours["filling"] + sum(ours["epochs"])
    print(f"{EPOCHS} epochs: {plain_total:.1f} s plain, {ours_total:.1f} s ours with filling")
    print(f"ratio epoch_with_kept_prefix_vs_plain {min(plain['epochs']) / min(ours['epochs']):.3f}")
    print(f"ratio {EPOCHS}_epochs_with_filling_vs_plain {plain_total / ours_total:.3f}")
    print(f"ratio peak_memory {plain['peak_mib'] / ours['peak_mib']:.3f}")


def features(clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normalised log-mel features [clips, frames, bins] and genres [clips], from a fixed seed."""
    generator = np.random.default_rng(0)
    labels = np.arange(clips) % len(GENRES)
    noise = generator.standard_normal((clips, FRAMES, BINS), dtype=np.float32) / 2
    tilt = np.linspace(-1, 1, BINS, dtype=np.float32)
    return noise + (labels[:, None, None] / len(GENRES) - 0.5).astype(np.float32) * tilt, labels


def head(hidden: int) -> nn.Sequential:
    """Build the report's head without dropout, with weights from a fixed seed."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(hidden, 200), nn.GELU(), nn.Linear(200, len(GENRES)))


def train_plain(workdir: Path, clips: int, epochs: int) -> dict:
    """Train with transformers' Trainer and PEFT on `ASTForAudioClassification`."""
    model = ASTForAudioClassification.from_pretrained(workdir.parent / "ast")
    model.num_labels = model.config.num_labels = len(GENRES)
    model.classifier.dense = head(model.config.hidden_size)
    set_seed(42)
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, use_dora=True, modules_to_save=["classifier.dense"],
        target_modules=[f"audio_spectrogram_transformer.{name}" for name in ADAPTED],
    )  # fmt: skip
    model = get_peft_model(model, config)
    values, labels = features(clips)
    examples = [
        {"input_values": torch.from_numpy(value), "labels": int(label)}
        for value, label in zip(values, labels, strict=True)
    ]
    settings = training_settings("plain", workdir / "plain", clips, epochs)
    arguments = TrainingArguments(**settings, label_names=["labels"])
    trainer = Trainer(model=model, args=arguments, train_dataset=examples, callbacks=[clock := EpochClock()])
    trainer.train()
    return report(trainer, clock, examples[: MICRO_BATCH["plain"]])


def train_ours(workdir: Path, clips: int, epochs: int) -> dict:
    """Train on the stored output of the frozen layers; filling the store is timed separately."""
    from hfmgc.data.features import TrackWindows
    from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
    from hfmgc.models.configuration_ast import HfmgcASTConfig
    from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification
    from hfmgc.training.arguments import ModelArguments, RunArguments
    from hfmgc.training.build import adapt_model
    from hfmgc.training.examples import FixedExamples
    from hfmgc.training.fit import build_trainer
    from hfmgc.training.prefix_reuse import prefix_store_folder, reuse_prefix
    from hfmgc.training.preparation import PreparedData

    labels = dict(enumerate(GENRES))
    config = HfmgcASTConfig(
        id2label=labels, label2id={genre: index for index, genre in labels.items()}, head_hidden_size=200,
        head_input_dropout=0.0, head_hidden_dropout=0.0,
    )  # fmt: skip
    model = HfmgcASTForAudioClassification.from_pretrained_backbone(workdir.parent / "ast", config)
    dense, _, output = head(model.config.backbone_config.hidden_size)
    model.classifier.dense, model.classifier.output = dense, output
    set_seed(42)
    adapter = ModelArguments(adapter="dora", adapter_min_layer=10, adapter_rank=RANK, adapter_alpha=ALPHA)
    model = adapt_model(model, adapter)
    settings = training_settings("ours", workdir / "ours", clips, epochs)
    run = RunArguments(
        **settings, reuse_frozen_prefix=True, eval_strategy="no", load_best_model_at_end=False, metric_for_best_model=None,
        per_device_eval_batch_size=4,
    )  # fmt: skip
    tracks = TrackWindows(store_features(clips), HfmgcASTFeatureExtractor())
    examples = FixedExamples(tracks, seed=42)
    # Both sides of the split have the same windows, so the store is filled with each clip only once.
    data = PreparedData(corpus=None, manifest=None, train=examples, validation=tracks, test=tracks)
    began = time.perf_counter()
    stored = reuse_prefix(model, data, run)
    filling = time.perf_counter() - began
    trainer = build_trainer(model, run, GENRES, train=stored.train)
    trainer.add_callback(clock := EpochClock())
    trainer.train()
    store_bytes = sum(path.stat().st_size for path in prefix_store_folder(run).rglob("*") if path.is_file())
    result = report(trainer, clock, [stored.train[index] for index in range(MICRO_BATCH["ours"])])
    return {**result, "filling": filling, "store_mib": store_bytes / 2**20}


def store_features(clips: int) -> datasets.Dataset:
    """Write the features to disk as stored slices: a table of tracks with one window each."""
    values, labels = features(clips)

    def rows():
        for index, (value, label) in enumerate(zip(values, labels, strict=True)):
            yield {"track_id": f"{index}", "genre": GENRES[label], "features": value[None]}

    floats = datasets.LargeList(datasets.List(datasets.List(datasets.Value("float32"))))
    text = datasets.Value("string")
    columns = datasets.Features({"track_id": text, "genre": text, "features": floats})
    return datasets.Dataset.from_generator(rows, features=columns).with_format(
        "numpy", columns=["features"], output_all_columns=True
    )


def training_settings(side: str, folder: Path, clips: int, epochs: int) -> dict:
    """Return the settings of both sides: one step per epoch, on all clips."""
    return {
        "output_dir": str(folder), "num_train_epochs": epochs, "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY, "per_device_train_batch_size": MICRO_BATCH[side],
        "gradient_accumulation_steps": clips // MICRO_BATCH[side], "lr_scheduler_type": "constant", "seed": 42,
        "save_strategy": "no", "logging_strategy": "epoch", "remove_unused_columns": False, "disable_tqdm": True,
        "report_to": "none",
    }  # fmt: skip


class EpochClock(TrainerCallback):
    """Record the seconds of each epoch."""

    def __init__(self):
        self.seconds: list[float] = []

    def on_epoch_begin(self, *arguments: object, **keywords: object) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, *arguments: object, **keywords: object) -> None:
        """Store the time once the device has finished."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.began)


def report(trainer: Trainer, clock: EpochClock, examples: list[dict]) -> dict:
    """Return times, losses, peak memory, operations per clip, and the machine's matrix-product rate."""
    on_gpu = trainer.args.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    batch = trainer._prepare_inputs(trainer.data_collator(examples))
    operations = count_operations(lambda: trainer.model(**batch).loss.backward())
    return {
        "device": f"{trainer.args.device}, {torch.get_num_threads()} threads, {os.cpu_count()} cores",
        "epochs": clock.seconds,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "peak_mib": peak / 2**20,
        "flops_per_clip": operations / len(examples),
        "matmul_rate": matmul_rate(trainer.args.device),
    }


def matmul_rate(device: torch.device) -> float:
    """Return the operations per second of a large float32 matrix product, the best of 8."""
    size, best = (8192 if device.type == "cuda" else 2048), 0.0
    left, right = torch.randn(2, size, size, device=device)
    for _ in range(8):
        began = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


if __name__ == "__main__":
    main()
