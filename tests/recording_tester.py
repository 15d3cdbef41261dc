"""What every architecture must show of itself when it is asked: hidden states and attentions."""

import torch


class RecordingTester:
    """Part of `ArchitectureTester`."""

    # Layers or blocks of the tiny config, and 1 for the input of the first.
    num_hidden_states: int
    num_attentions = 0

    def test_hidden_states_are_those_of_every_layer_by_call_and_by_config(self, tmp_path):
        values, mask = self.values(2, 3), torch.tensor([[True, True, False], [True, False, False]])
        labels = torch.tensor([0, 2])
        model = self.model()
        plain = model(values, window_mask=mask)
        assert plain.hidden_states is None and plain.attentions is None
        output = model(values, window_mask=mask, labels=labels, output_hidden_states=True)
        assert torch.equal(output.logits, plain.logits)
        assert output.hidden_states, "the model must name its layers in `_can_record_outputs`"
        assert [len(state) for state in output.hidden_states] == [3] * self.num_hidden_states
        # They are what the answer was computed from, not copies.
        gradients = torch.autograd.grad(output.loss, output.hidden_states[1:])
        assert all(gradient.any() for gradient in gradients)
        named = model(values, window_mask=mask, output_hidden_states=True, return_dict=False)
        assert any(isinstance(part, tuple) and len(part) == self.num_hidden_states for part in named)

        folder, _ = self.saved(tmp_path)
        for asked in (
            self.model(output_hidden_states=True),
            type(model).from_pretrained(folder, output_hidden_states=True),
        ):
            by_config = asked(values, window_mask=mask)
            for state, expected in zip(by_config.hidden_states, output.hidden_states, strict=True):
                assert torch.equal(state, expected)
            assert asked(values, window_mask=mask, output_hidden_states=False).hidden_states is None

    def test_attentions_are_those_of_every_layer_by_call_and_by_config(self, tmp_path):
        values = self.values(2, 3)
        model = self.model(attn_implementation="eager")
        output = model(values, output_attentions=True)
        assert len(output.attentions or ()) == self.num_attentions
        for attention in output.attentions or ():
            assert attention.shape[0] == 6 and attention.shape[2] == attention.shape[3]
            self.close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))
        folder, _ = self.saved(tmp_path)
        for asked in (self.model(output_attentions=True), type(model).from_pretrained(folder, output_attentions=True)):
            by_config = asked(values).attentions or ()
            for attention, expected in zip(by_config, output.attentions or (), strict=True):
                assert torch.equal(attention, expected)
        asked.save_pretrained(tmp_path / "again")
        assert type(model).from_pretrained(tmp_path / "again").config.output_attentions
