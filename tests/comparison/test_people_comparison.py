"""The comparison of people: pairing, sizes, paired differences over worlds, and one tiny run."""

import json

import numpy as np
import pandas as pd
import pytest
from compare_people import main, place
from people_comparison.cells import ALIGNERS, ONE_WAY, OWN, RIGHT, SHUFFLED, Cell, cells
from people_comparison.people import (
    STREAMS,
    TESTED,
    SceneComponents,
    Study,
    exchanged,
    load_people,
    principal,
    region_of_units,
)
from people_comparison.people import tested_stimuli as sealed_of
from people_comparison.table import BEGIN, END, Results, better, pooled, share, write_table

from brainkit import Recording
from brainkit.evaluation import bootstrap_ci
from brainkit.evaluation.intervals import Estimate, mean_score

TINY = Study(images=60, shared=30, session=60)


def test_cells_hold_every_aligner_at_every_size_and_the_control_once():
    wanted = cells([50, 200, None], list(ALIGNERS), 200)
    assert len(set(wanted)) == len(wanted)
    decoders = [cell for cell in wanted if cell.job == "decode" and cell.aligner != OWN]
    assert len(decoders) == len(ALIGNERS) * 4
    assert {cell.trials for cell in wanted if cell.pairing == SHUFFLED} == {200}
    encoders = {cell.aligner for cell in wanted if cell.job == "encode"}
    assert encoders == {OWN, *ALIGNERS} - {*ONE_WAY}
    assert Cell("decode", "Procrustes, by region", None).name == (
        "decode-Procrustes-by-region-all-right"
    )


def test_exchanged_stimuli_keep_repeats_together_and_tested_ones_apart():
    shown = np.repeat(np.arange(40), 3)
    values = np.random.default_rng(0).normal(size=(120, 2)).astype(np.float32)
    recording = Recording.from_arrays(
        values, subject="a", trials=pd.DataFrame({"stimulus": shown}),
        units=pd.DataFrame({f"roi.{name}": [True, name == "early"] for name in ("V1v", *STREAMS)}),
    )  # fmt: skip
    sealed = np.arange(30, 40)
    moved = exchanged(recording, sealed)
    said = moved.stimulus_rows()
    assert (said.reshape(40, 3) == said.reshape(40, 3)[:, :1]).all()
    assert set(said[:90]) == set(range(30))
    assert set(said[90:]) == set(sealed)
    assert (said != shown).mean() > 0.8
    np.testing.assert_array_equal(moved.responses.read(), values)
    assert list(region_of_units(recording)) == ["V1v", "rest"]


def test_pictures_come_back_from_the_components_they_are_made_of():
    generator = np.random.default_rng(0)
    pixels = generator.normal(size=(30, 4)).astype(np.float32) @ generator.normal(size=(4, 48))
    mean, axes = principal(pixels.astype(np.float32), np.arange(20), 4)
    space = SceneComponents((pixels - mean) @ axes.T, mean.reshape(4, 4, 3), axes)
    images = space.inverse_transform(space.values)
    np.testing.assert_allclose(images.reshape(30, -1), pixels, atol=1e-4)
    np.testing.assert_allclose(space.components_of(images), space.values, atol=1e-4)


def test_worlds_are_pooled_as_strata():
    generator = np.random.default_rng(0)
    worlds = [generator.normal(size=n) for n in (40, 50, 60)]
    found = pooled([mean_score(one).estimate for one in worlds])
    assert found.value == pytest.approx(np.mean([one.mean() for one in worlds]))
    variance = sum(one.var(ddof=1) / len(one) for one in worlds) / 9
    assert found.standard_error**2 == pytest.approx(variance, rel=1e-9)
    assert found.freedom == 147


def test_a_share_beyond_chance_has_the_variance_of_the_delta_method():
    part = Estimate(0.7, np.array([0.01, -0.02, 0.01]), 3, 2)
    whole = Estimate(0.9, np.array([0.0, 0.01, -0.01]), 3, 2)
    found = share(part, whole, 0.5)
    assert found.value == pytest.approx(0.5)
    step = 1e-6
    moved = (0.2 + step * part.influence) / (0.4 + step * whole.influence)
    np.testing.assert_allclose(found.influence, (moved - 0.5) / step, rtol=1e-4)


def made_up(tmp_path, gains):
    """Return results of two worlds in which an aligner gains so much on each of 30 images."""
    paths = {}
    for seed in (1, 2):
        base = np.random.default_rng(seed).normal(size=30)
        for aligner, gain in {OWN: 0.0, **gains}.items():
            cell = Cell("encode", aligner, 200)
            values = base + gain + 0.01 * np.random.default_rng(seed + 9).normal(size=30) * gain
            one = mean_score(values).estimate
            held = {"value": one.value, "influence": one.influence.tolist(), "n": 30, "freedom": 29}
            paths[seed, cell] = tmp_path / f"{seed}-{aligner}.json"
            facts = {"units": {"subj04": 9}, "test_images": 30, "all_trials": 99}
            content = {"scores": {"encoding_r": held}, **facts}
            paths[seed, cell].write_text(json.dumps(content))
    return Results.read(paths, (1, 2))


def test_gains_are_paired_and_losses_stand_in_the_table(tmp_path):
    results = made_up(tmp_path, {"Procrustes": 0.2, "PCA": -0.1})
    gain = results.gain(Cell("encode", "Procrustes", 200), "encoding_r")
    assert gain.low > 0.19
    assert gain.high < 0.21
    assert better(results, "encode", "encoding_r", 200, RIGHT) == ["Procrustes"]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_table(page, results, "the command")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Made by `the command`." in text
    assert "(-0.100 [" in text
    assert "(**+0.200 [" in text
    rows = results.as_json()["rows"]
    assert {row["aligner"] for row in rows} == {OWN, "Procrustes", "PCA"}


def test_an_interval_of_one_world_is_that_of_its_items():
    values = np.random.default_rng(0).normal(size=50)
    found, known = pooled([mean_score(values).estimate]).interval(), bootstrap_ci(values)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-6)


@pytest.mark.slow
def test_a_tiny_study_runs_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    sizes = ["--images", "60", "--shared", "30", "--session", "60"]
    given = ["--out", str(tmp_path), "--seeds", "5", "--trials", "30", "all", *sizes]
    monkeypatch.setattr("compare_people.CONTROL", 30)
    main([*given, "--aligners", "Procrustes"])
    people = load_people(tmp_path, 5, 1, TINY)
    units = {one.responses.shape[1] for one in people.recordings.values()}
    assert len(units) > 1
    tested = people.recordings[TESTED]
    shown = tested.stimulus_rows()
    sealed = sealed_of(tested)
    assert people.n_trials() <= len(shown) - 3 * len(sealed)
    results = json.loads((tmp_path / "results-brain1.json").read_text())
    assert {row["pairing"] for row in results["rows"]} == {RIGHT, SHUFFLED}
    path = place(tmp_path, 1, 5, Cell("decode", OWN, 30))
    held = json.loads(path.read_text())
    assert held["facts"]["own_trials"] == 30
    before = path.stat().st_mtime_ns
    main([*given, "--aligners", "Procrustes"])
    assert path.stat().st_mtime_ns == before
    assert "| decoding, identification of the image | own |" in (tmp_path / "table.md").read_text()
