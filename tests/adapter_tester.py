"""What every architecture must be able to do with an adapter of PEFT."""

import pytest
import torch
from conftest import scatter_parameters
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel


class AdapterTester:
    """Part of `ArchitectureTester`: DoRA and LoRA on every layer that PEFT can adapt."""

    # Parts of the names of layers that PEFT cannot merge.
    cannot_be_adapted: tuple[str, ...] = ()

    def adapted(self, kind: str) -> tuple[PreTrainedModel, PeftModel]:
        """The model, and it again with an adapter that changes its answers."""
        model = self.model()
        layers = (nn.Linear, nn.Conv1d, nn.Conv2d)
        targets = [
            name
            for name, module in model.named_modules()
            if isinstance(module, layers) and not any(part in name for part in self.cannot_be_adapted)
        ]
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=targets, use_dora=kind == "dora"))
        # The second matrix of LoRA starts at zero, which would hide the first.
        scatter_parameters(nn.ParameterList(p for p in adapted.parameters() if p.requires_grad))
        return self.model(), adapted.eval()

    @pytest.mark.parametrize("kind", ["dora", "lora"])
    def test_every_parameter_of_an_adapter_gets_a_gradient(self, kind):
        _, adapted = self.adapted(kind)
        adapted.train()(input_values=self.values(6, 2), labels=torch.tensor([0, 1, 2, 0, 1, 2])).loss.backward()
        trained = {name: p.grad for name, p in adapted.named_parameters() if p.requires_grad}
        assert trained and all("lora_" in name for name in trained)
        assert not [name for name, gradient in trained.items() if gradient is None or not gradient.any()]

    def test_training_an_adapter_leaves_running_statistics_unchanged(self):
        """They are not saved with the adapter."""
        base, adapted = self.adapted("lora")
        adapted.train()(input_values=self.values(6, 2))
        buffers = dict(adapted.get_base_model().named_buffers())
        for name, value in base.named_buffers():
            assert torch.equal(buffers[name], value), name

    @pytest.mark.parametrize("kind", ["dora", "lora"])
    def test_evaluation_with_an_adapter_equals_merged_and_reloaded(self, kind, tmp_path):
        base, adapted = self.adapted(kind)
        values = self.values(3, 2)
        with torch.no_grad():
            expected = adapted(input_values=values).logits
            assert (expected - base(values).logits).abs().max() > 1e-3, "the adapter is ignored"
            adapted.save_pretrained(tmp_path / "adapter")
            reloaded = PeftModel.from_pretrained(self.model(), tmp_path / "adapter").eval()
            self.close(reloaded(input_values=values).logits, expected)
            merged = adapted.merge_and_unload()
            torch.testing.assert_close(merged(values).logits, expected, atol=1e-4, rtol=1e-4)
            merged.save_pretrained(tmp_path / "merged")
            again = type(base).from_pretrained(tmp_path / "merged")
            for name, weight in merged.state_dict().items():
                assert torch.equal(again.state_dict()[name], weight), name
            # Not bit for bit: where a weight lies in memory decides how its products are rounded.
            self.close(again(values).logits, merged(values).logits)
