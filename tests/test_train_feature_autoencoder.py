"""recipes/train_feature_autoencoder.py: the table, its picture and run folders; a finished run is used, evaluated and resumed."""

import csv
import json

import numpy as np
import pytest

from hfmgc.cli import main
from hfmgc.errors import CheckpointError
from hfmgc.evaluation.checkpoints import load_checkpoint
from hfmgc.inference.predict import TrackClassifier
from recipes import ROOT, run_here, write_config


RECIPE = ROOT / "recipes" / "train_feature_autoencoder.py"


def write_table(path, *, tracks: int = 24, columns: int = 5):
    generator = np.random.default_rng(0)
    genres = np.array(["blues", "pop"] * (tracks // 2))
    values = 100 * generator.standard_normal((tracks, columns)) + 1000.0
    values[genres == "pop", :2] += 300.0
    np.savez(path, X=values.astype(np.float32), y=genres, columns=np.array([f"column {i}" for i in range(columns)]))
    return values


def settings(folder, table, **more) -> dict:
    return {
        "model_type": "hfmgc-feature-autoencoder",
        "model": {"num_features": 5},
        "front_end": {"layout": "table", "num_features": 5},
        "data": "table",
        "data_options": {"file": str(table)},
        "split_ratios": "2:1:1",
        "fit_statistics": "per_bin",
        "augmentation": "none",
        "output_dir": str(folder / "run"),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 11,  # 12 training tracks: the last batch has one
        "learning_rate": 0.01,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "metric_for_best_model": "accuracy",
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The output of the recipe, its folder, and the table that it was trained on."""
    folder = tmp_path_factory.mktemp("latent_sizes")
    values = write_table(folder / "table.npz")
    config = write_config(folder / "config.yaml", settings(folder, folder / "table.npz"))
    result = run_here(RECIPE, config, "--latent_sizes", "[10, null]", "--seeds", "[0, 1]")
    assert result.returncode == 0, result.stderr
    return result.stdout, folder, values


def test_one_command_prints_and_writes_the_table(finished):
    output, folder, _ = finished
    with (folder / "run" / "latent_sizes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["latent_size"] for row in rows] == ["10", "none"]
    for row, name in zip(rows, ("latent_10", "no_bottleneck"), strict=True):
        runs = [json.loads((folder / "run" / name / f"seed_{seed}" / "results.json").read_text()) for seed in (0, 1)]
        accuracies = [run["metrics"]["accuracy"] for run in runs]
        assert float(row["accuracy"]) == pytest.approx(np.mean(accuracies), abs=1e-3)
        assert [float(value) for value in row["accuracy_by_seed"].split()] == pytest.approx(accuracies, abs=1e-3)
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])
        assert runs[0]["split"]["digest"] == runs[1]["split"]["digest"]
        assert f"{float(row['accuracy']):.4f}" in output
        assert float(row["train_seconds"]) > 0
    assert (folder / "run" / "latent_sizes.png").stat().st_size > 5000
    weights = [load_checkpoint(str(folder / "run" / "latent_10" / f"seed_{seed}"))[0].state_dict() for seed in (0, 1)]
    assert not weights[0]["classifier.0.0.weight"].equal(weights[1]["classifier.0.0.weight"])


def test_the_scaler_of_the_training_side_is_in_every_checkpoint(finished):
    _, folder, values = finished
    for run in (folder / "run").glob("*/seed_*"):
        _, extractor = load_checkpoint(str(run))
        sides = json.loads((run / "split.json").read_text())["sides"]
        train = values[[int(track_id.removeprefix("row ")) - 1 for track_id in sides["train"]]]
        np.testing.assert_allclose(extractor.mean, train.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(extractor.std, train.std(axis=0), rtol=1e-4)
        assert extractor.column_names == [f"column {index}" for index in range(5)]


def test_a_finished_run_is_evaluated_on_its_table_and_on_no_other(finished, tmp_path, capsys):
    _, folder, _ = finished
    run = folder / "run" / "latent_10" / "seed_0"
    options = json.dumps({"file": str(folder / "table.npz")})
    arguments = ["--data", "table", "--data_options", options, "--output", str(tmp_path / "evaluation")]
    assert main(["evaluate", str(run), *arguments]) == 0, capsys.readouterr()
    expected = json.loads((run / "results.json").read_text())["metrics"]["accuracy"]
    found = json.loads((tmp_path / "evaluation" / "results.json").read_text())["metrics"]["accuracy"]
    assert found == expected
    write_table(tmp_path / "wider.npz", columns=6)
    other = ["--data", "table", "--data_options", json.dumps({"file": str(tmp_path / "wider.npz")})]
    capsys.readouterr()
    assert main(["evaluate", str(run), *other]) == 1
    assert "num_features 6, not 5" in capsys.readouterr().err


def test_the_same_command_trains_nothing_twice(finished):
    _, folder, _ = finished
    weights = folder / "run" / "latent_10" / "seed_0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    result = run_here(RECIPE, folder / "config.yaml", "--latent_sizes", "[10]", "--seeds", "[0]")
    assert result.returncode == 0, result.stderr
    assert weights.stat().st_mtime_ns == before
    assert "finished earlier" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--latent_sizes", "[]"], "latent_sizes"),
        (["--seeds", "[1, 1]"], "seeds"),
        (["--latent_sizes", "[30]"], "encoder_sizes"),
        (["--model_type", "hfmgc-lenet"], "model_type"),
        (["--front_end.layout", "gtzan_57"], "num_features"),
        (["--fit_statistics", "overall"], "per_bin"),
        (["--augmentation", "offline"], "augmentation"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(tmp_path, arguments, named):
    write_table(tmp_path / "table.npz")
    config = write_config(tmp_path / "config.yaml", settings(tmp_path, tmp_path / "table.npz"))
    result = run_here(RECIPE, config, *arguments)
    assert result.returncode == 1
    assert named in result.stderr
    assert "Traceback" not in result.stderr


def test_a_network_of_a_table_does_not_pretend_to_hear(finished, tmp_path):
    _, folder, _ = finished
    run = str(folder / "run" / "latent_10" / "seed_0")
    with pytest.raises(CheckpointError, match="audio"):
        TrackClassifier(run)
