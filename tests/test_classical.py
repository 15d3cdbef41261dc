"""recipes/classical_baselines.py: pipelines of scikit-learn, from their command to the folders that other commands accept."""

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io
import stand_ins
import yaml
from conftest import write_music
from recipe_parameters import CLASSICAL_CONFIGS, FILES
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

import hfmgc
from hfmgc.data.sources.fma import SMALL_GENRES
from hfmgc.errors import CheckpointError, DataError
from hfmgc.evaluation.checkpoints import PIPELINE_FILE, load_checkpoint
from hfmgc.evaluation.classical import LEAST_LOGIT, TRUSTED_TYPES, ClassicalConfig, log_probabilities
from hfmgc.evaluation.evaluate import evaluate_checkpoint
from hfmgc.features.handmade_features import column_names, columns
from hfmgc.hub.push import files_to_push
from hfmgc.settings import read_settings
from hfmgc.training.arguments import DataArguments, RunArguments
from hfmgc.training.classical import CLASSICAL_SETTINGS, PIPELINES, REDUCING, ClassicalArguments, PipelineFitter
from recipes import FRONT_END, ROOT, hfmgc_here, run_here, write_config


CLASSICAL_BASELINES = ROOT / "recipes" / "classical_baselines.py"
GENRES = ("blues", "metal", "pop")
COLUMNS = 12


