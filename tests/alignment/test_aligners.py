"""Aligners of recordings: what they learn, how they come back, and what they refuse."""

import tracemalloc
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV

import brainkit
from brainkit import Recording, Stimuli
from brainkit.alignment import (
    ALIGNERS,
    PCA,
    ByFeatures,
    Coordinates,
    Identity,
    OwnUnits,
    Pooled,
    Procrustes,
    Resample,
    RidgeToReference,
    SharedResponse,
)
from brainkit.data.units import VolumeSpace
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import BrainkitError, InputError, LeakError, UnknownNameError
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_estimator import STANDARD_GRID

RIDGE_MAPS = (Procrustes(maps="ridge"), SharedResponse(6, maps="ridge"))
COMMON = (RidgeToReference(), Procrustes(), SharedResponse(6), *RIDGE_MAPS)


def correlation(one, other):
    """Mean over columns of r."""
    a, b = one - one.mean(0), other - other.mean(0)
    return float(np.mean((a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0))))


def every_aligner(shared):
    """One of each kind that fits the people of these tests, with places and labels for units."""
    return [
        OwnUnits(),
        PCA(5),
        Pooled(16, axis="x"),
        Resample(parcels="parcel"),
        Coordinates(12),
        ByFeatures(shared),
        *COMMON,
        Procrustes(parcels="parcel"),
        Procrustes(reference="bob"),
        Procrustes(parcels="parcel", reference="ann"),
        Procrustes(parcels="parcel", reference="ann", maps="ridge"),
    ]


@pytest.fixture
def placed(people):
    """The people, with coordinates and two parcels."""
    rng = np.random.default_rng(0)
    found = {}
    for name, one in people.items():
        n_units = one.responses.shape[1]
        units = pd.DataFrame(rng.uniform(-60, 60, (n_units, 3)), columns=list("xyz"))
        units["parcel"] = np.where(units["x"] < 0, "left", "right")
        found[name] = Recording.from_arrays(
            one.responses.read(), subject=name, trials=one.trials, units=units
        )
    return found


# -- what all of them do ----------------------------------------------------------------------


def test_every_name_is_a_class_that_says_what_it_needs():
    assert list(ALIGNERS) == [
        "identity", "own-units", "pca", "pooled", "resample", "coordinates", "by-features",
        "ridge-to-reference", "procrustes", "shared-response",
    ]  # fmt: skip
    for kind in ALIGNERS.values():
        assert kind.needs_common_stimuli in (True, False)
        assert kind().get_params() == clone(kind()).get_params()


def test_own_units_stand_first_and_zeros_fill_up(people):
    aligner = OwnUnits().fit(people)
    widest = max(len(one.units) for one in people.values())
    assert aligner.n_shared_ == widest
    for name, one in people.items():
        values = one.responses.read()
        out = aligner.transform(values, name)
        np.testing.assert_array_equal(out[:, : values.shape[1]], values)
        assert not out[:, values.shape[1] :].any()
        np.testing.assert_array_equal(aligner.inverse_transform(out, name), values)
    wide = Recording.from_arrays(np.ones((3, widest + 1)), subject="wide")
    with pytest.raises(InputError, match=r"more than all in fit"):
        aligner.add_subject(wide)


def test_everyone_comes_to_the_shared_space_of_one_width(placed, shared):
    for aligner in every_aligner(shared):
        aligner.fit(placed)
        for name, one in placed.items():
            out = aligner.transform(one.responses.read(), name)
            assert out.shape == (len(one.rows), aligner.n_shared_)
            assert out.dtype == np.float32


def test_modules_do_what_transform_does_and_are_frozen(placed, shared):
    for aligner in every_aligner(shared):
        module = aligner.fit(placed).as_module()
        parameters = list(module.parameters())
        assert parameters or not aligner.aligns  # own units go through as they are
        assert not any(parameter.requires_grad for parameter in parameters)
        for name, one in placed.items():
            values = one.responses.read()[:20]
            expected = aligner.transform(values, name)
            found = module(torch.from_numpy(values), name)
            scale = np.abs(expected).max()
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6 * scale)
        with pytest.raises(UnknownNameError, match="there are ann, bob, cat"):
            module(torch.zeros(1, 3), "dan")


def test_gradients_pass_through_a_module_to_the_responses(placed):
    module = SharedResponse(4).fit(placed).as_module()
    responses = torch.randn(5, 40, requires_grad=True)
    module(responses, "bob").sum().backward()
    assert responses.grad.abs().sum() > 0


def test_saved_aligners_come_back(placed, shared, tmp_path):
    for number, aligner in enumerate(every_aligner(shared)):
        folder = brainkit.save_estimator(aligner.fit(placed), tmp_path / str(number))
        again = brainkit.load_estimator(folder)
        for name, one in placed.items():
            values = one.responses.read()[:9]
            np.testing.assert_array_equal(
                again.transform(values, name), aligner.transform(values, name)
            )


def test_a_clone_is_not_fitted_and_a_refit_forgets(placed):
    aligner = SharedResponse(4).fit(placed)
    with pytest.raises(NotFittedError, match="call fit"):
        clone(aligner).transform(np.zeros((1, 120)), "ann")
    aligner.fit({name: placed[name] for name in ("ann", "bob")})
    with pytest.raises(UnknownNameError, match="Unknown subject 'cat'"):
        aligner.transform(np.zeros((1, 90)), "cat")
    assert list(aligner.basis_) == ["ann", "bob"]


def test_fitting_leaves_arrays_as_they_are(placed, shared):
    before = {name: one.responses.read() for name, one in placed.items()}
    for aligner in every_aligner(shared):
        aligner.fit(list(placed.values()))
        values = before["ann"].copy()
        aligner.transform(values, "ann")[:] = 0
        np.testing.assert_array_equal(values, before["ann"])


