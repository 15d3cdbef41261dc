"""Write the packaged MusiCNN checkpoint `msd` from the authors' weights.

    python recipes/package_musicnn.py model.safetensors [FOLDER]

`hfmgc/models/convert_musicnn.py` writes model.safetensors. FOLDER defaults to the checkpoint's folder in the package.
"""

import shutil
import sys
from pathlib import Path

from safetensors.torch import load_file

from hfmgc.checkpoints import FOLDER
from hfmgc.features.feature_extraction_spectrogram import SpectrogramFeatureExtractor
from hfmgc.models.configuration_musicnn import MusiCNNConfig
from hfmgc.models.modeling_musicnn import MusiCNNForAudioClassification


# In the order of the network's outputs.
TAGS = (
    "rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock", "jazz",
    "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow", "electronica", "80s",
    "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient", "acoustic", "experimental",
    "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening", "sexy", "catchy", "funk",
    "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad", "House", "happy",
)  # fmt: skip
# Which tags are genres is our choice (ours).
NOT_GENRES = (
    "female vocalists", "00s", "beautiful", "male vocalists", "Mellow", "80s", "90s", "chill", "instrumental", "oldies",
    "acoustic", "female vocalist", "guitar", "70s", "party", "sexy", "catchy", "60s", "sad", "happy",
)  # fmt: skip
CARD = Path(__file__).parent.parent / "model_cards" / "musicnn-msd.md"


def main() -> None:
    """Write the checkpoint."""
    weights, folder = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else FOLDER / "msd"
    config = MusiCNNConfig(
        id2label=dict(enumerate(TAGS)),
        problem_type="multi_label_classification",
        genres=[tag for tag in TAGS if tag not in NOT_GENRES],
    )
    model = MusiCNNForAudioClassification(config)
    model.load_state_dict(load_file(weights))
    model.save_pretrained(folder)
    SpectrogramFeatureExtractor(preset="musicnn").save_pretrained(folder)
    shutil.copy(CARD, folder / "README.md")


if __name__ == "__main__":
    main()
