"""What the server of `forked.py` imports once, so that no fork of it has to: all that a run needs, however late it asks."""

import contextlib
import gc
import importlib
import importlib.metadata
import os
import sys
from functools import cache

from matplotlib.figure import Figure
from sketches import save_sketch


sys.dont_write_bytecode = False
gc.set_threshold(50_000, 20, 100)  # as in conftest.py
os.environ["DS_ACCELERATOR"] = "cpu"

for _name in (
    "datasets.io.generator",
    "hfmgc.features.feature_extraction_ast",
    "hfmgc.models.modeling_ast",
    "hfmgc.models.modeling_lgnet",
    "hfmgc.training.fit",
    "hfmgc.training.search.study",
    "hfmgc.training.stages",
    "librosa.core.convert",
    "matplotlib.backends.backend_agg",
    "optuna",
    "peft",
    "sklearn.metrics",
    "torch.utils.tensorboard",
    "transformers.trainer",
    "deepspeed",  # accelerate imports it in each run where it is installed
):
    with contextlib.suppress(ImportError):
        importlib.import_module(_name)

# As in conftest.py and recipes.py.
importlib.metadata.version = cache(importlib.metadata.version)
Figure.savefig = save_sketch

# A collection in a fork, of which a training asks for some, would look at all of this and copy its memory.
gc.collect()
gc.freeze()
