"""Compare classical pipelines of scikit-learn on hand-made features or on statistics of spectrograms.

    python recipes/classical_baselines.py [CONFIG.yaml] [--field value ...]

The command fits every pipeline of the config with each of its dimensions and seeds. It prints one table: accuracy on the test
side with its interval, and the times of training and prediction. The default config is Table II of the Divide and Conquer
paper, on FMA-medium with its official split:

    python recipes/classical_baselines.py --data_options.file fma_metadata.zip

`output_dir` gets the table as CSV and as a plot, and a run folder for each row, which `hfmgc predict` and `hfmgc evaluate`
accept. `--help` lists all fields.
"""

import sys
from pathlib import Path

from hfmgc.stopping import catch_signals


catch_signals(importing=True)  # the other imports take seconds

from hfmgc.errors import ConfigError
from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import DataArguments, RunArguments
from hfmgc.training.classical import (
    CLASSICAL_SETTINGS,
    Baselines,
    ClassicalArguments,
    check_baselines,
)
from hfmgc.training.comparison import save_comparison
from hfmgc.training.preparation import prepare_data
from hfmgc.training.run_folder import RunRecord, begin_run


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "divide_and_conquer" / "table2.yaml"


def main() -> None:
    """Read the settings and run all stages."""
    # Settings, which do not change after this check
    groups = (ClassicalArguments, DataArguments, RunArguments)
    classical, data_arguments, run = read_settings(sys.argv[1:], groups, DEFAULT_CONFIG, defaults=CLASSICAL_SETTINGS)
    extractor = check_baselines(classical, data_arguments, run)

    # Folders: one for the table, and in it one for each row
    output = Path(run.output_dir)
    finished = [row.label for row in classical.rows() if (output / row.label / "results.json").exists()]
    if (finished or (output / "table.csv").exists()) and not run.overwrite:
        raise ConfigError(
            f"output_dir {output}: already holds results ({', '.join(finished) or 'table.csv'}): add --overwrite to replace "
            "them, or choose another folder"
        )
    rows = []
    for row in classical.rows():
        row_run = run.with_values(output_dir=str(output / row.label), seed=row.seeds[0])
        record = RunRecord.from_settings((row, data_arguments, row_run), row_run)
        begin_run(row_run, record)
        rows.append((row, row_run, record))

    # Data
    data = prepare_data(data_arguments, run, extractor)
    stages.announce(run, data)

    # Fit, evaluate and save
    baselines, results = Baselines(data, extractor, classical), []
    for row, _, _ in rows:
        baselines.fitter.check(*row.pipeline)
    for row, row_run, record in rows:
        results.append(baselines.run(row, row_run, record))
        print(
            f"{row.label}: accuracy {results[-1].correct.mean():.4f} ({results[-1].train_seconds:.3g} s)", flush=True
        )

    # Table
    source, side = data.corpus.source, data.manifest.evaluation_side
    title = f"{source.card.name} ({source.location}), {side} side ({len(data.test)} tracks)"
    table = save_comparison(results, output, "table", label="dimensions (dashed lines: all features)", title=title)
    print(f"\n{title}\n\n{table}\n\nwritten: table.csv, table.png and a folder for each row in {output}")

    # Try the best pipeline
    best = max(range(len(rows)), key=lambda index: results[index].correct.mean())
    stages.try_out(rows[best][1], data)


if __name__ == "__main__":
    stages.run_recipe(main, "--overwrite restarts")
