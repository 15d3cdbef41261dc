"""Convert the published weights of MusiCNN from TensorFlow to safetensors.

    pip download --no-deps musicnn==0.1.0
    python convert_musicnn.py musicnn-0.1.0-py3-none-any.whl model.safetensors [--logits logits.json]

Run this script in a separate environment with tensorflow-cpu, safetensors and numpy. Nothing else in hfmgc needs
TensorFlow. `--logits` also writes the logits of the published graph for `fixed_inputs()`, to compare ours with.
"""

import argparse
import hashlib
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
CHECKPOINT = "musicnn/MSD_musicnn/"
# Our names for the numbered layers of the published graph, in the order of their numbers.
CONVOLUTIONS = (
    *(f"model.timbral.{index}.convolution" for index in range(2)),
    *(f"model.temporal.{index}.convolution" for index in range(3)),
    *(f"model.midend.{index}.convolution" for index in range(3)),
)
NORMS = (
    "model.input_norm",
    *(name.replace("convolution", "norm") for name in CONVOLUTIONS),
    "model.pooled_norm",
    "model.dense_norm",
)
DENSE = ("model.dense", "classifier")
NORM_VARIABLES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def convert(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert the variables of the published checkpoint (name -> array) to our weights."""
    tensors = {}
    for index, name in enumerate(CONVOLUTIONS):
        kernel = variables[_numbered("conv2d", index) + "/kernel"]  # [frames, bins, in, out]
        kernel = kernel.transpose(3, 2, 0, 1)
        tensors[f"{name}.weight"] = kernel[:, 0].transpose(0, 2, 1) if "midend" in name else kernel
        tensors[f"{name}.bias"] = variables[_numbered("conv2d", index) + "/bias"]
    for index, name in enumerate(NORMS):
        for variable, tensor in NORM_VARIABLES.items():
            tensors[f"{name}.{tensor}"] = variables[_numbered("batch_normalization", index) + f"/{variable}"]
        tensors[f"{name}.num_batches_tracked"] = np.array(0, dtype=np.int64)
    for index, name in enumerate(DENSE):
        tensors[f"{name}.weight"] = variables[_numbered("dense", index) + "/kernel"].T
        tensors[f"{name}.bias"] = variables[_numbered("dense", index) + "/bias"]
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def fixed_inputs() -> np.ndarray:
    """Return windows [4, 187, 96], float32, on which tests compare our network with the published graph."""
    return np.random.default_rng(0).uniform(0, 4, (4, 187, 96)).astype(np.float32)


def published_logits(checkpoint: str, variables: dict[str, np.ndarray]) -> np.ndarray:
    """Return the published graph's logits [4, 50] for `fixed_inputs()`."""
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

    meta_graph = MetaGraphDef()
    meta_graph.ParseFromString(Path(f"{checkpoint}.meta").read_bytes())
    # Other parts of the graph use operations that TensorFlow no longer contains.
    output = "model/dense_1/BiasAdd"
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(meta_graph.graph_def, [output])
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.import_graph_def(graph_def, name="")
        names = [node.name for node in graph_def.node if node.op == "VariableV2"]
        session.run(
            [tf.raw_ops.Assign(ref=graph.get_tensor_by_name(f"{name}:0"), value=variables[name]) for name in names]
        )
        inputs = {"model/Placeholder:0": fixed_inputs(), "model/Placeholder_2:0": False}
        return session.run(f"{output}:0", inputs)


def read_variables(checkpoint: str) -> dict[str, np.ndarray]:
    """Return the variables of a TensorFlow checkpoint by name."""
    from tensorflow.python.training.py_checkpoint_reader import NewCheckpointReader

    reader = NewCheckpointReader(checkpoint)
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def main() -> None:
    """Convert the wheel that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="musicnn-0.1.0-py3-none-any.whl")
    parser.add_argument("output", type=Path, help="safetensors file to write")
    parser.add_argument("--logits", type=Path, help="JSON file for the published graph's logits")
    arguments = parser.parse_args()
    digest = hashlib.sha256(arguments.wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"error: {arguments.wheel}: sha256 is {digest}, not {SHA256}: download musicnn 0.1.0")
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(arguments.wheel) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.startswith(CHECKPOINT)])
        checkpoint = f"{folder}/{CHECKPOINT}"
        variables = read_variables(checkpoint)
        save_file(convert(variables), arguments.output, metadata={"format": "pt"})
        if arguments.logits:
            arguments.logits.write_text(json.dumps(published_logits(checkpoint, variables).tolist()) + "\n")


def _numbered(name: str, index: int) -> str:
    return name if index == 0 else f"{name}_{index}"


if __name__ == "__main__":
    main()
