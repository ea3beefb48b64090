"""ContrastiveDecoder on small linear worlds: what it learns, whom it changes, what it refuses."""

import numpy as np
import pytest
import torch

from brainkit import load_estimator, save_estimator
from brainkit.decoding import ContrastiveDecoder
from brainkit.decoding.image_decoding import fit_with_null
from brainkit.errors import InputError, UnknownNameError

WIDTH, N_UNITS = 12, {"a": 40, "b": 30, "c": 35}
SMALL = {"steps": 60, "batch_size": 64, "alphas": (1.0, 10.0), "cv": 3, "progress": False}


def embeddings(n, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, WIDTH)) * np.linspace(0.5, 2, WIDTH) + 3).astype(np.float32)


def responses(Z, subject, noise=0.5, seed=1):
    """Return what a person's units answer to images: a linear map of their own, and noise."""
    n_units = N_UNITS[subject]
    A = np.random.default_rng(ord(subject)).normal(size=(WIDTH, n_units)) / np.sqrt(WIDTH)
    rng = np.random.default_rng(seed + ord(subject))
    values = (Z - 3) @ A + noise * rng.normal(size=(len(Z), n_units))
    padded = np.zeros((len(Z), max(N_UNITS.values())), dtype=np.float32)
    padded[:, :n_units] = values
    return padded


@pytest.fixture(scope="module")
def world():
    Z = embeddings(160)
    X = np.concatenate([responses(Z, name) for name in "abc"])
    return {
        "X": X,
        "Z": np.tile(Z, (3, 1)),
        "images": np.tile(np.arange(160), 3),
        "people": np.repeat(list("abc"), 160),
    }


def top1(similarity):
    return float((similarity.argmax(axis=1) == np.arange(len(similarity))).mean())


@pytest.fixture(scope="module")
def fitted(world):
    return ContrastiveDecoder(**SMALL).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )


def test_new_images_are_found_from_everybodys_brain(fitted):
    new = embeddings(50, seed=9)
    for name in "abc":
        X = responses(new, name, seed=50)
        found = top1(fitted.similarity(X, new, np.full(50, name)))
        assert found > 0.6  # chance .02


def test_predicted_embeddings_correlate_and_have_the_spread_of_true_ones(fitted):
    new = embeddings(200, seed=8)
    predicted = fitted.predict(responses(new, "a", seed=51), np.full(200, "a"))
    r = [np.corrcoef(predicted[:, k], new[:, k])[0, 1] for k in range(WIDTH)]
    assert np.mean(r) > 0.7
    spread = predicted.std(axis=0).mean() / new.std(axis=0).mean()
    assert spread == pytest.approx(1, abs=0.15)
    lengths = np.linalg.norm(predicted, axis=1)
    np.testing.assert_allclose(lengths, fitted.norm_, rtol=1e-4)


def test_the_right_person_has_to_be_named(fitted):
    new = embeddings(50, seed=9)
    X = responses(new, "c", seed=50)
    right, wrong = (top1(fitted.similarity(X, new, np.full(50, name))) for name in "cb")
    assert right > 0.6
    assert wrong < 0.2
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict(X, np.full(50, "c")))


def test_a_row_does_not_depend_on_the_others(fitted):
    X = responses(embeddings(9, seed=5), "b", seed=3)
    people = np.full(9, "b")
    for method in (fitted.predict, fitted.predict_standardised):
        every = method(X, people)
        np.testing.assert_allclose(method(X[4:5], people[:1])[0], every[4], rtol=1e-4, atol=1e-5)


def test_the_same_seed_gives_the_same_weights(world, fitted):
    again = ContrastiveDecoder(**SMALL).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )
    for name, value in fitted.module_.state_dict().items():
        assert torch.equal(value, again.module_.state_dict()[name]), name
    other = ContrastiveDecoder(**SMALL, seed=1).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )
    assert not np.allclose(other.predict(world["X"][:3], list("aaa")), again.predict(world["X"][:3], list("aaa")))  # fmt: skip # noqa: E501


@pytest.mark.parametrize("start", ["ridge", "random"])
def test_a_new_person_changes_no_other_weight(world, start):
    first = world["people"] != "c"
    settings = {**SMALL, "start": start}
    if start == "random":
        settings |= {"alignment_settings": {"width": 16}, "steps": 30}
    decoder = ContrastiveDecoder(**settings).fit(
        world["X"][first], world["Z"][first], world["images"][first], people=world["people"][first]
    )
    before = {k: v.clone() for k, v in decoder.module_.state_dict().items()}
    mine = ~first
    decoder.add_subject(world["X"][mine], world["Z"][mine], "c", groups=world["images"][mine])
    after = decoder.module_.state_dict()
    new = {f"brain.{name}" for name in decoder.module_.brain.of_subject("c")}
    assert new
    assert new == set(after) - set(before)
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    if start == "ridge":
        fresh = embeddings(50, seed=9)
        assert top1(decoder.similarity(responses(fresh, "c", seed=50), fresh)) > 0.4


