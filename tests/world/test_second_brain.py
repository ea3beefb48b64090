"""Version 2 of the brain: its equations by hand, and the statistics of what it answers."""

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from brainkit.errors import InputError
from brainkit.world import Population, SceneWorld, SimulatedBrain
from brainkit.world import second_brain as second
from brainkit.world.eye import FILTERS, N_POOLS, Eye, inner, retina
from brainkit.world.painting import CATEGORIES
from brainkit.world.scenes import REFERENCE_IDS, Content

FRESH = np.arange(50_000, 51_200)
MANY = np.arange(50_000, 52_600)
TRAIN = 2000
FACE, BODY, PLACE, FOOD, WORD = range(5)

Brains = dict[int, SimulatedBrain]
Arrays = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def responses(second_brains: Brains) -> Arrays:
    """Responses of the voxels that are not silent to fresh scenes."""
    return {
        subject: brain.response(MANY)[:, (brain.truth["kind"] != "silent").to_numpy()]
        for subject, brain in second_brains.items()
    }


def scene(*objects: tuple[int, float, float, float], lightness: float = 0.5) -> Content:
    """Give one scene of up to three objects: category, x, y, size."""
    padded = [*objects, *[(-1, 0.0, 0.0, 0.0)] * (3 - len(objects))]
    kinds, x, y, size = (np.array([part]) for part in zip(*padded, strict=True))
    colour = np.full((1, 3, 3), lightness)
    return Content(kinds.astype(int), x, y, size, colour, np.zeros(1, dtype=int))


def voxel(**changes: object) -> pd.DataFrame:
    """Give the tuning of one voxel that likes faces in the middle."""
    values = {
        "prf_x": 0.5, "prf_y": 0.5, "prf_size": 0.2, "surround_size": 0.5, "normalisation": 0.8,
        "pool_1": 3, "pool_2": 7, "pool_share": 0.7, "preferred_size": 0.4,
        "preferred_lightness": 0.5, "gate": 0.0,
    }  # fmt: skip
    values |= {f"weight_{name}": float(name == "face") for name in CATEGORIES}
    return pd.DataFrame([values | changes])


