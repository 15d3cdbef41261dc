"""Config of the deep autoencoder of hand-made features (Divide and Conquer paper)."""

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import check_sizes, rate, size
from .configuration_windowed import WindowedConfig


# Latent size -> published widths of the encoder's layers, and of the classifier's hidden layers. None: no autoencoder.
ENCODER_SIZES = {None: (), 400: (400,), 200: (400, 200), 100: (400, 200, 100), 50: (400, 200, 100, 50),
                 10: (400, 200, 100, 50, 10)}  # fmt: skip
CLASSIFIER_SIZES = {None: (300, 180, 80, 40), 400: (250, 150, 50, 20), 200: (130, 60, 30), 100: (70, 50, 20),
                    50: (30, 20), 10: (10,)}  # fmt: skip


@strict
class FeatureAutoencoderConfig(WindowedConfig):
    r"""Config of [`FeatureAutoencoderForAudioClassification`] (Divide and Conquer paper, Table III).

    Args:
        num_features (`int`, *optional*, defaults to 518): Number of input features: 518 for FMA, 57 for GTZAN.
        latent_size (`int`, *optional*, defaults to 50):
            Width of the bottleneck: 10, 50, 100, 200 or 400 in the paper. None builds no autoencoder: the classifier
            reads the features themselves (the paper's row "518").
        encoder_sizes (`list[int]`, *optional*):
            Widths of the encoder's layers, ending with `latent_size`. The decoder mirrors them. By default they are
            the published widths, for any `num_features` (ours: the paper has only 518).
        classifier_sizes (`list[int]`, *optional*):
            Widths of the classifier's hidden layers; the published widths by default.
        reconstruction_weight (`float`, *optional*, defaults to 0.5):
            Weight of the mean squared error in the training loss.
        classification_weight (`float`, *optional*, defaults to 0.5): Weight of the cross-entropy in the training loss.
        dropout (`float`, *optional*, defaults to 0.0): Dropout rate before the classifier (ours; the paper has none).
        kwargs: See [`WindowedConfig`].
    """

    model_type = "hfmgc-feature-autoencoder"

    num_features: int = size(default=518)
    latent_size: int | None = 50
    encoder_sizes: list[int] | tuple[int, ...] | None = None
    classifier_sizes: list[int] | tuple[int, ...] | None = None
    reconstruction_weight: float | int = interval(min=0)(default=0.5)
    classification_weight: float | int = interval(min=0)(default=0.5)
    dropout: float | int = rate(default=0.0)

    def __post_init__(self, **kwargs):
        if self.encoder_sizes is None:
            self.encoder_sizes = ENCODER_SIZES.get(self.latent_size)
        if self.classifier_sizes is None:
            self.classifier_sizes = CLASSIFIER_SIZES.get(self.latent_size)
        super().__post_init__(**kwargs)

    def validate_layers(self) -> None:
        """Raise a ValueError unless all widths are positive and the encoder ends with `latent_size`."""
        for name in ("encoder_sizes", "classifier_sizes"):
            sizes = getattr(self, name)
            if sizes is None:
                raise ValueError(f"{name} has no published default for latent_size {self.latent_size}: set {name}")
            if sizes:
                check_sizes(**{name: sizes})
        if (self.encoder_sizes[-1] if self.encoder_sizes else None) != self.latent_size:
            raise ValueError(f"encoder_sizes must end with latent_size {self.latent_size}, not {self.encoder_sizes}")

    def validate_weights(self) -> None:
        """Raise a ValueError if the loss has no term."""
        if not self.reconstruction_weight + self.classification_weight > 0:
            raise ValueError("reconstruction_weight and classification_weight must not both be 0")