def vectors(tracks: int, *, genres: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors [tracks, 12] whose last three columns depend on the genre, and the genres."""
    generator = np.random.default_rng(seed)
    targets = np.arange(tracks) % genres
    values = generator.standard_normal((tracks, COLUMNS)) * np.linspace(1, 1000, COLUMNS)
    values[:, -3:] = np.eye(3)[targets] + 0.3 * generator.standard_normal((tracks, 3))
    return values.astype(np.float32), targets


def write_table(path: Path, *, tracks: int = 48, names: list[str] | None = None, broken: int | None = None) -> Path:
    values, targets = vectors(tracks)
    names = names or [f"feature {index}" for index in range(COLUMNS)]
    rows = [[f"track {row}", GENRES[target], *values[row].tolist()] for row, target in enumerate(targets)]
    if broken is not None:
        rows[broken][5] = "nan"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["track_id", "genre", *names], *rows])
    return path


def settings_of(data: Path, output: Path, **more) -> dict:
    is_table = data.suffix == ".csv"
    return {
        "pipelines": list(PIPELINES),
        "dimensions": [2, 3],
        "seeds": [0, 1],
        "data": "table" if is_table else str(data),
        "data_options": {"file": str(data)} if is_table else {},
        "split_ratios": "2:1:1",
        "output_dir": str(output),
        "use_cpu": True,
        **more,
    }


def compared(tmp_path: Path, settings: dict) -> str:
    result = run_here(CLASSICAL_BASELINES, write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def error_of(tmp_path: Path, settings: dict) -> str:
    result = run_here(CLASSICAL_BASELINES, write_config(tmp_path / "run.yaml", settings))
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    return write_table(tmp_path_factory.mktemp("data") / "features.csv")


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory) -> tuple[Path, str]:
    """The folder of all pipelines on a table, and what the command printed."""
    folder = tmp_path_factory.mktemp("runs")
    return folder / "out", compared(folder, settings_of(table, folder / "out"))


def test_one_command_prints_and_saves_the_whole_table(finished):
    folder, printed = finished
    rows = list(csv.DictReader((folder / "table.csv").open()))
    expected = [(name, size) for name in REDUCING for size in ("2", "3")]
    expected += [(name, "") for name in PIPELINES if name not in REDUCING]
    assert sorted((row["pipeline"], row["dimensions"]) for row in rows) == sorted(expected)
    for row in rows:
        by_seed = [float(one) for one in row["accuracy_by_seed"].split()]
        assert len(by_seed) == (2 if row["pipeline"] in REDUCING else 1)
        assert float(row["accuracy"]) == pytest.approx(np.mean(by_seed), abs=1e-3)
        assert float(row["low"]) <= float(row["accuracy"]) <= float(row["high"])
        assert float(row["train_seconds"]) >= 0 and float(row["predict_seconds"]) >= 0
        assert f"{float(row['accuracy']):.4f}" in printed
    assert (folder / "table.png").read_bytes().startswith(b"\x89PNG")
    best = next(row for row in rows if (row["pipeline"], row["dimensions"]) == ("forest_svm", "3"))
    assert float(best["accuracy"]) > 0.9


@pytest.mark.parametrize("name", [*(f"{name}_3" for name in REDUCING), "svm", "naive_bayes", "knn"])
def test_each_row_ends_with_the_folder_of_any_run(finished, table, name):
    folder = finished[0] / name
    results = json.loads((folder / "results.json").read_text())
    assert results["side"] == "test"
    split = json.loads((folder / "split.json").read_text())
    assert len(split["sides"]["test"]) == results["tracks"]
    assert yaml.safe_load((folder / "run.yaml").read_text())["training"]["pipeline"] == results_pipeline(name)
    assert "pipeline.skops" in (folder / "README.md").read_text()
    assert {PIPELINE_FILE, "README.md", "confusion_matrix.png"} <= set(files_to_push(folder))
    assert (folder / "importances.png").exists() == name.startswith("forest")
    report = evaluate_checkpoint(str(folder), "table", data_options={"file": str(table)})
    evaluated = {row["track_id"]: row for row in report.predictions}
    assert set(evaluated) == set(split["sides"]["test"])
    for row in results["predictions"]:
        assert row["predicted"] == evaluated[row["track_id"]]["predicted"]
        assert row["probability"] == pytest.approx(evaluated[row["track_id"]]["probability"], abs=1e-5)


def results_pipeline(name: str) -> str:
    return name.rsplit("_", 1)[0] if name[-1].isdigit() else name


def test_the_scaler_is_fitted_on_the_training_side_only(finished, table):
    model, _ = load_checkpoint(str(finished[0] / "svm"))
    ids = json.loads((finished[0] / "svm" / "split.json").read_text())["sides"]["train"]
    rows = [int(track_id.removeprefix("track ")) for track_id in ids]
    np.testing.assert_allclose(model.pipeline[0].mean_, vectors(48)[0][rows].mean(axis=0), rtol=1e-4)


def test_the_forest_keeps_the_features_that_tell_the_genres_apart(finished):
    config = json.loads((finished[0] / "forest_svm_3" / "config.json").read_text())
    assert sorted(config["columns"]) == [9, 10, 11]
    assert [config["feature_names"][index] for index in sorted(config["columns"])] == [
        "feature 9",
        "feature 10",
        "feature 11",
    ]


def test_a_table_with_other_columns_is_refused(finished, tmp_path, capsys):
    names = [f"other {index}" for index in range(COLUMNS)]
    other = write_table(tmp_path / "other.csv", names=names)
    with pytest.raises(DataError, match=r"other\.csv.*columns"):
        evaluate_checkpoint(str(finished[0] / "svm"), "table", data_options={"file": str(other)})


def test_a_song_is_not_compared_with_the_rows_of_a_table(finished, table, tmp_path):
    options = ["--data_options", json.dumps({"file": str(table)}), "--checkpoint", finished[0] / "svm"]
    result = hfmgc_here("embed", "table", tmp_path / "rows.parquet", *options)
    assert result.returncode == 0, result.stderr
    song = next(write_music(tmp_path / "music", ["pop"], tracks=1, seconds=1.0).rglob("*.wav"))
    result = hfmgc_here("similar", song, tmp_path / "rows.parquet")
    assert result.returncode == 1 and "hfmgc evaluate" in result.stderr


def test_copies_beside_the_tracks_of_the_split_do_not_count_twice(finished, table, tmp_path):
    folder, frame = finished[0] / "svm", pd.read_csv(table)
    results = json.loads((folder / "results.json").read_text())
    test = json.loads((folder / "split.json").read_text())["sides"]["test"]
    frame = pd.concat([frame[frame["track_id"] == test[0]].assign(track_id="a copy"), frame])
    frame.to_csv(tmp_path / "copied.csv", index=False)
    report = evaluate_checkpoint(str(folder), "table", data_options={"file": str(tmp_path / "copied.csv")})
    assert {row["track_id"] for row in report.predictions} == set(test)
    assert report.to_dict()["tracks"] == results["tracks"]


def test_rows_of_other_values_may_be_training_tracks_and_the_report_says_so(finished, table, tmp_path):
    frame = pd.read_csv(table)
    frame["feature 0"] += 0.01
    frame.to_csv(tmp_path / "rounded.csv", index=False)
    report = evaluate_checkpoint(
        str(finished[0] / "svm"), "table", data_options={"file": str(tmp_path / "rounded.csv")}
    )
    assert report.side == "all"
    assert any("equal values" in note for note in report.notes)
    report = evaluate_checkpoint(str(finished[0] / "svm"), "table", data_options={"file": str(table)})
    assert not any("equal values" in note for note in report.notes)


def test_an_existing_table_is_replaced_only_when_asked(finished, table, tmp_path):
    settings = settings_of(table, finished[0], pipelines=["svm"])
    assert "--overwrite" in error_of(tmp_path, settings)


def test_tracks_with_nan_are_skipped_and_reported(tmp_path):
    table = write_table(tmp_path / "features.csv", broken=7)
    compared(tmp_path, settings_of(table, tmp_path / "out", pipelines=["naive_bayes"]))
    (skipped,) = json.loads((tmp_path / "out" / "naive_bayes" / "results.json").read_text())["skipped"]
    assert skipped["track_id"] == "track 7"
    assert "feature 3" in skipped["reason"]


def test_spectrogram_statistics_of_audio_and_of_stored_features_agree(tmp_path):
    music = write_music(tmp_path / "music", GENRES, tracks=8, seconds=1.0)
    front_end = {"representation": "mel", **FRONT_END}
    options = {"front_end": front_end, "shortest_seconds": 0.0, "pipelines": ["svm", "naive_bayes"]}
    printed = compared(tmp_path, settings_of(music, tmp_path / "audio", **options))
    assert "prediction for" in printed
    extracted = tmp_path / "features"
    result = hfmgc_here("extract", music, extracted, "--front_end", json.dumps(front_end), "--shortest_seconds", "0")
    assert result.returncode == 0, result.stderr
    compared(tmp_path, settings_of(extracted, tmp_path / "stored", **options))
    for name in options["pipelines"]:
        one, other = (
            {row["track_id"]: row for row in json.loads((folder / name / "results.json").read_text())["predictions"]}
            for folder in (tmp_path / "audio", tmp_path / "stored")
        )
        assert one.keys() == other.keys()
        assert all(row["predicted"] == other[track_id]["predicted"] for track_id, row in one.items())
    run = tmp_path / "audio" / "svm"
    config = json.loads((run / "config.json").read_text())
    assert config["summary"] == "mean_deviation"
    assert len(config["feature_names"]) == 2 * FRONT_END["num_bins"]
    song = next(music.rglob("pop.000.wav"))
    answers = hfmgc.TrackClassifier(run).classify_file(song)
    result = hfmgc_here("predict", run, song, "--json")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)["predictions"].values()
    assert row["genre"] == answers[0]["label"] == "pop"
    assert row["genres"][0]["score"] == pytest.approx(answers[0]["score"], abs=1e-5)
    result = hfmgc_here("embed", music, tmp_path / "e.parquet", "--checkpoint", run)
    assert f"{2 * FRONT_END['num_bins']} values" in result.stdout, result.stderr


def test_table_ii_is_one_command(tmp_path, monkeypatch):
    sides = ["training"] * 3 + ["validation", "test"]
    tracks = [
        (100 * (index + 1) + number, side, "small", genre, [10], 100 * index + number)
        for index, genre in enumerate(SMALL_GENRES)
        for number, side in enumerate(sides)
    ]
    monkeypatch.setattr(stand_ins, "FMA_TRACKS", tracks)
    metadata = stand_ins.write_fma_metadata(tmp_path / "fma_metadata")
    values = np.random.default_rng(0).standard_normal((len(tracks), len(columns())))
    values[np.arange(len(tracks)), np.arange(len(tracks)) // len(sides)] += 20
    header = pd.MultiIndex.from_tuples(columns(), names=("feature", "statistics", "number"))
    numbers = pd.Index([number for number, *_ in tracks], name="track_id")
    pd.DataFrame(values, index=numbers, columns=header).to_csv(metadata / "features.csv")
    options = ["--data_options", json.dumps({"file": str(metadata), "subset": "small"})]
    options += ["--dimensions", "[8, 518]", "--seeds", "[0]", "--use_cpu", "--output_dir", str(tmp_path / "out")]
    result = run_here(CLASSICAL_BASELINES, *options)
    assert result.returncode == 1 and "svd_svm: 518" in result.stderr  # 24 training tracks
    options[3] = "[8, 24]"
    result = run_here(CLASSICAL_BASELINES, *options, "--overwrite")
    assert result.returncode == 0, result.stderr[-3000:]
    rows = list(csv.DictReader((tmp_path / "out" / "table.csv").open()))
    assert [(row["pipeline"], row["dimensions"]) for row in rows] == [
        (name, size) for name in ("forest_svm", "svd_svm") for size in ("8", "24")
    ]
    assert {row["tracks"] for row in rows} == {"8"}
    config = json.loads((tmp_path / "out" / "svd_svm_8" / "config.json").read_text())
    assert config["feature_names"] == column_names()
    extractor = load_checkpoint(str(tmp_path / "out" / "svd_svm_8"))[1]
    assert (extractor.layout, extractor.sampling_rate) == ("fma_518", 44100)


def test_pipelines_are_those_of_scikit_learn():
    values, targets = vectors(60)
    held_out, _ = vectors(30, seed=1)
    fitter = PipelineFitter(values, targets)
    svd = make_pipeline(StandardScaler(), TruncatedSVD(3, random_state=5), SVC()).fit(values, targets)
    np.testing.assert_array_equal(fitter.fit("svd_svm", 3, 5).pipeline.predict(held_out), svd.predict(held_out))
    bayes = make_pipeline(StandardScaler(), GaussianNB()).fit(values, targets)
    fitted = fitter.fit("naive_bayes").pipeline
    np.testing.assert_allclose(
        np.exp(log_probabilities(fitted, held_out, 3)), bayes.predict_proba(held_out), atol=1e-6
    )
    svm = make_pipeline(StandardScaler(), SVC(C=10, gamma=0.01)).fit(values, targets)
    fitted = PipelineFitter(values, targets, strength=10.0, gamma=0.01).fit("svm").pipeline
    scores = [one.decision_function(held_out) for one in (fitted, svm, fitter.fit("svm").pipeline)]
    np.testing.assert_allclose(scores[0], scores[1])
    assert abs(scores[0] - scores[2]).max() > 0.01
    best = SelectFromModel(RandomForestClassifier(random_state=5), max_features=4, threshold=-np.inf)
    chosen = best.fit(values, targets).get_support(indices=True)
    assert sorted(fitter.fit("forest_svm", 4, 5).columns) == chosen.tolist()


@pytest.mark.parametrize("name", PIPELINES)
def test_logits_rank_as_predict_and_absent_genres_are_last(name):
    values, targets = vectors(60, genres=3)
    fitted = PipelineFitter(values, targets + 1).fit(name, 6 if name in REDUCING else None)
    read = values if fitted.columns is None else values[:, fitted.columns]
    logits = log_probabilities(fitted.pipeline, read, 5)
    np.testing.assert_array_equal(logits.argmax(axis=1), fitted.pipeline.predict(read))
    assert (logits[:, [0, 4]] == LEAST_LOGIT).all()
    assert np.isfinite(logits).all()


def test_a_saved_config_has_no_code(tmp_path):
    """It needs hfmgc, unlike the configs of the other architectures."""
    ClassicalConfig().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_two_genres_have_one_decision_value():
    values, targets = vectors(40, genres=2)
    fitted = PipelineFitter(values, targets).fit("svm").pipeline
    np.testing.assert_array_equal(log_probabilities(fitted, values, 2).argmax(axis=1), fitted.predict(values))


def test_a_genre_without_training_tracks_is_noted(tmp_path):
    values, _ = vectors(24)
    path = tmp_path / "features.csv"
    sides = ["train", "validation", "test"] * 8
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["genre", "split", *(f"feature {index}" for index in range(COLUMNS))])
        for row, side in enumerate(sides):
            genre = "pop" if side != "train" and row > 18 else GENRES[row // 3 % 2]
            writer.writerow([genre, side, *values[row]])
    compared(tmp_path, settings_of(path, tmp_path / "out", pipelines=["svm"], split_policy="official"))
    results = json.loads((tmp_path / "out" / "svm" / "results.json").read_text())
    assert any("pop" in note for note in results["notes"])
    assert "pop" not in {row["predicted"] for row in results["predictions"]}


def test_too_few_tracks_or_features_for_the_dimensions_are_refused(table, tmp_path):
    values, targets = vectors(4)
    with pytest.raises(DataError, match="svd_svm: 6"):
        PipelineFitter(values, targets).check("svd_svm", 6)
    with pytest.raises(DataError, match="knn: 5"):
        PipelineFitter(values, targets).check("knn")
    with pytest.raises(DataError, match="one genre"):
        PipelineFitter(values, np.zeros(4, int))
    assert "dimensions: 13" in error_of(tmp_path, settings_of(table, tmp_path / "out", dimensions=[2, 13]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pipelines", ["svn"]),
        ("pipelines", []),
        ("dimensions", []),
        ("dimensions", [0]),
        ("seeds", []),
        ("learning_rate", 0.1),
        ("mixup_alpha", 0.1),
        ("augmentation", "offline"),
        ("front_end", {"layout": "fma_519"}),
        ("front_end", {"layout": "gtzan_57"}),
    ],
)
def test_settings_that_do_not_fit_are_refused(table, tmp_path, field, value):
    assert field.removeprefix("front_") in error_of(tmp_path, settings_of(table, tmp_path / "out", **{field: value}))


def test_files_with_untrusted_types_are_refused_by_name(finished, tmp_path):
    folder = copied(finished[0] / "svm", tmp_path)
    values, targets = vectors(30)
    evil = make_pipeline(FunctionTransformer(np.abs), SVC()).fit(values, targets)
    skops.io.dump(evil, folder / PIPELINE_FILE)
    with pytest.raises(CheckpointError, match=r"FunctionTransformer"):
        load_checkpoint(str(folder))
    result = hfmgc_here("predict", folder, tmp_path / "song.wav")
    assert result.returncode == 1
    assert PIPELINE_FILE in result.stderr


@pytest.mark.parametrize(("name", "loader"), [(None, "ReduceNode"), ("numpy.ndarray", "ObjectNode")])
def test_trusted_types_cannot_be_reached_by_another_loader(finished, tmp_path, name, loader):
    folder = copied(finished[0] / "svm", tmp_path)
    with zipfile.ZipFile(finished[0] / "svm" / PIPELINE_FILE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members["schema.json"])
    schema["__loader__"] = loader
    if name:
        schema["__module__"], schema["__class__"] = name.split(".")
    members["schema.json"] = json.dumps(schema).encode()
    with zipfile.ZipFile(folder / PIPELINE_FILE, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=loader):
        load_checkpoint(str(folder))


def test_only_types_of_python_numpy_and_scikit_learn_are_trusted():
    assert {name.split(".")[0] for name in TRUSTED_TYPES} == {"builtins", "numpy", "sklearn"}
    assert not {"builtins.eval", "builtins.exec", "builtins.getattr", "numpy.load"} & TRUSTED_TYPES


@pytest.mark.parametrize(
    "damage", ["missing", "cut", "no zip", "other features", "other step", "layout", "columns", "negative columns"]
)
def test_damaged_files_are_refused(finished, tmp_path, damage):
    folder = copied(finished[0] / "svm", tmp_path)
    path = folder / PIPELINE_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "no zip":
        path.write_text("pickle")
    elif damage in ("layout", "columns", "negative columns"):
        file = folder / ("preprocessor_config.json" if damage == "layout" else "config.json")
        content = json.loads(file.read_text())
        content["columns"] = {
            "layout": [f"other {index}" for index in range(COLUMNS)],
            "columns": [0, COLUMNS],
            "negative columns": list(range(-COLUMNS, 0)),
        }[damage]
        file.write_text(json.dumps(content))
    else:
        other = make_pipeline(StandardScaler(), SVC()).fit(vectors(9)[0][:, :4], vectors(9)[1])
        if damage == "other step":
            other.steps[0] = skops.io.load(path, trusted=[]).steps[0]
        skops.io.dump(other, path)
    with pytest.raises(CheckpointError, match=PIPELINE_FILE.replace(".", r"\.")):
        load_checkpoint(str(folder))


def copied(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (copy / name).write_bytes((folder / name).read_bytes())
    (copy / PIPELINE_FILE).write_bytes((folder / PIPELINE_FILE).read_bytes())
    return copy


@pytest.mark.parametrize("name", CLASSICAL_CONFIGS)
def test_the_configs_are_valid(name):
    groups = (ClassicalArguments, DataArguments, RunArguments)
    classical, data, run = read_settings([str(FILES[name])], groups, defaults=CLASSICAL_SETTINGS)
    assert len({row.label for row in classical.rows()}) == len(classical.rows())
    assert data.augmentation == "none"
    assert run.output_dir
