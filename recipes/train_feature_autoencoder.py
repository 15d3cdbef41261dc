"""Train the autoencoder of hand-made features with several latent sizes and seeds, and print its accuracy by latent size.

    python recipes/train_feature_autoencoder.py [CONFIG.yaml] [--field value ...] [--latent_sizes '[10, 50]'] [--seeds '[0, 1]']

The default config is Table III of the Divide and Conquer paper, on FMA-medium:

    python recipes/train_feature_autoencoder.py --data table --data_options.file fma_metadata.zip

Configs for other tables are in `configs/feature_tables/`. `output_dir` gets the table as CSV and as a plot, and a run folder
for each latent size and seed. The same command resumes. `--help` lists all fields.
"""

import sys
from functools import partial
from pathlib import Path

from train_classifier import train_and_evaluate

from hfmgc.training import stages
from hfmgc.training.check import check_recipe
from hfmgc.training.comparison import save_comparison
from hfmgc.training.latent_sizes import fit_latent_sizes, read_latent_sizes
from hfmgc.training.preparation import SharedData


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "divide_and_conquer" / "feature_autoencoder.yaml"


def main() -> None:
    """Run all stages."""
    # Settings
    recipe, sizes = read_latent_sizes(sys.argv[1:], DEFAULT_CONFIG)
    checked = check_recipe(recipe.groups())
    _, data_arguments, run = checked.groups

    # Data, prepared once for all runs
    shared = SharedData(run.seed)
    data = shared(data_arguments, run, checked.extractor)
    stages.announce(run, data)

    # Runs
    rows = fit_latent_sizes(recipe, sizes, partial(train_and_evaluate, prepare=shared), data.test)

    # Table and plot
    if run.should_save:
        folder, source = Path(run.output_dir), data.corpus.source
        side = data.manifest.evaluation_side
        title = f"Feature autoencoder on {source.card.name} ({source.location}), {side} side, {len(data.test)} tracks"
        table = save_comparison(rows, folder, "latent_sizes", label="latent size (none: no bottleneck)", title=title)
        print(f"\n{title}\n\n{table}\n\ntable: {folder / 'latent_sizes.csv'}")


if __name__ == "__main__":
    stages.run_recipe(main, resume_hint="the same command resumes")