def test_adapter_mode_is_fit_and_add(world):
    order = {"groups": world["images"], "people": world["people"]}
    at_once = ContrastiveDecoder(**SMALL, new_person="adapter").fit(world["X"], world["Z"], **order)
    first = world["people"] != "c"
    step = ContrastiveDecoder(**SMALL).fit(
        world["X"][first], world["Z"][first], world["images"][first], people=world["people"][first]
    )
    step.add_subject(world["X"][~first], world["Z"][~first], "c", groups=world["images"][~first])
    X = world["X"][~first][:5]
    np.testing.assert_array_equal(at_once.predict(X), step.predict(X))
    assert at_once.subjects_ == ("a", "b", "c")


def test_exchanged_images_are_at_chance(world):
    rng = np.random.default_rng(3)
    rows = world["people"] == "a"
    X, Z, images = world["X"][rows], world["Z"][rows], world["images"][rows]
    fitted, null = fit_with_null(
        ContrastiveDecoder(**SMALL), X, Z, groups=images, exchange=rng.permutation(len(X))
    )
    new = embeddings(100, seed=9)
    seen = responses(new, "a", seed=50)
    assert top1(fitted.similarity(seen, new)) > 0.3
    assert top1(null.similarity(seen, new)) < 0.06


@pytest.mark.parametrize(
    "settings",
    [
        {"image_side": "fixed"},
        {"image_side": "linear", "normalise": "image"},
        {"loss": "soft-clip", "cosine": 0.5},
        {"contrast": 0.0},
        {"validation": 0.0, "spread": "dimension", "renormalise": False},
        {"backbone": "residual-mlp", "backbone_settings": {"depth": 1, "entry": False}},
        {"start": "random", "alignment_settings": {"width": 16}, "mix": 0.4},
        {
            "start": "random",
            "alignment": "pooled-maxima",
            "alignment_settings": {"n_pooled": 40, "width": 16, "rank": 4, "dropout": 0.0},
            "learning_rate": 1e-2,
            "dropout": 0.0,
            "backbone": "residual-mlp",
            "backbone_settings": {"depth": 1, "entry": False},
        },
        {
            "start": "random",
            "alignment_settings": {"width": 16},
            "backbone": "mlp-mixer",
            "learning_rate": 1e-2,
            "dropout": 0.0,
            "heads": {"retrieval": {"kind": "projector", "n_inputs": WIDTH, "of": "embedding"}},
        },
    ],
)
def test_every_way_of_training_learns(world, settings):
    decoder = ContrastiveDecoder(**{**SMALL, "steps": 150, **settings}).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )
    new = embeddings(50, seed=9)
    X = responses(new, "c", seed=50)
    assert top1(decoder.similarity(X, new)) > 0.1  # chance .02
    predicted = decoder.predict(X)
    r = [np.corrcoef(predicted[:, k], new[:, k])[0, 1] for k in range(WIDTH)]
    assert np.mean(r) > 0.25


def test_a_decoder_by_contrast_alone_has_no_embeddings_to_generate_from(world):
    decoder = ContrastiveDecoder(**{**SMALL, "steps": 5}, regression=0.0).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )
    assert decoder.predict_standardised(world["X"][:2]).shape == (2, WIDTH)
    with pytest.raises(InputError, match="contrast alone"):
        decoder.predict(world["X"][:2])


def test_what_chose_the_checkpoint_is_said(world, fitted):
    assert "the best by the loss on 16 training images held out" in fitted.checkpoint_
    fixed = ContrastiveDecoder(**{**SMALL, "steps": 5}, validation=0.0).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )
    assert fixed.checkpoint_ == "after all of 5 steps, a fixed schedule"


def test_a_saved_decoder_predicts_the_same(fitted, tmp_path, world):
    save_estimator(fitted, tmp_path / "decoder")
    loaded = load_estimator(tmp_path / "decoder")
    X, people = world["X"][:7], list("aaaaaaa")
    np.testing.assert_array_equal(loaded.predict(X, people), fitted.predict(X, people))
    np.testing.assert_array_equal(
        loaded.predict_standardised(X, people), fitted.predict_standardised(X, people)
    )
    Z = world["Z"][:7]
    np.testing.assert_array_equal(loaded.retrieval_targets(Z), fitted.retrieval_targets(Z))
    assert loaded.checkpoint_ == fitted.checkpoint_


