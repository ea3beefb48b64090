"""What a training step needs, against one real step and against arithmetic."""

import copy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from brainkit.errors import InputError
from brainkit.training.memory import training_memory


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(40, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, 7)
    )


def test_parameters_gradients_and_moments_are_those_of_a_real_step():
    module, x = network(), torch.randn(50, 40)
    needed = training_memory(module, [x])
    optimiser = torch.optim.AdamW(module.parameters(), foreach=False)
    module(x).sum().backward()
    optimiser.step()
    held = [p for p in module.parameters()]
    assert needed.parameters == sum(p.nbytes for p in held)
    assert needed.gradients == sum(p.grad.nbytes for p in held)
    moments = [v for p in held for n, v in optimiser.state[p].items() if n != "step"]
    assert needed.moments == sum(v.nbytes for v in moments)
    assert needed.total == needed.parameters + needed.gradients + needed.moments + (
        needed.activations
    )


def test_activations_are_what_a_real_forward_pass_leaves_allocated():
    module, x = network(), torch.randn(500, 40)
    needed = training_memory(module, [x])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        out = module(x)
    left = sum(event.self_cpu_memory_usage for event in run.key_averages())
    # what it gives is allocated as well, but not kept for the backward pass
    assert needed.activations == pytest.approx(left - out.nbytes, rel=0.02)


def test_by_hand():
    module = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 7))
    needed = training_memory(module, [torch.randn(50, 40)])
    assert needed.activations == 50 * 64 * 4  # the rectified, which the last layer reads
    # forward both products; backward that of weights for both and of values for the second
    assert needed.flops == 2 * 50 * (2 * 40 * 64 + 3 * 64 * 7)


def test_the_meta_device_gives_the_same():
    with torch.device("meta"):
        module = nn.Sequential(
            nn.Linear(40, 64), nn.LayerNorm(64), nn.GELU(), nn.Dropout(0.2), nn.Linear(64, 7)
        )
        on_meta = training_memory(module, [torch.empty(50, 40)])
    assert on_meta == training_memory(network(), [torch.randn(50, 40)])


def test_a_module_of_any_size_can_be_asked_about():
    with torch.device("meta"):
        module = nn.Linear(100_000, 1_000_000)  # 400 GB
        needed = training_memory(module, [torch.empty(8, 100_000)])
    assert needed.total > 1.6e12


def test_frozen_parameters_need_no_gradients():
    module, x = network(), torch.randn(50, 40)
    module[0].requires_grad_(False)
    needed = training_memory(module, [x])
    assert needed.parameters - needed.gradients == (40 * 64 + 64) * 4
    assert needed.moments == 2 * needed.gradients


def test_outputs_in_dicts_and_losses():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return {"a": self.a(x), "rest": (self.b(x), None)}

    x = torch.randn(5, 4)
    both = training_memory(Named(), [x])
    one = training_memory(Named(), [x], lambda out: out["a"].square().mean())
    assert both.flops == 2 * 2 * 5 * 4 * 5
    assert one.flops == 2 * 5 * (4 * 3 + 4 * 2) + 2 * 5 * 4 * 3  # backward of the first alone


class Attention(nn.Module):
    """Tokens that look at each other, behind one linear layer."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(16, 16, bias=False)

    def forward(self, x):
        tokens = self.project(x)[:, None]
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


def test_attention_is_counted_on_the_processor_and_on_meta():
    # of two samples of 100 tokens, forward two products of 100 x 100 x 16, backward twice that for
    # the plain formula; the fused kernel forms the weights once more
    n, product = 2, 2 * 100 * 100 * 16
    linear = 2 * n * 100 * 16 * 16 * 2
    here = training_memory(Attention(), [torch.randn(n, 100, 16)])
    with torch.device("meta"):
        plain = training_memory(Attention(), [torch.empty(n, 100, 16)])
    assert plain.flops == linear + n * 6 * product
    assert here.flops in (linear + n * 6 * product, linear + n * 7 * product)
    weights = n * 100 * 100 * 4
    assert plain.activations >= weights
    assert here.activations < weights


def test_nothing_is_changed():
    module, x = network().eval(), torch.randn(50, 40)
    module[3].train()
    before = copy.deepcopy(module.state_dict())
    state = torch.random.get_rng_state()
    training_memory(module, [x])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert [part.training for part in module] == [False, False, False, True, False]


def test_modules_that_cannot_be_trained_are_refused():
    x = torch.randn(5, 40)
    with pytest.raises(InputError, match="nothing to train"):
        training_memory(network().requires_grad_(False), [x])
    with pytest.raises(InputError, match="depends on none"):
        training_memory(network(), [x], lambda out: out.detach().sum())

    class Mute(nn.Linear):
        def forward(self, x):
            return None

    module = Mute(40, 2).eval()
    with pytest.raises(InputError, match="no tensor"):
        training_memory(module, [x])
    assert not module.training
