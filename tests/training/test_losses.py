"""Losses against closed forms and open_clip's."""

import numpy as np
import pytest
import torch

from brainkit.errors import InputError
from brainkit.training import variance_matched_l1
from brainkit.training.losses import (
    REGRESSION_LOSSES,
    concordance_loss,
    cosine_and_contrast,
    squared_error_and_concordance,
)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(6, 4), torch.randn(6, 4)


def test_cosine_and_contrast_in_closed_form_whatever_the_lengths():
    truth = torch.eye(2)
    predicted = torch.tensor([[3.0, 4.0], [0.0, 7.0]])  # cosines .6 and 1 with their own
    scale = torch.tensor(np.log(2.0), requires_grad=True)
    s = np.array([[0.6, 0.8], [0.0, 1.0]]) * 2
    rows = -(s.diagonal() - np.log(np.exp(s).sum(axis=1))).mean()
    columns = -(s.diagonal() - np.log(np.exp(s).sum(axis=0))).mean()
    loss = cosine_and_contrast(predicted, 5 * truth, scale)
    assert float(loss) == pytest.approx(0.2 + 0.1 * (rows + columns) / 2, rel=1e-5)
    alone = cosine_and_contrast(predicted, truth, scale, weight=0.0)
    assert float(alone) == pytest.approx(0.2, rel=1e-5)
    loss.backward()
    assert abs(float(scale.grad)) > 1e-4
    with pytest.raises(InputError, match="2 brain embeddings and 1 of images"):
        cosine_and_contrast(predicted, truth[:1], scale)


def test_the_loss_of_an_autoencoder_in_closed_form():
    shown = torch.zeros(2, 3, 4, 4)
    latents = torch.full((2, 4, 2, 2), 2.0)
    expected = 0.5 + 0.3 * 0.25 + 0.01 * np.log(4.0) ** 2
    assert float(variance_matched_l1(shown + 0.5, shown, latents)) == pytest.approx(expected)


def lin(a, b):
    """Return the concordance correlation as Lin (1989) writes it, in double precision."""
    a, b = (np.asarray(value, dtype=np.float64).ravel() for value in (a, b))
    covariance = ((a - a.mean()) * (b - b.mean())).mean()
    return 2 * covariance / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (0.3, 0), (2, 1), (-1, 0), (0, 0.5)])
def test_concordance_is_that_of_all_numbers_together(pair, scale, shift):
    truth = pair[0]
    predicted = scale * truth + shift + 0.1 * pair[1]
    loss = concordance_loss(predicted, truth)
    assert loss.shape == ()
    assert float(loss) == pytest.approx(1 - lin(predicted, truth), abs=1e-6)
    both = squared_error_and_concordance(predicted, truth)
    assert float(both) == pytest.approx(float((predicted - truth).square().mean() + loss), rel=1e-6)
    assert float(concordance_loss(predicted.T, truth.T)) == pytest.approx(float(loss), abs=1e-6)


def test_concordance_at_its_ends(pair):
    truth = pair[0]
    assert float(concordance_loss(truth, truth)) == 0
    centred = truth - truth.mean()
    assert float(concordance_loss(-centred, centred)) == pytest.approx(2, abs=1e-6)
    constant = torch.full_like(truth, 3.0)
    assert float(concordance_loss(constant, truth)) == pytest.approx(1, abs=1e-6)
    assert float(concordance_loss(constant, constant)) == 0


def test_concordance_has_a_gradient_that_closes_the_gap(pair):
    """A correlation alone would be content with half the spread; this is not."""
    truth = pair[0].double()
    predicted = (0.5 * truth).requires_grad_()
    concordance_loss(predicted, truth).backward()
    assert torch.autograd.gradcheck(lambda p: concordance_loss(p, truth), predicted)
    stretched = 0.5 * truth - 1e-3 * predicted.grad
    assert lin(stretched.detach(), truth) > lin(predicted.detach(), truth)
    zeros = torch.zeros_like(truth, requires_grad=True)  # where readouts begin without a start
    concordance_loss(zeros, truth).backward()
    assert torch.isfinite(zeros.grad).all()
    assert zeros.grad.abs().max() > 0


def test_the_losses_by_name():
    assert set(REGRESSION_LOSSES) == {"mse", "ccc", "mse+ccc"}
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    # MSE (1 + 4) / 2; CCC 2 (.5) / (.25 + 1 + 2.25)
    found = {name: float(loss(a, b)) for name, loss in REGRESSION_LOSSES.items()}
    assert found == pytest.approx({"mse": 2.5, "ccc": 1 - 1 / 3.5, "mse+ccc": 3.5 - 1 / 3.5})
