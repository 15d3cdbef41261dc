"""Compare classical pipelines of scikit-learn on hand-made features or on statistics of spectrograms.

    python recipes/classical_baselines.py [CONFIG.yaml] [--field value ...]

One command fits every pipeline of the config, with each of its dimensions and seeds, and prints one table: accuracy on the
test side with its interval, and the times of training and prediction. The default config is Table II of the Divide and
Conquer paper, on FMA-medium with its official split:

    python recipes/classical_baselines.py --data_options.file fma_metadata.zip

`output_dir` then has the table as CSV and as a picture, and a folder for each row, which `hfmgc predict` and `hfmgc
evaluate` accept as that of any run. `--help` lists all fields.
"""

import sys
from pathlib import Path

from hfmgc.stopping import catch_signals


catch_signals(importing=True)  # the other imports take seconds

from hfmgc.errors import ConfigError
from hfmgc.evaluation.classical import ClassicalConfig, vector_names
from hfmgc.settings import read_settings
from hfmgc.training import stages
from hfmgc.training.arguments import DataArguments, RunArguments
from hfmgc.training.classical import (
    CLASSICAL_SETTINGS,
    TABLE,
    ClassicalArguments,
    PipelineFitter,
    Vectors,
    check_baselines,
    run_row,
    save_table,
    table_text,
)
from hfmgc.training.preparation import prepare_data
from hfmgc.training.run_folder import RunRecord, begin_run


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "divide_and_conquer" / "table2.yaml"


def main() -> None:
    """Read the settings and run all stages."""
    # Settings: checked here, unchanged from here on
    groups = (ClassicalArguments, DataArguments, RunArguments)
    classical, data_arguments, run = read_settings(sys.argv[1:], groups, DEFAULT_CONFIG, defaults=CLASSICAL_SETTINGS)
    extractor = check_baselines(classical, data_arguments, run)

    # Folders: one for the table, with one for each row
    output = Path(run.output_dir)
    finished = [row.label for row in classical.rows() if (output / row.label / "results.json").exists()]
    if (finished or (output / f"{TABLE}.csv").exists()) and not run.overwrite:
        raise ConfigError(
            f"output_dir {output} holds results ({', '.join(finished) or TABLE}): add --overwrite to replace them, or choose "
            "another folder"
        )
    rows = []
    for row in classical.rows():
        of_row = run.with_values(output_dir=str(output / row.label), seed=row.seeds[0])
        record = RunRecord.from_settings((row, data_arguments, of_row), of_row)
        begin_run(of_row, record)
        rows.append((row, of_row, record))

    # Data
    data = prepare_data(data_arguments, run, extractor)
    stages.announce(run, data)
    summary, names = vector_names(extractor)
    genres = data.corpus.genres
    config = ClassicalConfig(
        num_bins=extractor.window_shape[1],
        summary=summary,
        feature_names=names,
        id2label=dict(enumerate(genres)),
        label2id={genre: index for index, genre in enumerate(genres)},
    )
    train, held_out = (Vectors.from_tracks(side, config) for side in (data.train.windows.tracks, data.test))

    # Fit, evaluate and save
    fitter, results = PipelineFitter(train.values, train.targets.repeat(train.counts)), []
    for row, _, _ in rows:
        fitter.check(*row.pipeline)
    for row, of_row, record in rows:
        results.append(run_row(row, fitter, held_out, config, extractor, data, of_row, record))
        print(f"{row.label}: accuracy {results[-1].accuracy:.4f} ({results[-1].train_seconds:.3g} s)", flush=True)

    # Table
    side = data.manifest.evaluation_side
    title = (
        f"{data.corpus.source.card.name} ({data.corpus.source.location}), {side} side ({len(held_out.targets)} tracks)"
    )
    written = save_table(results, output, title=title)
    print(f"\n{title}\n\n{table_text(results)}\n")
    print(f"written: {', '.join(map(str, written))}; a folder for each row in {output}")

    # Try the best one
    best = max(range(len(rows)), key=lambda index: results[index].accuracy)
    stages.try_out(rows[best][1], data)


if __name__ == "__main__":
    stages.run_recipe(main, "--overwrite restarts")
