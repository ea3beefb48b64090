"""T22: a part that is said to be trained but that the optimiser never sees."""

import numpy as np
import pytest
import torch
from torch import nn

from brainkit.encoding.readouts import (
    FactorizedReadout,
    GaussianReadout,
    LinearReadout,
    SemanticReadout,
)
from brainkit.errors import InputError, UnknownNameError
from brainkit.training import Schedule, train

SCHEDULE = Schedule(steps=2, warmup=1)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 9, 4)).astype(np.float32)
Y = (X[:, :3].sum(axis=2) + RNG.normal(size=(40, 3))).astype(np.float32)


class Forgetful(nn.Module):
    """Keeps its adapter in a plain list, where torch does not find it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(4, 4)
        self.head = nn.Linear(4, 1)
        self.adapter = [nn.Linear(4, 4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.adapter[0](self.trunk(x)))
        return out


def loss(module: nn.Module, step) -> torch.Tensor:
    return module(torch.randn(8, 4, generator=step.generator)).square().mean()


def test_a_part_that_is_not_registered_raises() -> None:
    with pytest.raises(UnknownNameError, match=r"part to be trained 'adapter': there are"):
        train(Forgetful(), loss, SCHEDULE, parts=("head", "adapter"))


def test_a_part_that_is_frozen_raises() -> None:
    module = Forgetful()
    module.trunk.bias.requires_grad_(False)
    with pytest.raises(InputError, match=r"The part trunk is to be trained.*trunk\.bias"):
        train(module, loss, SCHEDULE, parts=("head", "trunk"))
    report = train(module, loss, SCHEDULE, parts=("head", "trunk.weight"))
    assert report.trained == {"trunk": 16, "head": 5}
    assert report.frozen == {"trunk": 4}


def test_a_part_without_parameters_raises() -> None:
    module = nn.Sequential(nn.Linear(4, 1), nn.ReLU())
    with pytest.raises(InputError, match="The part 1 is to be trained but has no parameters"):
        train(module, loss, SCHEDULE, parts=("1",))


def test_a_part_that_the_loss_does_not_use_raises_also_after_an_interruption(tmp_path) -> None:
    module = Forgetful()
    longer = Schedule(steps=4, warmup=1, checkpoint_every=2)

    def stopping(current: nn.Module, step) -> torch.Tensor:
        if step.number == 2:
            raise KeyboardInterrupt
        return loss(current, step)

    with pytest.raises(KeyboardInterrupt):
        train(module, stopping, longer, folder=tmp_path, identity={"data": "noise"})
    with pytest.raises(InputError, match=r"does not depend on.*trunk\.weight"):
        train(
            module,
            lambda current, step: loss(current.head, step),
            longer,
            folder=tmp_path,
            identity={"data": "noise"},
            parts=("trunk", "head"),
        )


@pytest.mark.parametrize(
    "kind", [LinearReadout, GaussianReadout, FactorizedReadout, SemanticReadout]
)
def test_every_readout_declares_and_trains_all_that_it_has(kind) -> None:
    model = kind(epochs=3, device="cpu", batch_size=8).fit(X, Y)
    assert set(model.report_.trained) == set(model.trained_parts)
    assert model.report_.frozen == {}
    start = model._build()
    for name, value in start.named_parameters():
        assert not torch.equal(value, model.module_.get_parameter(name)), name
