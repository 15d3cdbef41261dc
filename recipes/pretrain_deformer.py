"""Train Deformer in its three stages: prior autoencoder, denoising pre-training, fine-tuning.

    python recipes/pretrain_deformer.py [--small] [--stages prior,pretrain,finetune,scratch] [--output_dir FOLDER]
        [--STAGE.field value ...]

Each stage has a config in recipes/configs/deformer and starts from the result of the previous stage. `--small` takes the
configs for two cores. `scratch` is fine-tuning without pre-training; it does not run by default. `--data` sets the data of
both pre-training stages:

    python recipes/pretrain_deformer.py --small --stages prior,pretrain,finetune,scratch \\
        --data '[gtzan_logmel/train.parquet, gtzan_logmel/unlisted.parquet]' --finetune.data gtzan_logmel

Fields of `finetune` apply to `scratch` too. After both have run, FOLDER gets a plot of their losses.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from hfmgc.stopping import catch_signals


catch_signals(importing=True)  # the other imports take seconds

from train_classifier import train_and_evaluate

from hfmgc.errors import ConfigError, did_you_mean, saving_to
from hfmgc.evaluation.plots import plot_losses
from hfmgc.settings import load_json, read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.pretraining.arguments import PRETRAINING_GROUPS, PRETRAINING_SETTINGS
from hfmgc.training.pretraining.run import pretrain


CONFIGS = Path(__file__).parent / "configs" / "deformer"
STAGES = ("prior", "pretrain", "finetune", "scratch")


def main() -> None:
    """Run the selected stages."""
    selected, folder, prefix, options = parse(sys.argv[1:])
    for stage in selected:
        print(f"\n== {stage} ==", flush=True)
        config = CONFIGS / f"{prefix}{'finetune' if stage == 'scratch' else stage}.yaml"
        stage_options = [*options["finetune"], *options["scratch"]] if stage == "scratch" else options[stage]
        argv = [str(config), "--output_dir", str(folder / f"{prefix}{stage}"), *stage_options]
        if stage in ("prior", "pretrain"):
            if stage == "pretrain":
                argv[3:3] = ["--pretrained_parts.prior", str(folder / f"{prefix}prior")]
            pretrain(read_settings(argv, PRETRAINING_GROUPS, defaults=PRETRAINING_SETTINGS))
        else:
            if stage == "finetune":
                argv[3:3] = ["--model_name_or_path", str(folder / f"{prefix}pretrain")]
            train_and_evaluate(read_settings(argv, RECIPE_GROUPS))
    plot_comparison(folder, prefix)


def plot_comparison(folder: Path, prefix: str) -> None:
    """Plot the losses of fine-tuning with and without pre-training (Figure 11), if both have run."""
    histories = {}
    for stage, name in (("finetune", "pre-trained"), ("scratch", "without pre-training")):
        states = sorted(
            (folder / f"{prefix}{stage}").glob("checkpoint-*/trainer_state.json"),
            key=lambda path: int(path.parent.name.removeprefix("checkpoint-")),
        )
        if not states:
            return
        histories[name] = load_json(states[-1].read_text(encoding="utf-8"))["log_history"]
    with saving_to(folder):
        plot_losses(histories, folder / f"{prefix}finetuning_losses.png", title="Deformer: fine-tuning")


def parse(argv: Sequence[str]) -> tuple[list[str], Path, str, dict[str, list[str]]]:
    """Return the selected stages, the folder of their runs, the prefix of their configs, and the options of each stage.

    Raises:
        ConfigError: If a stage or an option does not exist.
    """
    selected, folder, prefix = list(STAGES[:3]), Path("runs/deformer"), ""
    options: dict[str, list[str]] = {stage: [] for stage in STAGES}
    rest = list(argv)
    if "--help" in rest or "-h" in rest:
        print(__doc__)
        raise SystemExit(0)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if word == "--small":
            prefix = "small_"
            continue
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "true"
        stage, _, field = name.partition(".")
        if name == "stages":
            selected = value.split(",")
        elif name == "output_dir":
            folder = Path(value)
        elif name == "data":
            for pretraining_stage in ("prior", "pretrain"):
                options[pretraining_stage] += ["--data", value]
        elif name in ("overwrite", "resume_from_checkpoint"):
            for every_stage in STAGES:
                options[every_stage] += [f"--{name}", value]
        elif stage in STAGES and field:
            options[stage] += [f"--{field}", value]
        else:
            names = [*(f"{stage}.FIELD" for stage in STAGES), "small", "stages", "output_dir", "data", "overwrite"]
            names.append("resume_from_checkpoint")
            raise ConfigError(f"command line: unknown option {word!r}{did_you_mean(name, names)}")
    for stage in selected:
        if stage not in STAGES:
            raise ConfigError(f"stages: no stage {stage!r}{did_you_mean(stage, STAGES)}")
    return selected, folder, prefix, options


if __name__ == "__main__":
    stages.run_recipe(main)
