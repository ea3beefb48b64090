"""Readouts by gradient descent: closed forms, known pRFs, what moves with the image."""

import numpy as np
import pytest
import torch

import brainkit
from brainkit.encoding.readouts import (
    FactorizedReadout,
    GaussianReadout,
    LinearReadout,
    SemanticReadout,
    gaussian_fields,
    spatial_readouts,
    token_readout,
)
from brainkit.encoding.readouts.semantic import (
    SemanticModule,
    affine_matrices,
    motion_numbers,
)
from brainkit.encoding.readouts.spatial_readouts import (
    FactorizedModule,
    GaussianModule,
    LinearModule,
    mask_weights,
)
from brainkit.errors import InputError, UnknownNameError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 16, 5)).astype(np.float32)
Y = (X[:, :3].sum(axis=2) + RNG.normal(size=(90, 3))).astype(np.float32)
ALL = [LinearReadout, GaussianReadout, FactorizedReadout, SemanticReadout]
POOLING = ALL[1:]


def drawn(module, seed=0, scale=0.3):
    """Give a module weights that are all drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(scale * torch.randn(value.shape, generator=generator))
    return module


def maps(n=4, n_tokens=16, n_features=5):
    return torch.randn(n, n_tokens, n_features, generator=torch.Generator().manual_seed(9))


# ------------------------------------------------------------------------------------- modules


def test_the_gaussian_module_is_the_sum_in_its_equation():
    module, x = drawn(GaussianModule((4, 4), 5, 3)), maps()
    fields = gaussian_fields(*module.places(), (4, 4))
    expected = torch.einsum("vt,btc,vc->bv", fields, x, module.weight) + module.bias
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_place_and_size_is_exact():
    module, x = drawn(GaussianModule((4, 4), 5, 3)).double(), maps().double()
    names = list(dict(module.named_parameters()))

    def respond(*values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(respond, tuple(module.parameters()))


def test_masks_are_positive_and_sum_to_one():
    module, x = drawn(FactorizedModule(16, 5, 3), scale=3.0), maps()
    masks = module.masks(slice(0, 3))
    assert bool((masks > 0).all())
    torch.testing.assert_close(masks.sum(dim=1), torch.ones(3))
    expected = torch.einsum("vt,btc,vc->bv", masks, x, module.weight) + module.bias
    torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


def test_the_linear_module_weighs_all_or_averaged_tokens():
    x = maps()
    module = drawn(LinearModule((4, 4), None, 5, 3))
    expected = x.flatten(1) @ module.readout.weight.T / 80**0.5 + module.readout.bias
    torch.testing.assert_close(module(x), expected)
    module = drawn(LinearModule((4, 4), 2, 5, 3))
    blocks = x.unflatten(1, (2, 2, 2, 2)).mean(dim=(2, 4)).flatten(1)  # rows and columns of blocks
    expected = blocks @ module.readout.weight.T / 20**0.5 + module.readout.bias
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("kind", [GaussianModule, FactorizedModule, SemanticModule])
def test_slices_of_targets_change_neither_response_nor_gradient(kind, monkeypatch):
    grid = (16,) if kind is FactorizedModule else ((4, 4),)
    x, found = maps(), []
    for at_once in (10**9, 200):
        monkeypatch.setattr(token_readout, "SLICE_VALUES", at_once)
        torch.manual_seed(0)
        module = drawn(kind(*grid, 5, 23))
        response = module(x)
        response.square().sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(module(x), response)
        found.append((response, [value.grad for value in module.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_slices_bound_what_is_held_at_once():
    parts = token_readout.target_slices(10_000, 32 * 768)
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
    assert (parts[0].start, parts[-1].stop) == (0, 10_000)
    assert max(part.stop - part.start for part in parts) * 32 * 768 <= token_readout.SLICE_VALUES
    assert len(token_readout.target_slices(3, 10**12)) == 3


# ------------------------------------------------------------------------------------ semantic


@pytest.mark.parametrize("motion", ["affine", "translation", "rotation+scale", "shear"])
def test_the_semantic_readout_begins_as_the_factorised_one(motion):
    torch.manual_seed(0)
    moving, still = SemanticModule((3, 4), 5, 6, motion=motion), FactorizedModule(12, 5, 6)
    drawn(still)
    with torch.no_grad():
        for name, value in still.named_parameters():
            moving.get_parameter(name).copy_(value)
    x = maps(n_tokens=12)
    torch.testing.assert_close(moving(x), still(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        moving.mask_matrices(moving.locate(x), slice(2, 5)), torch.eye(2, 3).expand(4, 3, 2, 3)
    )


def test_affine_maps_by_hand():
    changes = torch.tensor([[0.5, -0.25]])
    torch.testing.assert_close(
        affine_matrices(changes, motion_numbers("translation"))[0],
        torch.tensor([[1, 0, 0.5], [0, 1, -0.25]]),
    )
    torch.testing.assert_close(
        affine_matrices(changes, motion_numbers("scale"))[0],
        torch.tensor([[1.5, 0, 0], [0, 0.75, 0]]),
    )
    quarter = torch.tensor([[1.0, np.pi / 2]], dtype=torch.float32)
    torch.testing.assert_close(  # first moved to the right, then turned
        affine_matrices(quarter, (2, 6))[0], torch.tensor([[0, -1.0, 0], [1, 0, 1]])
    )
    assert motion_numbers("shear + translation") == (1, 2, 3, 5)
    assert motion_numbers("affine+scale") == (0, 1, 2, 3, 4, 5)
    with pytest.raises(UnknownNameError, match="Did you mean 'translation'"):
        motion_numbers("translate")


def test_a_mask_moves_by_whole_tokens():
    module = SemanticModule((4, 4), 5, 2, motion="translation")
    drawn(module, scale=2.0)
    with torch.no_grad():
        module.move_masks.weight.zero_()
        module.move_masks.bias.copy_(torch.tensor([0.5, 0, 0, 0]))  # a column is half a unit wide
    moved = module._moved_masks(torch.zeros(3, 32), slice(0, 2)).detach().reshape(3, 2, 4, 4)
    masks = mask_weights(module.logits).detach().reshape(2, 4, 4)
    torch.testing.assert_close(moved[1, 0, :, :3], masks[0, :, 1:])
    torch.testing.assert_close(moved[1, 0, :, 3], torch.zeros(4))  # nothing beyond the border
    torch.testing.assert_close(moved[2, 1], masks[1])


def test_features_for_localisation_alone_are_not_weighed():
    module = drawn(SemanticModule((4, 4), 5, 3, n_localisation=2))
    assert module.weight.shape == (3, 3)
    assert module.reduce.in_features == 2
    still = SemanticModule((4, 4), 5, 3, n_localisation=2)
    drawn(still)
    with torch.no_grad():
        for head in (still.move_masks, still.move_channels):
            head.weight.zero_()
    x, other = maps(), maps()
    other[..., 3:] += 1
    torch.testing.assert_close(still(x), still(other))
    assert not torch.allclose(module(x), module(other))
    with pytest.raises(InputError, match="n_localisation=5 of 5 features leaves none"):
        SemanticReadout(n_localisation=5).fit(X, Y)


def moving_objects(n, seed):
    """Maps with one object at a random place; the response is to what it is, wherever it is."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0.2, 0.8, (2, n)).astype(np.float32)
    fields = gaussian_fields(*map(torch.from_numpy, centre), torch.full((n,), 0.1), (8, 8))
    there = fields.numpy() / fields.numpy().max(axis=1, keepdims=True)
    content = rng.normal(size=(n, 2))
    maps = 0.7 * rng.normal(size=(n, 64, 3))  # other things, everywhere
    maps[..., :2] += 2 * there[:, :, None] * content[:, None]
    maps[..., 2] = 4 * there  # that there is an object
    return maps.astype(np.float32), content


