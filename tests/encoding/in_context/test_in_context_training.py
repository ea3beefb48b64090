"""Tasks and stages: a network trained on synthetic voxels comes near the best linear estimate."""

import numpy as np
import pytest
import torch

from brainkit.arrays.seeds import rng
from brainkit.encoding.in_context.module import Architecture, InContextNetwork
from brainkit.encoding.in_context.tasks import (
    Scale,
    Subject,
    SubjectVoxels,
    SyntheticVoxels,
    Tasks,
    TuningVoxels,
)
from brainkit.encoding.in_context.trainable import (
    Stage,
    forward,
    published_stages,
    task_loss,
    train_stage,
)
from brainkit.errors import InputError, LeakError
from brainkit.linear.ridge_solver import solve_ridge
from brainkit.training import Schedule
from brainkit.training.set_networks import check_excluded, unit_norm


def embeddings(n=400, width=6, seed=0):
    return unit_norm(rng(seed, "embeddings").standard_normal((n, width)))


def tiny(images, width=32, layers=2):
    torch.manual_seed(0)
    network = InContextNetwork(Architecture(images.shape[1], width, layers, heads=4, hidden=32))
    network.set_space(torch.from_numpy(images))
    return network


def ridge(tasks, share):
    """Return the best linear estimate for z-scored responses: the penalty is noise over prior."""
    responses = Scale.of(tasks.responses).apply(tasks.responses).astype(float)
    alphas = np.full(responses.shape[1], 1 / share - 1)  # weights vary as much as the signal does
    return solve_ridge(tasks.support.astype(float), responses, alphas)


def error(tasks, coef, intercept):
    answers = Scale.of(tasks.responses).apply(tasks.answers)
    return float(np.mean((tasks.query @ np.asarray(coef).T + np.asarray(intercept) - answers) ** 2))


@pytest.mark.slow
def test_a_network_trained_on_synthetic_voxels_approximates_ridge():
    images = embeddings()
    source = SyntheticVoxels(images, share=(0.5, 0.5))
    network = tiny(images)
    schedule = Schedule(800, learning_rate=4e-3, warmup=80, average=0.98, weight_decay=0.01)
    stage = Stage("synthetic", schedule, (20, 20), n_voxels=16, n_draws=2, n_query=60)
    assert train_stage(network, source, stage).steps == 800
    tasks = source.draw(rng(9, "test"), 20, 200, 400)
    with torch.no_grad():
        written, _ = forward(network, tasks)
        assert float(task_loss(network, tasks)) == pytest.approx(
            error(tasks, written.coef, written.intercept), rel=1e-3
        )
    best = ridge(tasks, 0.5)
    least, ours = error(tasks, *best), error(tasks, written.coef, written.intercept)
    without = error(tasks, np.zeros((400, 6)), np.zeros(400))
    assert least < 0.5 * without
    assert without - ours > 0.85 * (without - least)
    close = [np.corrcoef(a, b)[0, 1] for a, b in zip(written.coef, best[0], strict=True)]
    assert np.mean(close) > 0.9


def test_the_loss_is_the_squared_error_in_units_of_the_support():
    images = embeddings(40)
    network = tiny(images)
    tasks = SyntheticVoxels(images).draw(rng(1), 10, 15, 3)
    scaled = Tasks(tasks.support, 7 * tasks.responses + 2, tasks.query, 7 * tasks.answers + 2)
    with torch.no_grad():
        written, scale = forward(network, tasks)
        predicted = tasks.query @ written.coef.numpy().T + written.intercept.numpy()
        expected = np.mean((predicted - scale.apply(tasks.answers)) ** 2)
        assert float(task_loss(network, tasks)) == pytest.approx(expected, rel=1e-4)
        assert float(task_loss(network, scaled)) == pytest.approx(expected, rel=1e-3)


def test_synthetic_voxels_have_the_share_of_signal_that_was_asked_for():
    images = embeddings(2000)
    tasks = SyntheticVoxels(images, share=(0.3, 0.3)).draw(rng(2), 1000, 900, 50)
    assert tasks.responses.shape == (1000, 50)
    assert tasks.answers.shape == (900, 50)
    assert tasks.answers.var(axis=0).mean() == pytest.approx(0.3, abs=0.02)
    assert tasks.responses.var(axis=0).mean() == pytest.approx(1.0, abs=0.05)
    shown = {row.tobytes() for row in tasks.support}
    assert not shown & {row.tobytes() for row in tasks.query}


