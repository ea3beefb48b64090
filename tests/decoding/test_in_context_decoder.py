"""The in-context decoder: what it reads, what it must not depend on, and what it refuses."""

import json

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.covariance import ledoit_wolf
from torch.nn import functional

from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.arrays.seeds import rng
from brainkit.decoding import DECODERS, InContextDecoder
from brainkit.decoding.in_context_decoder import noise_of
from brainkit.decoding.voxel_sets import (
    DecodingStage,
    PeopleSets,
    SyntheticSets,
    published_decoding_stages,
    read_person,
    set_loss,
    train_decoding_stage,
)
from brainkit.decoding.voxel_transformer import (
    DecoderArchitecture,
    DecoderOrigin,
    Noise,
    VoxelTransformer,
    decode_trials,
    inverse_of,
    load_decoder,
    save_decoder,
)
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import CorruptFileError, InputError, LeakError, MissingFileError
from brainkit.linear.folds import kfold
from brainkit.training import Schedule
from brainkit.training.set_networks import Subject, unit_norm

E, SIZE = 6, {"width": 16, "layers": 2, "heads": 2, "hidden": 12, "registers": 5, "read": 3}
RIDGE = "brainkit.encoding:VoxelwiseRidge"


def images(n=80, seed=0):
    return (rng(seed, "images").standard_normal((n, E)) + 0.5).astype(np.float32)


def responses(Z, n=12, seed=0, noise=0.3):
    generator = rng(seed, "responses")
    signal = unit_norm(Z) @ generator.standard_normal((E, n))
    return (signal + noise * generator.standard_normal(signal.shape)).astype(np.float32)


def network(form="inverse", seed=0, **size):
    torch.manual_seed(seed)
    made = VoxelTransformer(DecoderArchitecture(E, form=form, **{**SIZE, **size}))
    made.set_space(torch.from_numpy(unit_norm(images(300, seed=9))))
    return made.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network that learned for a moment, from one person, to read ridge's weights."""
    made, place = network(), tmp_path_factory.mktemp("network")
    source = SyntheticSets(unit_norm(images(300, seed=9)))
    schedule = Schedule(steps=60, learning_rate=5e-3, warmup=5)
    train_decoding_stage(made, source, DecodingStage("synthetic", schedule, (20, 20)))
    origin = DecoderOrigin("test:a", {"estimator": RIDGE}, (10, 60), (20, 20), ("world-1/s",))
    return save_decoder(made, origin, place / "net")


@pytest.fixture
def decoder(folder):
    return InContextDecoder(str(folder), device="cpu")


# -- the network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["inverse", "published"])
def test_neither_the_order_of_voxels_nor_other_trials_matter(form):
    made = network(form)
    coef, intercept = torch.randn(30, E), torch.randn(30)
    beta, order = torch.randn(7, 30), torch.randperm(30)
    plain = decode_trials(made, coef, intercept, beta)
    assert plain.shape == (7, E)
    turned = decode_trials(made, coef[order], intercept[order], beta[:, order])
    torch.testing.assert_close(turned, plain, atol=1e-5, rtol=1e-4)
    alone = decode_trials(made, coef, intercept, beta[4:5], n_tokens=1)
    torch.testing.assert_close(alone[0], plain[4], atol=1e-5, rtol=1e-4)
    assert (decode_trials(made, coef, intercept, beta + 1) - plain).abs().max() > 1e-3


def test_any_number_of_voxels_is_read():
    made = network()
    for n_voxels in (1, 3, 700):
        written = decode_trials(
            made, torch.randn(n_voxels, E), torch.randn(n_voxels), torch.randn(2, n_voxels)
        )
        assert torch.isfinite(written).all()


