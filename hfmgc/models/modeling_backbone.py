"""Classifiers that can start from a pre-trained model of transformers."""

import copy
from typing import Self

import torch
from transformers import PreTrainedModel

from .configuration_windowed import WindowedConfig
from .modeling_windowed import WindowedForAudioClassification


class BackboneForAudioClassification(WindowedForAudioClassification):
    """Base of the classifiers of whose backbone there are pre-trained checkpoints.

    An architecture defines `load_backbone`, and `copy_backbone` if `model.backbone` is not the whole of it.
    """

    @classmethod
    def load_backbone(cls, name_or_path: str, **kwargs) -> tuple[PreTrainedModel, list[str]]:
        """Return a pre-trained model of transformers, and the names of the weights that its checkpoint lacks."""
        # Abstract: every such architecture defines it.
        raise NotImplementedError(f"{cls.__name__} must define load_backbone")

    def copy_backbone(self, pretrained: PreTrainedModel) -> None:
        """Copy the weights of the model that `load_backbone` returned."""
        self.model.backbone.load_state_dict(pretrained.state_dict())

    @classmethod
    def from_pretrained_backbone(cls, name_or_path: str, config: WindowedConfig | None = None, **kwargs) -> Self:
        """Start from a checkpoint of transformers, such as `facebook/wav2vec2-base-960h`; the head is new.

        Args:
            name_or_path: Repository on the Hub, or a folder.
            config: Head, labels and voting; its `backbone_config` is replaced by the checkpoint's.
            kwargs: Passed to `from_pretrained` (`revision`, `token`, `dtype`, ...); `dtype` is float32 by default, for
                training.

        Raises:
            ValueError: If the checkpoint lacks weights, naming the first.
            OSError: If it cannot be found.
        """
        pretrained, missing = cls.load_backbone(name_or_path, **{"dtype": torch.float32, **kwargs})
        if missing:
            raise ValueError(f"{name_or_path} lacks {len(missing)} backbone weights, the first is {min(missing)}")
        config = cls.config_class() if config is None else copy.deepcopy(config)
        config.backbone_config = pretrained.config
        # Neither a path on the user's disk nor the labels of another head belong in the new checkpoint.
        config.backbone_config.architectures = None
        config.backbone_config.name_or_path = ""
        config.backbone_config.num_labels = 2  # the default, which config.json omits
        model = cls(config).to(pretrained.dtype)
        model.copy_backbone(pretrained)
        return model