def subjects(noise=None):
    found = {}
    for number, name in enumerate(("a", "b")):
        images = embeddings(60, seed=number)
        responses = images @ rng(number).standard_normal((6, 5 + number)).astype(np.float32)
        found[name] = Subject(images, responses, noise)
    return found


def test_subjects_voxels_come_with_their_own_images_and_validation_images_are_never_trained_on():
    source = SubjectVoxels(subjects(), held_out=0.2)
    trained, watched, after = set(), set(), set()
    for draw in range(40):
        tasks = source.draw(rng(3, draw), 20, 100, 4)
        owner = next(
            one
            for one in source.subjects.values()
            if (one.embeddings == tasks.support[0]).all(axis=1).any()
        )
        rows = [np.flatnonzero((owner.embeddings == image).all(axis=1))[0] for image in tasks.query]
        columns = [
            int(np.flatnonzero((owner.responses[rows] == voxel[:, None]).all(axis=0))[0])
            for voxel in tasks.answers.T
        ]
        np.testing.assert_array_equal(owner.responses[np.ix_(rows, columns)], tasks.answers)
        trained |= {row.tobytes() for row in np.concatenate([tasks.support, tasks.query])}
        later = source.for_validation().draw(rng(3, draw), 20, 100, 4)
        watched |= {row.tobytes() for row in later.query}
        after |= {row.tobytes() for row in later.support}
    assert len(trained) == 96
    assert len(watched) == 24
    assert not trained & watched
    assert after <= trained


def test_noise_is_added_to_the_support_alone():
    noise = np.full(5, 2.0, dtype=np.float32)
    source = SubjectVoxels(
        {"a": Subject(embeddings(900), np.zeros((900, 5)), noise)}, repeats=(4, 4)
    )
    tasks = source.draw(rng(4), 700, 100, 5)
    assert not tasks.answers.any()
    assert tasks.responses.std() == pytest.approx(2 / np.sqrt(4), rel=0.03)


def test_training_is_resumed_where_it_was(tmp_path, monkeypatch):
    images = embeddings(60)
    source = SubjectVoxels(subjects())
    schedule = Schedule(4, warmup=1, checkpoint_every=2, validate_every=2)
    stage = Stage("subjects", schedule, (5, 12), n_voxels=4)
    whole, interrupted = tiny(images), tiny(images)
    train_stage(whole, source, stage, validation=source.for_validation())
    calls = 0

    def stop(self, *arguments):
        nonlocal calls
        calls += 1
        if calls > 6:  # in the fourth step
            raise KeyboardInterrupt
        return draw(self, *arguments)

    draw = SubjectVoxels.draw
    watched = source.for_validation()
    with monkeypatch.context() as patched:
        patched.setattr(SubjectVoxels, "draw", stop)
        with pytest.raises(KeyboardInterrupt):
            train_stage(interrupted, source, stage, validation=watched, folder=tmp_path)
    again = tiny(images)
    report = train_stage(again, source, stage, validation=source.for_validation(), folder=tmp_path)
    assert report.steps == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_every_part_is_trained():
    network = tiny(embeddings(60))
    schedule = Schedule(1, warmup=0)
    stage = Stage("synthetic", schedule, (5, 5), n_voxels=4)
    report = train_stage(network, SyntheticVoxels(embeddings(60)), stage)
    assert set(report.trained) == {"registers", "tokens", "blocks", "readout"}
    assert report.frozen == {}


def test_the_published_stages():
    first, second, third = published_stages()
    assert first.context == (500, 500)
    assert second.context == third.context == (30, 500)
    assert first.schedule.learning_rate == 1e-3
    assert second.schedule.learning_rate * second.schedule.final == pytest.approx(1e-5)