def explained(predictors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Give the variance of fresh scenes that least squares explains, by target."""
    design = np.column_stack([np.ones(len(predictors)), predictors])
    weights = np.linalg.lstsq(design[:TRAIN], targets[:TRAIN], rcond=None)[0]
    errors = targets[TRAIN:] - design[TRAIN:] @ weights
    return 1 - errors.var(axis=0) / targets[TRAIN:].var(axis=0)


def grating(cycles: float, contrast: float = 0.5) -> np.ndarray:
    """Paint a grey grating along x."""
    phase = 2 * np.pi * cycles * (np.arange(64) + 0.5) / 64
    row = np.broadcast_to(127.5 * (1 + contrast * np.sin(phase)), (64, 64))
    return np.repeat(row[..., None], 3, axis=2)


# ------------------------------------------------------------------------------------------ eye


def test_the_filters_are_those_that_were_learned() -> None:
    digest = hashlib.sha256(FILTERS.read_bytes()).hexdigest()
    assert digest == "41e18b77969b92ec6768033b4a234cb4293d402ed82859ba60dd7f7200717960"


def test_filters_have_unit_norm_and_pools_sum_like_channels(second_population: Population) -> None:
    eye = second_population.senses.eye
    assert eye.filters.shape == (64, 3, 12, 12)
    assert_allclose((eye.filters**2).sum(axis=(1, 2, 3)), 1, rtol=2e-3)
    assert eye.pools.shape == (128, 32)
    assert (eye.pools >= 0).all()
    luminance = (eye.filters[:, 0] ** 2).sum(axis=(1, 2))
    assert 10 < (luminance < 0.3).sum() < 40  # colour has its share


@pytest.mark.parametrize("cycles", [2, 8, 16])
def test_retina_passes_luminance_by_frequency_and_grey_has_no_colour(cycles: int) -> None:
    image = (grating(cycles) / 255).astype(np.float32)[None]
    seen = inner(retina(image))[0]
    f = cycles / 64
    gain = f * np.exp(-((f / 0.4) ** 4))
    inside = seen[0, 16:48, 16:48]
    amplitude = np.sqrt(2) * inside.std()
    assert amplitude == pytest.approx(gain * 0.25 * np.sqrt(3), rel=0.05)
    assert np.abs(seen[1:]).max() < 1e-5


def test_the_eye_is_calibrated_on_the_reference_set(world: SceneWorld) -> None:
    images = world.paint(REFERENCE_IDS[:100])
    eye = Eye(images)
    assert_allclose(eye.outputs(images).std(axis=(0, 1)), 1, rtol=1e-3)
    maps = eye.look(images)
    assert maps.shape == (100, 32, 256)
    assert_allclose(maps.mean(axis=(0, 2)), 1, rtol=1e-3)
    assert (maps >= 0).all()
    alone = eye.look(images[60:61])
    assert_allclose(alone[0], maps[60], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="64×64×3"):
        eye.look(np.zeros((1, 32, 32, 3), np.uint8))


@pytest.mark.parametrize(("x", "y"), [(0.2, 0.3), (0.5, 0.5), (0.8, 0.6)])
def test_maps_stand_where_the_contrast_is(
    second_population: Population, x: float, y: float
) -> None:
    image = np.full((1, 64, 64, 3), 128, np.uint8)
    rows, columns = (slice(round(64 * p) - 3, round(64 * p) + 3) for p in (y, x))
    image[0, rows, columns] = (250, 250, 250)
    maps = second_population.senses.eye.look(image)[0].mean(axis=0).reshape(16, 16)
    centres = (np.arange(16) + 0.5) / 16
    assert maps.sum(axis=0) @ centres / maps.sum() == pytest.approx(x, abs=0.04)
    assert maps.sum(axis=1) @ centres / maps.sum() == pytest.approx(y, abs=0.04)


# -------------------------------------------------------------------------- early receptive fields


def test_early_drive_is_the_normalised_receptive_field() -> None:
    maps = np.random.default_rng(0).gamma(1.0, 1.0, size=(4, 32, 256)).astype(np.float32)
    truth = voxel(prf_x=0.3, prf_y=0.6, prf_size=0.08, surround_size=0.3)
    centres = (np.arange(16) + 0.5) / 16
    fields = []
    for width in (0.08, 0.3):
        field = np.exp(-0.5 * ((centres[:, None] - 0.6) ** 2 + (centres - 0.3) ** 2) / width**2)
        fields.append((field / field.sum()).ravel())
    centre = maps[:, [3, 7]] @ fields[0] @ [0.7, 0.3]
    surround = maps.mean(axis=1) @ fields[1]
    expected = (centre + 0.3) / (surround + 0.8)
    assert_allclose(second.early_drive(maps, truth)[:, 0], expected, rtol=1e-5)


def test_receptive_fields_are_found_again_from_points(second_brains: Brains) -> None:
    """The drive of one bright place after another has its centre where the truth says."""
    truth = second_brains[1].truth.query("kind == 'early'").iloc[::5]
    inside = truth["prf_x"].between(0.2, 0.8) & truth["prf_y"].between(0.2, 0.8)
    truth = truth[inside & (truth["prf_size"] < 0.12)]
    points = np.zeros((256, 32, 256), np.float32)
    points[np.arange(256), :, np.arange(256)] = 1
    # A weak point: the surround hardly divides.
    drive = second.early_drive(1e-2 * points, truth) - second.early_drive(0 * points[:1], truth)
    weight = np.maximum(drive, 0)
    centres = (np.arange(16) + 0.5) / 16
    x, y = np.tile(centres, 16), np.repeat(centres, 16)
    found = np.stack([x @ weight, y @ weight]) / weight.sum(axis=0)
    away = np.hypot(*(found - truth[["prf_x", "prf_y"]].to_numpy().T))
    assert len(truth) > 10
    assert np.median(away) < 0.01
    assert away.max() < 0.05


def test_surrounds_suppress() -> None:
    """Contrast that grows beyond the centre first raises the response, then lowers it."""
    centres = (np.arange(16) + 0.5) / 16
    radius = np.hypot(centres[:, None] - 0.5, centres - 0.5).ravel()
    discs = np.stack([(radius < r) * np.ones((32, 1)) for r in (0.05, 0.15, 0.7)])
    truth = voxel(prf_size=0.07, surround_size=0.25)
    small, medium, large = second.early_drive(4 * discs.astype(np.float32), truth)[:, 0]
    assert small < medium
    assert large < 0.8 * medium


# --------------------------------------------------------------------------------------- content


def test_content_drive_by_hand() -> None:
    alone = second.content_drive(scene((FACE, 0.6, 0.5, 0.5), lightness=0.3), voxel())
    tuned = np.exp(-0.5 * (np.log(0.5 / 0.4) / 0.35) ** 2 - 0.5 * (0.2 / 0.25) ** 2)
    field = (np.exp(-0.5 * 0.25) - 0.25 * np.exp(-0.5 * 0.25 / 4)) / 0.75
    assert alone[0, 0] == pytest.approx(tuned * field - 0.1)
    # A body is not what the voxel likes; beside a face it counts through the context.
    assert second.content_drive(scene((BODY, 0.5, 0.5, 0.4)), voxel())[0, 0] == 0
    best = scene((FACE, 0.5, 0.5, 0.4))
    assert second.content_drive(best, voxel())[0, 0] == pytest.approx(0.9)
    with_body = scene((FACE, 0.5, 0.5, 0.4), (BODY, 0.1, 0.9, 0.6))
    assert second.content_drive(with_body, voxel())[0, 0] == pytest.approx(0.9 * 1.9)
    with_word = scene((FACE, 0.5, 0.5, 0.4), (WORD, 0.1, 0.9, 0.6))
    assert second.content_drive(with_word, voxel())[0, 0] == pytest.approx(0.9 * 0.3)
    # Two faces make no context for each other.
    two = second.content_drive(scene((FACE, 0.5, 0.5, 0.4), (FACE, 0.5, 0.5, 0.4)), voxel())
    assert two[0, 0] == pytest.approx(1.8)
    # In the surround the liked category suppresses.
    assert second.content_drive(scene((FACE, 0.95, 0.5, 0.4)), voxel())[0, 0] < -0.02


def test_attention_by_hand() -> None:
    content = scene((FACE, 0.2, 0.3, 0.4), (BODY, 0.8, 0.7, 0.6))
    share, x, y = second.attention(content)
    face = 0.4 * np.exp(2) / (0.4 * np.exp(2) + 0.6)
    assert_allclose(share[0, :, FACE], [face, 1 - face, 0])
    assert_allclose(share[0, :, FOOD], [0.4, 0.6, 0])
    assert_allclose(share.sum(axis=1), 1)
    assert x[0, FACE] == pytest.approx(face * 0.2 + (1 - face) * 0.8)
    assert y[0, FOOD] == pytest.approx(0.4 * 0.3 + 0.6 * 0.7)


def test_the_gate_draws_the_receptive_field_to_the_liked_object() -> None:
    far = scene((FACE, 0.9, 0.5, 0.4))
    shut, half, wide = (
        second.content_drive(far, voxel(prf_x=0.3, gate=gate))[0, 0] for gate in (0.0, 0.5, 1.0)
    )
    assert shut <= 0
    assert half < wide
    pull = 0.2**2 / (0.2**2 + 0.1**2)
    away = (0.9 - 0.3) * (1 - pull)
    field = (np.exp(-0.5 * (away / 0.2) ** 2) - 0.25 * np.exp(-0.5 * (away / 0.4) ** 2)) / 0.75
    assert wide == pytest.approx(field - 0.1)
    # Another object draws it off, and takes its part of the attention.
    contested = scene((FACE, 0.3, 0.5, 0.4), (FOOD, 0.9, 0.5, 0.5))
    share, x, _ = second.attention(contested)
    away = pull * (x[0, FACE] - 0.3)
    field = (np.exp(-0.5 * (away / 0.2) ** 2) - 0.25 * np.exp(-0.5 * (away / 0.4) ** 2)) / 0.75
    expected = share[0, 0, FACE] * (field - 0.1)
    found = second.content_drive(contested, voxel(prf_x=0.3, gate=1.0))[0, 0]
    assert found == pytest.approx(expected)
    assert second.content_drive(contested, voxel(prf_x=0.3))[0, 0] == pytest.approx(0.9)


def test_conjunctions_are_not_sums() -> None:
    """What, where and size together drive; the sum of their changes does not."""
    best = (FACE, 0.5, 0.5, 0.4)
    drive = {
        changes: second.content_drive(scene(tuple(changes)), voxel())[0, 0]
        for changes in (
            best,
            (FACE, 0.75, 0.5, 0.4),
            (FACE, 0.5, 0.5, 0.65),
            (FACE, 0.75, 0.5, 0.65),
        )
    }
    both, moved, larger, neither = drive.values()
    assert (both - moved) - (larger - neither) > 0.2


def test_a_voxel_that_hears_no_content_has_none(second_population: Population) -> None:
    silent = {f"weight_{name}": 0.05 for name in CATEGORIES}
    truth = pd.concat([voxel(kind="mixed", **silent), voxel(kind="mixed")], ignore_index=True)
    drives = second.VoxelDrives(truth).fit(second_population.senses.reference())
    assert np.isfinite(drives).all()
    assert_allclose(drives.std(axis=0), 1, rtol=1e-3)


def test_most_of_a_categorys_drive_is_no_linear_function_of_what_is_shown(
    second_brains: Brains, brains: Brains, world: SceneWorld
) -> None:
    """Even quadratic functions of each object's place, size and lightness miss a third."""
    content = world.content(MANY)
    columns = []
    for kind in range(5):
        here = content.category == kind
        lightness = content.colour.mean(axis=2)
        parts = [np.ones_like(content.x), content.size, content.x, content.y, lightness]
        parts += [part**2 for part in parts[1:]]
        columns += [(part * here).sum(axis=1) for part in parts] + [here.any(axis=1)]
    known = np.stack(columns, axis=1).astype(float)
    missed = []
    for brain in (brains[1], second_brains[1]):
        category = (brain.truth["kind"] == "category").to_numpy()
        missed.append(1 - explained(known, brain.shared_drive(MANY)[:, category]).mean())
    assert missed[0] < 0.1
    assert missed[1] > 0.3


# ------------------------------------------------------------------------------- shared and own


def test_response_is_deterministic_and_independent_of_its_batch(
    second_brains: Brains, world: SceneWorld, second_population: Population
) -> None:
    again = SimulatedBrain(world, 2, density=0.25, population=second_population)
    assert again.version == 2
    together = second_brains[2].response([7, 8, 9])
    assert together.dtype == np.float32
    assert_array_equal(together, again.response([7, 8, 9]))
    assert_allclose(again.response([9])[0], together[2], atol=1e-4)
    ids = np.arange(260, 0, -1)
    assert_array_equal(again.response(ids, workers=1), again.response(ids, workers=3))
    assert again.response([]).shape == (0, again.n_voxels)


def test_drives_make_the_response(second_brains: Brains) -> None:
    for brain in (second_brains[1], second_brains[3]):
        live = (brain.truth["kind"] != "silent").to_numpy()
        shared, own = brain.shared_drive(FRESH), brain.own_drive(FRESH)
        assert (shared[:, ~live] == 0).all()
        assert (own[:, ~live] == 0).all()
        shared, own = shared[:, live], own[:, live]
        assert shared.var(axis=0).mean() == pytest.approx(1, abs=0.1)
        assert own.var(axis=0).mean() == pytest.approx(1, abs=0.15)
        x = np.maximum(np.sqrt(0.6) * shared + np.sqrt(0.4) * own + 2, 0)
        output = x**2 / (x**2 + 16)
        response = brain.response(FRESH)[:, live]
        for one, other in zip(output.T[::40], response.T[::40], strict=True):
            assert np.corrcoef(one, other)[0, 1] == pytest.approx(1, abs=1e-4)
        r2 = {
            name: np.mean(
                [np.corrcoef(d, r)[0, 1] ** 2 for d, r in zip(drive.T, response.T, strict=True)]
            )
            for name, drive in (("shared", shared), ("own", own))
        }
        assert r2["shared"] == pytest.approx(0.6, abs=0.06)
        assert r2["own"] == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("subject", [1, 2, 3])
@pytest.mark.slow
def test_own_part_is_no_mixture_of_other_brains(
    responses: Arrays, second_population: Population, subject: int
) -> None:
    others = [response[:, ::3] for s, response in responses.items() if s != subject]
    joined = np.concatenate(others, axis=1).astype(float)
    joined -= joined[:TRAIN].mean(axis=0)
    axes = np.linalg.eigh(joined[:TRAIN].T @ joined[:TRAIN])[1][:, -150:]
    predictors = joined @ axes
    shared = explained(predictors, responses[subject]).mean()
    assert 0.4 < shared < 0.65
    private = second_population.channels(MANY, subject)[1]
    assert explained(predictors, private).mean() < 0.05
    assert explained(np.column_stack([predictors, private]), responses[subject]).mean() > 0.8


@pytest.mark.slow
def test_without_shared_tuning_nothing_is_common(
    world: SceneWorld, second_population: Population, responses: Arrays
) -> None:
    alone = SimulatedBrain(world, 1, shared_tuning=False, density=0.1, population=second_population)
    live = (alone.truth["kind"] != "silent").to_numpy()
    joined = np.concatenate([responses[2][:, ::3], responses[3][:, ::3]], axis=1).astype(float)
    joined -= joined[:TRAIN].mean(axis=0)
    axes = np.linalg.eigh(joined[:TRAIN].T @ joined[:TRAIN])[1][:, -150:]
    answers = alone.response(MANY)[:, live]
    assert explained(joined @ axes, answers).mean() < 0.05
    assert explained(second_population.channels(MANY, 1)[1], answers).mean() > 0.9


def test_region_means_follow_their_category(second_brains: Brains, world: SceneWorld) -> None:
    """Selectivity: region by region, the mean response tells the category that is there."""
    table = world.table(FRESH)
    preferred = {"FFA-1": "face", "EBA": "body", "PPA": "place", "VWFA-1": "word", "food": "food"}
    for brain in second_brains.values():
        response = brain.response(FRESH)
        for roi, category in preferred.items():
            mean = response[:, brain.units["roi"] == roi].mean(axis=1)
            r = {name: np.corrcoef(mean, table[name] > 0)[0, 1] for name in CATEGORIES}
            assert max(r, key=lambda name: r[name]) == category
            assert r[category] > 0.4
            assert max(value for name, value in r.items() if name != category) < 0.2


@pytest.mark.slow
def test_gate_makes_category_voxels_answer_wherever_the_object_is(
    second_brains: Brains, world: SceneWorld
) -> None:
    people = Population(world, gate=False, version=2)
    ungated = SimulatedBrain(world, 1, gate=False, density=0.25, population=people)
    gated = second_brains[1]
    assert (ungated.truth["gate"] == 0).all()
    assert gated.truth.loc[gated.truth["kind"] == "category", "gate"].between(0.6, 1).all()
    ids = np.arange(60_000, 64_000)
    content = world.content(ids)
    alone = (content.category[:, 1] < 0) & (content.category[:, 0] == FACE)
    rows = np.flatnonzero(gated.units["roi"].isin(["OFA", "FFA-1", "FFA-2"]))
    x = content.x[alone, 0, None]
    far_side = np.where(gated.units["hemisphere"].iloc[rows] == "rh", x, 1 - x)
    dependence = []
    for brain in (gated, ungated):
        drive = brain.shared_drive(ids[alone])[:, rows]
        r = [np.corrcoef(far_side[:, v], drive[:, v])[0, 1] for v in range(len(rows))]
        dependence.append(float(np.mean(r)))
    assert dependence[1] < dependence[0] - 0.1
    # What is not content does not change, and the drives of content do.
    assert_allclose(
        ungated.truth[["prf_x", "prf_size"]], gated.truth[["prf_x", "prf_size"]], equal_nan=True
    )
    early = (gated.truth["kind"] == "early").to_numpy()
    both = [brain.shared_drive(FRESH[:400]) for brain in (gated, ungated)]
    assert_allclose(both[0][:, early], both[1][:, early], atol=1e-4)
    kind = (gated.truth["kind"] == "category").to_numpy()
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(*(part[:, kind].T for part in both), strict=True)]
    assert np.mean(r) < 0.8


