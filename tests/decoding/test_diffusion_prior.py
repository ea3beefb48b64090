"""The diffusion prior: its schedule, its way back, what it learns, what its samples depend on."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from brainkit.decoding.diffusion_prior import (
    DiffusionPrior,
    cosine_schedule,
    reverse_diffusion,
    sampling_times,
)
from brainkit.errors import InputError


def numbers(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def small(width=8, n_tokens=3, **options):
    torch.manual_seed(0)
    sizes = {"depth": 2, "heads": 2, "head_width": 4, "n_steps": 20}
    return DiffusionPrior(width, n_tokens, **{**sizes, **options})


# -- noise, and the way back from it ---------------------------------------------------------------


def test_the_schedule_falls_and_equals_that_of_diffusers():
    remaining = cosine_schedule(100)
    assert remaining.dtype == torch.float64
    assert (remaining.diff() < 0).all()
    assert remaining[0] > 0.999
    assert remaining[-1] < 1e-5
    peer = DDIMScheduler(100, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    np.testing.assert_allclose(remaining, peer, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_sampling_times_are_spread_over_all_steps(n_steps, data):
    steps = data.draw(st.integers(1, n_steps))
    times = sampling_times(n_steps, steps)
    assert len(times) == len(set(times)) == steps
    assert times[0] == n_steps - 1
    assert times == sorted(times, reverse=True)
    assert times[-1] >= 0
    gaps = -np.diff([*times, -1])
    assert gaps.max() - gaps.min() <= 1


def test_all_steps_are_all_times():
    assert sampling_times(5, 5) == [4, 3, 2, 1, 0]
    assert sampling_times(100, 4) == [99, 74, 49, 24]


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_who_knows_the_image_comes_back_to_it(eta):
    truth = numbers(4, 3, 8)
    back = reverse_diffusion(
        lambda x, t: truth, numbers(4, 3, 8, seed=2), cosine_schedule(50),
        sampling_times(50, 7), eta=eta, noise=lambda: numbers(4, 3, 8, seed=3),
    )  # fmt: skip
    assert torch.equal(back, truth)


def test_images_of_unit_variance_come_from_noise_by_a_known_factor():
    """There E[x0 | xt] = sqrt(a) xt, and each step multiplies by the cosine of an angle."""
    remaining, times = cosine_schedule(100), sampling_times(100, 10)
    start = numbers(5, 2, seed=4).double()
    back = reverse_diffusion(lambda x, t: math.sqrt(remaining[t]) * x, start, remaining, times)
    angles = [math.acos(math.sqrt(remaining[t])) for t in times]
    factor = math.prod(math.cos(a - b) for a, b in pairwise(angles))
    torch.testing.assert_close(back, start * factor * math.cos(angles[-1]))


def test_noise_on_the_way_adds_the_variance_of_the_equation():
    """From x to c x + sigma z, with c and sigma of the equation, so that variances add up."""
    remaining, times, eta = cosine_schedule(50), sampling_times(50, 5), 0.8
    draws, n = generator(0), 200_000
    back = reverse_diffusion(
        lambda x, t: math.sqrt(remaining[t]) * x,
        torch.randn(n, generator=draws, dtype=torch.float64),
        remaining,
        times,
        eta=eta,
        noise=lambda: torch.randn(n, generator=draws, dtype=torch.float64),
    )
    expected = 1.0
    for t, s in pairwise(times):
        a, b = float(remaining[t]), float(remaining[s])
        added = eta**2 * (1 - b) / (1 - a) * (1 - a / b)
        c = math.sqrt(a * b) + math.sqrt((1 - b - added) * (1 - a))
        expected = c**2 * expected + added
    expected *= float(remaining[times[-1]])
    assert float(back.var()) == pytest.approx(expected, rel=0.01)


def test_the_way_back_equals_that_of_diffusers():
    remaining, times = cosine_schedule(100), sampling_times(100, 20)
    peer = DDIMScheduler(
        100, beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=False,
        set_alpha_to_one=True, timestep_spacing="trailing",
    )  # fmt: skip
    peer.set_timesteps(20)
    assert peer.timesteps.tolist() == times
    weight = numbers(8, 8).double() / 4

    def clean(x, t):
        return torch.tanh(x @ weight)

    start = numbers(3, 8, seed=2).double()
    values = start
    for time in peer.timesteps:
        values = peer.step(clean(values, time), time, values).prev_sample
    back = reverse_diffusion(clean, start, remaining, times)
    torch.testing.assert_close(back, values, atol=1e-4, rtol=1e-4)  # its schedule is float32


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "brain", "image"),
    [
        ({}, (4, 3, 8), (4, 3, 8)),
        ({"queries": True}, (4, 3, 8), (4, 3, 8)),
        ({"n_tokens": 1}, (4, 8), (4, 8)),
        ({"n_tokens": 1, "n_brain_tokens": 5, "brain_width": 6}, (4, 5, 6), (4, 8)),
        ({"n_brain_tokens": 1, "brain_width": 6}, (4, 6), (4, 3, 8)),
    ],
)
def test_shapes_and_gradients(options, brain, image):
    prior = small(**options)
    loss = prior.loss(numbers(*brain), numbers(*image, seed=2), generator(3))
    assert loss.shape == ()
    loss.backward()
    without = [n for n, p in prior.named_parameters() if p.grad is None or not p.grad.any()]
    assert set(without) <= {"no_brain", "no_image"}  # which no row of the few may have had
    drawn = prior.sample(numbers(*brain), 0, steps=3)
    assert drawn.shape == image
    assert not drawn.requires_grad


def test_replaced_tokens_are_trained_and_what_they_replace_is_not_read():
    prior = small(brain_drop=0.99, image_drop=0.99)
    prior.loss(numbers(64, 3, 8), numbers(64, 3, 8, seed=2), generator()).backward()
    assert prior.no_brain.grad.any()
    assert prior.no_image.grad.any()
    every = torch.ones(4, dtype=torch.bool)
    times = torch.full((4,), 7)
    noisy = numbers(4, 3, 8)
    no_brain = [
        prior.denoise(noisy, times, numbers(4, 3, 8, seed=s), (~every, every)) for s in (2, 3)
    ]
    assert torch.equal(*no_brain)
    no_image = [
        prior.denoise(numbers(4, 3, 8, seed=s), times, noisy, (every, ~every)) for s in (2, 3)
    ]
    assert torch.equal(*no_image)
    assert not torch.allclose(no_brain[0], no_image[0])


def test_the_share_of_replaced_rows(monkeypatch):
    prior = small(brain_drop=0.3, image_drop=0.1)
    seen = []
    true = prior.denoise
    monkeypatch.setattr(prior, "denoise", lambda *a: seen.append(a[3]) or true(*a))
    prior.loss(numbers(4000, 3, 8), numbers(4000, 3, 8), generator())
    brain, image = seen[0]
    assert float(brain.float().mean()) == pytest.approx(0.7, abs=0.03)
    assert float(image.float().mean()) == pytest.approx(0.9, abs=0.03)
    both = (~brain & ~image).float().mean()
    assert float(both) == pytest.approx(0.03, abs=0.015)  # one has nothing to do with the other


def test_the_network_tells_steps_and_positions_apart():
    prior = small().eval()
    noisy, brain = numbers(2, 3, 8), numbers(2, 3, 8, seed=2)
    first, last = (prior.denoise(noisy, torch.full((2,), t), brain) for t in (0, 19))
    assert not torch.allclose(first, last, atol=1e-3)
    turned = prior.denoise(noisy.flip(1), torch.zeros(2, dtype=int), brain).flip(1)
    assert not torch.allclose(first, turned, atol=1e-3)


def test_the_space_of_training_images():
    prior = small()
    images = 5 + 0.1 * numbers(500, 3, 8)
    prior.set_space(images)
    torch.testing.assert_close(prior.centre, images.mean(dim=0))
    assert float(prior.spread) == pytest.approx(0.1, rel=0.02)
    plain = small()
    scaled = (images - prior.centre) / prior.spread
    brain = numbers(500, 3, 8, seed=2)
    torch.testing.assert_close(
        prior.loss(brain, images, generator()), plain.loss(brain, scaled, generator())
    )
    torch.testing.assert_close(
        prior.sample(brain[:4], 3), plain.sample(brain[:4], 3) * prior.spread + prior.centre
    )


SPREAD = 0.2  # of images around their exemplar
EXEMPLARS = numbers(2, 2, 16, seed=4)  # two of each of two kinds
CODES = numbers(2, 16, seed=3)  # what the brain says: the kind alone


@pytest.fixture(scope="module")
def trained():
    """A prior trained where the brain tells the kind of an image, of which there are two."""
    torch.manual_seed(0)
    prior = DiffusionPrior(16, depth=1, heads=2, head_width=8, n_steps=20)
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    for step in range(300):
        draws = generator(step)
        kind, which = torch.randint(2, (2, 128), generator=draws)
        images = EXEMPLARS[kind, which] + SPREAD * torch.randn(128, 16, generator=draws)
        optimiser.zero_grad()
        prior.loss(CODES[kind], images, draws).backward()
        optimiser.step()
        rate.step()
    return prior.eval()


@pytest.mark.parametrize("kind", [0, 1])
def test_at_full_noise_it_gives_the_conditional_mean(trained, kind):
    brain, mean = CODES[kind].expand(400, 16), EXEMPLARS[kind].mean(dim=0)
    last = torch.full((400,), trained.n_steps - 1)
    with torch.no_grad():
        said = trained.denoise(numbers(400, 1, 16, seed=8), last, brain)[:, 0].mean(dim=0)
    other = EXEMPLARS[1 - kind].mean(dim=0)
    assert (said - mean).square().mean() < 0.05 * mean.square().mean()
    assert (said - mean).square().mean() < 0.05 * (said - other).square().mean()


@pytest.mark.parametrize("time", [4, 8, 12])
def test_in_between_it_gives_the_posterior_mean(trained, time):
    """Of a mixture of two: each exemplar's own posterior mean, by how likely it made the image."""
    kind, which = torch.randint(2, (2, 400), generator=generator(1))
    a = float(cosine_schedule(trained.n_steps)[time])
    images = EXEMPLARS[kind, which] + SPREAD * numbers(400, 16, seed=10)
    noisy = math.sqrt(a) * images + math.sqrt(1 - a) * numbers(400, 16, seed=11)
    variance = a * SPREAD**2 + 1 - a
    means = EXEMPLARS[kind]  # (400, 2, 16)
    away = noisy[:, None] - math.sqrt(a) * means
    share = (-away.square().sum(dim=-1) / (2 * variance)).softmax(dim=1)
    posterior = means + math.sqrt(a) * SPREAD**2 / variance * away
    expected = (share[..., None] * posterior).sum(dim=1)
    with torch.no_grad():
        said = trained.denoise(noisy[:, None], torch.full((400,), time), CODES[kind])[:, 0]
    assert (said - expected).square().mean() < 0.1 * expected.square().mean()


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("kind", [0, 1])
def test_samples_are_images_of_the_kind_and_not_their_mean(trained, kind, eta):
    drawn = trained.sample(CODES[kind].expand(200, 16), range(200), steps=20, eta=eta)
    far = (drawn[:, None] - EXEMPLARS.flatten(0, 1)).square().mean(dim=-1).sqrt()
    nearest = torch.bincount(far.argmin(dim=1), minlength=4)
    assert nearest[2 * kind : 2 * kind + 2].sum() >= 190
    assert nearest[2 * kind : 2 * kind + 2].min() >= 60  # both are drawn
    assert far.min(dim=1).values.median() < 0.3
    mean = EXEMPLARS[kind].mean(dim=0)
    to_mean = (EXEMPLARS[kind, 0] - mean).square().mean().sqrt()
    assert to_mean > 0.4  # which is where a squared error would lead
    torch.testing.assert_close(drawn.mean(dim=0), mean, atol=0.4, rtol=0)