def test_weights_are_read_in_the_space_that_embeddings_are_written_in():
    made, x = network(), torch.from_numpy(unit_norm(images(20, seed=3)))
    coef, intercept = torch.randn(4, E), torch.randn(4)
    told = {}
    made.tokens.shared = lambda tuning: told.setdefault("tuning", tuning)
    made.encode_voxels(coef, intercept)
    whitened = made.into(x) / made.deviation
    predicted = whitened @ told["tuning"][:, :-1].T + told["tuning"][:, -1]
    torch.testing.assert_close(predicted, x @ coef.T + intercept, atol=1e-4, rtol=1e-4)
    direction = functional.normalize(made.into(x), dim=1)
    back = (made.out_of(made.into(x)) - made.centre) @ made.axes
    torch.testing.assert_close(functional.normalize(back, dim=1), direction, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(back.norm(dim=1), made.length.expand(20), atol=1e-4, rtol=1e-4)


def test_the_inverse_of_an_encoder_is_the_expectation_of_the_image_given_its_responses():
    tuning = torch.randn(30, E) * 0.3
    noise = (1 - tuning.square().sum(dim=1)).clamp_min(0.05)
    # Image and responses are jointly normal: cov(z, y) cov(y)⁻¹.
    expected = tuning.T @ torch.linalg.inv(tuning @ tuning.T + torch.diag(noise))
    torch.testing.assert_close(inverse_of(tuning), expected, atol=1e-4, rtol=1e-3)


def test_noise_that_voxels_share_is_taken_out_by_the_inverse():
    tuning, factor = torch.randn(30, E) * 0.3, torch.randn(4, 30)
    covariance = 0.5 * torch.eye(30) + factor.T @ factor
    expected = tuning.T @ torch.linalg.inv(tuning @ tuning.T + covariance)
    found = inverse_of(tuning, Noise(0.5, factor))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_the_noise_covariance_is_that_of_ledoit_and_wolf():
    generator = rng(0, "residuals")
    shared = generator.standard_normal((50, 3)) @ generator.standard_normal((3, 80))
    left = (shared + generator.standard_normal((50, 80)) + 5).astype(np.float32)
    level, factor = noise_of(left)
    expected, shrinkage = ledoit_wolf(left)
    assert 0.01 < shrinkage < 0.5
    np.testing.assert_allclose(level * np.eye(80) + factor.T @ factor, expected, atol=1e-4)


def test_residuals_without_any_structure_are_independent_noise():
    level, factor = noise_of(rng(0).standard_normal((300, 5)).astype(np.float32))
    np.testing.assert_allclose(level * np.eye(5) + factor.T @ factor, np.eye(5), atol=0.15)
    level, factor = noise_of(np.zeros((10, 4), dtype=np.float32))
    assert level > 0
    assert not factor.any()


def test_what_the_network_writes_is_added_to_the_inverse_of_the_encoder():
    made = network()
    for part in (made.readout.second, made.readout.bypass):
        torch.nn.init.zeros_(part.weight)
    torch.nn.init.zeros_(made.readout.second.bias)
    x = torch.from_numpy(unit_norm(images(20, seed=3)))
    coef, intercept = torch.randn(4000, E), torch.randn(4000)
    beta = x @ coef.T + intercept
    with torch.no_grad():
        voxels = made.encode_voxels(coef, intercept)
        found = made(voxels, beta)
        begun = (beta - voxels.intercept) @ voxels.inverse.T * made.deviation
    torch.testing.assert_close(found, begun, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found, made.into(x), atol=0.05, rtol=0.05)


def test_weights_along_an_axis_on_which_images_do_not_differ_say_nothing():
    Z = unit_norm(images(300, seed=9) * [1, 1, 1, 1, 1, 0])
    torch.manual_seed(0)
    made = VoxelTransformer(DecoderArchitecture(E, **SIZE)).eval()
    made.set_space(torch.from_numpy(Z))
    coef, intercept, beta = torch.randn(20, E), torch.randn(20), torch.randn(3, 20)
    plain = decode_trials(made, coef, intercept, beta)
    coef[:, 5] += 100 * torch.randn(20)
    torch.testing.assert_close(decode_trials(made, coef, intercept, beta), plain, atol=1e-3, rtol=0)


def test_published_tokens_are_a_residual_block_on_weights_constant_and_response():
    made = network("published")
    coef, intercept, beta = torch.randn(5, E), torch.randn(5), torch.randn(3, 5)
    tokens = made.tokens(made.encode_voxels(coef, intercept).shared, beta)
    block, joint = made.tokens.block, torch.cat([coef[2], intercept[2:3], beta[1, 2:3]])
    with torch.no_grad():
        inner = block.first(functional.leaky_relu(block.first_norm(joint), 0.1))
        inner = block.second(functional.leaky_relu(block.second_norm(inner), 0.1))
        torch.testing.assert_close(tokens[1, 2], block.bypass(joint) + inner)


def test_the_last_block_is_computed_for_the_registers_that_are_read_alone():
    made = network("published")
    tokens = torch.randn(3, 40, 16)
    with torch.no_grad():
        leading, attention = made.blocks[0].read_leading(tokens.clone(), 3)
        every = made.blocks[0](tokens.clone())
    torch.testing.assert_close(leading, every[:, :3], atol=1e-5, rtol=1e-4)
    assert attention.shape == (3, 3, 40)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(3, 3))


