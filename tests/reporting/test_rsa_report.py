"""The report of layers against regions: complete, escaped, self-contained."""

import re

import numpy as np
import pandas as pd
import pytest

from brainkit.data.dissimilarities import Dissimilarities
from brainkit.data.stimuli import Stimuli
from brainkit.encoding import RSAProtocol, assess_rsa
from brainkit.evaluation.rsa import rdm
from brainkit.jobs.rsa import RSA, layer_curves, matrices, people_and_ceilings, rsa_result
from brainkit.jobs.runner import person_report
from brainkit.reporting import render_report


def result(regions=("V1 <early>", "$IT$"), layers=("a", "b & c", "d")):
    generator = np.random.default_rng(0)
    n, people = 10, 5
    data = Dissimilarities(
        {
            name: np.stack([rdm(generator.normal(size=(n, 20))) for _ in range(people)])
            for name in regions
        },
        tuple(f"p{i}" for i in range(people)),
        Stimuli(
            generator.random((n, 8, 8, 3)).astype(np.float32),
            table=pd.DataFrame({"category": ["<b>"] * n}),
        ),
    )
    models = {name: rdm(generator.normal(size=(n, 20))) for name in layers}
    return assess_rsa(data, models, RSAProtocol(bootstraps=20, permutations=19))


def render_rsa_report(compared, **settings):
    results = {"rsa": rsa_result(compared)}
    report = person_report("5 people", compared.data, results)
    metrics = report.metrics
    return render_report({"5 people": report}, metrics=metrics, headline=RSA.headline, **settings)


@pytest.fixture(scope="module")
def page():
    manifest = {
        "card": "mine",
        "licence": "MIT",
        "citation": "Me (2026).",
        "models": {"network": {"source": "torchvision", "model": "net", "weights": "abc"}},
    }
    return render_rsa_report(result(), title="RSA <mine>", manifest=manifest, summary="Sum & all.")


def test_the_page_holds_all_it_shows(page):
    assert page.startswith("<!doctype html>")
    assert "<title>RSA &lt;mine&gt;</title>" in page
    assert "Sum &amp; all." in page
    assert page.count("<img") == 3 + 3 + 10  # the first screen's stand in place again
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<script" not in page
    assert "<b>" not in page
    assert "V1 <early>" not in page
    assert "V1 &lt;early&gt;" in page


def test_values_stand_beside_their_nulls_and_ceilings(page):
    for words in (
        "null: best of relabelled stimuli",
        "null: relabelled stimuli",
        "p, family-wise",
        "noise ceiling",
        "ceiling of the mean RDM",
        "models.network.weights",
        "rsa/correlation/spearman",
        "How to read the numbers",
        "Me (2026).",
    ):
        assert words in page, words


def test_every_link_has_a_target(page):
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= targets


def test_the_figures_show_the_numbers():
    found = result()
    axes = layer_curves(found).axes[0]
    for line, (_, part) in zip(
        axes.lines[::2], found.layers.groupby("region", sort=False), strict=False
    ):
        np.testing.assert_array_equal(line.get_ydata(), part["similarity"])
    panels = people_and_ceilings(found).axes
    assert [panel.get_title(loc="left") for panel in panels] == ["V1 <early>", r"\$IT\$"]
    assert len(panels[0].lines[0].get_ydata()) == 3 * 5
    shown = matrices(found).axes[0].images[0].get_array()
    assert np.isnan(np.ma.filled(shown, np.nan)).sum() == 10
    assert (np.nanmin(shown), np.nanmax(shown)) == (0, 1)


@pytest.mark.parametrize("regions", [("IT",), ("V1", "V2", "V4", "IT")])
def test_any_number_of_regions(regions):
    page = render_rsa_report(result(regions), title="RSA", manifest={})
    assert all(region in page for region in regions)