def test_the_same_fit_twice_is_the_same_bit_for_bit(placed, shared):
    for aligner in every_aligner(shared):
        one, other = clone(aligner).fit(placed), clone(aligner).fit(placed)
        values = placed["cat"].responses.read()
        np.testing.assert_array_equal(one.transform(values, "cat"), other.transform(values, "cat"))


def test_times_of_epochs_are_mapped_one_by_one(people):
    rng = np.random.default_rng(0)
    S = rng.standard_normal((20, 3, 7))  # stimuli, dimensions, times
    epochs = {}
    for name, n_units in (("ann", 30), ("bob", 12)):
        W = np.linalg.qr(rng.standard_normal((n_units, 3)))[0]
        values = np.einsum("sdt,ud->sut", S, W).astype(np.float32)
        trials = pd.DataFrame({"stimulus": range(20)})
        epochs[name] = Recording.from_arrays(values, subject=name, trials=trials)
    aligner = SharedResponse(3).fit(epochs)
    assert aligner.n_samples_["ann"] == 140
    one, other = (aligner.transform(epochs[name].responses.read(), name) for name in epochs)
    assert one.shape == (20, 3, 7)
    np.testing.assert_allclose(one, other, atol=1e-4)
    back = aligner.inverse_transform(one, "bob")
    np.testing.assert_allclose(back, epochs["bob"].responses.read(), atol=1e-4)
    module = aligner.as_module()
    found = module(torch.from_numpy(epochs["ann"].responses.read()), "ann")
    np.testing.assert_allclose(found.numpy(), one, atol=1e-5)
    cut = Recording.from_arrays(
        epochs["bob"].responses.read()[:, :, :5], subject="bob", trials=epochs["bob"].trials
    )
    with pytest.raises(InputError, match="Trials have 5, 7 time points in different people"):
        SharedResponse(3).fit([epochs["ann"], cut])
    cut = Recording.from_arrays(cut.responses.read(), subject="dan", trials=cut.trials)
    with pytest.raises(InputError, match="Trials of 'dan' have 5 time points"):
        aligner.add_subject(cut)


def test_an_aligned_recording_is_lazy_and_splits_like_any(placed):
    aligner = SharedResponse(4).fit(placed)
    aligned = aligner.align(placed["cat"])
    assert aligned.responses.shape == (240, 4)
    assert aligned.info["aligned"] == "SharedResponse"
    values = aligner.transform(placed["cat"].responses.read(), "cat")
    np.testing.assert_allclose(aligned.responses.read(), values, atol=1e-5)
    part = aligned.select(trials=[5, 2], units=[3, 0]).responses.read()
    np.testing.assert_allclose(part, values[[5, 2]][:, [3, 0]], atol=1e-5)
    assert len(aligned.split("kfold:5:stimulus")) == 5


def test_no_matrix_of_voxels_by_voxels_is_formed(simulate):
    n_voxels = 6000
    S = np.random.default_rng(0).standard_normal((40, 5))
    held = [simulate(name, S, n_voxels, noise=1) for name in ("ann", "bob")]
    new = simulate("dan", S, n_voxels, noise=1)
    for aligner in (RidgeToReference(), Procrustes(), SharedResponse(6)):
        tracemalloc.start()
        aligner.fit(held).add_subject(new).transform(held[0].responses.read(), "ann")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.2 * 4 * n_voxels**2


# -- they recover what is shared ---------------------------------------------------------------


@pytest.mark.parametrize("aligner", COMMON[1:], ids=repr)
def test_signal_is_carried_between_people_of_unequal_counts(people, aligner, simulate, shared):
    aligner = clone(aligner).fit(people)
    test = np.random.default_rng(9).standard_normal((50, 6)) * np.arange(6, 0, -1)
    one = simulate("ann", np.concatenate([shared, test]), 120)  # the same weights and mean
    other = simulate("bob", np.concatenate([shared, test]), 40)
    rows = [np.flatnonzero(r.trials["stimulus"] >= 80) for r in (one, other)]
    rows = [
        r[np.argsort(p.trials["stimulus"].iloc[r])] for r, p in zip(rows, (one, other), strict=True)
    ]
    carried = aligner.inverse_transform(
        aligner.transform(one.responses.read(rows[0]), "ann"), "bob"
    )
    truth = other.responses.read(rows[1])
    assert correlation(carried, truth) > 0.98
    assert abs(correlation(carried[::-1], truth)) < 0.3
    # The mean is the person's own, too.
    np.testing.assert_allclose(carried.mean(0), truth.mean(0), atol=0.3)


def test_ridge_predicts_the_reference_from_others(people):
    aligner = RidgeToReference("bob").fit(people)
    averaged = {name: one.average_repeats().responses.read() for name, one in people.items()}
    predicted = aligner.transform(averaged["ann"], "ann")
    assert correlation(predicted, averaged["bob"]) > 0.98
    np.testing.assert_array_equal(aligner.transform(averaged["bob"], "bob"), averaged["bob"])


def test_ridge_in_the_span_of_samples_is_ridge_on_voxels(people):
    aligner = RidgeToReference("bob", alphas=[10.0], cv=4).fit(people)
    X = people["ann"].average_repeats().responses.read().astype(np.float64)
    Y = people["bob"].average_repeats().responses.read().astype(np.float64)
    plain = VoxelwiseRidge(alphas=[10.0]).fit(X, Y)
    np.testing.assert_allclose(aligner.transform(X, "ann"), plain.predict(X), atol=1e-4)


