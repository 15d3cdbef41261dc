"""The architectures of the toolkit, one line each, and how transformers' Auto classes come to know them.

Registering a class imports it, and with it torch. So that `import hfmgc` stays cheap, the names are entered into the
tables from which transformers' Auto classes load their own architectures lazily, at the moment when somebody imports
these tables; only when transformers is there already are the classes registered at once.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Architecture:
    """Where an architecture's classes are, as `module:Class`, and which paper it comes from."""

    config: str
    model: str
    feature_extractor: str
    paper: str

    def load(self, role: str) -> type:
        """Import and return the class of `role`: `config`, `model` or `feature_extractor`."""
        module, _, name = getattr(self, role).partition(":")
        return getattr(importlib.import_module(module), name)

    def class_name(self, role: str) -> str:
        """Return the name of the class of `role` without importing it."""
        return getattr(self, role).partition(":")[2]


ARCHITECTURES: dict[str, Architecture] = {
    "hfmgc-ast": Architecture(
        "hfmgc.models.configuration_ast:HfmgcASTConfig",
        "hfmgc.models.modeling_ast:HfmgcASTForAudioClassification",
        "hfmgc.features.feature_extraction_ast:HfmgcASTFeatureExtractor",
        "Music genre classification using an audio spectrogram transformer (project report, 2024)",
    ),
}


# Module of transformers -> its table of class names, and the role of the classes there.
_TABLES = {
    "transformers.models.auto.configuration_auto": ("CONFIG_MAPPING_NAMES", "config"),
    "transformers.models.auto.modeling_auto": ("MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES", "model"),
    "transformers.models.auto.feature_extraction_auto": ("FEATURE_EXTRACTOR_MAPPING_NAMES", "feature_extractor"),
}


def register_architectures() -> None:
    """Make transformers' Auto classes and pipelines know the architectures; repeating it changes nothing."""
    if any(name in sys.modules for name in _TABLES):
        _register_classes()
    elif not any(isinstance(finder, _TransformersTables) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TransformersTables())


def _register_classes() -> None:
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModelForAudioClassification

    for model_type, architecture in ARCHITECTURES.items():
        config = architecture.load("config")
        AutoConfig.register(model_type, config, exist_ok=True)
        AutoModelForAudioClassification.register(config, architecture.load("model"), exist_ok=True)
        AutoFeatureExtractor.register(config, architecture.load("feature_extractor"), exist_ok=True)


class _TransformersTables(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Adds our names to transformers' tables when these are imported.

    An entry `hfmgc-ast` of the tables means the module `transformers.models.hfmgc_ast`; this finder also answers for
    that module, with the classes of the architecture.
    """

    def __init__(self):
        self.architectures = {
            f"transformers.models.{model_type.replace('-', '_')}": architecture
            for model_type, architecture in ARCHITECTURES.items()
        }
        self.pending_tables = dict(_TABLES)

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in self.architectures:
            return importlib.machinery.ModuleSpec(name, self)
        if name not in self.pending_tables:
            return None
        table, role = self.pending_tables.pop(name)
        spec = importlib.util.find_spec(name)  # from the other finders: this one does not answer for the name now
        self.pending_tables[name] = table, role  # finding is not importing: somebody may only have looked
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_add(module: ModuleType) -> None:
            execute(module)
            self.pending_tables.pop(name, None)
            names = getattr(module, table)
            names.update({model_type: item.class_name(role) for model_type, item in ARCHITECTURES.items()})

        spec.loader.exec_module = execute_and_add
        return spec

    def exec_module(self, module: ModuleType) -> None:
        architecture = self.architectures[module.__name__]
        for role in ("config", "model", "feature_extractor"):
            setattr(module, architecture.class_name(role), architecture.load(role))