# --------------------------------------------------------------------------------------- people


def test_ceilings_follow_the_published_medians(
    world: SceneWorld, second_population: Population
) -> None:
    truth = SimulatedBrain(world, 1, population=second_population).truth
    area = truth["roi"].str.rstrip("vd")
    for name, median in {"V1": 0.48, "V2": 0.402, "V3": 0.34, "hV4": 0.274}.items():
        assert truth.loc[area == name, "ceiling_3"].median() == pytest.approx(median, abs=0.05)
    for kind, median in {"category": 0.242, "mixed": 0.089, "silent": 0}.items():
        chosen = truth.loc[truth["kind"] == kind, "ceiling_3"]
        assert chosen.median() == pytest.approx(median, abs=0.03)


def test_measured_ceilings_are_the_true_ones(second_brains: Brains) -> None:
    """Three trials of each image, far apart in time: the split of variance is as stated."""
    brain = second_brains[1]
    early = (brain.truth["kind"] == "early").to_numpy()
    scenes = np.arange(300)
    response = brain.response(scenes)
    repeats = [
        brain.measure(scenes, [1] * 300, 1000 * k + np.arange(300), response=response)[:, early]
        for k in range(3)
    ]
    noise = np.var(repeats, axis=0, ddof=1).mean(axis=0)
    signal = np.mean(repeats, axis=0).var(axis=0) - noise / 3
    measured = signal / (signal + noise / 3)
    truth = brain.truth.loc[early, "ceiling_3"]
    assert np.median(measured - truth) == pytest.approx(0, abs=0.03)
    assert np.corrcoef(measured, truth)[0, 1] > 0.7