def test_the_shared_space_of_ridge_leads_back_to_its_reference_alone(people):
    aligner = RidgeToReference("bob")
    assert aligner.leads_back_to("bob")
    assert not aligner.leads_back_to("ann")
    values = people["bob"].responses.read()
    np.testing.assert_array_equal(aligner.fit(people).inverse_transform(values, "bob"), values)
    first = RidgeToReference().fit(people)
    assert [name for name in people if first.leads_back_to(name)] == ["ann"]


@pytest.mark.parametrize("kind", [Procrustes, partial(SharedResponse, 4)], ids=["whole", "few"])
def test_maps_by_ridge_are_scikit_learns_of_what_the_others_share(people, kind):
    averaged = {name: one.average_repeats() for name, one in people.items()}
    X = {name: one.responses.read().astype(np.float64) for name, one in averaged.items()}
    isometries, aligner = kind().fit(averaged), kind(maps="ridge").fit(averaged)
    moved = {name: isometries.transform(X[name], name) for name in people}
    others = (moved["bob"] + moved["cat"]) / 2  # (80 stimuli, dimensions), without ann's noise
    folds = kfold(80, 5, groups=np.arange(80), seed=0)
    shared = aligner.transform(X["ann"], "ann")
    scale = X["ann"].var(axis=0).mean()
    for k in range(4):
        plain = RidgeCV(np.array(STANDARD_GRID) * scale, cv=folds, scoring="neg_mean_squared_error")
        plain.fit(X["ann"], others[:, k])
        expected = plain.predict(X["ann"])
        np.testing.assert_allclose(shared[:, k], expected, atol=1e-3 * expected.std())
    back = aligner.inverse_transform(others, "ann")
    for unit in (0, 57, 119):
        grid = np.array(STANDARD_GRID) * others.var()
        plain = RidgeCV(grid, cv=folds, scoring="neg_mean_squared_error")
        expected = plain.fit(others, X["ann"][:, unit]).predict(others)
        np.testing.assert_allclose(back[:, unit], expected, atol=2e-3 * expected.std())


def test_maps_by_ridge_carry_more_of_noisy_people(simulate, shared):
    test = np.random.default_rng(9).standard_normal((50, 6)) * np.arange(6, 0, -1)
    everything = np.concatenate([shared, test])
    sizes = {"ann": 120, "bob": 100, "cat": 90}
    noisy = {n: simulate(n, everything, size, noise=3.0) for n, size in sizes.items()}
    trained, tested = {}, {}
    for name, one in noisy.items():
        order = np.argsort(one.trials["stimulus"])
        trained[name] = one.select(trials=order[:80])
        tested[name] = one.responses.read(order[80:])
    reached = {}
    for maps in ("isometry", "ridge"):
        aligner = Procrustes(maps=maps).fit(trained)
        carried = aligner.inverse_transform(aligner.transform(tested["ann"], "ann"), "bob")
        reached[maps] = float(((carried - tested["bob"]) ** 2).mean())
    level = trained["bob"].responses.read().mean(axis=0)
    assert reached["ridge"] < 0.99 * float(((tested["bob"] - level) ** 2).mean())
    assert reached["ridge"] < 0.8 * reached["isometry"]


def test_maps_by_ridge_lead_to_a_reference_by_way_of_the_shared_dimensions(placed):
    plain = Procrustes(parcels="parcel", maps="ridge").fit(placed)
    onto = Procrustes(parcels="parcel", maps="ridge", reference="bob").fit(placed)
    few = placed["cat"].select(trials=slice(0, 60))
    new = Recording.from_arrays(
        few.responses.read(), subject="dan", trials=few.trials, units=few.units
    )
    for aligner in (plain, onto):
        aligner.add_subject(new)
    for name, one in {**placed, "dan": new}.items():
        responses = one.responses.read()[:10]
        shared = plain.transform(responses, name)
        of_bob = plain.inverse_transform(shared, "bob")
        np.testing.assert_allclose(onto.transform(responses, name), of_bob, atol=1e-3)
        back = plain.inverse_transform(plain.transform(of_bob, "bob"), name)
        np.testing.assert_allclose(onto.inverse_transform(of_bob, name), back, atol=1e-3)


