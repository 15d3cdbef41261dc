"""Deep autoencoder of hand-made features with a classifier of its latent vector (Divide and Conquer paper)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_feature_autoencoder import FeatureAutoencoderConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


class FeatureBatchNorm(nn.BatchNorm1d):
    """Batch norm that uses its running statistics for a batch of one, such as the last batch of an epoch (ours).

    A single example has no variance, and PyTorch's batch norm refuses it in training.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features [windows, features]."""
        if self.training and len(input) == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class FeatureLayer(nn.Sequential):
    """Linear layer -> batch norm -> ReLU. The last layer of a network is only linear."""

    def __init__(self, in_features: int, out_features: int, last: bool):
        super().__init__(nn.Linear(in_features, out_features))
        if not last:
            self.extend([FeatureBatchNorm(out_features), nn.ReLU()])


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    """Return the layers of a network with these widths, from its input to its output."""
    last = len(sizes) - 2
    return nn.Sequential(*(FeatureLayer(*widths, index == last) for index, widths in enumerate(pairwise(sizes))))


class FeatureAutoencoderModel(WindowedModel):
    """Encoder and mirrored decoder of feature vectors; the embedding is the latent vector.

    If the config's `latent_size` is None, both are empty and the embedding is the feature vector itself.
    """

    config_class = FeatureAutoencoderConfig
    _can_record_outputs = {"hidden_states": FeatureLayer}

    def __init__(self, config: FeatureAutoencoderConfig):
        super().__init__(config)
        sizes = [config.num_features, *config.encoder_sizes]
        self.encoder = _layers(sizes)
        self.decoder = _layers(sizes[::-1])
        self.embedding_size = sizes[-1]
        # Mean squared error of the latest training batch.
        self.reconstruction_error: Tensor | None = None
        self.post_init()

    @property
    def num_bins(self) -> int:
        """Number of features of a track."""
        return self.config.num_features

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError unless the window is one frame of `num_features` bins."""
        super().check_window(frames, bins)
        if frames != 1:
            raise ValueError(f"expected 1 frame with the features of a whole track, got {frames}")

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Encode feature vectors `input_values` [windows, 1, num_features] as [windows, latent_size]."""
        features = input_values.squeeze(1)
        latent = self.encoder(features)
        if self.training:
            self.reconstruction_error = F.mse_loss(self.decoder(latent), features)
        return WindowOutput(embeddings=latent)


class FeatureAutoencoderForAudioClassification(WindowedForAudioClassification):
    """The autoencoder with a classifier of its latent vector.

    In training, the loss is the weighted sum of the classification loss and the mean squared error of the
    reconstruction. In evaluation, it is the classification loss alone.
    """

    config_class = FeatureAutoencoderConfig

    def __init__(self, config: FeatureAutoencoderConfig):
        model = FeatureAutoencoderModel(config)
        classifier = _layers([model.embedding_size, *config.classifier_sizes, config.num_labels])
        super().__init__(config, model, classifier, dropout=config.dropout)

    def training_loss(self, loss: Tensor) -> Tensor:
        """Return the weighted sum of both losses."""
        if not self.model.training:  # frozen: there is no reconstruction to train
            return loss
        loss = self.config.classification_weight * loss
        if self.config.encoder_sizes:
            loss = loss + self.config.reconstruction_weight * self.model.reconstruction_error
        return loss


register_auto_classes(
    AutoModel=FeatureAutoencoderModel, AutoModelForAudioClassification=FeatureAutoencoderForAudioClassification
)