def test_people_differ_in_haemodynamics(world: SceneWorld, second_population: Population) -> None:
    people = [
        SimulatedBrain(world, subject, density=0.05, population=second_population)
        for subject in range(1, 9)
    ]
    seconds = np.linspace(0, 20, 2001)
    peaks, widths, means = [], [], []
    for brain in people:
        response = brain.haemodynamic_gains(seconds)
        assert response.max() == pytest.approx(1, abs=1e-4)
        assert response[0] == 0
        middle = response @ seconds / response.sum()
        peaks.append(seconds[response.argmax()])
        widths.append(np.sqrt(response @ (seconds - middle) ** 2 / response.sum()))
        means.append(brain.truth.loc[brain.truth["kind"] != "silent", "mean"].median())
    assert np.median(peaks) == pytest.approx(5, abs=0.5)
    assert np.median(widths) == pytest.approx(2.45, abs=0.4)
    assert np.std(np.log(peaks)) > 0.04
    assert np.std(np.log(widths)) > 0.05
    assert np.std(np.log(means)) > 0.1
    assert people[0].haemodynamic_gains([-1.0, 0.0]).tolist() == [0, 0]


def test_gamma_of_the_first_versions_shape(second_brains: Brains) -> None:
    """A peak at 5 s and a deviation of √6 s are shape 6 and scale 1 s."""
    measurement = replace(second_brains[1]._measurement, peak=5.0, width=6**0.5)
    seconds = np.array([1.0, 3.0, 5.0, 9.0])
    expected = seconds**5 * np.exp(-seconds) / (5**5 * np.exp(-5))
    assert_allclose(measurement.haemodynamic_gains(seconds), expected, rtol=1e-6)