@given(st.integers(0, 1000))
def test_procrustes_recovers_a_persons_rotation(seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((50, 8)) + 2
    R = ortho_group.rvs(8, random_state=seed)
    trials = pd.DataFrame({"stimulus": range(50)})
    pair = {
        "a": Recording.from_arrays(X.astype(np.float32), subject="a", trials=trials),
        "b": Recording.from_arrays((X @ R).astype(np.float32), subject="b", trials=trials),
    }
    aligner = Procrustes().fit(pair)
    new = rng.standard_normal((20, 8))
    carried = aligner.inverse_transform(aligner.transform(new, "a"), "b")
    np.testing.assert_allclose(carried, new @ R, atol=1e-4)
    onto = Procrustes(reference="b").fit(pair)
    np.testing.assert_allclose(onto.transform(new, "a"), new @ R, atol=1e-4)
    np.testing.assert_allclose(onto.transform(new, "b"), new, atol=1e-4)


def test_parcels_are_aligned_apart_from_each_other(placed):
    aligner = Procrustes(parcels="parcel").fit(placed)
    ann = placed["ann"]
    changed = ann.responses.read()
    changed[:, ann.units["parcel"] == "left"] = 0
    moved = aligner.transform(ann.responses.read(), "ann") != aligner.transform(changed, "ann")
    n_left = aligner.template_["left"].shape[1]
    assert moved[:, :n_left].any(axis=0).all()
    assert not moved[:, n_left:].any()
    back = aligner.inverse_transform(aligner.transform(ann.responses.read(), "ann"), "ann")
    assert correlation(back, ann.responses.read()) > 0.95


def test_parcels_of_one_label_are_the_whole(placed):
    labels = {name: np.ones(one.responses.shape[1], int) for name, one in placed.items()}
    values = placed["cat"].responses.read()
    one, other = Procrustes(parcels=labels).fit(placed), Procrustes().fit(placed)
    np.testing.assert_array_equal(one.transform(values, "cat"), other.transform(values, "cat"))


@pytest.mark.parametrize(
    "aligner", [PCA(5), Procrustes(), SharedResponse(6)], ids=lambda one: type(one).__name__
)
def test_transform_undoes_its_inverse(people, aligner):
    aligner = clone(aligner).fit(people)
    responses = people["bob"].responses.read()[:10]
    shared = aligner.transform(responses, "bob")
    again = aligner.transform(aligner.inverse_transform(shared, "bob"), "bob")
    np.testing.assert_allclose(again, shared, atol=1e-4 * np.abs(shared).max())


def test_order_of_people_changes_nothing(people):
    values = people["ann"].responses.read()
    turned = dict(reversed(list(people.items())))
    for aligner in (Procrustes(), SharedResponse(6), PCA(5)):
        one, other = clone(aligner).fit(people), clone(aligner).fit(turned)
        a, b = one.transform(values, "ann"), other.transform(values, "ann")
        np.testing.assert_allclose(a[:, :5], b[:, :5], atol=1e-3 * np.abs(a).max())


def test_a_seeded_start_is_repeatable_and_reaches_the_same_loss(people):
    one, again = (SharedResponse(6, seed=3).fit(people) for _ in range(2))
    np.testing.assert_array_equal(one.template_, again.template_)
    plain = SharedResponse(6).fit(people)
    assert one.losses_[-1] == pytest.approx(plain.losses_[-1], rel=1e-3)
    assert not np.array_equal(one.losses_, plain.losses_)


def test_every_stimulus_counts_once_however_often_it_was_seen(simulate, shared):
    once = simulate("ann", shared, 30)
    some = simulate("bob", shared, 20, repeats=2)
    uneven = some.select(trials=np.r_[0:160, np.flatnonzero(some.trials["stimulus"] < 30)])
    even = SharedResponse(5).fit([once, some])
    again = SharedResponse(5).fit([once, uneven])
    np.testing.assert_allclose(again.template_, even.template_, atol=1e-4)


# -- features: people without a stimulus in common ---------------------------------------------


def encoded(subject, stimuli, features, n_units, noise=0.5):
    rng = np.random.default_rng(len(subject) + n_units)
    weights = rng.standard_normal((features.shape[1], n_units))
    values = features @ weights + 4 + noise * rng.standard_normal((len(features), n_units))
    trials = pd.DataFrame({"stimulus": range(len(features))})
    return Recording.from_arrays(
        values.astype(np.float32), subject=subject, trials=trials, stimuli=stimuli
    ), weights


def test_people_with_no_stimulus_in_common_meet_in_features():
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal((150, 5)) for name in "ab"}
    people, weights = {}, {}
    for name, n_units in (("a", 60), ("b", 25)):
        stimuli = Stimuli(features[name][:, :, None], ids=[f"{name}{k}" for k in range(150)])
        people[name], weights[name] = encoded(name, stimuli, features[name], n_units)
    table = pd.DataFrame(
        np.concatenate(list(features.values())),
        index=[*people["a"].stimuli.ids, *people["b"].stimuli.ids],
    )
    by_person = ByFeatures(features).fit(people)
    aligner = ByFeatures(table).fit(people)
    new = rng.standard_normal((80, 5))
    meet = [aligner.transform(new @ weights[name] + 4, name) for name in "ab"]
    assert correlation(*meet) > 0.99
    # The shared space holds the standardised features, turned to their principal axes.
    standard = (new - aligner.feature_mean_) / aligner.feature_scale_ @ aligner.feature_basis_
    assert correlation(meet[1], standard) > 0.99
    carried = aligner.inverse_transform(meet[0], "b")
    assert correlation(carried, new @ weights["b"]) > 0.99
    assert correlation(carried[::-1], new @ weights["b"]) < 0.3
    again = by_person.transform(new @ weights["a"] + 4, "a")
    np.testing.assert_allclose(again, meet[0], atol=1e-3)
    with pytest.raises(InputError, match="2 people have 0 stimuli in common"):
        SharedResponse(3).fit(people)


def test_features_of_continuous_recordings_come_a_row_a_sample():
    rng = np.random.default_rng(0)
    F = {name: rng.standard_normal((120, 4)) for name in "ab"}
    people = [
        Recording.from_arrays(
            (F[name] @ rng.standard_normal((4, 30))).astype(np.float32), subject=name,
            samples=pd.DataFrame({"run": 1, "time": np.arange(120.0)}),
        )
        for name in "ab"
    ]  # fmt: skip
    aligner = ByFeatures(F).fit(people)
    found = aligner.transform(people[0].responses.read(), "a")
    standard = (F["a"] - aligner.feature_mean_) / aligner.feature_scale_ @ aligner.feature_basis_
    assert correlation(found, standard) > 0.999


def test_a_feature_space_is_fitted_on_the_stimuli_of_all(people):
    from brainkit.features import PixelPCA

    rng = np.random.default_rng(0)
    images = rng.uniform(size=(80, 6, 6)).astype(np.float32)
    held = {
        name: Recording.from_arrays(
            one.responses.read(), subject=name, trials=one.trials, stimuli=Stimuli(images)
        )
        for name, one in people.items()
    }
    aligner = ByFeatures(PixelPCA(n_components=4)).fit(held)
    assert aligner.n_shared_ == 4
    assert aligner.transform(held["bob"].responses.read(), "bob").shape == (160, 4)


