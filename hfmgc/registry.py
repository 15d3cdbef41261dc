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
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import ModuleType


@dataclass(frozen=True)
class Architecture:
    """Where an architecture's classes are, as `module:Class`, which paper it comes from, and a recipe that trains it."""

    config: str
    base_model: str
    model: str
    feature_extractor: str
    paper: str
    recipe: str

    def load(self, role: str) -> type:
        """Import and return the class of `role`: `config`, `base_model`, `model` or `feature_extractor`."""
        return load_class(getattr(self, role))

    def class_name(self, role: str) -> str:
        """Return the name of the class of `role` without importing it."""
        return getattr(self, role).partition(":")[2]


def load_class(address: str) -> type:
    """Import and return the class at `module:Class`."""
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


ARCHITECTURES: dict[str, Architecture] = {
    "hfmgc-ast": Architecture(
        "hfmgc.models.configuration_ast:HfmgcASTConfig",
        "hfmgc.models.modeling_ast:HfmgcASTModel",
        "hfmgc.models.modeling_ast:HfmgcASTForAudioClassification",
        "hfmgc.features.feature_extraction_ast:HfmgcASTFeatureExtractor",
        "Music genre classification using an audio spectrogram transformer (project report, 2024)",
        "recipes/configs/ast_gtzan.yaml",
    ),
    "hfmgc-lgnet": Architecture(
        "hfmgc.models.configuration_lgnet:LGNetConfig",
        "hfmgc.models.modeling_lgnet:LGNetModel",
        "hfmgc.models.modeling_lgnet:LGNetForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "Locally Activated Gated Neural Network for Automatic Music Genre Classification (Applied Sciences 13, 2023)",
        "recipes/configs/lgnet/mel_lgnet_4.yaml",
    ),
    "hfmgc-resnet-bigru": Architecture(
        "hfmgc.models.configuration_resnet_bigru:ResNetBiGRUConfig",
        "hfmgc.models.modeling_resnet_bigru:ResNetBiGRUModel",
        "hfmgc.models.modeling_resnet_bigru:ResNetBiGRUForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "Music Genre Classification with ResNet and Bi-GRU Using Visual Spectrograms (2023), as in the Deformer paper",
        "recipes/configs/deformer/resnet_bigru.yaml",
    ),
    "hfmgc-crnn": Architecture(
        "hfmgc.models.configuration_crnn:DivideAndConquerCRNNConfig",
        "hfmgc.models.modeling_crnn:DivideAndConquerCRNNModel",
        "hfmgc.models.modeling_crnn:DivideAndConquerCRNNForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "Watine, Lefevre and Mautner: Music genre classification using state-of-the-art deep learning techniques and "
        "novel data processing methods (project report, 2022)",
        "recipes/configs/divide_and_conquer/crnn_30s_3conv.yaml",
    ),
    "hfmgc-ts-resformer": Architecture(
        "hfmgc.models.configuration_ts_resformer:TSResformerConfig",
        "hfmgc.models.modeling_ts_resformer:TSResformerModel",
        "hfmgc.models.modeling_ts_resformer:TSResformerForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "TS-Resformer: a model based on multimodal fusion for the classification of music signals (Frontiers in "
        "Neurorobotics 19, 2025)",
        "recipes/configs/ts_resformer/ts_resformer.yaml",
    ),
    "hfmgc-lenet": Architecture(
        "hfmgc.models.configuration_lenet:LeNetConfig",
        "hfmgc.models.modeling_lenet:LeNetModel",
        "hfmgc.models.modeling_lenet:LeNetForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "LeCun, Bottou, Bengio and Haffner: Gradient-based learning applied to document recognition (1998)",
        "recipes/configs/divide_and_conquer/lenet_30s.yaml",
    ),
    "hfmgc-recurrent": Architecture(
        "hfmgc.models.configuration_recurrent:RecurrentConfig",
        "hfmgc.models.modeling_recurrent:RecurrentModel",
        "hfmgc.models.modeling_recurrent:RecurrentForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "Hochreiter and Schmidhuber: Long short-term memory (1997); Cho et al.: Learning phrase representations using RNN "
        "encoder-decoder (2014)",
        "recipes/configs/lgnet/mel_bi_lstm.yaml",
    ),
    "hfmgc-fcn": Architecture(
        "hfmgc.models.configuration_fcn:FCNConfig",
        "hfmgc.models.modeling_fcn:FCNModel",
        "hfmgc.models.modeling_fcn:FCNForAudioClassification",
        "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
        "Wang, Yan and Oates: Time series classification from scratch with deep neural networks (2017); Karim et al.: LSTM "
        "fully convolutional networks for time series classification (2018)",
        "recipes/configs/lgnet/mel_fcn.yaml",
    ),
}


# Front ends that several architectures may use, under a name that is no architecture's.
FEATURE_EXTRACTORS: dict[str, str] = {
    "hfmgc-spectrogram": "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor",
}


# Module of transformers -> its tables of class names -> the role of the classes there.
_TABLES = {
    "transformers.models.auto.configuration_auto": {"CONFIG_MAPPING_NAMES": "config"},
    "transformers.models.auto.modeling_auto": {
        "MODEL_MAPPING_NAMES": "base_model",
        "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES": "model",
    },
    "transformers.models.auto.feature_extraction_auto": {"FEATURE_EXTRACTOR_MAPPING_NAMES": "feature_extractor"},
}

# Imported as soon as transformers' pipelines are: this module registers one with them.
_PIPELINES, _OUR_PIPELINE = "transformers.pipelines", "hfmgc.inference.pipeline"


def register_architectures() -> None:
    """Make transformers' Auto classes and pipelines know the architectures; repeating it changes nothing."""
    if not any(isinstance(finder, _TransformersTables) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TransformersTables())
    if any(name in sys.modules for name in _TABLES):
        _register_classes()


def _register_classes() -> None:
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification

    for model_type, architecture in ARCHITECTURES.items():
        config = architecture.load("config")
        AutoConfig.register(model_type, config, exist_ok=True)
        AutoModel.register(config, architecture.load("base_model"), exist_ok=True)
        AutoModelForAudioClassification.register(config, architecture.load("model"), exist_ok=True)
        AutoFeatureExtractor.register(config, architecture.load("feature_extractor"), exist_ok=True)
    # One that belongs to no single config is found by its name in the table, which is asked at every call.
    table = importlib.import_module("transformers.models.auto.feature_extraction_auto")
    table.FEATURE_EXTRACTOR_MAPPING_NAMES.update(_names("feature_extractor", shared_only=True))
    if _PIPELINES in sys.modules:
        importlib.import_module(_OUR_PIPELINE)


def _add_names(tables: Mapping[str, str], module: ModuleType) -> None:
    for table, role in tables.items():
        getattr(module, table).update(_names(role))


def _names(role: str, *, shared_only: bool = False) -> dict[str, str]:
    """Return what is entered into the table of a role: model type or front end -> name of the class."""
    names = {} if shared_only else {name: item.class_name(role) for name, item in ARCHITECTURES.items()}
    if role == "feature_extractor":
        names |= {name: address.partition(":")[2] for name, address in FEATURE_EXTRACTORS.items()}
    return names


class _TransformersTables(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Adds our names to transformers' tables, and our pipeline to theirs, when these are imported.

    An entry `hfmgc-ast` of the tables means the module `transformers.models.hfmgc_ast`; this finder also answers for
    that module, with the classes of the architecture.
    """

    def __init__(self):
        self.addresses = {
            name: [item.config, item.base_model, item.model, item.feature_extractor]
            for name, item in ARCHITECTURES.items()
        } | {name: [address] for name, address in FEATURE_EXTRACTORS.items()}
        self.modules = {f"transformers.models.{name.replace('-', '_')}": name for name in self.addresses}
        self.pending = {name: partial(_add_names, tables) for name, tables in _TABLES.items()}
        self.pending[_PIPELINES] = lambda module: importlib.import_module(_OUR_PIPELINE)

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in self.modules:
            return importlib.machinery.ModuleSpec(name, self)
        if name not in self.pending:
            return None
        act = self.pending.pop(name)
        spec = importlib.util.find_spec(name)  # from the other finders: this one does not answer for the name now
        self.pending[name] = act  # finding is not importing: somebody may only have looked
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_act(module: ModuleType) -> None:
            execute(module)
            self.pending.pop(name, None)
            act(module)

        spec.loader.exec_module = execute_and_act
        return spec

    def exec_module(self, module: ModuleType) -> None:
        for address in self.addresses[self.modules[module.__name__]]:
            loaded = load_class(address)
            setattr(module, loaded.__name__, loaded)