def test_a_subject_to_be_predicted_must_not_be_learned_from():
    check_excluded(["c"], ["a", "b"])
    with pytest.raises(LeakError, match="b is to be predicted") as caught:
        check_excluded(["c", "b"], ["a", "b"])
    assert caught.value.ids == ["b"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubjectVoxels({}), "No subject"),
        (lambda: Subject(embeddings(5), np.zeros((4, 2))), r"\(n_images, n_voxels\)"),
        (lambda: Subject(embeddings(2), np.full((2, 1), np.nan)), "NaN"),
        (
            lambda: SubjectVoxels(
                {
                    "a": Subject(embeddings(20), np.zeros((20, 1))),
                    "b": Subject(embeddings(20, width=3), np.zeros((20, 1))),
                }
            ),
            "of one model",
        ),
        (lambda: SubjectVoxels({"a": Subject(embeddings(4), np.zeros((4, 1)))}), "too few"),
        (lambda: Stage("x", Schedule(1), (5, 3)), "fewest come first"),
        (lambda: unit_norm(np.zeros((2, 3))), "2 embeddings are zero"),
        (lambda: unit_norm(np.zeros(3)), "shape"),
        (lambda: unit_norm(np.full((2, 3), np.inf)), "NaN or infinities"),
        (
            lambda: train_stage(
                tiny(embeddings(60)),
                SyntheticVoxels(embeddings(60)),
                Stage("x", Schedule(1), (5, 90)),
            ),
            "up to 90 support images",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_constant_voxel_is_left_unscaled():
    scale = Scale.of(np.array([[1.0, 2.0], [1.0, 4.0]], dtype=np.float32))
    np.testing.assert_allclose(scale.deviation, [1, 1])
    np.testing.assert_allclose(scale.mean, [1, 3])
    np.testing.assert_allclose(scale.apply(np.array([[1.0, 2.0]], dtype=np.float32)), [[0.0, -1.0]])


def tunings(isotropic=0.0, mixed=(1, 1), width=12):
    """Weights of two groups, in subspaces of three dimensions that have nothing in common."""
    axes = np.linalg.qr(rng(5, "axes").standard_normal((width, width)))[0].astype(np.float32)
    groups = {
        name: 3 * rng(6, name).standard_normal((n, 3)).astype(np.float32) @ axes[part]
        for name, n, part in (("a", 30, slice(0, 3)), ("b", 10, slice(3, 6)))
    }
    images = embeddings(200, width)
    source = TuningVoxels(images, (0.3, 0.3), tunings=groups, isotropic=isotropic, mixed=mixed)
    return source, axes


def test_tunings_are_those_of_measured_voxels():
    source, _ = tunings()
    drawn = source.weights(rng(7), 50)
    known = unit_norm(np.concatenate(list(source.tunings.values())))
    cosine = np.abs(known @ drawn / np.linalg.norm(drawn, axis=0))
    np.testing.assert_allclose(cosine.max(axis=0), 1, atol=1e-5)
    assert len(set(cosine.argmax(axis=0).tolist())) > 20


def test_mixtures_are_of_one_group_and_as_many_as_there_are_voxels():
    source, axes = tunings(mixed=(2, 4))
    drawn = source.weights(rng(8), 2000)
    parts = np.stack(
        [np.square(axes[part] @ drawn).sum(axis=0) for part in (slice(3), slice(3, 6))]
    )
    np.testing.assert_allclose(parts.sum(axis=0), np.square(drawn).sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(np.minimum(*parts), 0, atol=1e-6)  # never of both
    assert (parts[0] > parts[1]).mean() == pytest.approx(30 / 40, abs=0.04)
    known = unit_norm(np.concatenate(list(source.tunings.values())))
    cosine = np.abs(known @ drawn / np.linalg.norm(drawn, axis=0)).max(axis=0)
    assert (cosine < 0.999).mean() > 0.9  # new ones


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_weights_is_of_no_direction(share):
    source, axes = tunings(isotropic=share)
    drawn = source.weights(rng(9), 4000)
    inside = np.square(axes[:6] @ drawn).sum(axis=0) / np.square(drawn).sum(axis=0)
    assert inside.mean() == pytest.approx(1 - share / 2, abs=0.03)  # half of all directions
    tasks = source.draw(rng(10), 120, 60, 40)
    assert tasks.answers.var(axis=0).mean() == pytest.approx(0.3, abs=0.05)
    assert tasks.responses.var(axis=0).mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tunings": {}}, "No weights"),
        (
            {"tunings": {"a": np.ones((3, 5), np.float32)}},
            r"'a' are of shape \(3, 5\).*\(n_voxels, 6",
        ),
        ({"tunings": {"a": np.zeros((3, 6), np.float32)}}, "'a' hold NaN or infinity, or are all"),
        ({"mixed": (0, 2)}, "mixed is from 1 upwards"),
        ({"isotropic": 1.5}, "isotropic a share from 0 to 1"),
    ],
)
def test_tunings_that_cannot_be(change, message):
    given = {"tunings": {"a": np.ones((3, 6), np.float32)}, **change}
    with pytest.raises(InputError, match=message):
        TuningVoxels(embeddings(20), **given)
