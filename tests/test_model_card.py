"""The model card: what it says comes from the files of the run, and what is not known is left out."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from hfmgc.errors import SaveError
from hfmgc.evaluation.plots import TRAINING_CURVE
from hfmgc.hub.card import CardError, references, write_model_card
from hfmgc.settings import settings_from
from hfmgc.training.arguments import RECIPE_GROUPS
from hfmgc.training.run_folder import RunRecord


GENRES = ["blues", "hip|hop"]
RUN_FILES = {
    "config.json": {
        "architectures": ["HfmgcASTForAudioClassification"],
        "model_type": "hfmgc-ast",
        "id2label": {"1": "hip|hop", "0": "blues"},
        "voting": "mean",
        "auto_map": {"AutoConfig": "configuration_ast.HfmgcASTConfig"},
    },
    "preprocessor_config.json": {"sampling_rate": 16000, "window_policy": "even", "max_windows": 12},
    "results.json": {
        "hfmgc_version": "0.1.0",
        "checkpoint": None,
        "data": {
            "name": "gtzan",
            "licence": "unstated by its authors",
            "citation": "Tzanetakis and Cook,\n2002",
            "revision": "4bd857132c",
            "location": "somebody/gtzan",
            "synthetic": False,
        },
        "side": "test",
        "tracks": 100,
        "windows": 1300,
        "genres": GENRES,
        "metrics": {
            "accuracy": 0.81,
            "accuracy_interval": [0.73, 0.88],
            "interval_method": "percentile bootstrap over tracks, 10,000 resamples, seed 0",
            "macro_precision": 0.0,
            "macro_recall": 0.82,
            "macro_f1": 0.805,
            "ovr_accuracy": 0.96,
            "window_accuracy": 0.75,
        },
        "per_genre": [
            {"genre": "hip|hop", "tracks": 50, "precision": 0.8, "recall": 0.9, "f1": None, "ovr_accuracy": 0.97}
        ],
        "confusion_matrix": [[40, 10], [9, 41]],
        "notes": ["2 tracks are shorter than a window"],
        "skipped": [{"track_id": "jazz.00054", "reason": "not decodable"}],
        "validation": {"accuracy": 0.9},
    },
    "split.json": {
        "dataset": "gtzan",
        "revision": "4bd857132c",
        "policy": "stratified",
        "ratios": [8, 1, 1],
        "seed": 7,
        "comparable_note": None,
        "sides": {"train": ["a", "b", "c"], "validation": ["d"], "test": ["e", "f"]},
        "digest": "sha256:abcdef",
    },
    "run.yaml": {
        "command": "python train.py ast.yaml --seed 42",
        "seed": 42,
        "settings": {
            "training": {"learning_rate": 0.0001, "resume": None, "early_stopping": True, "hub_token": "hf_secret"}
        },
        "versions": {"torch": "2.13.0", "transformers": "5.23.0"},
        "model": {
            "parameters": 86345210,
            "trainable_parameters": 155810,
            "adapter": {"type": "lora", "r": 8},
            "backbone": "somebody/backbone",
        },
        "training": {"epochs": 3, "best_checkpoint": "/somewhere/out/checkpoint-30", "world_size": 2},
    },
}


def write_run(folder: Path, **changes: dict) -> Path:
    """Write the files of a run; `changes` replace keys of the file with that stem, None leaves a file out."""
    folder.mkdir(exist_ok=True)
    for name, content in RUN_FILES.items():
        change = changes.get(name.split(".")[0], {})
        if change is not None:
            content = {**content, **change}
            text = yaml.safe_dump(content, sort_keys=False) if name.endswith(".yaml") else json.dumps(content)
            (folder / name).write_text(text)
    return folder


def card_of(folder: Path, **options) -> str:
    return write_model_card(folder, **options).read_text(encoding="utf-8")


def test_the_card_says_what_the_files_of_the_run_say(tmp_path):
    folder = write_run(tmp_path / "out")
    card = card_of(folder, hub_model_id="tester/model", licence="cc-by-4.0")

    pattern = r"""# tester/model