def test_an_interrupted_fit_goes_on_to_the_same_weights(world, tmp_path, monkeypatch):
    rows = world["people"] == "a"
    X, Z, images = world["X"][rows], world["Z"][rows], world["images"][rows]
    settings = {**SMALL, "steps": 250}
    never = ContrastiveDecoder(**settings).fit(X, Z, groups=images)
    from brainkit.training import trainer

    saved = trainer._Run.save

    def stop(run):
        saved(run)
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer._Run, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        ContrastiveDecoder(**settings, folder=tmp_path).fit(X, Z, groups=images)
    monkeypatch.setattr(trainer._Run, "save", saved)
    resumed = ContrastiveDecoder(**settings, folder=tmp_path).fit(X, Z, groups=images)
    for name, value in never.module_.state_dict().items():
        assert torch.equal(value, resumed.module_.state_dict()[name]), name


def test_the_caller_keeps_what_was_given(world):
    X, Z = world["X"].copy(), world["Z"].copy()
    ContrastiveDecoder(**{**SMALL, "steps": 3}).fit(X, Z, world["images"], people=world["people"])
    np.testing.assert_array_equal(X, world["X"])
    np.testing.assert_array_equal(Z, world["Z"])


def test_positions_of_units_are_enough_for_a_new_person(world):
    rng = np.random.default_rng(0)
    places = {name: rng.normal(size=(n, 3)) * 60 for name, n in N_UNITS.items()}
    decoder = ContrastiveDecoder(
        **{**SMALL, "steps": 5},
        start="random",
        alignment="position-attention",
        alignment_settings={
            "n_queries": 8,
            "rank": 4,
            "n_tokens": 3,
            "width": 8,
            "n_frequencies": 6,
        },
        backbone="mlp-mixer",
        backbone_settings={"depth": 1},
        positions=places,
        new_person="adapter",
    ).fit(world["X"], world["Z"], world["images"], people=world["people"])
    assert decoder.subjects_ == ("a", "b", "c")
    assert decoder.module_.brain.of_subject("c") == []
    assert decoder.predict(world["X"][-2:]).shape == (2, WIDTH)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "triplet"}, "triplet"),
        ({"start": "ridge", "mix": 0.3}, "start='random'"),
        ({"start": "ridge", "alignment": "pooled-maxima"}, "subject-layer"),
        ({"contrast": 0.0, "regression": 0.0}, "nothing is trained"),
        ({"contrast": -1.0}, "0 or more"),
        ({"validation": 1.0}, "from 0 to below 1"),
        ({"fused_width": 3, "image_side": "fixed"}, "trained by contrast"),
        ({"backbone": "resnet"}, "resnet"),
        ({"heads": {"depth": {"kind": "volume"}}}, "volume"),
    ],
)
def test_settings_that_make_no_sense_are_refused(world, settings, message):
    with pytest.raises((InputError, UnknownNameError), match=message):
        ContrastiveDecoder(**{**SMALL, **settings}).fit(world["X"], world["Z"])


def test_data_that_cannot_be_learned_from_are_refused(world, fitted):
    X, Z = world["X"][:160], world["Z"][:160]
    bad = X.copy()
    bad[3, 2] = np.nan
    with pytest.raises(InputError, match="NaN"):
        ContrastiveDecoder(**SMALL).fit(bad, Z)
    with pytest.raises(InputError, match="160 responses and 159 embeddings"):
        ContrastiveDecoder(**SMALL).fit(X, Z[:-1])
    with pytest.raises(InputError, match="constant"):
        ContrastiveDecoder(**SMALL).fit(np.ones_like(X), Z)
    with pytest.raises(InputError, match="one person a row"):
        ContrastiveDecoder(**SMALL).fit(X, Z, people=["a"])
    with pytest.raises(InputError, match="images to learn a layer from"):
        ContrastiveDecoder(**SMALL).fit(X[:5], Z[:5])
    with pytest.raises(InputError, match="too few to hold"):
        ContrastiveDecoder(**SMALL, start="random", alignment_settings={"width": 4}).fit(
            X[:3], Z[:3]
        )
    with pytest.raises(UnknownNameError, match="nobody"):
        fitted.predict(X[:1], ["nobody"])
    with pytest.raises(InputError, match="columns of responses"):
        fitted.predict(X[:, :20])
    with pytest.raises(InputError, match="wide"):
        fitted.add_subject(X, Z[:, :5], "d")
    with pytest.raises(InputError, match="already"):
        fitted.add_subject(X, Z, "a")