# ---------------------------------------------------------------------------------------- noise


@pytest.fixture(scope="module")
def noise(second_brains: Brains) -> np.ndarray:
    """Noise of two runs of 300 trials, (2, 300, n_voxels), unit variance."""
    measurement = second_brains[1]._measurement
    trials = np.arange(600).tolist()
    return np.stack(list(measurement.noise(trials, [0] * 300 + [1] * 300))).reshape(2, 300, -1)


def test_noise_has_unit_variance_everywhere(noise: np.ndarray) -> None:
    variance = noise.reshape(600, -1).var(axis=0)
    assert variance.mean() == pytest.approx(1, abs=0.02)
    assert np.quantile(variance, [0.01, 0.99]) == pytest.approx([0.8, 1.2], abs=0.1)


def test_noise_is_autoregressive_within_runs(second_brains: Brains, noise: np.ndarray) -> None:
    persistence = second_brains[1]._measurement.persistence
    assert 0.15 < persistence < 0.5
    for lag in (1, 2, 3):
        product = (noise[:, lag:] * noise[:, :-lag]).mean()
        assert product == pytest.approx(persistence**lag, abs=0.02)
    runs = np.repeat(np.arange(100), 2)
    pairs = np.stack(list(second_brains[1]._measurement.noise(range(200), runs.tolist())))
    across = (pairs[1:-1:2] * pairs[2::2]).mean()  # the last of a run, the first of the next
    within = (pairs[::2] * pairs[1::2]).mean()
    assert abs(across) < 0.04
    assert within == pytest.approx(persistence, abs=0.04)