.* one of 2\. Trained with hfmgc 0\.1\.0\.
> \*\*Not comparable with fault-filtered results\.\*\*
## Model
\| Architecture \| `HfmgcASTForAudioClassification` \|
\| Backbone .*\| `somebody/backbone` \|
\| Licence of the backbone \| not recorded.*\|
\| Parameters \| 86,345,210 \|
\| Trained parameters \| 155,810 \|
\| Adapter .*\| type: lora, r: 8 \|
\| Licence of this checkpoint \| cc-by-4.0 \|
## How to use
import hfmgc
classifier = pipeline\("music-genre-classification", model="tester/model"\)
trust_remote_code=True
up to 12 windows, evenly spaced .* at 16,000 Hz\. .* mean of the windows' probabilities
## Genres
blues, hip\\\|hop
## Training data
- Data: GTZAN
- Source: `somebody/gtzan`
- Revision: `4bd857132c`
- Licence: unstated by its authors
- Citation: Tzanetakis and Cook, 2002
## Split
- Policy: stratified
- Ratios: 8:1:1
- Seed: 7
- Tracks: 3 train, 1 validation, 2 test
- Digest: `sha256:abcdef`
## Results
On 100 tracks of the test side \(1,300 windows\)\.
\| Accuracy of tracks \| 81\.0 % \(95 % interval 73\.0 % to 88\.0 %\) \|
\| Accuracy of single windows \| 75\.0 % \|
\| Precision, macro \| 0\.0 % \|
\| Accuracy of tracks, validation side \| 90\.0 % \|
Interval: percentile bootstrap over tracks, 10,000 resamples, seed 0\.
- 2 tracks are shorter than a window
\| hip\\\|hop \| 50 \| 80\.0 % \| 90\.0 % \| not known \| 97\.0 % \|
\| \| blues \| hip\\\|hop \|
\|---\|---\|---\|
\| blues \| 40 \| 10 \|
\| hip\\\|hop \| 9 \| 41 \|
\| jazz\.00054 \| not decodable \|
- best checkpoint: checkpoint-30
- seed: 42
\| training\.learning_rate \| 0\.0001 \|
\| training\.early_stopping \| true \|
torch 2\.13\.0, transformers 5\.23\.0
## Reproduce
python train\.py ast\.yaml --seed 42
## Limits"""
    position = 0
    for line in pattern.splitlines():
        match = re.compile(line).search(card, position)
        assert match, f"{line!r} is not in the rest of the card:\n{card[position:]}"
        position = match.end()
    assert "None" not in card
    assert "/somewhere" not in card
    assert "hf_secret" not in card


def test_the_model_index_parses_back(tmp_path):
    data = ModelCard.load(
        write_model_card(write_run(tmp_path / "out"), hub_model_id="tester/model", licence="mit")
    ).data

    assert data.model_name == "model"
    assert {(result.metric_name, result.metric_value) for result in data.eval_results} == {
        ("Accuracy (tracks)", 0.81),
        ("Precision (macro)", 0.0),
        ("Recall (macro)", 0.82),
        ("F1 (macro)", 0.805),
    }
    first = data.eval_results[0]
    assert (first.dataset_type, first.dataset_split, first.dataset_revision) == (
        "somebody/gtzan",
        "test",
        "4bd857132c",
    )
    assert first.dataset_args == {"policy": "stratified", "seed": 7, "digest": "sha256:abcdef"}
    assert (data.license, data.base_model, data.datasets) == ("mit", "somebody/backbone", ["somebody/gtzan"])
    assert data.pipeline_tag == "audio-classification"
    assert {"hfmgc", "peft"} <= set(data.tags)


def test_an_incomplete_published_split_is_said_in_split_results_and_model_index(tmp_path):
    incomplete = "incomplete: 4 of 290 test tracks of the fault-filtered lists"
    folder = write_run(
        tmp_path / "out",
        split={"policy": "fault_filtered", "incomplete": incomplete},
        results={"notes": [incomplete]},
    )
    card = card_of(folder)
    assert f"- Policy: fault_filtered, {incomplete}\n" in card
    assert f"- {incomplete}\n" in card
    for result in ModelCard.load(folder / "README.md").data.eval_results:
        assert result.dataset_args["incomplete"] == incomplete