def test_a_prior_draws_what_is_predicted_the_same_for_a_row_alone(world):
    decoder = ContrastiveDecoder(
        **{**SMALL, "steps": 40}, prior={"depth": 1, "heads": 2, "head_width": 4}
    ).fit(world["X"], world["Z"], groups=world["images"], people=world["people"])
    X = world["X"][-6:]
    drawn = decoder.predict(X)
    assert drawn.shape == (6, WIDTH)
    np.testing.assert_allclose(decoder.predict(X[2:3])[0], drawn[2], rtol=1e-3, atol=1e-4)
    assert decoder.report_.trained["prior"] > 0
    with_head = ContrastiveDecoder(**{**SMALL, "steps": 40}).fit(
        world["X"], world["Z"], groups=world["images"], people=world["people"]
    )
    assert not np.allclose(drawn, with_head.predict(X), atol=0.1)


def test_units_are_put_in_clusters_by_what_they_respond_to(world, tmp_path):
    decoder = ContrastiveDecoder(
        **{**SMALL, "steps": 8},
        start="random",
        alignment="cluster-tokens",
        alignment_settings={"n_clusters": 4, "width": 8},
        backbone="mlp-mixer",
        backbone_settings={"depth": 1},
        new_person="adapter",
    ).fit(world["X"], world["Z"], world["images"], people=world["people"])
    alignment = decoder.module_.brain.alignment
    assert [person.clusters.numel() for person in alignment.people] == list(N_UNITS.values())
    assert decoder.module_.brain.of_subject("c") == ["alignment.people.2.embeddings"]
    save_estimator(decoder, tmp_path / "decoder")
    loaded = load_estimator(tmp_path / "decoder")
    X = world["X"][-3:]
    np.testing.assert_array_equal(loaded.predict(X), decoder.predict(X))


def test_a_new_persons_layer_is_fitted_to_what_others_give_for_the_same_images(world):
    """With few noisy trials that beats a layer fitted to the embeddings of the same images."""
    first = world["people"] != "c"
    decoder = ContrastiveDecoder(**{**SMALL, "steps": 150}).fit(
        world["X"][first], world["Z"][first], world["images"][first], people=world["people"][first]
    )
    few, Z = np.arange(40), embeddings(160)
    X = responses(Z, "c", noise=3.0, seed=7)[few]
    new = embeddings(200, seed=9)
    seen = responses(new, "c", noise=1.0, seed=50)
    found = {}
    for name, images in {"same": few, "other": few + 1000}.items():
        state = ContrastiveDecoder(**{**SMALL, "steps": 150})
        state.__dict__.update(decoder.__dict__)
        state.module_ = ContrastiveDecoder(**SMALL).fit(
            world["X"][first], world["Z"][first], world["images"][first],
            people=world["people"][first],
        ).module_  # fmt: skip
        state.module_.load_state_dict(decoder.module_.state_dict())
        state.add_subject(X, Z[few], "c", groups=images)
        order = state.similarity(seen, new).argsort(axis=1)
        found[name] = np.mean([np.flatnonzero(row[::-1] == k)[0] for k, row in enumerate(order)])
    assert found["same"] < found["other"]  # mean rank of the right image
    assert found["same"] < 60


def test_a_fused_target_is_retrieved_by_and_not_predicted(world, tmp_path):
    """Further embeddings tell images apart that the first ones do not: half of those are noise."""
    rng = np.random.default_rng(5)
    Z = world["Z"][:160]
    poor = Z.copy()
    poor[:, WIDTH // 2 :] = rng.normal(size=(160, WIDTH // 2)) + 3
    rows = world["people"] == "a"
    X, images = world["X"][rows], world["images"][rows]
    new = embeddings(60, seed=9)
    poor_new = new.copy()
    poor_new[:, WIDTH // 2 :] = rng.normal(size=(60, WIDTH // 2)) + 3
    seen = responses(new, "a", seed=50)
    settings = {**SMALL, "steps": 200}
    alone = ContrastiveDecoder(**settings).fit(X, poor, groups=images)
    fused = ContrastiveDecoder(**settings, fused_width=WIDTH).fit(
        X, np.concatenate([poor, Z], axis=1), groups=images
    )
    both = np.concatenate([poor_new, new], axis=1)
    assert fused.predict(seen).shape == (60, WIDTH)
    np.testing.assert_allclose(np.linalg.norm(fused.predict(seen), axis=1), alone.norm_, rtol=1e-4)
    assert top1(fused.similarity(seen, both)) > top1(alone.similarity(seen, poor_new))
    save_estimator(fused, tmp_path / "decoder")
    loaded = load_estimator(tmp_path / "decoder")
    np.testing.assert_array_equal(loaded.retrieval_targets(both), fused.retrieval_targets(both))
    np.testing.assert_array_equal(loaded.predict(seen), fused.predict(seen))