@pytest.mark.slow
def test_the_published_size_is_built_and_takes_a_step():
    made = VoxelTransformer(DecoderArchitecture(512, form="published"))
    assert sum(one.numel() for one in made.parameters()) == 47_305_733
    assert [len(made.blocks), made.registers.shape, made.readout.first.in_features] == [
        8, (32, 768), 4 * 768,
    ]  # fmt: skip
    source = SyntheticSets(unit_norm(rng(0).standard_normal((40, 512))))
    stage = DecodingStage("synthetic", Schedule(steps=1, warmup=0), (20, 20), n_trials=2)
    before = made.registers.detach().clone(), made.log_scale.item()
    report = train_decoding_stage(made, source, stage)
    assert report.steps == 1
    assert not torch.equal(made.registers, before[0])
    assert made.log_scale.item() != before[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"width": 15}, "multiple of the heads"),
        ({"read": 6}, "No more registers can be read"),
        ({"layers": 0}, "layers must be"),
        ({"form": "other"}, "form of an in-context decoder"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(change, told):
    with pytest.raises(InputError, match=told):
        DecoderArchitecture(E, **{**SIZE, **change})


# -- what it learns from ---------------------------------------------------------------------------


def test_synthetic_voxels_have_the_share_of_signal_that_they_are_said_to_have():
    Z = unit_norm(images(4000, seed=1))
    drawn = SyntheticSets(Z, share=(0.36, 0.36), error=(0, 0)).draw(rng(0), 4000, 5)
    signal = drawn.embeddings @ drawn.coef.T + drawn.intercept
    np.testing.assert_allclose(signal.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(signal.std(axis=0), 0.6, rtol=1e-4)
    np.testing.assert_allclose((drawn.responses - signal).std(axis=0), 0.8, rtol=0.05)
    np.testing.assert_allclose(drawn.responses.std(axis=0), 1, rtol=0.05)


def test_what_is_told_of_synthetic_voxels_is_known_with_an_error():
    Z = unit_norm(images(200, seed=1))
    exact = SyntheticSets(Z, error=(0, 0)).draw(rng(0), 50, 8)
    rough = SyntheticSets(Z, error=(0.5, 0.5)).draw(rng(0), 50, 8)
    np.testing.assert_array_equal(exact.responses, rough.responses)
    alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(exact.coef, rough.coef, strict=True)]
    assert max(alike) < 0.999
    assert min(alike) > 0


@pytest.fixture(scope="module")
def people():
    Z = unit_norm(images(60, seed=2))
    noise = np.full(15, 0.2, np.float32)
    return {name: Subject(Z, responses(Z, 15, seed, 0), noise) for seed, name in enumerate("ab")}


def test_a_person_is_read_from_its_support_and_decoded_from_other_images(people):
    generator = rng(0)
    readings = [read_person("a", people["a"], VoxelwiseRidge(), 30, generator) for _ in range(2)]
    assert not np.array_equal(readings[0].shown, readings[1].shown)
    source = PeopleSets(people, readings[:1], repeats=(3, 3))
    assert source.most == (30, 15)
    for draw in range(3):
        drawn = source.draw(rng(draw), 30, 15)
        shown = people["a"].embeddings[readings[0].shown]
        assert not (drawn.embeddings[:, None] == shown).all(axis=2).any()
        predicted = drawn.embeddings @ drawn.coef.T + drawn.intercept
        r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, drawn.responses.T, strict=True)]
        assert np.median(r) > 0.8


