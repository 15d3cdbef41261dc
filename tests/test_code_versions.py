"""Cached computations know their code: changed values need a new version, and a new version is computed again."""

import ast
import importlib.metadata
import json
from pathlib import Path

import datasets
import pytest
from conftest import write_music
from golden_values import GOLDEN, RESULTS, differs

import hfmgc
from hfmgc.data import caching
from hfmgc.data.caching import COMPUTATIONS, Computation, cached_map, code_identity, table_fingerprint
from hfmgc.data.corpus import decode_corpus
from hfmgc.data.features import extract_features
from hfmgc.data.sources import open_source
from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
from hfmgc.training.examples import augment_offline


def test_every_computation_has_golden_values_of_its_version():
    golden = json.loads(GOLDEN.read_text())
    assert RESULTS.keys() == golden.keys() == COMPUTATIONS.keys()
    versions = {name: computation.version for name, computation in COMPUTATIONS.items()}
    assert {name: entry["version"] for name, entry in golden.items()} == versions, "run python tests/golden_values.py"


@pytest.mark.parametrize("name", RESULTS)
def test_a_change_of_values_needs_a_new_version(name):
    golden = json.loads(GOLDEN.read_text())[name]["results"]
    results = RESULTS[name]()
    changed = [
        key for key in results.keys() | golden.keys() if key not in results or differs(results[key], golden[key])
    ]
    assert not changed, (
        f"{name} gives other values: raise its version in hfmgc/data/caching.py, so that caches made before are not "
        "used, and run python tests/golden_values.py"
    )


def test_golden_values_notice_a_change_of_one_per_cent_and_of_a_shape():
    result = RESULTS["decoding"]()["WAV"]
    golden = json.loads(GOLDEN.read_text())["decoding"]["results"]["WAV"]
    assert not differs(result * 1.001, golden)
    assert differs(result * 1.03, golden)
    assert differs(result[:-1], golden)


def test_nothing_is_cached_without_the_identity_of_its_code():
    """`datasets.Dataset.map` is called by `cached_map`, and where nothing is cached: by extraction."""
    package = Path(hfmgc.__file__).parent
    for path in package.rglob("*.py"):
        for call in (
            node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
        ):
            if (
                isinstance(call.func, ast.Attribute)
                and call.func.attr == "map"
                and any(keyword.arg in ("desc", "remove_columns", "fn_kwargs") for keyword in call.keywords)
            ):
                uncached = any(keyword.arg == "load_from_cache_file" for keyword in call.keywords)
                assert uncached or path.name == "caching.py", f"{path.relative_to(package)}, line {call.lineno}"


CALLS = []


def _double(row: dict) -> dict:
    CALLS.append(row["number"])
    return {"number": 2 * row["number"]}


def _scale(row: dict, factor: int, unused: int) -> dict:
    CALLS.append(row["number"])
    return {"number": factor * row["number"]}


def mapped() -> int:
    """Return how many rows are computed when a table is mapped now."""
    CALLS.clear()
    cached_map(TABLE, _double, ("decoding",))
    return len(CALLS)


TABLE = None


@pytest.fixture
def table(tmp_path):
    global TABLE
    datasets.Dataset.from_dict({"number": [1, 2, 3]}).save_to_disk(str(tmp_path / "table"))
    TABLE = datasets.load_from_disk(str(tmp_path / "table"))


def test_another_version_of_our_code_or_of_a_library_is_computed_again(table, monkeypatch):
    assert (mapped(), mapped()) == (3, 0)
    libraries = COMPUTATIONS["decoding"].libraries
    with monkeypatch.context() as patch:
        patch.setitem(caching.COMPUTATIONS, "decoding", Computation(1000, libraries))
        assert (mapped(), mapped()) == (3, 0)
    installed = caching._version
    for library in libraries:
        with monkeypatch.context() as patch:
            patch.setattr(caching, "_version", lambda name, new=library: installed(name) + "+" * (name == new))
            assert (mapped(), mapped()) == (3, 0)
    assert mapped() == 0


@pytest.mark.parametrize(
    ("computation", "expected"),
    [("decoding", (True, True, True)), ("features", (False, True, True)), ("tables", (False,) * 3)],
)
def test_what_depends_on_a_computation_is_made_again_with_it(tmp_path, monkeypatch, computation, expected):
    folder = write_music(tmp_path / "music", ("blues", "pop"), tracks=1)

    def fingerprints() -> list[str]:
        extractor = HfmgcASTFeatureExtractor(max_length=64)
        tracks = decode_corpus(open_source(str(folder)), 16000).tracks
        return [
            table_fingerprint(made)
            for made in (
                tracks,
                extract_features(tracks, extractor),
                augment_offline(tracks, extractor, seed=0),
            )
        ]

    before = fingerprints()
    assert fingerprints() == before
    monkeypatch.setitem(caching.COMPUTATIONS, computation, Computation(1000))
    assert tuple(one != other for one, other in zip(before, fingerprints(), strict=True)) == expected


def test_the_fingerprint_of_a_table_follows_its_content(tmp_path):
    tables = [datasets.Dataset.from_dict({"number": numbers}) for numbers in ([1, 2], [1, 2], [1, 3])]
    one, same, other = map(table_fingerprint, tables)
    assert one == same != other
    assert table_fingerprint(tables[0].select([1])) not in (one, table_fingerprint(tables[0].select([0])))


def test_a_key_stands_for_the_arguments(table):
    def mapped_with(key, **arguments):
        CALLS.clear()
        cached_map(TABLE, _scale, ("decoding",), key=key, fn_kwargs=arguments)
        return len(CALLS)

    assert mapped_with({"factor": 2}, factor=2, unused=0) == 3
    assert mapped_with({"factor": 2}, factor=2, unused=1) == 0
    assert mapped_with({"factor": 3}, factor=3, unused=1) == 3


def test_an_identity_names_the_versions_of_code_and_libraries():
    identity = code_identity("decoding", "fingerprints")
    assert identity["hfmgc decoding"] == str(COMPUTATIONS["decoding"].version)
    assert identity["soxr"] == importlib.metadata.version("soxr")
    assert identity.keys() == {
        "hfmgc decoding", "hfmgc fingerprints", "libsndfile", "numpy", "scipy", "soundfile", "soxr", "torch",
    }  # fmt: skip
