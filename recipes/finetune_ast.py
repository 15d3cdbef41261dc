"""Fine-tune an Audio Spectrogram Transformer with DoRA to classify genres, and evaluate it on whole tracks.

    accelerate launch recipes/finetune_ast.py [CONFIG.yaml] [--field value ...]

The default config is that of the AST report (recipes/configs/ast_gtzan.yaml). It downloads the AudioSet checkpoint and GTZAN
from the Hub. To train on your own music, offline:

    accelerate launch recipes/finetune_ast.py recipes/configs/folder.yaml --data MUSIC --output_dir runs/mine

`--help` lists all fields; recipes/README.md says what the configs reproduce.
"""

from functools import partial
from pathlib import Path

from train_classifier import main  # all architectures share the stages

from hfmgc.training import stages


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "ast_gtzan.yaml"


if __name__ == "__main__":
    stages.run_recipe(partial(main, DEFAULT_CONFIG))
