"""The architectures of the toolkit, and their registration with transformers' Auto classes and pipelines.

Registering a class would import it, and torch with it. To keep `import hfmgc` cheap, an import hook adds the names of
the classes to the tables from which transformers loads its own architectures lazily. If transformers was imported
before hfmgc, the classes are registered at once.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType


SPECTROGRAM_FEATURE_EXTRACTOR = "hfmgc.features.feature_extraction_spectrogram:SpectrogramFeatureExtractor"
HANDMADE_FEATURE_EXTRACTOR = "hfmgc.features.feature_extraction_handmade:HandmadeFeatureExtractor"

# The classes of an architecture: role -> suffix of the class name.
CLASSIFIER = {"base_model": "Model", "model": "ForAudioClassification"}
PRETRAINED_CLASSIFIER = {**CLASSIFIER, "pretraining_model": "ForPreTraining"}
# A part of another model, which one class trains separately.
PART = {"base_model": "", "pretraining_model": ""}


@dataclass(frozen=True)
class Architecture:
    """An architecture; its classes are imported on first use.

    Args:
        name: Name in the model type `hfmgc-NAME` and in the files `configuration_NAME.py` and `modeling_NAME.py`.
        prefix: Prefix of the class names, such as `PREFIXConfig`.
        paper: Publication.
        recipe: Path of the config that trains it.
        parameters: Number of parameters of the default config with 10 genres.
        feature_extractor: The front end, as `module:Class`.
        classes: Role of each class -> suffix of its name.
    """

    name: str
    prefix: str
    paper: str
    recipe: str
    parameters: int
    feature_extractor: str = SPECTROGRAM_FEATURE_EXTRACTOR
    classes: Mapping[str, str] = field(default_factory=CLASSIFIER.copy)

    @property
    def model_type(self) -> str:
        """Name of the architecture in configs."""
        return f"hfmgc-{self.name}"

    def address(self, role: str) -> str:
        """Return the class of a role as `module:Class`; see `roles`."""
        stem = self.name.replace("-", "_")
        if role == "config":
            return f"hfmgc.models.configuration_{stem}:{self.prefix}Config"
        if role == "feature_extractor":
            return self.feature_extractor
        return f"hfmgc.models.modeling_{stem}:{self.prefix}{self.classes[role]}"

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of all classes."""
        return ("config", *self.classes, "feature_extractor")

    def load(self, role: str) -> type:
        """Import and return the class of a role."""
        return load_class(self.address(role))


def load_class(address: str) -> type:
    """Import and return the class at `module:Class`."""
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module), name)


_DEFORMER = (
    "Wang, Li and Sung: Deformer: denoising transformer for improved audio music genre classification (Applied Sciences 13, "
    "2023)"
)

# fmt: off
_ARCHITECTURES = (
    Architecture(
        "ast", "HfmgcAST", recipe="recipes/configs/ast_gtzan.yaml", parameters=86_344_610,
        feature_extractor="hfmgc.features.feature_extraction_ast:HfmgcASTFeatureExtractor",
        paper="Music genre classification using an audio spectrogram transformer (project report, 2024)",
    ),
    Architecture(
        "lgnet", "LGNet", recipe="recipes/configs/lgnet/mel_lgnet_4.yaml", parameters=12_243_436,
        paper="Locally Activated Gated Neural Network for Automatic Music Genre Classification (Applied Sciences 13, 2023)",
    ),
    Architecture(
        "resnet-bigru", "ResNetBiGRU", recipe="recipes/configs/deformer/resnet_bigru.yaml", parameters=11_665_866,
        paper="Music Genre Classification with ResNet and Bi-GRU Using Visual Spectrograms (2023), as in the Deformer paper",
    ),
    Architecture(
        "crnn", "DivideAndConquerCRNN", recipe="recipes/configs/divide_and_conquer/crnn_30s_3conv.yaml",
        parameters=805_930,
        paper="Watine, Lefevre and Mautner: Music genre classification using state-of-the-art deep learning techniques "
        "and novel data processing methods (project report, 2022)",
    ),
    Architecture(
        "ts-resformer", "TSResformer", recipe="recipes/configs/ts_resformer/ts_resformer.yaml", parameters=1_424_318,
        paper="TS-Resformer: a model based on multimodal fusion for the classification of music signals (Frontiers in "
        "Neurorobotics 19, 2025)",
    ),
    Architecture(
        "lenet", "LeNet", recipe="recipes/configs/divide_and_conquer/lenet_30s.yaml", parameters=61_706,
        paper="LeCun, Bottou, Bengio and Haffner: Gradient-based learning applied to document recognition (1998)",
    ),
    Architecture(
        "recurrent", "Recurrent", recipe="recipes/configs/lgnet/mel_bi_lstm.yaml", parameters=265_738,
        paper="Hochreiter and Schmidhuber: Long short-term memory (1997); Cho et al.: Learning phrase representations "
        "using RNN encoder-decoder (2014)",
    ),
    Architecture(
        "fcn", "FCN", recipe="recipes/configs/lgnet/mel_fcn.yaml", parameters=396_042,
        paper="Wang, Yan and Oates: Time series classification from scratch with deep neural networks (2017); Karim et "
        "al.: LSTM fully convolutional networks for time series classification (2018)",
    ),
    Architecture(
        "deformer", "Deformer", recipe="recipes/configs/deformer/finetune.yaml", parameters=85_413_130, paper=_DEFORMER,
        classes=PRETRAINED_CLASSIFIER,
    ),
    Architecture(
        "musicnn", "MusiCNN", recipe="recipes/configs/musicnn/folder.yaml", parameters=779_119,
        paper="Pons and Serra: musicnn: pre-trained convolutional neural networks for music audio tagging (ISMIR "
        "late-breaking, 2019)",
    ),
    Architecture(
        "feature-autoencoder", "FeatureAutoencoder",
        recipe="recipes/configs/divide_and_conquer/feature_autoencoder.yaml", parameters=631_628,
        feature_extractor=HANDMADE_FEATURE_EXTRACTOR,
        paper="Watine, Lefevre and Mautner: Music genre classification using state-of-the-art deep learning techniques "
        "and novel data processing methods (project report, 2022)",
    ),
    Architecture(
        "audio-encoder", "AudioEncoder", recipe="recipes/configs/audio_encoder.yaml", parameters=94_379_402,
        feature_extractor="hfmgc.features.feature_extraction_audio_encoder:AudioEncoderFeatureExtractor",
        paper="A pre-trained audio encoder of transformers: Wav2Vec2, HuBERT, WavLM, Whisper, CLAP, AST and others",
    ),
    Architecture(
        "calm", "CALM", recipe="recipes/configs/deformer/calm.yaml", parameters=187_889_034,
        feature_extractor="hfmgc.features.feature_extraction_calm:CALMFeatureExtractor",
        paper="Castellon, Donahue and Liang: Codified audio language modeling learns useful representations for music "
        "information retrieval (ISMIR 2021)",
    ),
    Architecture(
        "s3t", "S3T", recipe="recipes/configs/deformer/s3t_finetune.yaml", parameters=27_523_972,
        paper="Zhao, Zhang, Zhu, Ma and Zhang: S3T: self-supervised pre-training with Swin Transformer for music "
        "classification (ICASSP 2022)",
        classes=PRETRAINED_CLASSIFIER,
    ),
    Architecture(
        "m2d", "M2D", recipe="recipes/configs/deformer/m2d_finetune.yaml", parameters=85_292_554,
        paper="Niizumi et al.: Masked modeling duo: learning representations by encouraging both networks to model the "
        "input (ICASSP 2023), a baseline of the Deformer paper",
        classes=PRETRAINED_CLASSIFIER,
    ),
)
_PARTS = (
    Architecture(
        "prior-autoencoder", "PriorAutoencoder", recipe="recipes/configs/deformer/prior.yaml", parameters=332_801,
        paper=_DEFORMER, classes=PART,
    ),
)
# fmt: on
ARCHITECTURES = {architecture.model_type: architecture for architecture in _ARCHITECTURES}
# Everything that a checkpoint can hold: the architectures, and parts of them that are trained first.
MODELS = ARCHITECTURES | {part.model_type: part for part in _PARTS}
# The models that recipes/pretrain.py trains.
PRETRAINING_MODELS = {name: item for name, item in MODELS.items() if "pretraining_model" in item.classes}