# -- a new person -----------------------------------------------------------------------------


def test_a_new_person_joins_by_few_trials(people, simulate, shared):
    new = simulate("dan", shared, 64, noise=0.02)
    few, rest = new.select(trials=slice(0, 20)), new.select(trials=slice(20, None))
    kinds = (SharedResponse(6), RidgeToReference("bob"), RIDGE_MAPS[1])
    for aligner in map(clone, kinds):
        aligner.fit(people).add_subject(few)
        assert aligner.n_samples_["dan"] == 20
        ann = people["ann"].average_repeats()
        of_ann = aligner.transform(ann.responses.read(rest.trials["stimulus"]), "ann")
        of_dan = aligner.transform(rest.responses.read(), "dan")
        assert correlation(of_ann, of_dan) > 0.9
        assert abs(correlation(of_ann[::-1], of_dan)) < 0.4
        with pytest.raises(InputError, match="'dan' is aligned already, with 20 samples"):
            aligner.add_subject(few)


def test_a_new_person_leaves_the_shared_space_as_it_is(placed, shared, simulate):
    dan = simulate("dan", shared, 64)
    rng = np.random.default_rng(5)
    units = pd.DataFrame(rng.uniform(-60, 60, (64, 3)), columns=list("xyz"))
    units["parcel"] = np.where(units["x"] < 0, "left", "right")
    dan = Recording.from_arrays(dan.responses.read(), subject="dan", trials=dan.trials, units=units)
    values = placed["cat"].responses.read()
    for aligner in every_aligner(shared):
        before = aligner.fit(placed).transform(values, "cat")
        aligner.add_subject(dan)
        np.testing.assert_array_equal(aligner.transform(values, "cat"), before)
        assert aligner.transform(dan.responses.read(), "dan").shape == (80, aligner.n_shared_)
        assert list(aligner.n_units_) == ["ann", "bob", "cat", "dan"]


def test_too_few_trials_of_a_new_person_say_what_would_do(people, simulate, shared):
    aligner = SharedResponse(6).fit(people)
    few = simulate("dan", shared, 64).select(trials=slice(0, 6))
    with pytest.raises(
        InputError,
        match=r"SharedResponse has 6 dimensions here, and 'dan' has 6 samples .* it takes 7 or "
        r"more. .*SharedResponse\(n_components=5\) or fewer, RidgeToReference",
    ):
        aligner.add_subject(few)
    SharedResponse(5).fit(people).add_subject(few)
    SharedResponse(6, maps="ridge").fit(people).add_subject(few)
    whole = Procrustes().fit(people)
    with pytest.raises(InputError, match=r"Procrustes has \d+ dimensions here"):
        whole.add_subject(few)
    with pytest.raises(InputError, match="Use n_components=5 or fewer"):
        PCA(6).fit(people).add_subject(few)
    one = few.select(trials=[0])
    with pytest.raises(InputError, match="needs two samples or more; 'dan' has 1"):
        RidgeToReference().fit(people).add_subject(one)
    with pytest.raises(InputError, match=r"Procrustes chooses .* two samples or more; 'dan' has 1"):
        Procrustes(maps="ridge").fit(people).add_subject(one)


def test_a_new_person_of_other_stimuli_is_refused(people, simulate, shared):
    aligner = SharedResponse(3).fit(people)
    other = simulate("dan", shared, 30)
    trials = other.trials.assign(stimulus=other.trials["stimulus"] + 500)
    other = Recording.from_arrays(other.responses.read(), subject="dan", trials=trials)
    with pytest.raises(InputError, match=r"Of the 80 stimuli of 'dan' none .* Identity, PCA"):
        aligner.add_subject(other)


# -- from where units are ----------------------------------------------------------------------