def test_guidance_goes_on_from_no_brain_through_the_brain(trained):
    brain = CODES[[0, 1, 0]]
    without, once, twice = (trained.sample(brain, 1, guidance=g, steps=1) for g in (0, 1, 2))
    torch.testing.assert_close(twice - once, once - without, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(once, without, atol=0.05)
    torch.testing.assert_close(without, without[:1].expand(3, 16), atol=1e-5, rtol=1e-5)


# -- what samples depend on ------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_row_depends_on_itself_and_its_seed_alone(eta):
    prior = small().eval()
    brain = numbers(5, 3, 8)
    drawn = prior.sample(brain, [3, 1, 4, 1, 5], steps=6, eta=eta)
    order = [4, 2, 0]
    again = prior.sample(brain[order], [5, 4, 3], steps=6, eta=eta)
    torch.testing.assert_close(again, drawn[order], atol=1e-5, rtol=1e-5)
    alone = prior.sample(brain[1:2], 1, steps=6, eta=eta)
    torch.testing.assert_close(alone, drawn[1:2], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(prior.sample(brain, 9, steps=6, eta=eta), drawn, atol=1e-2)
    same = brain[:1].expand(2, 3, 8)
    torch.testing.assert_close(*prior.sample(same, 7, steps=6, eta=eta), atol=1e-5, rtol=1e-5)


def test_samples_are_the_same_each_time_and_leave_global_noise_alone():
    prior = small().eval()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first, second = (prior.sample(numbers(4, 3, 8), 2, steps=5, eta=0.5) for _ in range(2))
    loss = [prior.loss(numbers(4, 3, 8), numbers(4, 3, 8), generator()) for _ in range(2)]
    assert torch.equal(first, second)
    assert torch.equal(*loss)
    assert torch.equal(torch.random.get_rng_state(), before)


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.sample(numbers(4, 3, 8), [1, 2]), "One seed for each of 4 rows; got 2"),
        (lambda p: p.sample(numbers(0, 3, 8), 1), "One seed for each of 0 rows"),
        (lambda p: p.sample(numbers(4, 3, 8), 1, steps=21), "at most the 20 steps"),
        (lambda p: p.sample(numbers(4, 3, 8), 1, steps=0), "steps"),
        (lambda p: p.sample(numbers(4, 3, 8), 1, eta=2), "eta is from 0 to 1"),
        (lambda p: p.sample(numbers(4, 2, 8), 1), r"brain must be \(n, 3, 8\); got \(4, 2, 8\)"),
        (lambda p: p.sample(numbers(4, 8), 1), r"brain must be"),
        (lambda p: p.loss(numbers(4, 3, 8), numbers(4, 3, 9), generator()), "images must be"),
        (lambda p: p.set_space(numbers(1, 3, 8)), "at least two"),
        (lambda p: p.set_space(torch.ones(5, 3, 8)), "different"),
        (lambda p: p.set_space(torch.full((5, 3, 8), torch.nan)), "finite"),
        (lambda p: small(width=7), "even"),
        (lambda p: small(depth=0), "depth"),
        (lambda p: small(brain_drop=1.0), "brain_drop"),
        (lambda p: small(n_steps=0), "n_steps"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(small())


def test_the_way_back_needs_steps_and_noise_where_it_adds_some():
    with pytest.raises(InputError, match="times is empty"):
        reverse_diffusion(lambda x, t: x, numbers(2), cosine_schedule(5), [])
    with pytest.raises(InputError, match="give what draws it"):
        reverse_diffusion(lambda x, t: x, numbers(2), cosine_schedule(5), [4], eta=0.5)