# Role -> transformers' Auto class that loads it.
AUTO_CLASSES = {
    "base_model": "AutoModel",
    "model": "AutoModelForAudioClassification",
    "pretraining_model": "AutoModelForPreTraining",
}

# Module of transformers -> table of class names in it -> role of the classes in the table.
_TABLES = {
    "transformers.models.auto.configuration_auto": {"CONFIG_MAPPING_NAMES": "config"},
    "transformers.models.auto.modeling_auto": {
        "MODEL_MAPPING_NAMES": "base_model",
        "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES": "model",
        "MODEL_FOR_PRETRAINING_MAPPING_NAMES": "pretraining_model",
    },
    "transformers.models.auto.feature_extraction_auto": {"FEATURE_EXTRACTOR_MAPPING_NAMES": "feature_extractor"},
}
# For an entry `hfmgc-ast` of these tables, transformers imports the module `transformers.models.hfmgc_ast`.
_MODULES = {f"transformers.models.{name.replace('-', '_')}": item for name, item in MODELS.items()}

_PIPELINES, _OUR_PIPELINE = "transformers.pipelines", "hfmgc.inference.pipeline"


def register_architectures() -> None:
    """Register the architectures and our pipeline with transformers; a second call changes nothing."""
    if not any(isinstance(finder, _TransformersFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TransformersFinder())
    if any(name in sys.modules for name in _TABLES):
        _register_classes()


def _register_classes() -> None:
    import transformers

    for model_type, architecture in MODELS.items():
        config = architecture.load("config")
        transformers.AutoConfig.register(model_type, config, exist_ok=True)
        transformers.AutoFeatureExtractor.register(config, architecture.load("feature_extractor"), exist_ok=True)
        for role in architecture.classes:
            getattr(transformers, AUTO_CLASSES[role]).register(config, architecture.load(role), exist_ok=True)
    if _PIPELINES in sys.modules:
        importlib.import_module(_OUR_PIPELINE)


def _extend(module: ModuleType) -> None:
    """Add the names of our classes to the tables of a module of transformers, or our pipeline to its pipelines."""
    if module.__name__ == _PIPELINES:
        importlib.import_module(_OUR_PIPELINE)
    for table, role in _TABLES.get(module.__name__, {}).items():
        names = {name: item.address(role).partition(":")[2] for name, item in MODELS.items() if role in item.roles}
        getattr(module, table).update(names)


class _TransformersFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that extends modules of transformers when they are imported, and provides the modules in `_MODULES`.

    transformers has no way to register a class lazily. `tests/test_registry.py` fails if its tables change.
    """

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in _MODULES:
            return importlib.machinery.ModuleSpec(name, self)
        if name not in _TABLES and name != _PIPELINES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_extend(module: ModuleType) -> None:
                execute(module)
                _extend(module)

            spec.loader.exec_module = execute_and_extend
        return spec

    def exec_module(self, module: ModuleType) -> None:
        architecture = _MODULES[module.__name__]
        for role in architecture.roles:
            loaded = architecture.load(role)
            setattr(module, loaded.__name__, loaded)
