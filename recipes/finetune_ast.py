"""Fine-tune an Audio Spectrogram Transformer for genres, with DoRA, and evaluate it on whole tracks.

    accelerate launch recipes/finetune_ast.py [CONFIG.yaml] [--field value ...]

Without arguments: the AST report's configuration (recipes/configs/ast_gtzan.yaml), which fetches the AudioSet checkpoint
and GTZAN from the Hub. Your own music, offline:

    accelerate launch recipes/finetune_ast.py recipes/configs/folder.yaml --data MUSIC --output_dir runs/mine

`--help` lists all fields; recipes/README.md says what the configs reproduce.
"""

from functools import partial
from pathlib import Path

from train_classifier import main  # the stages are the same for every architecture

from hfmgc.training import stages


DEFAULT_CONFIG = Path(__file__).parent / "configs" / "ast_gtzan.yaml"


if __name__ == "__main__":
    stages.run_recipe(partial(main, DEFAULT_CONFIG))
