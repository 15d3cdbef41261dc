"""Config of the deep autoencoder of hand-made features (divide-and-conquer paper)."""

from huggingface_hub.dataclasses import strict
from transformers.utils.type_validators import interval

from .config_fields import check_sizes, rate, size
from .configuration_windowed import WindowedConfig


# The widths of the authors' encoders after the input, and of their classifiers' hidden layers, by latent size. None: a
# classifier of the features themselves.
ENCODER_SIZES = {None: (), 400: (400,), 200: (400, 200), 100: (400, 200, 100), 50: (400, 200, 100, 50),
                 10: (400, 200, 100, 50, 10)}  # fmt: skip
CLASSIFIER_SIZES = {None: (300, 180, 80, 40), 400: (250, 150, 50, 20), 200: (130, 60, 30), 100: (70, 50, 20),
                    50: (30, 20), 10: (10,)}  # fmt: skip


@strict
class FeatureAutoencoderConfig(WindowedConfig):
    r"""Config of [`FeatureAutoencoderForAudioClassification`] (divide-and-conquer paper, Table III).

    Args:
        num_features (`int`, *optional*, defaults to 518): Width of the input: 518 for FMA's features, 57 for GTZAN's.
        latent_size (`int`, *optional*, defaults to 50):
            Width of the bottleneck: 10, 50, 100, 200 or 400 in the paper. None: no autoencoder, but a classifier of the
            features themselves (the paper's row of 518).
        encoder_sizes (`list[int]`, *optional*):
            Widths of the encoder's layers, of which the last is `latent_size`; the decoder mirrors them. The published
            ones by default, whatever `num_features` is (ours: the paper has 518).
        classifier_sizes (`list[int]`, *optional*): Widths of the classifier's hidden layers; the published ones by default.
        reconstruction_weight (`float`, *optional*, defaults to 0.5): Weight of the mean squared error in the training loss.
        classification_weight (`float`, *optional*, defaults to 0.5): Weight of the cross-entropy in the training loss.
        dropout (`float`, *optional*, defaults to 0.0): Before the classifier (ours; the paper has none).
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
        """Raise a ValueError unless the encoder's layers end in `latent_size`, and all widths are at least 1."""
        for name in ("encoder_sizes", "classifier_sizes"):
            sizes = getattr(self, name)
            if sizes is None:
                raise ValueError(f"{name} has no published value for latent_size {self.latent_size}: set it")
            if sizes:
                check_sizes(**{name: sizes})
        if (self.encoder_sizes[-1] if self.encoder_sizes else None) != self.latent_size:
            raise ValueError(f"encoder_sizes must end in latent_size {self.latent_size}, not {self.encoder_sizes}")

    def validate_weights(self) -> None:
        """Raise a ValueError if the loss has no term."""
        if not self.reconstruction_weight + self.classification_weight > 0:
            raise ValueError("reconstruction_weight and classification_weight must not both be 0")