def test_warnings_appear_where_they_belong_and_nowhere_else(tmp_path):
    random_split, synthetic, optimistic = (
        "Not comparable with fault-filtered",
        "Synthetic data.",
        "also chose the checkpoint",
    )
    filtered = card_of(write_run(tmp_path / "filtered", split={"policy": "fault_filtered"}))
    other = write_run(tmp_path / "other", split={"dataset": "fma"}, results={"data": {"name": "fma"}})
    made = write_run(
        tmp_path / "made",
        split={"dataset": "synthetic"},
        results={"data": {"name": "synthetic", "synthetic": True}, "side": "validation"},
    )

    assert random_split not in filtered
    assert random_split not in card_of(other)
    assert synthetic not in card_of(other)
    assert optimistic not in card_of(other)
    assert random_split not in card_of(made)
    assert synthetic in card_of(made)
    assert optimistic in card_of(made)
    assert "not trained on real music" in card_of(made)
    assert "synthetic-data" in ModelCard.load(made / "README.md").data.tags


def test_a_local_backbone_or_corpus_does_not_show_where_it_lay(tmp_path):
    (tmp_path / "corpus").mkdir()
    data = {"name": "folder", "location": str(tmp_path / "corpus")}
    folder = write_run(
        tmp_path / "out",
        results={"data": data},
        run={"model": {"backbone": f"{tmp_path}/my-backbone"}, "training": None},
    )
    card = card_of(folder)
    assert str(tmp_path) not in card
    assert "`my-backbone`" in card
    assert ModelCard.load(folder / "README.md").data.base_model is None


@pytest.mark.parametrize(
    "label",
    [
        *(
            "a|b",
            "`code`",
            "*star*",
            "_under_",
            "snake_case",
            "[text](http://host)",
            "![picture](x.png)",
            "<b>bold</b>",
        ),
        *(
            "<script>alert(1)</script>",
            "R&B",
            "&amp;",
            "# head",
            "- item",
            "1. item",
            "~~gone~~",
            "$x$",
            "back\\slash",
            "---",
        ),
        *("key: value", "{{ 1 }}", "line\nbreak\r\nand more"),
    ],
)
def test_labels_and_ids_are_text_and_no_markup(tmp_path, label):
    genres = [label, "pop"]
    row = {"tracks": 50, "precision": 0.8, "recall": 0.9, "f1": None, "ovr_accuracy": 0.97}
    folder = write_run(
        tmp_path / "out",
        config={"id2label": {"0": label, "1": "pop"}},
        results={
            "genres": genres,
            "per_genre": [{"genre": genre, **row} for genre in genres],
            "skipped": [{"track_id": label, "reason": label}],
            "notes": [label],
        },
        run={"settings": {"DataArguments": {"data": label}}},
    )
    (folder / "confusion_matrix.png").unlink(missing_ok=True)
    card = card_of(folder)
    assert ModelCard(card).data.library_name == "transformers"
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    texts, kinds = [], set()
    for token in parser.parse(ModelCard(card).text):
        if token.type == "inline":
            kinds |= {child.type for child in token.children}
            plain = "".join(child.content for child in token.children if child.type in ("text", "text_special"))
            texts.append((token.level, plain))
    seen = " ".join(label.split())
    assert [text for _, text in texts].count(seen) >= 5  # by genre, matrix twice, skipped twice, note, setting
    assert f"{seen}, pop" in [text for _, text in texts]
    assert not kinds & {"html_inline", "image", "s_open", "em_open"}
    assert "html_block" not in {token.type for token in parser.parse(ModelCard(card).text)}
    assert "http://host" not in [
        child.attrGet("href")
        for token in parser.parse(ModelCard(card).text)
        for child in token.children or ()
        if child.type == "link_open"
    ]


def test_the_picture_takes_the_place_of_the_matrix(tmp_path):
    folder = write_run(tmp_path / "out")
    (folder / "confusion_matrix.png").write_bytes(b"picture")
    card = card_of(folder)
    assert "](confusion_matrix.png)" in card
    assert "| blues | 40 | 10 |" not in card


@pytest.mark.parametrize("value", ["left out", None])
@pytest.mark.parametrize(
    ("name", "key"), [(name, key) for name, content in RUN_FILES.items() for key in [*content, "the file"]]
)
def test_what_is_not_known_is_left_out(tmp_path, name, key, value):
    folder = write_run(tmp_path / "out")
    if key == "the file":
        if name in ("config.json", "results.json"):
            return
        (folder / name).unlink()
    else:
        content = {**RUN_FILES[name], key: None}
        if value == "left out":
            del content[key]
        (folder / name).write_text(
            yaml.safe_dump(content, sort_keys=False) if name.endswith(".yaml") else json.dumps(content)
        )

    card = card_of(folder)

    assert "None" not in card
    assert "## Limits" in card
    assert re.search(r"^## [^\n]*\n+(?=## |\Z)", card, re.MULTILINE) is None, "a section without content"
    ModelCard.load(folder / "README.md")


