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

import argparse
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
    arguments, options = parse(sys.argv[1:])
    folder, prefix = arguments.output_dir, "small_" if arguments.small else ""
    for stage in arguments.stages:
        print(f"\n== {stage} ==", flush=True)
        config = CONFIGS / f"{prefix}{'finetune' if stage == 'scratch' else stage}.yaml"
        argv = [str(config), "--output_dir", str(folder / f"{prefix}{stage}")]
        if stage in ("prior", "pretrain"):
            if stage == "pretrain":
                argv += ["--pretrained_parts.prior", str(folder / f"{prefix}prior")]
            pretrain(read_settings([*argv, *options[stage]], PRETRAINING_GROUPS, defaults=PRETRAINING_SETTINGS))
        else:
            if stage == "finetune":
                argv += ["--model_name_or_path", str(folder / f"{prefix}pretrain")]
            shared = options["finetune"] if stage == "scratch" else []
            train_and_evaluate(read_settings([*argv, *shared, *options[stage]], RECIPE_GROUPS))
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


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, list[str]]]:
    """Return the arguments of this command, and the command-line options of each stage.

    Raises:
        ConfigError: If a stage or an option does not exist.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--stages", type=lambda names: names.split(","), default=STAGES[:3])
    parser.add_argument("--output_dir", type=Path, default=Path("runs/deformer"))
    parser.add_argument("--data", help="for both pre-training stages")
    for name in ("--overwrite", "--resume_from_checkpoint"):
        parser.add_argument(name, nargs="?", const="true", help="for all stages")
    arguments, rest = parser.parse_known_args(argv)
    for stage in arguments.stages:
        if stage not in STAGES:
            raise ConfigError(f"stages: no stage {stage!r}{did_you_mean(stage, STAGES)}")
    options: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for name, its_stages in (("data", STAGES[:2]), ("overwrite", STAGES), ("resume_from_checkpoint", STAGES)):
        if (value := getattr(arguments, name)) is not None:
            for stage in its_stages:
                options[stage] += [f"--{name}", value]
    stage = None
    for word in rest:
        if word.startswith("--"):
            stage, _, field = word.removeprefix("--").partition(".")
            if stage not in STAGES or not field:
                names = (*vars(arguments), *(f"{name}.FIELD" for name in STAGES))
                raise ConfigError(f"command line: unknown option {word!r}{did_you_mean(stage, names)}")
            word = f"--{field}"
        elif stage is None:
            raise ConfigError(f"command line: expected --STAGE.field, got {word!r}")
        options[stage].append(word)
    return arguments, options


if __name__ == "__main__":
    stages.run_recipe(main)