def test_half_of_the_draws_take_the_strongest_voxels(people):
    reading = read_person("a", people["a"], VoxelwiseRidge(), 30, rng(0))
    best = set(np.argsort(-reading.strength)[:4])
    source = PeopleSets(people, [reading])
    strongest = 0
    for draw in range(60):
        drawn = source.draw(rng(draw), 2, 4)
        voxels = {int(np.flatnonzero(reading.intercept == one)[0]) for one in drawn.intercept}
        strongest += voxels == best
    assert 18 <= strongest <= 42


def test_the_loss_is_the_cosine_and_a_tenth_of_the_contrast():
    made = network()
    drawn = SyntheticSets(unit_norm(images(50, seed=1))).draw(rng(0), 10, 20)
    with torch.no_grad():
        voxels = made.encode_voxels(torch.from_numpy(drawn.coef), torch.from_numpy(drawn.intercept))
        written = functional.normalize(made(voxels, torch.from_numpy(drawn.responses)), dim=1)
        truth = functional.normalize(made.into(torch.from_numpy(drawn.embeddings)), dim=1)
        logits = made.log_scale.exp() * written @ truth.T
        own = torch.arange(10)
        contrast = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
        expected = 1 - (written * truth).sum(dim=1).mean() + 0.1 * contrast / 2
        assert float(set_loss(made, drawn)) == pytest.approx(float(expected), rel=1e-5)
        assert float(made.log_scale.exp()) == pytest.approx(1 / 0.07, rel=1e-5)