def test_a_run_that_says_almost_nothing_has_a_card(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "results.json").write_text('{"metrics": {"accuracy": NaN}}')
    card = card_of(tmp_path)
    assert re.findall("^## .*", card, re.MULTILINE) == ["## Model", "## How to use", "## Results", "## Limits"]
    assert "| Accuracy of tracks | not known |" in card
    assert "model-index" not in card


@pytest.mark.parametrize("name", ["config.json", "results.json"])
def test_a_card_without_what_it_is_written_from_is_an_error(tmp_path, name):
    folder = write_run(tmp_path / "out")
    (folder / name).unlink()
    with pytest.raises(CardError, match=f"{name}: missing"):
        write_model_card(folder)
    (folder / name).write_text("{broken")
    with pytest.raises(CardError, match=f"{name}: cannot be read"):
        write_model_card(folder)
    (folder / name).write_text("[]")
    with pytest.raises(CardError, match=f"{name}: .* not a list"):
        write_model_card(folder)
    assert not (folder / "README.md").exists()


def test_a_card_that_cannot_be_written_is_an_error(tmp_path):
    folder = write_run(tmp_path / "out")
    (folder / "README.md").mkdir()
    with pytest.raises(SaveError, match=r"README\.md"):
        write_model_card(folder)


def test_a_genre_without_tracks_has_no_figures(tmp_path):
    row = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "ovr_accuracy": 0.9}
    folder = write_run(tmp_path / "out", results={"per_genre": [{"genre": "polka", "tracks": 0, **row}]})
    assert "| polka | 0 | n/a | n/a | n/a | n/a |" in card_of(folder)


def test_only_settings_that_differ_from_their_defaults_are_listed(tmp_path):
    settings = {"RunArguments": {"learning_rate": 0.1, "seed": 42, "save_total_limit": None, "hub_token": "hf_secret"}}
    changed = {"RunArguments": ["learning_rate", "save_total_limit", "hub_token"]}
    card = card_of(write_run(tmp_path / "out", run={"settings": settings, "changed_settings": changed}))
    assert re.findall(r"\| RunArguments\.(.*) \|", card) == ["learning_rate | 0.1", "save_total_limit | none"]
    assert "hf_secret" not in card


def test_what_a_run_did_not_change_is_not_among_its_changed_settings(tmp_path):
    values = {"output_dir": str(tmp_path), "learning_rate": 0.1, "adapter": "none", "front_end": {"max_windows": 3}}
    groups = settings_from({**values, "use_cpu": True}, RECIPE_GROUPS, where="test")
    assert RunRecord.from_settings(groups, groups[2]).changed == {
        "ModelArguments": ["front_end"],
        "DataArguments": [],
        "RunArguments": ["learning_rate", "use_cpu"],
    }


def test_a_licence_that_nobody_set_is_said_to_be_missing(tmp_path):
    folder = write_run(tmp_path / "out")
    assert "| Licence of this checkpoint | not stated" in card_of(folder)
    assert ModelCard.load(folder / "README.md").data.license is None


def test_the_training_curve_is_shown_where_there_is_one(tmp_path):
    folder = write_run(tmp_path / "out")
    assert "training_curve.png" not in card_of(folder)
    (folder / TRAINING_CURVE).write_bytes(b"picture")
    assert "](training_curve.png)" in card_of(folder)


def test_papers_of_architecture_backbone_and_data_are_cited(tmp_path):
    card = card_of(write_run(tmp_path / "out"))
    assert re.findall(r"^@\w+\{(\w+),$", card, re.MULTILINE) == ["gong2021ast", "astreport2024", "tzanetakis2002"]
    assert "keywords" not in card
    unknown = write_run(tmp_path / "unknown", config={"model_type": "other"}, results={"data": {"name": "folder"}})
    assert "bibtex" not in card_of(unknown)
    assert references("MIT/ast-finetuned-audioset-10-10-0.4593").count("@") == 1


def test_the_cards_in_the_repository_link_only_files_that_exist():
    cards = sorted((Path(__file__).parents[1] / "model_cards").glob("*.md"))
    assert cards
    for card in cards:
        for link in re.findall(r"\]\(([^)]*)\)", card.read_text(encoding="utf-8")):
            assert (card.parent / link).is_file(), f"{card}: {link}"
