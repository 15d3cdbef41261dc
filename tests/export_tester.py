"""Graphs of a model: the common tests of torch.export, ONNX and torch.compile, for any number of tracks and windows."""

import warnings

import onnxruntime
import pytest
import torch
from torch.export import Dim


class ExportTester:
    """Part of `ArchitectureTester`, which states the model."""

    def batch(self, tracks: int, windows: int, masked: bool) -> dict[str, torch.Tensor]:
        """Keyword arguments of a call; with a mask, tracks have different numbers of windows."""
        batch = {"input_values": self.values(tracks, windows, seed=tracks)}
        if masked:
            counts = torch.arange(tracks).unsqueeze(1) % windows + 1
            batch["window_mask"] = torch.arange(windows) < counts
            batch["input_values"][~batch["window_mask"]] = 1e6  # must not be heard
        return batch

    @pytest.mark.parametrize("masked", [False, True])
    @torch.no_grad()
    def test_an_exported_model_answers_as_itself_for_any_number_of_tracks_and_windows(self, masked):
        model, example = self.model(), self.batch(3, 2, masked)
        free = {0: Dim("tracks"), 1: Dim("windows")}
        program = torch.export.export(model, (), example, dynamic_shapes=dict.fromkeys(example, free))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own versions
            exported = torch.onnx.export(program, dynamo=True, verbose=False)
        session = onnxruntime.InferenceSession(exported.model_proto.SerializeToString())
        for tracks, windows in ((3, 2), (5, 4), (1, 1)):
            batch = self.batch(tracks, windows, masked)
            expected = model(**batch)
            answers = program.module()(**batch)
            arrays = [torch.from_numpy(array) for array in session.run(None, {k: v.numpy() for k, v in batch.items()})]
            assert list(answers) == list(expected)
            assert len(arrays) == len(expected)
            for name, array in zip(expected, arrays, strict=True):
                torch.testing.assert_close(answers[name], expected[name], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(array, expected[name], atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("masked", [False, True])
    @torch.no_grad()
    def test_one_compiled_graph_answers_as_the_model_for_batches_of_any_size(self, masked):
        graphs = []

        def backend(graph, inputs):
            graphs.append(graph)
            return graph.forward

        model = self.model()
        compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)
        for tracks, windows in ((3, 2), (5, 4), (2, 3)):
            batch = self.batch(tracks, windows, masked)
            answers, expected = compiled(**batch), model(**batch)
            for name in expected:
                self.close(answers[name], expected[name])
        assert len(graphs) == 1
        torch.compiler.reset()

    def test_a_compiled_model_trains_as_itself(self):
        gradients = []
        for compiled in (False, True):
            model = self.model().train()
            for module in model.modules():  # without dropout, to compare
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            call = torch.compile(model, backend="aot_eager") if compiled else model
            call(self.values(4), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
            gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        self.close(gradients[1], gradients[0])
        torch.compiler.reset()
