"""Graphs of a model: the common tests of torch.export, ONNX and torch.compile, for any number of tracks and windows."""

import warnings

import onnxruntime
import torch
from torch.export import Dim
from transformers import PreTrainedModel


class ExportTester:
    """Part of `ArchitectureTester`, which states the model."""

    # Frames of a window, fewer than usual where recurrent layers are unrolled over them; None for all.
    graph_frames: int | None = None
    # Whether the whole model is compiled as one graph. By default PyTorch breaks the graph at recurrent layers, which takes
    # several times longer: `TestRecurrent` alone shows that this works as well.
    one_graph = True

    def graph_model(self) -> PreTrainedModel:
        """The model that is exported and compiled; layers that only repeat others would take most of the time."""
        return self.model()

    def batch(self, tracks: int, windows: int, masked: bool) -> dict[str, torch.Tensor]:
        """Keyword arguments of a call; with a mask, tracks have different numbers of windows."""
        batch = {"input_values": self.values(tracks, windows, seed=tracks)[..., : self.graph_frames, :]}
        if masked:
            counts = torch.arange(tracks).unsqueeze(1) % windows + 1
            batch["window_mask"] = torch.arange(windows) < counts
            batch["input_values"][~batch["window_mask"]] = 1e6  # must not be heard
        return batch

    @torch.no_grad()
    def test_an_exported_model_answers_as_itself_for_any_number_of_tracks_and_windows(self, one_operator_registry):
        model, example = self.graph_model(), self.batch(3, 2, masked=True)
        free = {0: Dim("tracks"), 1: Dim("windows")}
        with warnings.catch_warnings():
            # Of recurrent layers' own lists of weights, and of the exporter's versions.
            warnings.simplefilter("ignore")
            program = torch.export.export(model, (), example, dynamic_shapes=dict.fromkeys(example, free))
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
        for tracks, windows in ((3, 2), (5, 4), (1, 1)):
            batch = self.batch(tracks, windows, masked=True)
            expected = model(**batch)
            answers = program.module()(**batch)
            arrays = [torch.from_numpy(array) for array in session.run(None, {k: v.numpy() for k, v in batch.items()})]
            assert list(answers) == list(expected)
            assert len(arrays) == len(expected)
            for name, array in zip(expected, arrays, strict=True):
                torch.testing.assert_close(answers[name], expected[name], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(array, expected[name], atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_a_model_compiled_once_answers_as_itself_for_batches_of_any_size(self):
        graphs, counts = [], []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph.forward

        model = self.graph_model()
        compiled = torch.compile(model, backend=backend, fullgraph=self.one_graph, dynamic=True)
        # From 16 windows on PyTorch may choose another convolution, and compile once more for it.
        for tracks, windows in ((3, 2), (5, 3), (2, 4)):
            batch = self.batch(tracks, windows, masked=True)
            torch._dynamo.mark_static(batch["input_values"], (2, 3))  # unknown sizes of windows take far longer
            with torch._dynamo.config.patch(allow_rnn=self.one_graph):
                answers, expected = compiled(**batch), model(**batch)
            for name in expected:
                self.close(answers[name], expected[name])
            counts.append(len(graphs))
        # Where the graph is broken, PyTorch learns from the second batch which numbers between its parts change.
        assert counts == [1, 1, 1] if self.one_graph else counts[1] == counts[2]
        torch.compiler.reset()