def test_noise_is_smooth_in_space(second_brains: Brains, noise: np.ndarray) -> None:
    units = second_brains[1].units
    flat = noise.reshape(600, -1)
    flat = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    index = {tuple(place): n for n, place in enumerate(units[["i", "j", "k"]].to_numpy())}
    loadings = second_brains[1]._measurement.loadings
    for step, kernel in ((1, 4 / 6), (2, 1 / 6), (3, 0.0)):
        pairs = [
            (n, index[i + step, j, k])
            for (i, j, k), n in index.items()
            if (i + step, j, k) in index
        ]
        one, other = np.array(pairs).T
        common = (loadings[:, one] * loadings[:, other]).sum(axis=0)
        expected = 0.45 * kernel + 0.25 * common
        found = (flat[:, one] * flat[:, other]).mean(axis=0)
        assert found.mean() == pytest.approx(expected.mean(), abs=0.02)


def test_noise_depends_on_the_trial_and_its_run_only(second_brains: Brains) -> None:
    brain = second_brains[1]
    scenes, sessions = [7] * 40, [1] * 20 + [2] * 20
    runs = [0] * 10 + [1] * 10 + [12] * 20
    betas = brain.measure(scenes, sessions, np.arange(40), runs=runs)
    order = np.random.default_rng(0).permutation(40)[:12]
    some = brain.measure([7] * 12, np.array(sessions)[order], order, runs=np.array(runs)[order])
    assert_allclose(some, betas[order], atol=1e-4)
    # A session is one run where none are named.
    named = brain.measure([7] * 3, [4] * 3, [0, 1, 2], runs=[4] * 3)
    assert_array_equal(brain.measure([7] * 3, [4] * 3, [0, 1, 2]), named)
    with pytest.raises(InputError, match=r"trials and runs must be equally many.* 3 and 2"):
        brain.measure([7] * 3, [4] * 3, [0, 1, 2], runs=[0, 0])