@pytest.mark.slow
def test_the_semantic_readout_follows_an_object_that_moves():
    X, content = moving_objects(1200, 0)
    test, truth = moving_objects(500, 1)
    options = {"epochs": 25, "seed": 0, "device": "cpu", "progress": False}
    still = FactorizedReadout(**options).fit(X, content)
    moving = SemanticReadout(**options).fit(X, content)
    assert moving.score(test, truth) > still.score(test, truth) + 0.08


def test_transforms_are_those_that_prediction_uses():
    model = SemanticReadout(epochs=4, device="cpu", batch_size=16).fit(X, Y)
    found = model.transforms(X, [0, 2])
    assert found.shape == (90, 2, 2, 3)
    x = torch.from_numpy((X - model.scale_["x_mean"]) / model.scale_["x_scale"])
    with torch.no_grad():
        expected = model.module_.mask_matrices(model.module_.locate(x), slice(0, 3))[:, [0, 2]]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(model.transforms(X, slice(0, 3, 2)), found)
    assert np.abs(found - np.eye(2, 3)).max() > 1e-3


# ---------------------------------------------------------------------------------- estimators


def test_gaussian_readout_finds_known_prfs(known):
    model = GaussianReadout(device="cpu").fit(known.X[:340], known.Y[:340])
    distance = np.hypot(model.prf_x_ - known.x, model.prf_y_ - known.y)
    assert np.median(distance) < 0.02  # a fifth of a token
    assert np.median(np.abs(np.log(model.prf_size_ / known.size))) < 0.2
    assert np.median(model.score_targets(known.X[340:], known.signal[340:])) > 0.88
    r = [np.corrcoef(f, w)[0, 1] for f, w in zip(model.coef_, known.weight, strict=True)]
    assert np.median(r) > 0.98


