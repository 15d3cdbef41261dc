"""The deep autoencoder of hand-made features, whose latent vector a classifier reads (divide-and-conquer paper)."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_feature_autoencoder import FeatureAutoencoderConfig
from .modeling_windowed import WindowedForAudioClassification, WindowedModel, WindowOutput, register_auto_classes


class FeatureBatchNorm(nn.BatchNorm1d):
    """Batch norm that applies the running statistics to a batch of one, such as the last batch of an epoch."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise features [windows, features]."""
        if self.training and len(input) == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class FeatureLayer(nn.Sequential):
    """Linear layer -> batch norm -> ReLU; linear alone if it is the last of its network."""

    def __init__(self, in_features: int, out_features: int, last: bool):
        super().__init__(nn.Linear(in_features, out_features))
        if not last:
            self.extend([FeatureBatchNorm(out_features), nn.ReLU()])


def _layers(sizes: Sequence[int]) -> nn.Sequential:
    """Return a network whose layers have these widths, from its input to its output."""
    last = len(sizes) - 2
    return nn.Sequential(*(FeatureLayer(sizes[i], sizes[i + 1], i == last) for i in range(last + 1)))


class FeatureAutoencoderModel(WindowedModel):
    """Encoder and mirrored decoder of a vector of features; the embedding is the latent vector.

    Without a `latent_size` there is neither, and the embedding is the vector of features itself.
    """

    config_class = FeatureAutoencoderConfig
    _can_record_outputs = {"hidden_states": FeatureLayer}

    def __init__(self, config: FeatureAutoencoderConfig):
        super().__init__(config)
        sizes = [config.num_features, *config.encoder_sizes]
        self.encoder = _layers(sizes)
        self.decoder = _layers(sizes[::-1])
        self.embedding_size = sizes[-1]
        # Mean squared error of the last batch in training.
        self.reconstruction_error: Tensor | None = None
        self.post_init()

    @property
    def num_bins(self) -> int:
        return self.config.num_features

    def check_window(self, frames: int, bins: int) -> None:
        """Raise a ValueError unless a window is one frame of `num_features`."""
        super().check_window(frames, bins)
        if frames != 1:
            raise ValueError(f"expected 1 frame, the features of a whole track, got {frames}")

    def embed_windows(self, input_values: Tensor, **kwargs) -> WindowOutput:
        """Encode vectors `input_values` [windows, 1, num_features] as [windows, latent_size]."""
        features = input_values.squeeze(1)
        latent = self.encoder(features)
        if self.training:
            self.reconstruction_error = F.mse_loss(self.decoder(latent), features)
        return WindowOutput(embeddings=latent)


class FeatureAutoencoderForAudioClassification(WindowedForAudioClassification):
    """The autoencoder with a classifier of its latent vector.

    The training loss is the weighted sum of the reconstruction's mean squared error and the classification loss; in
    evaluation the loss is that of the classification.
    """

    config_class = FeatureAutoencoderConfig

    def __init__(self, config: FeatureAutoencoderConfig):
        model = FeatureAutoencoderModel(config)
        classifier = _layers([model.embedding_size, *config.classifier_sizes, config.num_labels])
        super().__init__(config, model, classifier, dropout=config.dropout)

    def training_loss(self, loss: Tensor) -> Tensor:
        """Return the weighted sum of both losses; with a frozen autoencoder, the classification loss alone."""
        if not self.model.training:
            return loss
        loss = self.config.classification_weight * loss
        if self.config.encoder_sizes:
            loss = loss + self.config.reconstruction_weight * self.model.reconstruction_error
        return loss


register_auto_classes(
    AutoModel=FeatureAutoencoderModel, AutoModelForAudioClassification=FeatureAutoencoderForAudioClassification
)