def test_pooling_is_adaptive_average_pooling_in_the_order_asked_for():
    rng = np.random.default_rng(0)
    for n_units, length in ((37, 8), (16, 16), (5, 12), (100, 7)):
        units = pd.DataFrame({"y": rng.permutation(n_units).astype(float)})
        values = rng.standard_normal((4, n_units)).astype(np.float32)
        one = Recording.from_arrays(values, subject="a", units=units)
        found = Pooled(length, axis="y").fit(one).transform(values, "a")
        ordered = values[:, np.argsort(units["y"])]
        expected = torch.nn.functional.adaptive_avg_pool1d(
            torch.from_numpy(ordered[:, None]), length
        )[:, 0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
        as_it_stands = Pooled(length).fit(one).transform(ordered, "a")
        np.testing.assert_allclose(as_it_stands, found, atol=1e-7)


def volume_person(subject, shape=(9, 8, 7), size=3.0, seed=0, n_units=200):
    rng = np.random.default_rng(seed)
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = -size * np.array(shape) / 2
    voxels = np.sort(rng.choice(np.prod(shape), n_units, replace=False))
    values = rng.standard_normal((6, n_units)).astype(np.float32)
    return Recording.from_arrays(values, subject=subject, space=VolumeSpace(shape, affine, voxels))


@pytest.mark.parametrize("size", [2.0, 3.0, 4.5])
def test_a_template_takes_volumes_as_nilearn_does(size, tmp_path):
    import nibabel
    from nilearn.image import resample_to_img

    shape = (11, 9, 8)
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = [-13.2, -11.0, -10.1]
    mask = np.zeros(shape, np.int16)
    mask[2:9, 2:8, 1:7] = 1
    template = nibabel.Nifti1Image(mask, affine)
    nibabel.save(template, tmp_path / "template.nii.gz")
    people = [volume_person("a"), volume_person("b", shape=(7, 9, 8), seed=1, n_units=333)]
    aligner = Resample(template=tmp_path / "template.nii.gz").fit(people)
    assert aligner.n_shared_ == mask.sum()
    for one in people:
        image = one.to_image(one.responses.read(), fill=0.0)
        expected = resample_to_img(
            image, template, interpolation="linear", force_resample=True, copy_header=True
        ).get_fdata()[mask > 0]
        found = aligner.transform(one.responses.read(), one.subject)
        np.testing.assert_allclose(found, expected.T, atol=1e-5)
        assert np.abs(found).max() > 0.1


def test_a_template_elsewhere_is_refused():
    import nibabel

    affine = np.eye(4)
    affine[:3, 3] = 5000
    template = nibabel.Nifti1Image(np.ones((3, 3, 3)), affine)
    with pytest.raises(InputError, match="No voxel of 'a' lies within the template"):
        Resample(template=template).fit(volume_person("a"))
    with pytest.raises(InputError, match="'a' has no space"):
        Resample(template=template).fit(Recording.from_arrays(np.zeros((3, 4)), subject="a"))


def test_parcels_of_a_volume_are_means_within_labels():
    import nibabel

    one = volume_person("a")
    labels = np.zeros((9, 8, 7))
    labels[:4], labels[4:8] = 1, 2
    image = nibabel.Nifti1Image(labels, one.space.affine)
    aligner = Resample(parcels=image).fit(one)
    at = labels.reshape(-1)[one.space.voxels]
    values = one.responses.read()
    expected = np.stack([values[:, at == label].mean(axis=1) for label in (1, 2)], axis=1)
    np.testing.assert_allclose(aligner.transform(values, "a"), expected, atol=1e-6)
    assert aligner.names_ == ["1", "2"]


def test_attention_depends_on_coordinates_alone_and_is_local():
    one = volume_person("a", n_units=400)
    other = Recording.from_arrays(
        np.random.default_rng(7).standard_normal((3, 400)), subject="a", space=one.space
    )
    aligner = Coordinates(n_queries=20).fit(one)
    attention = aligner.attention_["a"]
    np.testing.assert_array_equal(Coordinates(n_queries=20).fit(other).attention_["a"], attention)
    np.testing.assert_allclose(attention.sum(axis=0), 1, atol=1e-5)
    assert not np.array_equal(Coordinates(20, seed=1).fit(one).attention_["a"], attention)
    # The softmax weighs near units: their centre of mass has a smaller spread than all units.
    places = one.space.coordinates()
    centre = attention.T @ places
    spread = np.sqrt((attention.T * ((places[None] - centre[:, None]) ** 2).sum(-1)).sum(1))
    everywhere = np.sqrt(((places - places.mean(0)) ** 2).sum(1).mean())
    assert np.median(spread) < 0.5 * everywhere
    values = one.responses.read()
    np.testing.assert_allclose(aligner.transform(values, "a"), values @ attention, atol=1e-6)


def test_a_person_of_other_voxels_in_the_same_places_is_near_by_coordinates():
    rng = np.random.default_rng(0)

    def person(subject, n_units):
        places = rng.uniform(-50, 50, (n_units, 3))
        field = (
            np.sin(places[:, :1] / 20 + np.arange(30)) + places[:, 1:2] / 50 * np.arange(30) / 30
        )
        units = pd.DataFrame(places, columns=list("xyz"))
        return Recording.from_arrays(field.T.astype(np.float32), subject=subject, units=units)

    people = [person("a", 900), person("b", 1500)]
    aligner = Coordinates(40, frame="shared").fit(people)
    one, other = (aligner.transform(p.responses.read(), p.subject) for p in people)
    assert correlation(one, other) > 0.95
    # Shuffled coordinates destroy it.
    units = people[1].units.sample(frac=1, random_state=0, ignore_index=True)
    shuffled = Recording.from_arrays(people[1].responses.read(), subject="b", units=units)
    moved = Coordinates(40, frame="shared").fit([people[0], shuffled])
    assert correlation(one, moved.transform(shuffled.responses.read(), "b")) < 0.8


# -- what is refused ---------------------------------------------------------------------------


def test_no_stimulus_of_a_test_part_is_ever_seen(people):
    folds = {name: one.split("kfold:4:stimulus", seed=0).folds[0] for name, one in people.items()}
    train = {name: fold.train for name, fold in folds.items()}
    test = {name: fold.test for name, fold in folds.items()}
    sealed = set(folds["ann"].test.trials["stimulus"])
    for aligner in COMMON:
        fitted = clone(aligner).fit(train, forbidden=test)
        assert not sealed & {int(key.split()[1]) for key in fitted.stimuli_}
    leaked = {**train, "bob": people["bob"]}
    for aligner in (*COMMON, PCA(3)):
        with pytest.raises(LeakError, match=r"20 stimuli of the test part .* 'bob'") as raised:
            clone(aligner).fit(leaked, forbidden=test)
        assert set(raised.value.ids) == sealed
    with pytest.raises(LeakError):
        PCA(3).fit(train).add_subject(
            Recording.from_arrays(
                people["ann"].responses.read(), subject="new", trials=people["ann"].trials
            ),
            forbidden=test["ann"],
        )


def test_one_persons_test_part_is_sealed_in_everybodys_training_part(people):
    trained = {"ann": people["ann"].select(trials=slice(0, 60)), "bob": people["bob"]}
    with pytest.raises(LeakError, match="in the recording of 'bob'") as raised:
        SharedResponse(3).fit(trained, forbidden=people["ann"].select(trials=slice(60, None)))
    assert set(raised.value.ids) == set(people["ann"].trials["stimulus"].iloc[60:])


def test_ids_of_stimuli_are_sealed_too(people):
    with pytest.raises(LeakError) as raised:
        PCA(3).fit(people, forbidden=[3, 17])
    assert raised.value.ids == [3, 17]
    images = Stimuli(
        np.random.default_rng(0).uniform(size=(80, 3, 3)), ids=[f"i{k}" for k in range(80)]
    )
    one = Recording.from_arrays(
        people["ann"].responses.read(), subject="ann", trials=people["ann"].trials, stimuli=images
    )
    with pytest.raises(LeakError) as raised:
        PCA(3).fit(one, forbidden=np.array(["i7", "x"]))
    assert raised.value.ids == ["i7"]
    PCA(3).fit(one, forbidden=["x"])
    PCA(3).fit(one, forbidden=[])
    with pytest.raises(InputError, match="test parts or a list of ids"):
        PCA(3).fit(one, forbidden="i7")


def test_the_same_pictures_under_other_names_are_sealed():
    images = np.random.default_rng(0).uniform(size=(30, 4, 4))
    rng = np.random.default_rng(1)

    def person(subject, order):
        return Recording.from_arrays(
            rng.standard_normal((len(order), 12)), subject=subject, stimuli=Stimuli(images[order])
        )

    a, b = person("a", np.arange(20)), person("b", np.arange(29, 9, -1))
    aligner = Procrustes().fit([a, b])
    assert len(aligner.stimuli_) == 10  # rows 10 to 19, by content
    with pytest.raises(LeakError) as raised:
        Procrustes().fit([a, b], forbidden=person("c", np.array([12, 25])))
    assert raised.value.ids == [12]  # in the recording of a


def test_tested_runs_of_conditions_are_sealed():
    rng = np.random.default_rng(0)
    trials = pd.DataFrame({"stimulus": np.tile(range(6), 4), "run": np.repeat(range(4), 6)})
    people = [
        Recording.from_arrays(
            rng.standard_normal((24, 9)), subject=name, trials=trials, stimuli_are="conditions"
        )
        for name in "ab"
    ]
    folds = [one.split("leave-one-run-out").folds[0] for one in people]
    tested = [fold.test for fold in folds]
    SharedResponse(3).fit([fold.train for fold in folds], forbidden=tested)
    with pytest.raises(LeakError, match="1 runs of 'a' that are tested"):
        SharedResponse(3).fit(people, forbidden=tested)


def test_tested_times_are_sealed():
    rng = np.random.default_rng(0)
    samples = pd.DataFrame({"run": 1, "time": 1.5 * np.arange(40)})
    people = [
        Recording.from_arrays(rng.standard_normal((40, 9)), subject=name, samples=samples)
        for name in "ab"
    ]
    fold = people[0].split("kfold:2").folds[0]
    with pytest.raises(LeakError, match="20 sample times of the test part"):
        Procrustes().fit(people, forbidden=fold.test)
    Procrustes().fit([one.split("kfold:2").folds[0].train for one in people], forbidden=fold.test)


@pytest.mark.parametrize("aligner", COMMON, ids=repr)
def test_people_without_common_stimuli_are_told_what_would_do(people, aligner):
    bob = people["bob"]
    trials = bob.trials.assign(stimulus=bob.trials["stimulus"] + 100)
    other = Recording.from_arrays(bob.responses.read(), subject="bob", trials=trials)
    kinds = [kind for kind in ALIGNERS.values() if kind.aligns]
    free = [kind.__name__ for kind in kinds if not kind.needs_common_stimuli]
    assert free == ["Identity", "PCA", "Pooled", "Resample", "Coordinates", "ByFeatures"]
    with pytest.raises(InputError) as raised:
        clone(aligner).fit([people["ann"], other])
    assert "2 people have 0 stimuli in common (of ann 80, bob 80)" in str(raised.value)
    assert ", ".join(free) in str(raised.value)


@pytest.mark.parametrize("aligner", COMMON, ids=repr)
def test_one_person_alone_is_refused_by_those_who_need_others(people, aligner):
    with pytest.raises(InputError, match=r"aligns people with each other; got 'ann' alone"):
        clone(aligner).fit(people["ann"])
    PCA(3).fit(people["ann"])


def test_nan_is_refused_with_its_unit(people):
    values = people["bob"].responses.read()
    values[3, 7] = np.nan
    broken = Recording.from_arrays(values, subject="bob", trials=people["bob"].trials)
    for aligner in (PCA(3), SharedResponse(3)):
        with pytest.raises(InputError, match=r"1 of 40 units of 'bob' hold NaN .* first .* unit 7"):
            aligner.fit([people["ann"], broken])
    aligner = SharedResponse(3).fit(people)
    with pytest.raises(InputError, match="responses of 'bob' hold NaN"):
        aligner.transform(values, "bob")


def test_wrong_subjects_units_and_shapes_are_refused(people):
    aligner = SharedResponse(3).fit(people)
    with pytest.raises(UnknownNameError, match=r"Unknown subject 'an': .* Did you mean 'ann'"):
        aligner.transform(np.zeros((2, 120)), "an")
    with pytest.raises(InputError, match=r"real numbers \(n, 120\) .* shape \(2, 40\)"):
        aligner.transform(np.zeros((2, 40)), "ann")
    with pytest.raises(InputError, match="real numbers"):
        aligner.transform(np.zeros(120), "ann")
    with pytest.raises(InputError, match=r"shared values must be real numbers \(n, 3\)"):
        aligner.inverse_transform(np.zeros((2, 120)), "ann")
    with pytest.raises(InputError, match=r"no way back .* of 'bob'.* Identity, PCA"):
        RidgeToReference().fit(people).inverse_transform(np.zeros((2, 120)), "bob")


def test_unequal_counts_are_refused_where_units_have_to_correspond(people):
    with pytest.raises(InputError, match=r"'bob' has 40 units, others have 120"):
        Identity().fit(people)
    aligner = Identity().fit(people["bob"])
    values = people["bob"].responses.read()
    np.testing.assert_array_equal(aligner.transform(values, "bob"), values)
    with pytest.raises(InputError, match="'cat' has 90 units"):
        aligner.add_subject(people["cat"])


def test_labels_that_not_everybody_has_are_refused(placed):
    labels = {
        name: np.arange(one.responses.shape[1]) % (3 if name == "bob" else 4) + 1
        for name, one in placed.items()
    }
    for aligner in (Procrustes(parcels=labels), Resample(parcels=labels)):
        with pytest.raises(UnknownNameError, match=r"'4': there are 1, 2, 3.* of 'ann'"):
            aligner.fit(placed)
    with pytest.raises(UnknownNameError, match=r"column of units .* 'parcels': .* 'parcel'"):
        Procrustes(parcels="parcels").fit(placed)
    with pytest.raises(UnknownNameError, match=r"of parcels.* 'cat'"):
        Procrustes(parcels={name: labels[name] for name in ("ann", "bob")}).fit(placed)
    with pytest.raises(InputError, match=r"one label for each of the 120 units"):
        Procrustes(parcels={**labels, "ann": [1, 2]}).fit(placed)
    with pytest.raises(InputError, match="all 120 labels are 0"):
        Procrustes(parcels={**labels, "ann": np.zeros(120)}).fit(placed)
    with pytest.raises(InputError, match="one of the two"):
        Resample().fit(placed)


def test_settings_that_cannot_be_are_refused(people):
    with pytest.raises(InputError, match=r"it takes 81 or more"):
        SharedResponse(80).fit(people)
    with pytest.raises(InputError, match="'bob' has 40 units; use that many"):
        SharedResponse(41).fit(people)
    with pytest.raises(InputError, match=r"PCA\(n_components=50\).*n_components=4\d or fewer"):
        PCA().fit(people)
    for aligner in (RidgeToReference("dan"), Procrustes(reference="dan")):
        with pytest.raises(UnknownNameError, match="reference"):
            aligner.fit(people)
    for aligner in (SharedResponse(6, maps="rigde"), Procrustes(maps="rigde")):
        with pytest.raises(UnknownNameError, match=r"maps 'rigde'.*Did you mean 'ridge'"):
            aligner.fit(people)
    with pytest.raises(InputError, match="length must be 1"):
        Pooled(0).fit(people)
    with pytest.raises(UnknownNameError, match="axis to order units by 'w'"):
        Pooled(4, axis="w").fit(people)
    with pytest.raises(InputError, match="Nothing says where the units of 'ann' are"):
        Coordinates().fit(people)
    with pytest.raises(InputError, match="ByFeatures needs features="):
        ByFeatures().fit(people)
    with pytest.raises(InputError, match="80 rows or more"):
        ByFeatures(np.zeros((5, 2))).fit(people)


@pytest.mark.parametrize("given", [[], {}, "ann", None, 3, [np.zeros((3, 4))]], ids=repr)
def test_what_is_no_recording_is_refused(given):
    with pytest.raises(InputError, match="must be Recordings"):
        PCA(3).fit(given)


def test_two_recordings_of_one_person_are_refused(people):
    with pytest.raises(InputError, match="several of ann"):
        PCA(3).fit([people["ann"], people["ann"]])


def test_continuous_and_trials_do_not_mix(people):
    samples = pd.DataFrame({"run": 1, "time": np.arange(30.0)})
    story = Recording.from_arrays(
        np.random.default_rng(0).standard_normal((30, 5)), subject="s", samples=samples
    )
    with pytest.raises(InputError, match="Some recordings are continuous"):
        SharedResponse(2).fit([people["ann"], story])
    bare = Recording.from_arrays(
        np.ones((30, 5)), subject="t", samples=samples.drop(columns="time")
    )
    with pytest.raises(InputError, match=r"no column time"):
        SharedResponse(2).fit([story, bare])


def test_errors_are_of_the_kind_that_users_can_mend():
    with pytest.raises(BrainkitError), warnings.catch_warnings():
        PCA(3).fit([])


# -- under an encoder --------------------------------------------------------------------------


def test_an_encoder_of_all_people_stands_on_the_shared_space(simulate):
    """Trained on two people's shared responses, it predicts voxels of a third with few trials."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((160, 4))
    S = features @ rng.standard_normal((4, 4))
    people = [simulate(name, S, n, noise=0.3) for name, n in (("ann", 90), ("bob", 50))]
    train = [one.select(trials=one.trials["stimulus"] < 120) for one in people]
    aligner = SharedResponse(4).fit(train)
    aligned = [aligner.align(one) for one in train]
    X = np.concatenate([features[one.trials["stimulus"]] for one in aligned])
    Y = np.concatenate([one.responses.read() for one in aligned])
    encoder = VoxelwiseRidge().fit(X, Y)
    new = simulate("cat", S, 70, noise=0.3)
    aligner.add_subject(new.select(trials=new.trials["stimulus"] < 20))
    test = new.select(trials=new.trials["stimulus"] >= 120)
    predicted = aligner.inverse_transform(encoder.predict(features[test.trials["stimulus"]]), "cat")
    truth = test.responses.read()
    assert correlation(predicted, truth) > 0.5
    assert abs(correlation(np.roll(predicted, 7, axis=0), truth)) < 0.15
