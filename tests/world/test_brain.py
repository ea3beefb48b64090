import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from brainkit.errors import CorruptFileError, InputError, MissingFileError
from brainkit.world import Population, SceneWorld, SimulatedBrain
from brainkit.world.anatomy import REGIONS, ROI_FILES
from brainkit.world.measurement import LIMIT, ceiling_from_ncsnr, ncsnr_from_ceiling
from brainkit.world.painting import CATEGORIES
from brainkit.world.scenes import REFERENCE_IDS

FRESH = np.arange(50_000, 51_200)
MANY = np.arange(50_000, 52_600)
TRAIN = 2000

Brains = dict[int, SimulatedBrain]
Arrays = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def channels(population: Population) -> Arrays:
    """Channels of fresh scenes: the common ones under 0, the private ones under the subject."""
    known = {subject: population.channels(MANY, subject) for subject in (1, 2, 3)}
    return {0: known[1][0], **{subject: private for subject, (_, private) in known.items()}}


@pytest.fixture(scope="module")
def responses(brains: Brains) -> Arrays:
    """Responses of the voxels that are not silent to fresh scenes."""
    return {
        subject: brain.response(MANY)[:, (brain.truth["kind"] != "silent").to_numpy()]
        for subject, brain in brains.items()
    }


def explained(predictors: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Give the variance of fresh scenes that least squares explains, by target."""
    design = np.column_stack([np.ones(len(predictors)), predictors])
    weights = np.linalg.lstsq(design[:TRAIN], targets[:TRAIN], rcond=None)[0]
    errors = targets[TRAIN:] - design[TRAIN:] @ weights
    return 1 - errors.var(axis=0) / targets[TRAIN:].var(axis=0)


def test_response_is_deterministic_and_independent_of_its_batch(
    brains: Brains, world: SceneWorld, population: Population
) -> None:
    again = SimulatedBrain(world, 2, density=0.25, population=population)
    whole = brains[2].response([7, 8, 9])
    assert whole.dtype == np.float32
    assert_array_equal(whole, again.response([7, 8, 9]))
    assert_allclose(again.response([9])[0], whole[2], atol=1e-5)


@pytest.mark.slow
def test_a_population_built_anew_gives_the_same_brain(brains: Brains) -> None:
    anew = SimulatedBrain(SceneWorld(0, size=96), 1, density=0.25)
    assert_allclose(anew.response([3, 4]), brains[1].response([3, 4]), atol=1e-4)
    pd.testing.assert_frame_equal(anew.truth, brains[1].truth)


def test_subjects_differ(brains: Brains) -> None:
    assert len({brain.anatomy.shape for brain in brains.values()}) == 3
    assert len({brain.n_voxels for brain in brains.values()}) == 3
    medians = [
        brain.truth.loc[brain.truth["kind"] == "early", "ncsnr"].median()
        for brain in brains.values()
    ]
    assert medians[1] > medians[0] > medians[2]


def test_units_follow_the_label_tables(brains: Brains) -> None:
    for brain in brains.values():
        units = brain.units
        for name, region in REGIONS.items():
            rows = units[units["roi"] == name]
            assert set(rows["hemisphere"]) == {"lh", "rh"}
            assert (rows[region.file] == ROI_FILES[region.file].index(name) + 1).all()
            assert (rows["nsdgeneral"] == 1).all()
            assert rows["cortex"].all()
        files = list(ROI_FILES)
        assert (units.loc[~units["cortex"], files] == -1).all(axis=None)
        assert (units.loc[units["cortex"], files] >= 0).all(axis=None)
        assert not units[["i", "j", "k"]].duplicated().any()


def test_drives_are_sixty_and_forty_percent(brains: Brains) -> None:
    brain = brains[1]
    live = (brain.truth["kind"] != "silent").to_numpy()
    shared, own = brain.shared_drive(FRESH)[:, live], brain.own_drive(FRESH)[:, live]
    assert shared.var(axis=0).mean() == pytest.approx(1, abs=0.1)
    assert own.var(axis=0).mean() == pytest.approx(1, abs=0.1)
    response = brain.response(FRESH)[:, live].astype(float)
    from_shared = [np.corrcoef(s, r)[0, 1] ** 2 for s, r in zip(shared.T, response.T, strict=True)]
    from_own = [np.corrcoef(o, r)[0, 1] ** 2 for o, r in zip(own.T, response.T, strict=True)]
    assert np.mean(from_shared) == pytest.approx(0.6, abs=0.05)
    assert np.mean(from_own) == pytest.approx(0.4, abs=0.05)


def test_drives_are_orthogonal_over_the_reference_set(population: Population) -> None:
    common = population.reference_common
    second, third = population.reference_private(2), population.reference_private(3)
    for other in (common, second):
        assert np.abs(other.T @ third / len(third)).max() < 1e-4
    assert_allclose(third.std(axis=0), 1, rtol=1e-6)


@pytest.mark.parametrize("subject", [1, 2, 3])
@pytest.mark.slow
def test_own_part_is_no_mixture_of_other_brains(
    responses: Arrays, channels: Arrays, subject: int
) -> None:
    others = [response[:, ::3] for s, response in responses.items() if s != subject]
    joined = np.concatenate(others, axis=1).astype(float)
    joined -= joined[:TRAIN].mean(axis=0)
    axes = np.linalg.eigh(joined[:TRAIN].T @ joined[:TRAIN])[1][:, -150:]
    predictors = joined @ axes
    assert explained(predictors, responses[subject]).mean() == pytest.approx(0.6, abs=0.07)
    assert explained(predictors, channels[subject]).mean() < 0.1


@pytest.mark.parametrize("subject", [1, 2, 3])
@pytest.mark.slow
def test_others_channels_explain_three_fifths(
    responses: Arrays, channels: Arrays, subject: int
) -> None:
    predictors = np.concatenate([c for s, c in channels.items() if s != subject], axis=1)
    assert explained(predictors, responses[subject]).mean() == pytest.approx(0.6, abs=0.07)
    everything = np.concatenate([predictors, channels[subject]], axis=1)
    assert explained(everything, responses[subject]).mean() > 0.9


@pytest.mark.slow
def test_without_shared_tuning_nothing_is_common(
    world: SceneWorld, population: Population, channels: Arrays
) -> None:
    alone = SimulatedBrain(world, 1, shared_tuning=False, density=0.1, population=population)
    live = (alone.truth["kind"] != "silent").to_numpy()
    predictors = np.concatenate([channels[0], channels[2], channels[3]], axis=1)
    assert explained(predictors, alone.response(MANY)[:, live]).mean() < 0.07


@pytest.mark.slow
def test_region_means_follow_their_category(brains: Brains, world: SceneWorld) -> None:
    table = world.table(FRESH)
    preferred = {"FFA-1": "face", "EBA": "body", "PPA": "place", "VWFA-1": "word", "food": "food"}
    for brain in brains.values():
        response = brain.response(FRESH)
        for roi, category in preferred.items():
            mean = response[:, brain.units["roi"] == roi].mean(axis=1)
            r = {name: np.corrcoef(mean, table[name] > 0)[0, 1] for name in CATEGORIES}
            assert max(r, key=lambda name: r[name]) == category
            assert r[category] > 0.6
            assert max(value for name, value in r.items() if name != category) < 0.2


@pytest.mark.slow
def test_gate_makes_category_voxels_answer_wherever_the_object_is(
    brains: Brains, world: SceneWorld
) -> None:
    ungated_people = Population(world, gate=False)
    ungated = SimulatedBrain(world, 1, gate=False, density=0.25, population=ungated_people)
    gated = brains[1]
    assert (ungated.truth["gate"] == 0).all()
    content = world.content(np.arange(60_000, 64_000))
    alone = (content.category[:, 1] < 0) & (content.category[:, 0] == CATEGORIES.index("face"))
    ids, x = np.arange(60_000, 64_000)[alone], content.x[alone, 0]
    rows = np.flatnonzero(gated.units["roi"].isin(["OFA", "FFA-1", "FFA-2"]))
    far_side = np.where(gated.units["hemisphere"].iloc[rows] == "rh", x[:, None], 1 - x[:, None])
    dependence = []
    for brain in (gated, ungated):
        drive = brain.shared_drive(ids)[:, rows]
        r = [np.corrcoef(far_side[:, v], drive[:, v])[0, 1] for v in range(len(rows))]
        dependence.append(float(np.mean(r)))
    assert dependence[1] < dependence[0] - 0.15


def test_ceilings_follow_the_published_medians(world: SceneWorld, population: Population) -> None:
    truth = SimulatedBrain(world, 1, population=population).truth
    area = truth["roi"].str.rstrip("vd")
    for name, median in {"V1": 0.48, "V2": 0.402, "V3": 0.34, "hV4": 0.274}.items():
        assert truth.loc[area == name, "ceiling_3"].median() == pytest.approx(median, abs=0.05)
    for kind, median in {"category": 0.242, "mixed": 0.089, "silent": 0}.items():
        chosen = truth.loc[truth["kind"] == kind, "ceiling_3"]
        assert chosen.median() == pytest.approx(median, abs=0.03)
    assert truth.loc[truth["kind"] == "early", "ncsnr"].std() > 0.05


def test_ceiling_and_ncsnr_invert_each_other() -> None:
    assert ceiling_from_ncsnr(1.0, 3) == pytest.approx(0.75)
    assert_allclose(ncsnr_from_ceiling(ceiling_from_ncsnr([0.1, 0.5, 2.0], 2), 2), [0.1, 0.5, 2.0])


def test_noise_has_the_stated_size_and_depends_on_the_trial_only(brains: Brains) -> None:
    brain = brains[1]
    betas = brain.measure([7] * 600, [1] * 600, np.arange(600))
    gain = betas.std(axis=0) / brain.truth["noise_sd"]
    assert np.median(gain) == pytest.approx(1, abs=0.03)
    assert_allclose(brain.measure([7, 8], [1, 2], [41, 599])[0], betas[41], atol=1e-4)
    noise = (betas - betas.mean(axis=0)) / betas.std(axis=0)
    spectrum = np.linalg.eigvalsh(noise @ noise.T / noise.shape[1])[::-1]
    assert spectrum[:8].sum() / spectrum.sum() > 0.18


def test_drift_vanishes_with_z_scores_within_sessions(brains: Brains) -> None:
    brain, scenes, trials = brains[1], np.arange(200), np.arange(200)
    first = brain.measure(scenes, np.full(200, 1), trials)
    second = brain.measure(scenes, np.full(200, 2), trials)
    assert np.abs(first.mean(axis=0) - second.mean(axis=0)).mean() > 0.1
    assert np.abs(first.std(axis=0) / second.std(axis=0) - 1).mean() > 0.05
    z = [(b - b.mean(axis=0)) / b.std(axis=0) for b in (first, second)]
    assert_allclose(z[0], z[1], atol=2e-3)


def test_betas_saturate(brains: Brains) -> None:
    brain = brains[1]
    huge = np.full((1, brain.n_voxels), 500, dtype=np.float32)
    assert_allclose(brain.measure([1], [1], [1], response=huge), LIMIT, rtol=1e-6)
    assert (huge == 500).all()


def test_bad_input(brains: Brains, world: SceneWorld, population: Population) -> None:
    with pytest.raises(InputError, match="reference set"):
        brains[1].response([REFERENCE_IDS.start])
    with pytest.raises(InputError, match=r"subjects 1\.\.8, but 9"):
        SimulatedBrain(world, 9, population=population)
    with pytest.raises(InputError, match="density"):
        SimulatedBrain(world, 1, density=0, population=population)
    with pytest.raises(InputError, match="build the population with the same"):
        SimulatedBrain(world, 1, gate=False, population=population)
    with pytest.raises(InputError, match="build the population with the same"):
        SimulatedBrain(world, 1, seed=7, population=population)
    with pytest.raises(InputError, match="equally many"):
        brains[1].measure([1, 2], [1], [1, 2])
    with pytest.raises(InputError, match="response must be"):
        brains[1].measure([1], [1], [1], response=np.zeros((1, 3), dtype=np.float32))


def test_manifest_must_be_there_and_readable(tmp_path, population: Population) -> None:
    with pytest.raises(MissingFileError, match="holds no simulated recordings"):
        SimulatedBrain.from_manifest(tmp_path, 1)
    (tmp_path / "SIMULATED.json").write_text("{")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        SimulatedBrain.from_manifest(tmp_path, 1)
    (tmp_path / "SIMULATED.json").write_text('{"world": {"version": 9}, "brain": {"version": 1}}')
    with pytest.raises(CorruptFileError, match="version 9"):
        SimulatedBrain.from_manifest(tmp_path, 1)
