"""`import hfmgc` is cheap and silent, and transformers knows the architectures whichever is imported first."""

import subprocess
import sys

import pytest
from fresh import run_fresh

from hfmgc.registry import ARCHITECTURES


USE = """
import sys
import numpy
waveform = numpy.sin(numpy.arange(16000, dtype=numpy.float32) / 20)
answers = pipeline("audio-classification", model=sys.argv[1])(waveform, top_k=None)
assert sorted(answer["label"] for answer in answers) == ["blues", "metal", "pop"], answers
assert pipeline("music-genre-classification", model=sys.argv[1])(waveform, top_k=None) == answers
"""

AUTO_CLASSES = """
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification
from hfmgc.registry import ARCHITECTURES
import torch
for model_type, architecture in ARCHITECTURES.items():
    config = AutoConfig.for_model(model_type)
    assert type(config) is architecture.load("config")
    with torch.device("meta"):
        model = AutoModelForAudioClassification.from_config(config)
        base_model = AutoModel.from_config(config)
    assert type(model) is architecture.load("model")
    assert type(base_model) is architecture.load("base_model") is type(model.model)
from transformers import ASTConfig, ViTConfig
assert type(AutoConfig.for_model("vit")) is ViTConfig
"""


def silently(script: str, *arguments) -> None:
    """Run a script in a process of its own; it must succeed and print nothing."""
    done = run_fresh(script, *arguments, environment={"HF_HUB_DISABLE_PROGRESS_BARS": "1"})
    assert done.returncode == 0, done.stderr
    # DeepSpeed, where it is installed, says which accelerator it found.
    said = [line for line in (done.stdout + done.stderr).splitlines() if "real_accelerator.py" not in line]
    assert not said


def test_import_hfmgc_imports_neither_torch_nor_transformers_nor_datasets():
    code = """
import sys
import hfmgc
print(*({"torch", "transformers", "datasets", "librosa", "peft", "numpy", "sklearn"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize(
    "imports",
    [
        "import hfmgc\nfrom transformers import pipeline",
        "from transformers import pipeline\nimport hfmgc",
        "import hfmgc\nfrom transformers.pipelines import pipeline",
        "import transformers, hfmgc, hfmgc.registry\nhfmgc.registry.register_architectures()\n"
        "pipeline = transformers.pipeline",
    ],
    ids=["hfmgc first", "transformers first", "pipelines module", "lazy module first, registered twice"],
)
def test_both_pipelines_know_a_checkpoint_and_the_auto_classes_all_architectures_in_any_order_of_imports(
    imports, tiny_checkpoint
):
    silently(imports + USE + AUTO_CLASSES, tiny_checkpoint())


def test_the_auto_classes_know_a_config_whose_class_was_imported_directly():
    silently("""
from hfmgc.models.configuration_ast import HfmgcASTConfig
from transformers import AutoModelForAudioClassification
import torch
with torch.device("meta"):
    model = AutoModelForAudioClassification.from_config(HfmgcASTConfig())
assert type(model).__name__ == "HfmgcASTForAudioClassification"
""")


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_every_architecture_can_be_loaded_and_names_its_paper(model_type):
    architecture = ARCHITECTURES[model_type]
    assert model_type.startswith("hfmgc-")
    assert architecture.load("config").model_type == model_type
    for role in ("base_model", "model"):
        assert architecture.load(role).config_class is architecture.load("config")
    assert architecture.paper