def test_numbers_of_voxels_are_drawn_between_the_bounds_and_trials_cut_to_the_tokens():
    stage = DecodingStage("a", Schedule(steps=1), (10, 1000), n_trials=32, n_tokens=6400)
    sizes = [stage.size(rng(seed)) for seed in range(300)]
    n_voxels = np.array([voxels for _, voxels in sizes])
    assert n_voxels.min() >= 10
    assert n_voxels.max() <= 1000
    assert 0.35 < np.mean(n_voxels < 100) < 0.65  # their logarithm is uniform
    assert all(trials == min(32, max(8, 6400 // voxels)) for trials, voxels in sizes)


def test_published_stages_draw_as_many_voxels_as_published():
    stages = published_decoding_stages((1000, 2000, 3000))
    assert [stage.voxels for stage in stages] == [(200, 200), (200, 4000), (200, 4000)]
    assert [stage.schedule.steps for stage in stages] == [1000, 2000, 3000]
    assert {stage.schedule.learning_rate for stage in stages} == {1e-5}
    assert {(stage.n_trials, stage.contrast) for stage in stages} == {(32, 0.1)}


def test_training_lowers_the_loss_and_is_taken_up_where_it_is_there(tmp_path):
    source = SyntheticSets(unit_norm(images(50, seed=1)))
    schedule = Schedule(
        steps=40, warmup=2, learning_rate=5e-3, checkpoint_every=10, validate_every=40
    )
    stage = DecodingStage("s", schedule, (15, 20), n_trials=8)
    first, again = network(), network()
    report = train_decoding_stage(first, source, stage, validation=source, folder=tmp_path)
    assert report.losses[-1][1] < report.losses[0][1]
    assert 0 <= report.scores[-1][1] <= 1
    taken = train_decoding_stage(again, source, stage, validation=source, folder=tmp_path)
    assert taken.seconds == report.seconds
    assert all(
        torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items()
    )


def test_more_trials_or_voxels_than_there_are_are_refused(people):
    source = PeopleSets(people, [read_person("a", people["a"], VoxelwiseRidge(), 30, rng(0))])
    with pytest.raises(InputError, match="up to 32 trials, and there are sets of 30"):
        train_decoding_stage(network(), source, DecodingStage("s", Schedule(steps=1), (5, 9)))
    stage = DecodingStage("s", Schedule(steps=1), (5, 16), n_trials=4)
    with pytest.raises(InputError, match="up to 16 voxels, and there are sets of 15"):
        train_decoding_stage(network(), source, stage)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda p: read_person("a", p["a"], VoxelwiseRidge(), 60, rng(0)), "2 to 59; got 60"),
        (lambda p: PeopleSets(p, []), "there are no readings"),
        (lambda p: Subject(p["a"].embeddings, np.full((60, 2), np.nan)), "NaN or infinities"),
        (lambda p: Subject(p["a"].embeddings, np.ones((59, 2))), "shape"),
        (lambda _: DecodingStage("s", Schedule(steps=1), (9, 5)), "the fewest first"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused(people, wrong, told):
    with pytest.raises(InputError, match=told):
        wrong(people)


# -- the estimator ---------------------------------------------------------------------------------


def test_fit_reads_weights_and_leaves_the_network_and_the_arrays_as_they_are(decoder):
    Z = images(40, seed=4)
    X = 30 * responses(Z) + 500
    before = {name: value.clone() for name, value in decoder.open()[0].state_dict().items()}
    kept = X.copy(), Z.copy()
    decoder.fit(X, Z)
    assert all(
        torch.equal(before[name], value) for name, value in decoder.open()[0].state_dict().items()
    )
    np.testing.assert_array_equal(X, kept[0])
    np.testing.assert_array_equal(Z, kept[1])
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    groups = np.arange(40)
    ridge = VoxelwiseRidge().fit(unit_norm(Z), (X - mean) / deviation, groups=groups)
    np.testing.assert_allclose(decoder.voxel_coef_, ridge.coef_[decoder.voxels_], atol=1e-3)
    np.testing.assert_allclose(decoder.voxel_mean_, mean[decoder.voxels_], rtol=1e-5)
    network, _ = decoder.open()
    beta = ((X - mean) / deviation)[:, decoder.voxels_].astype(np.float32)
    given = (decoder.voxel_coef_, decoder.voxel_intercept_, beta)
    noise = Noise(decoder.noise_level_, torch.from_numpy(decoder.noise_factor_))
    written = decode_trials(network, *map(torch.from_numpy, given), noise=noise).numpy()
    expected = decoder.standardise(written * decoder.norm_) - decoder.predicted_mean_
    np.testing.assert_allclose(decoder.predict_standardised(X), expected, atol=1e-3)


def test_it_decodes_a_person_whom_its_network_never_saw(decoder):
    Z = images(460, seed=5)
    X = responses(Z, 30, seed=8)
    fitted = decoder.fit(X[:60], Z[:60])
    predicted, true = fitted.predict_standardised(X[60:]), fitted.standardise(Z[60:])
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, true.T, strict=True)]
    assert np.mean(r) > 0.5
    # The null: embeddings that go with other responses. Nothing is left but the network's bias.
    order = rng(3).permutation(60)
    null = clone(decoder).fit(X[:60], Z[:60][order])
    wrong = null.predict_standardised(X[60:])
    r_null = [np.corrcoef(a, b)[0, 1] for a, b in zip(wrong.T, true.T, strict=True)]
    assert abs(np.mean(r_null)) < 0.25


def test_a_prediction_depends_on_its_row_alone(decoder):
    Z = images(50, seed=6)
    X = responses(Z)
    fitted = decoder.fit(X[:40], Z[:40])
    together = fitted.predict(X[40:])
    alone = np.concatenate([fitted.predict(X[row : row + 1]) for row in range(40, 50)])
    np.testing.assert_allclose(alone, together, atol=1e-5)


def test_the_order_of_voxels_does_not_matter(decoder):
    Z = images(50, seed=6)
    X, order = responses(Z), rng(1).permutation(12)
    plain = clone(decoder).fit(X[:40], Z[:40])
    turned = clone(decoder).fit(X[:40][:, order], Z[:40])
    np.testing.assert_array_equal(order[turned.voxels_], plain.voxels_)
    np.testing.assert_allclose(turned.predict(X[40:][:, order]), plain.predict(X[40:]), atol=1e-3)


def test_the_best_predicted_voxels_are_read_and_constant_ones_never(decoder):
    Z = images(50, seed=7)
    X = np.concatenate(
        [
            responses(Z, 5, noise=0.1),
            rng(0).standard_normal((50, 5)),
            np.ones((50, 2)),
        ],
        axis=1,
    ).astype(np.float32)
    few = decoder.set_params(max_voxels=5).fit(X, Z)
    assert set(few.voxels_) == set(range(5))
    assert (np.diff(few.voxel_cv_r2_[few.voxels_]) <= 0).all()
    every = clone(decoder).set_params(max_voxels=None).fit(X, Z)
    assert set(every.voxels_) == set(range(10))
    changed = X.copy()
    changed[:, 10:] = 77  # what a constant voxel says has no say
    np.testing.assert_array_equal(every.predict(changed), every.predict(X))


def test_no_more_trials_are_used_than_the_network_was_trained_with(decoder):
    Z = images(90, seed=8)
    X = responses(Z)
    assert len(clone(decoder).fit(X, Z).support_) == 60
    groups = np.repeat(np.arange(30), 3)
    grouped = clone(decoder).set_params(n_support=31).fit(X, Z, groups=groups)
    assert len(grouped.support_) == 30
    assert (np.unique(groups[grouped.support_], return_counts=True)[1] == 3).all()
    other = clone(decoder).set_params(n_support=31, seed=1).fit(X, Z, groups=groups)
    assert not np.array_equal(other.support_, grouped.support_)
    # What is not used has no say.
    changed = X.copy()
    changed[np.setdiff1d(np.arange(90), grouped.support_)] += 5
    same = clone(decoder).set_params(n_support=31).fit(changed, Z, groups=groups)
    np.testing.assert_array_equal(same.predict(X), grouped.predict(X))


def test_noise_is_measured_on_trials_that_weights_were_not_read_from(decoder):
    Z = images(60, seed=9)
    X = responses(Z, noise=0.5)
    fitted = decoder.fit(X, Z)
    chosen, unit, left = X[:, fitted.voxels_], unit_norm(Z), np.empty((60, 12), np.float32)
    for train, held_out in kfold(60, 3):
        mean, deviation = chosen[train].mean(axis=0), chosen[train].std(axis=0)
        ridge = VoxelwiseRidge().fit(
            unit[train], (chosen[train] - mean) / deviation, groups=np.arange(60)[train]
        )
        left[held_out] = (chosen[held_out] - mean) / deviation - ridge.predict(unit[held_out])
    level, factor = noise_of(left)
    np.testing.assert_allclose(
        fitted.noise_level_ * np.eye(12) + fitted.noise_factor_.T @ fitted.noise_factor_,
        level * np.eye(12) + factor.T @ factor,
        atol=1e-3,
    )


def test_the_spread_is_restored_by_held_out_predictions(decoder):
    Z = images(60, seed=9)
    X = responses(Z, noise=0.5)
    settings = {"renormalise": False}
    dimension = clone(decoder).set_params(**settings).fit(X, Z)
    assert (dimension.predicted_scale_ < 1.2).all()
    np.testing.assert_allclose(dimension.gain_, 1 / dimension.predicted_scale_, rtol=1e-4)
    new = responses(images(20, seed=10), seed=0)
    standardised = dimension.predict_standardised(new)
    expected = standardised * dimension.gain_
    np.testing.assert_allclose(
        dimension.predict(new), expected * dimension.scale_ + dimension.mean_, atol=1e-5
    )
    whole = clone(decoder).set_params(spread="whole", **settings).fit(X, Z)
    np.testing.assert_allclose(
        whole.gain_, 1 / np.sqrt(np.mean(dimension.predicted_scale_.astype(float) ** 2)), rtol=1e-4
    )
    none = clone(decoder).set_params(spread=None, **settings).fit(X, Z)
    np.testing.assert_allclose(
        none.predict(new), standardised * none.scale_ + none.mean_, atol=1e-5
    )
    lengths = np.linalg.norm(clone(decoder).fit(X, Z).predict(new), axis=1)
    np.testing.assert_allclose(lengths, np.linalg.norm(Z, axis=1).mean(), rtol=1e-5)


def test_it_is_saved_and_loaded(decoder, tmp_path):
    Z = images(40, seed=4)
    X = responses(Z)
    fitted = decoder.set_params(encoder=VoxelwiseRidge(cv=4)).fit(X, Z)
    loaded = load_estimator(save_estimator(fitted, tmp_path / "saved"))
    np.testing.assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert isinstance(loaded.encoder, VoxelwiseRidge)
    assert loaded.encoder.cv == 4


def test_another_network_than_that_of_the_fit_is_told(decoder, tmp_path):
    made, origin = decoder.open()
    save_decoder(made, origin, tmp_path / "net")
    Z = images(40, seed=4)
    fitted = decoder.set_params(network=str(tmp_path / "net")).fit(responses(Z), Z)
    save_decoder(network(seed=5), origin, tmp_path / "net")
    loaded = load_estimator(save_estimator(fitted, tmp_path / "saved"))
    with pytest.raises(InputError, match="not the one that this decoder was fitted with"):
        loaded.predict(responses(Z))


class Affine(BaseEstimator):
    """A linear encoder of somebody else's; it knows nothing of groups."""

    def fit(self, X, Y):
        both = np.column_stack([X, np.ones(len(X))])
        solved = np.linalg.lstsq(both, Y, rcond=None)[0]
        self.coef_, self.intercept_ = solved[:-1].T, solved[-1]
        return self


class Silent(BaseEstimator):
    """One that tells no weights."""

    def fit(self, X, Y):
        return self


class Crooked(Affine):
    """Whose weights are of another shape."""

    def fit(self, X, Y):
        super().fit(X, Y)
        self.coef_ = self.coef_.T
        return self


@pytest.mark.parametrize(
    "encoder",
    [
        RIDGE, {"estimator": RIDGE, "parameters": {"cv": 3}}, VoxelwiseRidge(cv=3), Affine(),
        None,
    ],
)  # fmt: skip
def test_weights_come_from_any_linear_encoder(decoder, encoder):
    Z = images(40, seed=4)
    X = responses(Z)
    fitted = decoder.set_params(encoder=encoder).fit(X, Z)
    assert fitted.predict(X).shape == (40, E)
    assert clone(fitted).fit(X, Z).predict(X).shape == (40, E)


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (Silent(), "has no coef_ and intercept_"),
        (Crooked(), r"has the shape \(6, 12\)"),
        ("os:system", "is not the name of a public estimator"),
        ({"estimator": RIDGE, "parameters": {"nonsense": 1}}, "cannot be made"),
        ({"kind": RIDGE}, "is named by 'estimator'"),
        (VoxelwiseRidge, "must be an estimator"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_told(decoder, encoder, told):
    Z = images(40, seed=4)
    with pytest.raises(InputError, match=told):
        decoder.set_params(encoder=encoder).fit(responses(Z), Z)


def test_a_network_that_names_no_encoder_asks_for_one(tmp_path):
    save_decoder(network(), DecoderOrigin(context=(10, 60)), tmp_path / "net")
    Z = images(40, seed=4)
    with pytest.raises(InputError, match="does not say which encoder"):
        InContextDecoder(str(tmp_path / "net")).fit(responses(Z), Z)


def test_a_person_that_the_network_learned_from_is_refused(decoder):
    Z = images(40, seed=4)
    with pytest.raises(LeakError, match="world-1/s is to be predicted") as caught:
        decoder.fit(responses(Z), Z, subject="world-1/s")
    assert caught.value.ids == ["world-1/s"]
    decoder.fit(responses(Z), Z, subject="world-2/s")
    with pytest.raises(LeakError):
        decoder.refuse_people(["nsd/s", "world-1/s"])
    described = decoder.describe_network(["world-1/s", "s"])
    assert described["learned_from"] == ["world-1/s"]
    assert described["encoder"] == "VoxelwiseRidge"
    json.dumps(described)


def test_a_person_that_the_encoder_learned_from_is_refused(decoder):
    tiny = "brainkit.encoding:InContextEncoder"
    with pytest.raises(LeakError, match="world-101/subject-1"):
        decoder.set_params(encoder=tiny).refuse_people(["world-101/subject-1"])


@pytest.mark.parametrize(
    ("settings", "X", "Z", "told"),
    [
        ({}, responses(images(9)), images(9), "at least 10 labelled trials; got 9"),
        ({}, responses(images(40)), images(40)[:, :4], "embeddings of 6 numbers"),
        ({}, np.ones((40, 3)), images(40), "All 3 units are constant"),
        ({}, responses(images(40)), images(40)[:, 0], "Embeddings are"),
        ({"spread": "some"}, responses(images(40)), images(40), "way to restore spread"),
        ({"max_voxels": 0}, responses(images(40)), images(40), "max_voxels must be at least 1"),
        ({"n_support": 3}, responses(images(40)), images(40), "n_support must be at least 10"),
        ({"cv": 1}, responses(images(40)), images(40), "cv must be at least 2"),
    ],
)
def test_what_it_cannot_read_is_told(decoder, settings, X, Z, told):
    with pytest.raises(InputError, match=told):
        decoder.set_params(**settings).fit(X, Z)


@pytest.mark.parametrize("where", ["X", "Z", "new"])
def test_nan_is_refused(decoder, where):
    Z = images(40, seed=4)
    X = responses(Z)
    new = X.copy()
    {"X": X, "Z": Z, "new": new}[where][3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        decoder.fit(X, Z).predict(new)


def test_embeddings_of_another_model_are_refused_by_name(decoder):
    Z = images(40, seed=4)
    with pytest.raises(InputError, match="reads the embeddings of test:a; got those of test:b"):
        decoder.fit(responses(Z), Z, embedding_model="test:b")


def test_another_number_of_units_is_refused(decoder):
    Z = images(40, seed=4)
    X = responses(Z)
    with pytest.raises(ValueError, match="12 features"):
        decoder.fit(X, Z).predict(X[:, :5])


def test_recipes_know_it():
    assert DECODERS["in-context-decoder"] == "brainkit.decoding:InContextDecoder"


# -- networks on disk ------------------------------------------------------------------------------


def test_a_network_comes_back_as_it_was_saved(tmp_path):
    made = network()
    origin = DecoderOrigin("m", {"estimator": RIDGE}, (3, 4), (5, 6), ("a", "b"), {"s": {"n": 1}})
    loaded, back = load_decoder(save_decoder(made, origin, tmp_path / "net"))
    assert back == origin
    assert all(
        torch.equal(value, loaded.state_dict()[name]) for name, value in made.state_dict().items()
    )
    assert not any(one.requires_grad for one in loaded.parameters())
    with pytest.raises(InputError, match="dtype of saved weights"):
        save_decoder(made, origin, tmp_path / "half", dtype="int8")


def test_a_damaged_or_foreign_folder_is_told(tmp_path):
    with pytest.raises(MissingFileError):
        load_decoder(tmp_path / "none")
    folder = save_decoder(network(), DecoderOrigin(), tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    for change, told in (
        ({"format": 99}, "format 99"),
        ({"kind": "brainkit in-context encoder"}, "in-context encoder"),
        ({"origin": {}}, "is not the configuration"),
        ({"architecture": {"embedding": 0}}, "is not the configuration"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(CorruptFileError, match=told):
            load_decoder(folder)
