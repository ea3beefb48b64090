"""The demonstration at its smallest: a whole run folder, checks against the known truth."""

import json

import numpy as np
import pandas as pd
import pytest

from brainkit.data.cards import load, read_card
from brainkit.errors import InputError, OutputError, UnknownNameError
from brainkit.jobs import demo
from brainkit.jobs.demo import (
    EARLY,
    FEWEST_IMAGES,
    FEWEST_SUBJECTS,
    JUDGED,
    LATE,
    NAMED,
    REGIONS,
    RIVALS,
    run_demo,
)
from brainkit.world import SimulatedBrain

PEOPLE = [f"subj{number:02d}" for number in range(1, FEWEST_SUBJECTS + 1)]
FILES = {
    "encode": {
        "units.parquet",
        "regions.parquet",
        "items.parquet",
        "predictions.npy",
        "maps",
    },
    "layers": {"layers.parquet", "units.parquet"},
    "decode": {"items.parquet", "seeds.parquet", "predictions.npy"},
    "synthesize": {"ranking.parquet", "regions.parquet"},
    "reconstruct": {
        "items.parquet",
        "retrieval_items.parquet",
        "images.npz",
        "captions.json",
        "embeddings.npy",
        "embeddings-true-embedding.npy",
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    return out, run_demo(out, n_subjects=FEWEST_SUBJECTS, images=FEWEST_IMAGES)


@pytest.mark.slow
def test_the_run_folder_is_complete(run):
    out, _ = run
    files = {"report.html", "checks.parquet", "metrics.json", "manifest.json", "nsd", *PEOPLE}
    assert {path.name for path in out.iterdir()} == files
    assert [path.name for path in out.parent.iterdir()] == ["run"]  # nothing half-made beside it
    assert json.loads((out / "nsd/SIMULATED.json").read_text())["complete"] is True
    for person in PEOPLE:
        for job, expected in FILES.items():
            found = {path.name for path in (out / person / job).iterdir()}
            assert found == expected | ({"estimator"} if job != "layers" else set())
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["options"] == {
        "n_subjects": len(PEOPLE),
        "images": FEWEST_IMAGES,
        "seed": 0,
        "brain": 1,
    }
    assert list(manifest["recipe"]) == ["encode", "decode", "synthesize", "layers", "reconstruct"]
    assert set(manifest["models"]) == {"embedding", "generator", "captioner", "judges"}
    assert list(manifest["subjects"]) == PEOPLE
    assert manifest["licence"].startswith("none needed: simulated")
    assert manifest["seconds"] > 0


@pytest.mark.slow
def test_checks_are_what_the_run_folder_says(run):
    """Every value once more, from the tables that the run left behind."""
    out, metrics = run
    checks = pd.read_parquet(out / "checks.parquet")
    assert list(checks.columns) == ["subject", "claim", "value", "target", "met"]
    assert checks["subject"].tolist() == [person for person in PEOPLE for _ in range(6)]
    for person, part in checks.groupby("subject"):
        fraction, shuffled, later, above, said, top = part["value"]
        units = pd.read_parquet(out / person / "encode/units.parquet")
        early = units[[f"roi.{name}" for name in ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4")]]
        early = units[early.any(axis=1)].dropna(subset=["r", "ceiling"])
        for value, column in ((fraction, "r"), (shuffled, "shuffled r")):
            pooled = (early[column] * early[column].abs()).sum() / early["ceiling"].sum()
            assert value == pytest.approx(pooled, abs=1e-6)
        layers = pd.read_parquet(out / person / "layers/layers.parquet")
        layers = layers[layers["space"] != "oriented energy"]
        place = {name: number for number, name in enumerate(dict.fromkeys(layers["space"]))}
        depth = {
            region: np.average(one["space"].map(place), weights=one["share"])
            for region, one in layers.groupby("region")
            if one["share"].sum() > 0
        }
        category = [depth[name] for name in REGIONS[4:] if name in depth]
        retinotopic = [depth[name] for name in REGIONS[:3] if name in depth]
        assert later == pytest.approx(np.mean(category) - np.mean(retinotopic))
        entries = {name: entry["by_subject"][person] for name, entry in metrics.items()}
        gaps = entries["pixel_correlation"]["above_nulls"]
        assert above == min(gap["ci"][0] for gap in gaps.values())
        ends = entries[NAMED]["null_ci"]
        brainless = [end[1] for null, end in ends.items() if null not in RIVALS]
        assert said == pytest.approx(entries[NAMED]["ci"][0] - max(brainless))
        table = pd.read_parquet(out / person / "synthesize/regions.parquet")
        assert top == (table["true percentile"] >= 90).sum()


@pytest.mark.slow
def test_what_two_people_of_500_images_reach(run):
    """The smallest demonstration claims less; what it claims it reaches."""
    checks = pd.read_parquet(run[0] / "checks.parquet").set_index("claim")
    fraction = checks.loc["pooled ceiling fraction, V1-hV4"]
    assert fraction["value"].between(0.3, 0.8).all()
    assert fraction["target"].eq("≥ .3").all()
    assert fraction["met"].all()
    assert checks.loc["the same for shuffled features", "value"].abs().max() < 0.1


def unit_table(r, shuffled):
    """Four voxels of V1 to hV4 with a ceiling of a half, and a fifth elsewhere."""
    masks = pd.DataFrame({f"roi.{name}": np.arange(5) == n for n, name in enumerate(EARLY)})
    scores = {"r": [*[r] * 4, 0.9], "shuffled r": [*[shuffled] * 4, 0.5]}
    return masks.assign(**scores, ceiling=0.5)


@pytest.mark.parametrize(
    ("r", "shuffled", "met"),
    [(0.64, 0.0, [True, True]), (0.62, 0.0, [False, True]),
     (0.64, 0.11, [True, False]), (0.64, -0.11, [True, False]), (-0.9, -0.05, [False, True])],
)  # fmt: skip
def test_what_counts_as_met_by_the_encoder(r, shuffled, met):
    """r² / .5 of at least .8 needs r ≥ .6325; chance is left on either side, from r = .1 on."""
    checks = demo._check_encoding("s1", unit_table(r, shuffled))
    assert [check["met"] for check in checks] == met
    assert checks[0]["value"] == pytest.approx(np.sign(r) * r**2 / 0.5)


def test_what_counts_as_met_elsewhere():
    for n_top, met in ((7, False), (8, True)):
        table = pd.DataFrame({"true percentile": [91.0] * n_top + [89.0] * (10 - n_top)})
        (check,) = demo._check_ranking("s1", table)
        assert (check["value"], check["met"]) == (n_top, met)

    def layers(share):
        """V1-hV4 prefer the first of two layers, the others the second by a share."""
        rows = [(region, space, float(space == "a")) for region in EARLY for space in "ab"]
        rows += [
            (region, space, share if space == "c" else 0.0) for region in LATE for space in "abc"
        ]
        rows += [(region, "b", 1 - share) for region in LATE]
        return pd.DataFrame(rows, columns=["region", "space", "share"])

    for share, met in ((0.0, False), (0.2, True)):
        (check,) = demo._check_layers("s1", layers(share))
        assert check["value"] == pytest.approx(1 + share)
        assert check["met"] is met

    for low, met in ((-0.01, False), (0.01, True)):
        gaps = {"mean_image": {"ci": [0.2, 0.3]}, "class_mean": {"ci": [low, 0.3]}}
        (check,) = demo._check_decoding("s1", {"pixel_correlation": {"above_nulls": gaps}})
        assert (check["value"], check["met"]) == (low, met)
        assert "class_mean" in check["claim"]

    def drawn(low, null, paired):
        ends = {"no_brain": [0.0, null], "nearest_training_image": [0.8, 0.9]}
        entry = {"ci": [low, 1.0], "null_ci": ends}
        entry["above_nulls"] = {"nearest_training_image": {"ci": [paired, 0.2]}}
        return {JUDGED: entry, NAMED: entry}

    for given, met in (((0.5, 0.4, 0.1), [True] * 3), ((0.3, 0.4, 0.1), [False, False, True]),
                       ((0.5, 0.4, -0.1), [True, True, False])):  # fmt: skip
        checks = demo._check_reconstruction("s1", drawn(*given))
        assert [check["met"] for check in checks] == met


@pytest.mark.slow
def test_the_true_percentile_is_that_of_the_brain(run):
    out, _ = run
    table = pd.read_parquet(out / PEOPLE[0] / "synthesize/regions.parquet").set_index("region")
    assert table.index.tolist() == list(REGIONS)
    assert table["true percentile"].between(0, 100).all()
    assert (table["percent of the best drive"] <= 100 + 1e-6).all()
    assert table["true percentile"].mean() > 75  # 50 for images drawn at random
    recording = load(read_card("nsd"), out / "nsd", 1)
    brain = SimulatedBrain.from_manifest(out / "nsd", 1)
    bank = np.setdiff1d(np.arange(len(recording.stimuli)), recording.stimulus_rows())
    assert len(bank) == 0.9 * FEWEST_IMAGES  # what the other saw and was not shared
    responses = pd.DataFrame(
        brain.response(bank).T, index=pd.MultiIndex.from_frame(brain.units[["i", "j", "k"]])
    )
    chosen = pd.read_parquet(out / PEOPLE[0] / "synthesize/ranking.parquet")
    for region in ("V1", "FFA"):
        inside = recording.units.loc[recording.roi_mask(region), ["i", "j", "k"]]
        voxels = responses.loc[pd.MultiIndex.from_frame(inside)].to_numpy()
        scores = (voxels - voxels.mean(1, keepdims=True)) / voxels.std(1, keepdims=True)
        drive = pd.Series(scores.mean(axis=0), index=bank)
        rows = chosen.loc[chosen["region"] == region, "stimulus"]
        assert len(rows) == 10
        percentile = 100 * (drive < drive[rows].mean()).mean()
        # Two equal drives may swap at the edge by rounding: one image of 450.
        assert table.loc[region, "true percentile"] == pytest.approx(percentile, abs=0.3)
        best = drive.nlargest(10).mean()
        assert table.loc[region, "percent of the best drive"] == pytest.approx(
            100 * drive[rows].mean() / best, rel=1e-3
        )


@pytest.mark.slow
def test_metrics_by_subject(run):
    out, metrics = run
    written = json.loads((out / "metrics.json").read_text())
    assert written == metrics
    assert {"encoding_r", "pixel_correlation", "ranked_judged_percentile_top10"} <= set(metrics)
    for metric in metrics.values():
        assert list(metric["by_subject"]) == PEOPLE
        values = [part["value"] for part in metric["by_subject"].values()]
        assert metric["value"] == pytest.approx(np.mean(values))
        assert metric["n"] == len(PEOPLE)


@pytest.mark.slow
def test_the_report_says_that_it_is_simulated(run):
    page = (run[0] / "report.html").read_text()
    assert "<strong>Simulated data.</strong> No brain was measured" in page
    assert "true percentile" in page
    assert "pooled ceiling fraction, V1-hV4" in page
    for person in PEOPLE:
        assert person in page


@pytest.mark.parametrize(
    "given", [{"n_subjects": FEWEST_SUBJECTS - 1}, {"images": FEWEST_IMAGES - 1}]
)
def test_too_little_to_rank_or_judge(tmp_path, given):
    with pytest.raises(InputError, match="at least 2 people who see at least 500 images each"):
        run_demo(tmp_path / "run", **given)
    assert not list(tmp_path.iterdir())


def test_an_earlier_run_stays(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/manifest.json").write_text("{}")
    with pytest.raises(OutputError, match="overwrite"):
        run_demo(tmp_path / "run", n_subjects=FEWEST_SUBJECTS, images=FEWEST_IMAGES)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["manifest.json"]


@pytest.mark.slow
def test_the_brain_is_the_version_that_was_asked_for(tmp_path, monkeypatch):
    """Only what is simulated is looked at: no encoder runs."""
    seen = []

    def load_cases(plan):
        manifest = json.loads((plan.root / "SIMULATED.json").read_text())
        seen.extend([manifest, plan.card.citation, plan.manifest["options"]])
        raise KeyboardInterrupt

    monkeypatch.setattr("brainkit.jobs.runner.load_cases", load_cases)
    with pytest.raises(KeyboardInterrupt):
        run_demo(tmp_path / "run", n_subjects=FEWEST_SUBJECTS, images=FEWEST_IMAGES, brain=2)
    simulated, citation, options = seen
    assert simulated["brain"]["version"] == options["brain"] == 2
    assert citation.endswith("version 1, brain 2.")
    with pytest.raises(UnknownNameError, match="version of the simulated brain 3: there are 1, 2"):
        run_demo(tmp_path / "run", brain=3)
    assert list(tmp_path.iterdir()) == []
