"""The reconstruction part of a report: every null beside the images, sentences and metrics."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from brainkit.data.stimuli import Stimuli
from brainkit.evaluation.intervals import mean_score
from brainkit.jobs import read_recipe
from brainkit.jobs.reconstruct import Reconstruct, reconstruction_result
from brainkit.jobs.runner import person_report
from brainkit.reconstruction import ReconstructionProtocol, ReconstructionResult
from brainkit.reconstruction.nulls import CAPTION_NULLS, IMAGE_NULLS
from brainkit.reconstruction.scores import item_columns, summarise
from brainkit.reporting import render_report
from brainkit.reporting.figures import score_dots
from brainkit.reporting.markup import interval, number

HOSTILE = "<script>alert(1)</script>$x_1$&\"'"
JUDGED = "identification_image_given_reconstruction_top1[judge-a]"
RETRIEVED = "retrieval_image_from_brain_top1"
NAMING = "caption_names_category"
N_ITEMS = 23


def scored(generator, kinds):
    return {kind: generator.random(N_ITEMS) for kind in kinds}


@pytest.fixture
def make_result(make_recording):
    """Make a result with round shapes; `captions` and `drawn` may be left out."""

    def make(*, captions=True, drawn=True, known=True, hostile=""):
        generator = np.random.default_rng(2)
        recording = make_recording(colour=True, subject=hostile or "s1")
        table = pd.DataFrame({"category": np.array(["face", "place"])[np.arange(40) % 2]})
        stimuli = Stimuli(recording.stimuli.source.array, table=table if known else None)
        nulls = [n for n in IMAGE_NULLS if known or n not in ("class_mean", "caption_prior")]
        spoken = [n for n in CAPTION_NULLS if known or n in ("shuffled_brain", "mean_embedding")]
        kinds = ("reconstruction", "true_embedding")
        images = {
            kind: generator.random((N_ITEMS, 12, 12, 3)).astype(np.float32)
            for kind in ("shown", *kinds, "low_level", *nulls)
        }
        scores = {
            (JUDGED, k): mean_score(v) for k, v in scored(generator, (*kinds, *nulls)).items()
        }
        if not drawn:
            images, scores = {k: images[k] for k in ("shown", "nearest_training_image")}, {}
        said = {
            kind: [f"a {kind} number {n}{hostile}" for n in range(N_ITEMS)]
            for kind in (*(("shown",) if known else ()), *kinds, *spoken)
        }
        if captions and known:
            values = {k: np.round(v) for k, v in scored(generator, (*kinds, *spoken)).items()}
            values["reconstruction"][0] = np.nan
            scores |= {(NAMING, kind): mean_score(value) for kind, value in values.items()}
        retrieved = {
            (RETRIEVED, kind): mean_score(value)
            for kind, value in scored(generator, ("reconstruction", "shuffled_brain")).items()
        }
        settings = {
            JUDGED: {"n": 20, "similarity": "pearson"},
            RETRIEVED: {"n": 23, "similarity": "cosine"},
        }
        rows = np.arange(N_ITEMS)
        return ReconstructionResult(
            recording=replace(recording, stimuli=stimuli),
            protocol=ReconstructionProtocol("nsd-shared1000", n_images=N_ITEMS, seed=4),
            items=pd.DataFrame({"stimulus": rows, "seed": rows, **item_columns(scores)}),
            retrieval_items=pd.DataFrame({"stimulus": rows, **item_columns(retrieved)}),
            images=images,
            captions=said if captions else {},
            embeddings={},
            metrics=summarise(scores | retrieved, settings),
            counts={"units": 24, "constant_or_nan": 1, "images_tested": 23, "images_drawn": 23},
            fitted=(None, None),
            zscore={},
        )

    return make


def render(result, **options):
    given = {"title": "T", "manifest": {}, "metrics": result.metrics} | options
    made = {"reconstruct": reconstruction_result(result)}
    report = person_report(result.recording.subject, result.recording, made)
    return render_report({result.recording.subject: report}, **given)


def table_after(page, words):
    start = page.index(words, page.index('id="subject-1"'))
    return page[start : page.index("</table>", start)]


def headings(table):
    return re.findall(r'<th[^>]*scope="col">(.*?)</th>', table)


def test_images_stand_beside_every_null(make_result):
    result = make_result()
    table = table_after(render(result), "Shown and reconstructed images, with nulls.")
    assert headings(table) == [
        "stimulus", "shown", "reconstruction", "from the true embedding", "low-level look",
        "shuffled brain", "mean embedding", "nearest training image", "class mean",
        "mean image", "caption prior", "no brain",
    ]  # fmt: skip
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1])
    assert len(rows) == 8  # every third of 23
    assert "Every 3rd item of 23" in table
    assert "how often judge-a finds the image shown by it, among 20." in table
    for item, row in zip(range(0, 23, 3), rows, strict=True):
        assert row.count("data:image/png;base64,") == 11
        assert f"{item} ({'place' if item % 2 else 'face'})" in row
        for kind in ("reconstruction", "no_brain"):
            column = JUDGED if kind == "reconstruction" else f"{JUDGED}/{kind}"
            assert f"found {number(result.items[column][item])}<" in row


def test_sentences_stand_beside_every_null_with_marks(make_result):
    result = make_result()
    table = table_after(render(result), "Sentences, with nulls.")
    assert headings(table)[1:] == [
        "the stimulus&#39;s own", "said from the brain", "said from the true embedding",
        "shuffled brain", "mean embedding", "caption prior: of the nearest training image",
        "typical caption", "no brain: a training caption at random",
    ]  # fmt: skip
    assert "a reconstruction number 3" in table
    mark = "✓" if result.items[NAMING][3] else "✗"
    assert re.search(rf">{mark}</span> a reconstruction number 3<", table)
    assert "<td>a reconstruction number 0</td>" in table  # its category is not known
    assert "<td>a shown number 3</td>" in table


def test_metrics_have_intervals_nulls_reach_and_chance(make_result):
    result = make_result()
    page = render(result)
    name = "identification image given reconstruction top 1 (judge-a)"
    table = table_after(page, f"<strong>{name}</strong> n = 23")
    assert "Chance is 0.0500." in table
    entry = result.metrics[JUDGED]
    for kind in IMAGE_NULLS:
        gap = entry["above_nulls"][kind]
        assert f"{number(gap['value'])} {interval(gap['ci'])}" in table
        assert interval(entry["null_ci"][kind]) in table
    assert number(entry["true_embedding"]["value"]) in table
    assert "retrieval image from brain top 1" in page
    headline = page[page.index('id="headline"') : page.index('id="subject-1"')]
    assert "from the true embedding" in headline
    assert "Each metric in a panel of its own" in page
    assert "Units: 23 of 24 used." in page
    assert "images tested" not in page


def test_only_what_there_is_is_shown(make_result):
    page = render(make_result(captions=False))
    assert "Sentences, with nulls." not in page
    assert "Nulls are missing." not in page  # the caption prior is among the images
    assert "23 of them, chosen at random (seed 4), are drawn, by models" in page
    assert "Drawing starts from decoded latents (low-level look), strength 0.800." in page
    page = render(make_result(drawn=False))
    assert "23 of them, chosen at random (seed 4), are said in words, by models" in page
    assert "Drawing starts" not in page
    assert "Shown and reconstructed images" not in page
    assert "Sentences, with nulls." in page
    assert "Nulls are missing." not in page


def test_what_cannot_be_known_is_said(make_result):
    page = render(make_result(known=False))
    assert '<p class="warning"><strong>Nulls are missing.' in page
    assert "the caption prior, since the stimuli have no captions" in page
    assert "the class mean, since their categories are not known" in page
    assert "any score of the sentences" in page
    assert "Nulls are missing." not in render(make_result())


def test_the_models_are_named(make_result):
    recipe = read_recipe("brain_diffuser", ["generator.name=tiny"])
    parts = Reconstruct().describe(recipe)
    page = render(make_result(), manifest={"parts": parts})
    for name, model in (
        ("Embedding", "open_clip:tiny"),
        ("Generator", "tiny"),
        ("Captioner", "tiny"),
        ("Judges", "judge-a timm:tiny-judge-a; judge-b timm:tiny-judge-b"),
    ):
        assert f"<dt>{name}</dt><dd>{model}</dd>" in page


@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_sentences_are_text(make_result):
    page = render(make_result(hostile=HOSTILE))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$x_1$&amp;&#34;&#39;" in page


def test_dots_stand_where_the_values_are():
    panels = {
        "a": {"own": (0.5, [0.4, 0.7]), "null": (0.1, [0.0, 0.3])},
        "b": {"own": (0.2, [0.1, 0.3]), "reach": (0.9, [0.8, 1.0])},
    }
    figure = score_dots(panels, {"a": 0.25}, value="own", reach="reach")
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in drawn] == ["a", "b"]
    names = [label.get_text() for label in drawn[0].get_yticklabels()]
    assert names == ["own", "reach", "null"]
    dots = {
        (round(float(line.get_xdata()[0]), 6), int(line.get_ydata()[0]))
        for line in drawn[0].lines
        if line.get_marker() in ("o", "D")
    }
    assert dots == {(0.5, 0), (0.1, 2)}
    bars = np.concatenate([part.get_segments()[0] for part in drawn[0].collections])
    np.testing.assert_allclose(bars[:, 0], [0.4, 0.7, 0.0, 0.3])
    dashed = [line for line in drawn[0].lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [0.25]
    assert not [line for line in drawn[1].lines if line.get_linestyle() == "--"]
