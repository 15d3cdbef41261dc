"""The model card of a pre-training run, written from the files in its folder."""

from pathlib import Path

from huggingface_hub import ModelCardData

from ..evaluation.plots import TRAINING_CURVE
from ..files import write_text
from ..settings import load_json
from ..text import one_line
from .card import CARD_NAME, cell


_CARD = """---
{metadata}
---

# {name}

`{model}`, pre-trained without genres. It predicts no genre: fine-tune it, or probe its encoder.

```bash
python recipes/train_classifier.py CONFIG.yaml --model_name_or_path {name}
python recipes/probe.py CONFIG.yaml --model_name_or_path {name}
```

```python
import hfmgc
from transformers import AutoModel, AutoModelForPreTraining

encoder = AutoModel.from_pretrained("{name}")
```

Without hfmgc, add `trust_remote_code=True` after reading the code of the checkpoint.

| | |
|---|---|
{rows}

## Data

| source | licence | side | tracks | held out | skipped |
|---|---|---|---|---|---|
{sources}

{statistics}
{pictures}

`run.yaml` has all settings, seeds and versions.
"""


def write_pretraining_card(folder: Path, *, hub_model_id: str | None = None, licence: str | None = None) -> Path:
    """Write `README.md` into the folder of a finished pre-training run and return its path."""
    config = load_json((folder / "config.json").read_text(encoding="utf-8"))
    result = load_json((folder / "pretraining.json").read_text(encoding="utf-8"))
    name, data = hub_model_id or folder.resolve().name, result["data"]
    metadata = ModelCardData(
        license=licence, library_name="transformers", tags=["audio", "music", "hfmgc", "self-supervised"]
    )
    figures = {
        "Model type": f"`{config['model_type']}`",
        "Parameters": f"{result['parameters']:,} ({result['trainable_parameters']:,} trained)",
        "Steps": f"{result['steps']:,} ({result['epochs']:g} epochs)",
        **{key.replace("_", " ").capitalize(): f"{result[key]:.4f}" for key in result if key.endswith("_loss")},
        "Licence of this checkpoint": cell(licence) if licence else "not stated by its author",
    }
    sources = [
        f"| {cell(one['name'])} ({cell(one['location'])}) | {cell(one['licence'])} | {one['side'] or 'all'} | {one['tracks']} "
        f"| {one['held_out']} | {len(one['skipped']) + one['too_short']} |"
        for one in data["sources"]
    ]
    statistics = data.get("statistics")
    pictures = [path.name for path in sorted(folder.glob("*.png"))]
    pictures.sort(key=lambda name: name != TRAINING_CURVE)
    text = _CARD.format(
        metadata=metadata.to_yaml(),
        name=one_line(name),
        model=config["architectures"][0],
        rows="\n".join(f"| {key} | {value} |" for key, value in figures.items()),
        sources="\n".join(sources),
        statistics=f"The front end's mean is {statistics['mean']:.4f}, its deviation {statistics['std']:.4f}, from "
        f"{statistics['windows']} random windows of these data.\n"
        if statistics
        else "",
        pictures="\n".join(f"![{Path(name).stem.replace('_', ' ')}]({name})" for name in pictures),
    )
    write_text(folder / CARD_NAME, text)
    return folder / CARD_NAME
