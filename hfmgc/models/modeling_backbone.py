"""Base class of classifiers that can start from a pre-trained transformers model."""

import copy
from typing import Self

import torch
from transformers import PreTrainedModel

from .configuration_windowed import WindowedConfig
from .modeling_windowed import WindowedForAudioClassification


class BackboneForAudioClassification(WindowedForAudioClassification):
    """Base class of classifiers whose backbone can be loaded from a checkpoint of transformers.

    A subclass defines `load_backbone`. If the pre-trained weights belong to more than `model.backbone`, it also
    overrides `copy_backbone`.
    """

    @classmethod
    def load_backbone(cls, name_or_path: str, **kwargs) -> tuple[PreTrainedModel, list[str]]:
        """Return a pre-trained transformers model, and the names of backbone weights that its checkpoint lacks."""
        raise NotImplementedError(f"{cls.__name__} must define load_backbone")

    def copy_backbone(self, pretrained: PreTrainedModel) -> None:
        """Copy the weights of the model that `load_backbone` returned."""
        self.model.backbone.load_state_dict(pretrained.state_dict())

    @classmethod
    def from_pretrained_backbone(cls, name_or_path: str, config: WindowedConfig | None = None, **kwargs) -> Self:
        """Build a classifier from a checkpoint of transformers, with a newly initialised head.

        Args:
            name_or_path: Repository on the Hub, such as `facebook/wav2vec2-base-960h`, or a folder.
            config: Config of the classifier. A copy is used, with the checkpoint's config as `backbone_config`.
            kwargs: Passed to `from_pretrained` (`revision`, `token`, ...). `dtype` is float32 by default, for
                training.

        Raises:
            ValueError: If the checkpoint lacks backbone weights.
            OSError: If there is no such checkpoint.
        """
        pretrained, missing = cls.load_backbone(name_or_path, **{"dtype": torch.float32, **kwargs})
        if missing:
            raise ValueError(f"{name_or_path} lacks {len(missing)} backbone weights, the first is {min(missing)}")
        config = cls.config_class() if config is None else copy.deepcopy(config)
        config.backbone_config = pretrained.config
        # The new checkpoint should contain neither a path on the user's disk nor the labels of another head.
        config.backbone_config.architectures = None
        config.backbone_config.name_or_path = ""
        config.backbone_config.num_labels = 2  # config.json omits the default
        model = cls(config).to(pretrained.dtype)
        model.copy_backbone(pretrained)
        return model
