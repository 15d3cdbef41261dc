"""A Python where hfmgc does not exist, which loads checkpoints from the code that lies in them.

    python -c "$(cat elsewhere.py)" MODULES_CACHE

For each line `[FOLDER, INPUTS, ANSWERS]` on standard input it answers for a checkpoint, and says `answered`.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO


class Elsewhere:
    """The process, started when it is first asked: importing everything anew for each checkpoint takes longest."""

    def __init__(self, place: Path):
        self._place = place
        self._streams: tuple[TextIO, TextIO] | None = None

    def ask(self, folder: Path, inputs: Path) -> dict[str, Any]:
        """Return what a checkpoint answers to the arrays `values` and `waveform` of an .npz file."""
        if self._streams is None:
            from fresh import start_fresh  # not above: the process does not find the modules of the tests

            self._streams = start_fresh(Path(__file__).read_text(), self._place / "modules", folder=self._place)
        questions, said = self._streams
        answers = inputs.with_suffix(".json")
        print(json.dumps([str(folder), str(inputs), str(answers)]), file=questions, flush=True)
        for line in said:  # libraries may say things before
            if line == "answered\n":
                return json.loads(answers.read_text())
        raise AssertionError("the process has ended")

    def close(self) -> None:
        """End the process."""
        if self._streams is not None:
            questions, said = self._streams
            questions.close()
            said.read()  # until its end


def answer(folder: str, inputs: str) -> dict[str, Any]:
    """Return what a checkpoint is and says; of a front end saved alone, its features."""
    import numpy as np
    import torch
    import transformers

    given = np.load(inputs)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
    features = extractor(given["waveform"], sampling_rate=extractor.sampling_rate)["input_values"]
    if not (Path(folder) / "config.json").exists():
        return {"features": np.asarray(features).tolist()}
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=True)
    if (
        "AutoModelForPreTraining" in config.auto_map
        and config.architectures[0] in config.auto_map["AutoModelForPreTraining"]
    ):
        model = transformers.AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True).eval()
        encoder = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
        values = torch.from_numpy(given["values"])
        with torch.no_grad():
            loss = model(values, seeds=torch.arange(len(values))).loss
        return {
            "loss": loss.item(),
            "modules": [type(thing).__module__ for thing in (config, extractor, model, encoder)],
        }
    model = transformers.AutoModelForAudioClassification.from_pretrained(folder, trust_remote_code=True).eval()
    encoder = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    classify = transformers.pipeline("audio-classification", model=folder, trust_remote_code=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(given["values"])).logits
        embeddings = encoder(torch.from_numpy(given["values"])).pooler_output
    return {
        "config": config.to_dict(),
        "logits": logits.tolist(),
        "embeddings": embeddings.tolist(),
        "features": np.asarray(features).tolist(),
        "scores": classify(given["waveform"], top_k=None),
        "modules": [type(thing).__module__ for thing in (config, extractor, model, encoder)],
    }


def main() -> None:
    """Answer until nobody asks any more."""
    sys.modules["hfmgc"] = None  # importing it fails from here on
    os.environ["HF_MODULES_CACHE"] = sys.argv[1]  # before transformers is imported, which reads it then
    for line in sys.stdin:
        folder, inputs, answers = json.loads(line)
        try:
            found = answer(folder, inputs)
        except Exception:
            found = {"error": traceback.format_exc()}
        Path(answers).write_text(json.dumps(found))
        print("answered", flush=True)


if __name__ == "__main__":
    main()
