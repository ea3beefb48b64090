"""Contrastive losses against closed forms, open_clip's and hand-worked batches."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from brainkit.errors import InputError, UnknownNameError
from brainkit.training.contrastive import (
    Temperature,
    bi_mixco,
    cosine_distance,
    info_nce,
    mixed,
    similarity,
    soft_clip,
)


@pytest.fixture
def pair():
    torch.manual_seed(0)
    return torch.randn(6, 4), torch.randn(6, 4)


SCALE = torch.tensor(math.log(14.0))


def test_info_nce_with_both_sides_normalised_is_the_loss_of_clip(pair):
    from open_clip.loss import ClipLoss

    a, b = (functional.normalize(x, dim=1) for x in pair)
    expected = ClipLoss()(a, b, SCALE.exp())
    assert torch.allclose(info_nce(*pair, SCALE), expected, atol=1e-6)


def test_several_right_answers_share_the_weight(pair):
    a, b = pair
    same = torch.eye(6, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    logits = functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T
    rows, columns = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    by_row = [-(rows[0, 0] + rows[0, 1]) / 2, -(rows[1, 0] + rows[1, 1]) / 2]
    by_column = [-(columns[0, 0] + columns[1, 0]) / 2, -(columns[0, 1] + columns[1, 1]) / 2]
    by_row += [-rows[i, i] for i in range(2, 6)]
    by_column += [-columns[i, i] for i in range(2, 6)]
    expected = (torch.stack(by_row).mean() + torch.stack(by_column).mean()) / 2
    assert torch.allclose(info_nce(a, b, torch.tensor(0.0), same=same), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("normalise", "sides"),
    [("both", (True, True)), ("image", (False, True)), ("brain", (True, False)), ("none", (0, 0))],
)
def test_the_side_that_is_normalised_is_the_one_named(pair, normalise, sides):
    brain, image = (
        functional.normalize(x, dim=1) if unit else x for x, unit in zip(pair, sides, strict=True)
    )
    expected = 14.0 * brain @ image.T
    assert torch.allclose(similarity(*pair, SCALE, normalise), expected, atol=1e-5)


def test_only_the_length_of_a_side_that_is_not_normalised_matters(pair):
    brain, image = pair
    assert torch.allclose(info_nce(3 * brain, image, SCALE), info_nce(brain, image, SCALE))
    changed = info_nce(3 * brain, image, SCALE, normalise="image")
    assert abs(float(changed - info_nce(brain, image, SCALE, normalise="image"))) > 1e-3


def test_tokens_are_compared_as_one_vector():
    torch.manual_seed(1)
    brain, image = torch.randn(5, 3, 2), torch.randn(5, 3, 2)
    assert torch.equal(
        info_nce(brain, image, SCALE), info_nce(brain.flatten(1), image.flatten(1), SCALE)
    )


def test_soft_clip_by_hand():
    brain = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    image = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    scale = torch.tensor(math.log(2.0))
    s = 2 * np.array([[1.0, 0.8], [0.6, 0.96]])  # brain · image
    z = 2 * np.array([[1.0, 0.8], [0.8, 1.0]])  # image · image

    def log_softmax(values):
        return values - np.log(np.exp(values).sum(axis=1, keepdims=True))

    target = np.exp(log_softmax(z))
    expected = [-(target * log_softmax(side)).sum(axis=1).mean() for side in (s, s.T)]
    assert float(soft_clip(brain, image, scale)) == pytest.approx(np.mean(expected), abs=1e-6)


def test_no_gradient_goes_through_what_soft_clip_aims_at(pair):
    brain, image = pair[0], pair[1].clone().requires_grad_(True)
    soft_clip(brain, image, SCALE).backward()
    through_brain = image.grad.clone()
    image.grad = None
    target = similarity(image, image, SCALE).softmax(dim=1).detach()
    logits = similarity(brain, image, SCALE)
    both = functional.cross_entropy(logits, target), functional.cross_entropy(logits.T, target)
    (sum(both) / 2).backward()
    assert torch.allclose(through_brain, image.grad, atol=1e-6)


def test_bi_mixco_is_the_mean_of_both_parts_losses(pair):
    brain, image = pair
    partner = torch.tensor([1, 2, 3, 4, 5, 0])
    share = torch.tensor([1.0, 0.9, 0.8, 0.5, 0.3, 0.0])
    logits = similarity(brain, image, SCALE)
    rows = logits.log_softmax(dim=1)
    n = torch.arange(6)
    forward = -(share * rows[n, n] + (1 - share) * rows[n, partner]).mean()
    right = torch.zeros(6, 6)
    right[n, n] += share
    right[n, partner] += 1 - share
    weights = right / right.sum(dim=0)
    backward = -(weights * logits.log_softmax(dim=0)).sum(dim=0).mean()
    expected = (forward + backward) / 2
    assert torch.allclose(bi_mixco(brain, image, SCALE, partner, share), expected, atol=1e-6)


def test_a_batch_that_is_not_mixed_has_the_plain_loss(pair):
    partner, share = torch.tensor([1, 0, 3, 2, 5, 4]), torch.ones(6)
    assert torch.allclose(bi_mixco(*pair, SCALE, partner, share), info_nce(*pair, SCALE), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 9), beta=st.floats(0.05, 3.0), seed=st.integers(0, 2**31))
def test_mixtures_are_what_they_say(n, beta, seed):
    values = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    one = mixed(values, torch.Generator().manual_seed(seed), beta)
    again = mixed(values, torch.Generator().manual_seed(seed), beta)
    assert torch.equal(one.values, again.values)
    assert sorted(one.partner.tolist()) == list(range(n))
    assert bool(((one.share >= 0) & (one.share <= 1)).all())
    share = one.share[:, None]
    assert torch.allclose(one.values, share * values + (1 - share) * values[one.partner])


def test_shares_of_a_small_beta_lie_at_the_ends():
    one = mixed(torch.zeros(4000, 1), torch.Generator().manual_seed(0), 0.15)
    assert float(((one.share < 0.05) | (one.share > 0.95)).float().mean()) > 0.6
    assert float(one.share.mean()) == pytest.approx(0.5, abs=0.03)


def test_the_temperature_is_exponentiated_and_has_a_gradient(pair):
    temperature = Temperature()
    assert temperature.scale == pytest.approx(1 / 0.07)
    info_nce(*pair, temperature()).backward()
    step = 1e-3
    with torch.no_grad():
        t = temperature.log_scale.clone()
        high, low = info_nce(*pair, t + step), info_nce(*pair, t - step)
    gradient = float(temperature.log_scale.grad)
    assert gradient == pytest.approx(float((high - low) / (2 * step)), rel=2e-2)
    assert abs(gradient) > 1e-3


def test_the_temperature_is_among_the_parameters_of_what_holds_it():
    holder = nn.Module()
    holder.temperature = Temperature()
    assert [name for name, _ in holder.named_parameters()] == ["temperature.log_scale"]


def test_the_temperature_stops_at_a_hundred():
    temperature = Temperature(90.0)
    with torch.no_grad():
        temperature.log_scale.fill_(9.0)
    assert temperature.scale == pytest.approx(100.0, rel=1e-5)


def test_cosine_distance_by_hand():
    predicted = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    truth = torch.tensor([[2.0, 0.0], [1.0, -1.0]])
    assert float(cosine_distance(predicted, truth)) == pytest.approx(0.5)


def test_what_does_not_fit_is_refused(pair):
    with pytest.raises(InputError, match="one width"):
        similarity(torch.zeros(2, 3), torch.zeros(2, 4), SCALE)
    with pytest.raises(InputError, match="Pairs are contrasted"):
        info_nce(torch.zeros(2, 3), torch.zeros(3, 3), SCALE)
    with pytest.raises(UnknownNameError, match="side to normalise"):
        info_nce(*pair, SCALE, normalise="y")
    with pytest.raises(InputError, match="inverse temperature"):
        Temperature(0.0)
    with pytest.raises(InputError, match="beta above 0"):
        mixed(torch.zeros(3, 1), torch.Generator(), 0.0)
