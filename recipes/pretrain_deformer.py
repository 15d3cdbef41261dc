"""Deformer in its three stages: prior autoencoder, denoising pre-training, fine-tuning.

    python recipes/pretrain_deformer.py [--small] [--stages prior,pretrain,finetune,scratch] [--output_dir FOLDER]
        [--STAGE.field value ...]

Each stage is a config of recipes/configs/deformer (with --small those for two cores) and starts from the result of the one
before. `scratch` is the fine-tuning without pre-training; it is not among the default stages. `--data` sets the data of both
pre-training stages:

    python recipes/pretrain_deformer.py --small --stages prior,pretrain,finetune,scratch \\
        --data '[gtzan_logmel/train.parquet, gtzan_logmel/unlisted.parquet]' --finetune.data gtzan_logmel

Fields of `finetune` apply to `scratch` too. When both have been run, FOLDER gets a picture of their losses.
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
    """Run the chosen stages."""
    chosen, folder, prefix, words = parse(sys.argv[1:])
    for stage in chosen:
        print(f"\n== {stage} ==", flush=True)
        config = CONFIGS / f"{prefix}{'finetune' if stage == 'scratch' else stage}.yaml"
        more = [*words["finetune"], *words["scratch"]] if stage == "scratch" else words[stage]
        argv = [str(config), "--output_dir", str(folder / f"{prefix}{stage}"), *more]
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
    """Draw the losses of the fine-tuning with and without pre-training, when both have been run (Figure 11)."""
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
    """Return the chosen stages, the folder of their runs, the prefix of their configs, and the words for each stage.

    Raises:
        ConfigError: For a stage or a word that does not exist.
    """
    chosen, folder, prefix = list(STAGES[:3]), Path("runs/deformer"), ""
    words: dict[str, list[str]] = {stage: [] for stage in STAGES}
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
            chosen = value.split(",")
        elif name == "output_dir":
            folder = Path(value)
        elif name == "data":
            for one in ("prior", "pretrain"):
                words[one] += ["--data", value]
        elif name in ("overwrite", "resume_from_checkpoint"):
            for one in STAGES:
                words[one] += [f"--{name}", value]
        elif stage in STAGES and field:
            words[stage] += [f"--{field}", value]
        else:
            known = (*(f"{one}.FIELD" for one in STAGES), "small", "stages", "output_dir", "data", "overwrite")
            raise ConfigError(f"command line: unknown option {word!r}{did_you_mean(name, known)}")
    for stage in chosen:
        if stage not in STAGES:
            raise ConfigError(f"stages: no stage {stage!r}{did_you_mean(stage, STAGES)}")
    return chosen, folder, prefix, words


if __name__ == "__main__":
    stages.run_recipe(main)
