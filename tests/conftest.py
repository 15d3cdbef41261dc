"""What all tests share: caches of their own, no network, and small corpora and checkpoints made on the spot."""

import functools
import gc
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from elsewhere import Elsewhere


# Before any library of Hugging Face is imported: they read these when they are. A process of pytest-xdist has its own.
_CACHE = tempfile.mkdtemp(prefix="hfmgc-tests-")
for _name in [name for name in os.environ if name.startswith(("HF_", "HUGGING_FACE_", "TRANSFORMERS_"))]:
    del os.environ[_name]
os.environ["HF_HOME"] = _CACHE
os.environ["HF_DATASETS_CACHE"] = str(Path(_CACHE) / "datasets")
os.environ["HF_HUB_OFFLINE"] = "1"
# Garbage is looked for less often: the imports alone would ask for it more than a thousand times.
gc.set_threshold(50_000, 20, 100)
# The tensors of the tests are tiny: more threads only stand in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without bytecode on the disk, every process of the tests would compile the package anew, and pytest all tests.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Each run records the versions of the packages, which are read from their files each time.
importlib.metadata.version = cache(importlib.metadata.version)

pytest.register_assert_rewrite(
    "adapter_tester",
    "architecture_tester",
    "embedding_tester",
    "export_tester",
    "library_tester",
    "pretraining_tester",
    "recording_tester",
)

# Nobody may copy real music into a repository, so a test that needs it can only run where its owner says where it lies.
needs_real_data = pytest.mark.skipif(
    not os.environ.get("HFMGC_REAL_DATA"), reason="HFMGC_REAL_DATA (a folder of real music) is not set"
)


def pytest_unconfigure() -> None:
    shutil.rmtree(_CACHE, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def _libraries_stay() -> None:
    """Leave what is loaded out of later garbage collections: Trainer and accelerate ask for some in each training."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def one_operator_registry() -> Iterator[None]:
    """Let all exports to ONNX share the registry of operators.

    `torch.onnx.export` has no argument for it. Building it parses the source of every operator, which takes a fifth of a
    small export. Without it, exports only take longer.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        build = functools.cache(ONNXRegistry.from_torchlib)
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(build))
        yield


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory) -> Iterator[Elsewhere]:
    """A Python without hfmgc that answers for checkpoints."""
    process = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    yield process
    process.close()


def tone(seed: int, *, seconds: float, sampling_rate: int = 16000, frequency: float = 440.0) -> np.ndarray:
    """A tone with an overtone and some noise, float32 [samples], peaks below 0.6."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    frequency = frequency * generator.uniform(0.97, 1.03)
    clean = 0.3 * np.sin(2 * np.pi * frequency * time) + 0.1 * np.sin(6 * np.pi * frequency * time)
    return (clean + 0.02 * generator.standard_normal(len(time))).astype(np.float32)


def write_music(
    folder: Path,
    genres: Sequence[str] | Mapping[str, int] = ("blues", "metal", "pop"),
    *,
    tracks: int = 3,
    seconds: float = 1.0,
    sampling_rate: int = 16000,
) -> Path:
    """Write a corpus with one subfolder for each genre, each genre with tones around a frequency of its own."""
    counts = dict(genres) if isinstance(genres, Mapping) else dict.fromkeys(genres, tracks)
    for index, (genre, count) in enumerate(counts.items()):
        (folder / genre).mkdir(parents=True)
        for number in range(count):
            waveform = tone(
                100 * index + number, seconds=seconds, sampling_rate=sampling_rate, frequency=220.0 * 2**index
            )
            soundfile.write(folder / genre / f"{genre}.{number:03d}.wav", waveform, sampling_rate)
    return folder


@pytest.fixture
def music_folder(tmp_path: Path) -> Callable[..., Path]:
    """Factory of a corpus in `tmp_path`; see `write_music`."""

    def make(*arguments, name: str = "music", **options) -> Path:
        return write_music(tmp_path / name, *arguments, **options)

    return make


def old_ast_name(name: str) -> str:
    """The name that a weight of AST had in transformers 4, and has in every checkpoint on the Hub."""
    name = re.sub(r"\blayers\.(\d+)\.", r"encoder.layer.\1.", name)
    for new, old in (
        ("attention.q_proj", "attention.attention.query"),
        ("attention.k_proj", "attention.attention.key"),
        ("attention.v_proj", "attention.attention.value"),
        ("attention.o_proj", "attention.output.dense"),
        ("mlp.fc1", "intermediate.dense"),
        ("mlp.fc2", "output.dense"),
    ):
        name = name.replace(new, old)
    return name


def scatter_parameters(model, seed: int = 0) -> None:
    """Move every parameter away from its start: zeros and ones would let two of them be mixed up unseen."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def write_ast(folder: Path, *, old_names: bool = False, drop: str | None = None, num_labels: int = 7, **sizes) -> Path:
    """Save a tiny AST checkpoint of transformers, as if pre-trained; `old_names`: as transformers 4 saved it.

    `drop` names weights (by a pattern over their new names) that the checkpoint shall lack.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import ASTConfig, ASTForAudioClassification

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_length": 64,
        "num_mel_bins": 128,
        **sizes,
    }
    torch.manual_seed(0)
    model = ASTForAudioClassification(ASTConfig(num_labels=num_labels, **sizes))
    scatter_parameters(model)
    model.save_pretrained(folder)
    # save_pretrained writes the old names as well, so both kinds are written here, knowingly.
    weights = {
        old_ast_name(key) if old_names else key: value.contiguous()
        for key, value in model.state_dict().items()
        if not (drop and re.search(drop, key))
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def tiny_ast(tmp_path: Path) -> Callable[..., Path]:
    """Factory of a checkpoint in `tmp_path`; see `write_ast`."""

    def make(*, name: str = "pretrained", **options) -> Path:
        return write_ast(tmp_path / name, **options)

    return make


@pytest.fixture
def tiny_checkpoint(tmp_path: Path) -> Callable[..., Path]:
    """Factory of a tiny checkpoint of ours: model, front end and the code that travels with them."""

    def make(genres: Sequence[str] = ("blues", "metal", "pop"), *, name: str = "checkpoint", **fields) -> Path:
        import torch

        from hfmgc.features.feature_extraction_ast import HfmgcASTFeatureExtractor
        from hfmgc.models.configuration_ast import HfmgcASTConfig
        from hfmgc.models.modeling_ast import HfmgcASTForAudioClassification

        backbone = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_length": 64,
            "frequency_stride": 16,
            "time_stride": 16,
        }
        torch.manual_seed(0)
        config = HfmgcASTConfig(
            backbone_config=backbone,
            head_hidden_size=16,
            id2label=dict(enumerate(genres)),
            label2id={genre: index for index, genre in enumerate(genres)},
            **fields,
        )
        model = HfmgcASTForAudioClassification(config)
        scatter_parameters(model)
        folder = tmp_path / name
        model.save_pretrained(folder)
        HfmgcASTFeatureExtractor(max_length=64).save_pretrained(folder)
        return folder

    return make