def test_degrees_of_the_gaussian_readout(known):
    options = {"epochs": 2, "device": "cpu"}
    model = GaussianReadout(field_of_view=8.0, **options).fit(known.X, known.Y)
    plain = GaussianReadout(**options).fit(known.X, known.Y)
    np.testing.assert_allclose(model.prf_x_, (plain.prf_x_ - 0.5) * 8, rtol=1e-5)
    np.testing.assert_allclose(model.prf_y_, (0.5 - plain.prf_y_) * 8, rtol=1e-5)
    np.testing.assert_allclose(model.prf_size_, plain.prf_size_ * 8, rtol=1e-5)


def test_a_mask_of_two_places_beats_a_gaussian():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(700, 36, 4)).astype(np.float32)
    truth = maps[:, [7, 28]].sum(axis=1) @ rng.normal(size=(4, 6))
    noisy = truth + rng.normal(size=truth.shape)
    options = {"device": "cpu"}
    scores = [
        kind(**options).fit(maps[:500], noisy[:500]).score(maps[500:], truth[500:])
        for kind in (FactorizedReadout, GaussianReadout)
    ]
    assert scores[0] > 0.9 > scores[1]


@pytest.mark.parametrize("kind", [GaussianReadout, FactorizedReadout])
def test_weights_are_in_the_units_of_the_data(kind):
    model = kind(epochs=3, device="cpu", batch_size=16).fit(3 + X, 10 * Y + 100)
    module = model.module_
    part = slice(0, 3)
    with torch.no_grad():
        fields = (module.fields(part) if kind is GaussianReadout else module.masks(part)).numpy()
    pooled = np.einsum("vt,ntc->nvc", fields, 3 + X)
    expected = np.einsum("nvc,vc->nv", pooled, model.coef_) + model.intercept_
    np.testing.assert_allclose(model.predict(3 + X), expected, rtol=1e-4)
    if kind is FactorizedReadout:
        np.testing.assert_allclose(model.masks_, fields.reshape(3, 4, 4))


def test_linear_readout_converges_to_least_squares():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(200, 4, 3)).astype(np.float32)
    Y = maps.reshape(200, 12) @ rng.normal(size=(12, 2)) + rng.normal(size=(200, 2))
    model = LinearReadout(
        epochs=500,
        validation=0.0,
        weight_decay=0.0,
        learning_rate=0.1,
        batch_size=200,
        device="cpu",
    ).fit(maps, Y)
    design = np.column_stack([maps.reshape(200, 12), np.ones(200)])
    expected = design @ np.linalg.lstsq(design, Y, rcond=None)[0]
    np.testing.assert_allclose(model.predict(maps), expected, atol=0.02)


@pytest.mark.parametrize("kind", POOLING)
def test_the_start_is_of_the_training_rows_alone_and_helps(kind, known):
    rows = np.arange(300)
    model = kind(epochs=1, learning_rate=1e-9, device="cpu").fit(known.X[rows], known.Y[rows])
    assert model.score(known.X[340:], known.signal[340:]) > 0.4
    from brainkit.encoding.deep.rows import hold_out

    held = hold_out(300, 0.1, None, 0)
    changed = known.Y[rows].copy()
    changed[held] = changed[held][::-1] + 3
    other = kind(epochs=1, learning_rate=1e-9, device="cpu").fit(known.X[rows], changed)
    np.testing.assert_array_equal(other.coef_, model.coef_)
    with pytest.raises(UnknownNameError, match="Did you mean 'ridge'"):
        kind(start="rigde").fit(X, Y)


@pytest.mark.parametrize("kind", ALL)
def test_files_and_lazy_features(kind, tmp_path):
    np.save(tmp_path / "x.npy", X)
    lazy = np.load(tmp_path / "x.npy", mmap_mode="r")
    model = kind(epochs=2, device="cpu", batch_size=16).fit(lazy, Y)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert loaded.predict(X).tobytes() == model.predict(lazy).tobytes()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("features", "targets", "message"),
    [
        (X[:, :15], Y, "15 tokens make no square map"),
        (X, Y * np.nan, "3 of 3 targets hold NaN"),
        (X, Y * 0, "3 of 3 targets are constant"),
        (X[:50], Y, r"X has 50, Y has shape \(90, 3\)"),
    ],
)
def test_bad_input_is_named(kind, features, targets, message):
    with pytest.raises(InputError, match=message):
        kind(device="cpu").fit(features, targets)


def test_a_linear_readout_that_does_not_fit_in_memory(monkeypatch):
    monkeypatch.setattr(spatial_readouts, "free_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"240 weights take about .* Average the map"):
        LinearReadout(device="cpu").fit(X, Y)
    for side in (0, 1.5):
        with pytest.raises(InputError, match="side is a whole number from 1"):
            LinearReadout(side=side).fit(X, Y)
    with pytest.raises(InputError, match=r"cannot be averaged to 5 × 5"):
        LinearReadout(side=5).fit(X, Y)