# --------------------------------------------------------------------------------------- script


def test_filters_can_be_learned_again(repository, tmp_path, monkeypatch) -> None:
    """A small dictionary from a few patches: unit filters, pools of like channels."""
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    sys.modules.pop("learn_photograph_filters", None)
    import learn_photograph_filters as script

    samples = script.patches(0, 300)
    assert samples.shape == (1200, 432)
    assert np.median((samples**2).sum(axis=1)) == pytest.approx(0.6, abs=0.4)
    filters = script.learn(samples, 6, 1)
    assert filters.shape == (6, 3, 12, 12)
    assert_allclose((filters**2).sum(axis=(1, 2, 3)), 1, rtol=1e-4)
    alike = script.likeness(filters)
    assert_allclose(np.diag(alike), 1, rtol=1e-4)
    assert_allclose(alike, alike.T, atol=1e-5)
    shifted = np.roll(filters[:1], 2, axis=3)
    shifted[..., :2] = 0
    pair = script.likeness(np.concatenate([filters[:1], -shifted]))
    assert pair[0, 3] > 0.7  # the negative of its shifted self is like it
    pools = script.pool(filters, 4)
    assert pools.shape == (12, 4)
    assert_allclose(pools.sum(axis=0), 1, rtol=1e-4)


@pytest.mark.slow
def test_stored_pools_are_those_of_the_stored_filters(repository, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(repository / "scripts"))
    import learn_photograph_filters as script
    from safetensors.numpy import load_file

    stored = load_file(FILTERS)
    again = script.pool(stored["filters"].astype(np.float32), N_POOLS)
    assert_allclose(again, stored["pools"], atol=1e-3)
