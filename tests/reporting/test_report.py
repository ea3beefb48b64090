import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from brainkit.errors import InputError, OutputError
from brainkit.evaluation import pixel_correlation
from brainkit.jobs import read_recipe
from brainkit.jobs.encode import Encode
from brainkit.reporting import render_report, write_report
from brainkit.reporting.markup import number

MANIFEST = {
    "job": "encode",
    "card": "digits69",
    "recipe": {"name": "plain", "seed": 17},
    "versions": {"numpy": "2.1.0"},
    "subjects": {"s1": {"n_targets_batch": 4096}},
}
HOSTILE = "<script>alert(1)</script>$x_1$&\"'"


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.ids, self.links = [], [], set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        if "id" in given:
            self.ids.add(given["id"])
        if given.get("href", "").startswith("#"):
            self.links.append(given["href"][1:])

    def handle_data(self, data):
        self.text.append(data)

    def of(self, tag):
        return [given for name, given in self.tags if name == tag]


def metrics_of(part):
    results = (part.encoding, part.decoding, part.ranking)
    return {k: v for result in results if result is not None for k, v in result.metrics.items()}


def render(part, **options):
    given = {"title": "T", "manifest": MANIFEST, "metrics": metrics_of(part)} | options
    return render_report({part.recording.subject: part.report}, **given)


@pytest.fixture
def page(make_results):
    return render(make_results())


def test_values_stand_in_the_page(page):
    text = "".join(Page(page).text)
    # encoding: headline, regions, their nulls, p, counts
    for value in ("0.235", "[0.200, 0.270]", "−0.0154", "0.812", "−0.00456", "0.0476", "0.00123"):
        assert value in text
    assert "23 of 24 used. Left out – constant or NaN: 1" in text
    assert "smallest possible is 0.0476" in text
    # ranking
    for value in ("97.5\N{NO-BREAK SPACE}%", "76.2", "48.8", "0.512", "0.310"):
        assert value in text
    assert "second encoder, fitted on other features and on other trials" in text
    # decoding
    assert "By fold seed: 0.711, 0.722" in text
    # manifest
    assert "subjects.s1.n_targets_batch4096" in text
    assert "recipe.seed17" in text


def test_manifest_is_there_as_json(page):
    found = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL).group(1)
    assert json.loads(found.replace("&#34;", '"')) == MANIFEST


def test_decoded_pairs_show_each_null_with_its_own_score(make_results):
    part = make_results()
    page = render(part)
    pairs = page[page.index('<table class="pairs">', page.index('id="subject-1"')) :]
    pairs = pairs[: pairs.index("</table>")]
    header = re.findall(r'<th scope="col">(.*?)</th>', pairs)
    assert header == [
        "stimulus", "shown", "reconstruction", "shuffled brain", "nearest training image",
        "class mean", "mean image", "no brain",
    ]  # fmt: skip
    rows = pairs.split("<tr>")[2:]
    images = part.decoding.images
    assert [re.search(r'row">(\d+)', row).group(1) for row in rows] == [
        str(item) for item in range(0, 20, 3)
    ]
    assert "Every 3rd item of 20" in pairs
    for item, row in zip(range(0, 20, 3), rows, strict=True):
        assert row.count("data:image/png;base64,") == 7
        for kind in ("reconstruction", "shuffled_brain", "no_brain", "class_mean"):
            r = float(pixel_correlation(images["shown"][[item]], images[kind][[item]])[0])
            assert f"r {number(r)}<" in row


def test_thumbnails_hold_the_very_pixels(make_results):
    from io import BytesIO

    from PIL import Image

    part = make_results()
    source = next(given for given in Page(render(part)).of("img") if given["alt"] == "shown: 0")
    data = base64.b64decode(source["src"].split(",")[1])
    pixels = np.asarray(Image.open(BytesIO(data)))
    expected = np.round(255 * part.decoding.images["shown"][0])
    np.testing.assert_array_equal(pixels, expected)


def test_differences_from_nulls_have_intervals_and_a_verdict(make_results):
    part = make_results()
    entry = part.decoding.metrics["pixel_correlation"]
    gap = entry["above_nulls"]["no_brain"]
    page = render(part)
    low, high = (number(end) for end in gap["ci"])
    assert gap["ci"][0] > 0
    assert f'<td>{number(gap["value"])} [{low}, {high}]</td><td><span class="met">above' in page


def test_nothing_is_fetched_or_run(make_results):
    page = render(make_results(colour=True))
    parsed = Page(page)
    for tag, given in parsed.tags:
        assert tag not in {"script", "iframe", "object", "embed", "audio", "video"}
        assert not [name for name in given if name.startswith("on")]
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            if name in given and tag != "td":
                assert given[name].startswith(("data:", "#")), (tag, given[name][:60])
    assert "@import" not in page
    assert "url(" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src &#39;none&#39;" in page or "default-src 'none'" in page


def test_images_have_alternative_texts_and_links_have_targets(page):
    parsed = Page(page)
    assert parsed.of("img")
    assert all(given["alt"] for given in parsed.of("img"))
    assert parsed.links
    assert set(parsed.links) <= parsed.ids


@pytest.mark.filterwarnings("error::UserWarning")
def test_hostile_names_are_text(make_results):
    part = make_results(subject=HOSTILE, regions=(HOSTILE, "_V2$"), info={"measure": HOSTILE})
    page = render(
        part,
        title=HOSTILE,
        summary=HOSTILE,
        manifest={HOSTILE: HOSTILE, "recipe": HOSTILE, "card": HOSTILE},
        metrics={HOSTILE: {"value": HOSTILE and 1.0, "nulls": {HOSTILE: 0.0}, "preset": HOSTILE}},
        checks=pd.DataFrame({HOSTILE: [HOSTILE]}),
    )
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;$x_1$&amp;&#34;&#39;" in page
    assert not Page(page).of("script")


def test_what_was_left_out_for_its_quality_is_told(make_results):
    quality = {
        "bads": "exclude",
        "channels": {"excluded": ["EEG <053>"], "marked": []},
        "epochs": {"all": 40, "dropped": 3, "reasons": {"BAD_blink": 2, "EOG 061": 1}},
    }
    page = render(make_results(info={"measure": "V", "quality": quality}), title="Quality")
    assert "V; bad channels excluded: EEG &lt;053&gt;; 3 of 40 epochs dropped (BAD_blink 2" in page
    assert "epochs dropped" not in render(make_results(info={"measure": "V"}), title="Good")


def test_nan_is_a_dash(page):
    metric = page[page.index("(preset r2/training-mean/mean-over-units)") :]
    assert '<td class="number"><span class="total">–</span></td>' in metric[:600]
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower().replace("or nan", "").replace(
        "are nan", ""
    )
    assert "their scores are NaN, shown as “–”" in page


def test_a_simulation_is_called_one(make_results):
    facts = {
        "simulated": True,
        "world": {"version": 1, "seed": 42},
        "brain": {"version": 1, "seed": 7, "gate": False, "shared_tuning": True},
    }
    page = render(make_results(info={"simulated": facts}))
    text = "".join(Page(page).text)
    assert "Simulated data." in text
    assert "world version 1, seed 42; brain version 1, seed 7, counter-world without gate." in text
    assert page.index("Simulated data.") < page.index("Headline numbers")


def test_real_data_have_no_such_banner(page):
    assert "Simulated data." not in page


def test_features_and_encoder_are_named(make_results):
    changes = ["features.0={kind: model-layer, settings: {model: 'open_clip:tiny@blocks.1'}}"]
    recipe = read_recipe("encode-pixel-components", [*changes, "model.kind=gaussian-readout"])
    page = render(make_results(), manifest={"parts": Encode().describe(recipe)})
    assert "<dt>Features</dt><dd>model-layer open_clip:tiny@blocks.1</dd>" in page
    assert "<dt>Model</dt><dd>gaussian-readout</dd>" in page


def test_jobs_that_were_not_run_have_no_section(
    make_recording, make_encoding, make_decoding, judged
):
    recording = make_recording()
    only = render(judged(encoding=make_encoding(recording)))
    assert {"subject-1-encoding", "subject-1-maps"} <= Page(only).ids
    assert not {"subject-1-decoding", "subject-1-ranking", "checks"} & Page(only).ids
    assert "no brain" not in "".join(Page(only).text)
    only = render(judged(decoding=make_decoding(recording)))
    assert not {"subject-1-encoding", "subject-1-maps", "subject-1-ranking"} & Page(only).ids
    assert "noise ceiling" not in "".join(Page(only).text)


def test_presets_never_share_a_table(page):
    headline = page[page.index('id="headline"') : page.index('id="subject-1"')]
    tables = headline.split("<table>")[1:]
    captions = [re.search(r"<caption>(.*?)</caption>", table).group(1) for table in tables]
    assert [caption.count("preset") for caption in captions] == [1] * len(tables)
    assert len(set(captions)) == len(captions)
    identification = next(t for t in tables if "pearson/others-of-the-fold" in t)
    assert identification.count("<tr>") == 3  # the two directions share a preset


def test_several_subjects(make_results):
    results = {name: make_results(subject=name).report for name in ("subj01", "subj02")}
    each = {name: {"value": v, "ci": [0.1, 0.2], "n": 23, "nulls": {"shuffled_features": 0.001}}
            for name, v in (("subj01", 0.1111), ("subj02", 0.2222))}  # fmt: skip
    metrics = {"encoding_r": {"value": 0.16665, "n": 2, "preset": "p", "by_subject": each,
                              "nulls": {"shuffled_features": 0.001}}}  # fmt: skip
    page = render_report(results, title="T", manifest={}, metrics=metrics)
    text = "".join(Page(page).text)
    assert "mean of 2 subjects0.167–0.001002" in text
    assert "subj010.111[0.100, 0.200]0.0010023" in text
    assert {"subject-1", "subject-2", "subject-2-decoding"} <= Page(page).ids


def test_checks(make_results):
    checks = pd.DataFrame(
        {"claim": ["a", "b"], "value": [0.81234, np.nan], "target": ["≥ .8", "0"],
         "met": [True, False]}
    )  # fmt: skip
    page = render(make_results(), checks=checks)
    assert "1 of 2 checks met." in page
    assert '0.812</td><td>≥ .8</td><td><span class="met">✓ met</span>' in page
    assert '–</td><td>0</td><td><span class="unmet">✗ not met</span>' in page


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({}, "Responses were not z-scored."),
        ({"by": "session", "transductive": False, "unseen": []}, "within each session"),
        ({"by": None, "transductive": False, "unseen": []}, "over all trials"),
    ],
)
def test_zscoring_is_told(make_recording, make_encoding, record, said, judged):
    part = judged(encoding=make_encoding(make_recording(), zscore=record))
    page = render(part)
    assert said in page
    assert "Transductive" not in page


def test_transductive_zscoring_is_flagged(make_recording, make_encoding, judged):
    record = {"by": "session", "transductive": True, "unseen": [31, 32]}
    page = render(judged(encoding=make_encoding(make_recording(), zscore=record)))
    assert '<p class="warning">' in page
    assert "Transductive." in page
    assert "31, 32" in page


def test_true_percentiles_are_shown_where_known(make_recording, make_ranking, judged):
    ranking = make_ranking(make_recording())
    assert "true percentile" not in render(judged(ranking=ranking))
    ranking.regions["true percentile"] = [93.21, 88.0]
    page = render(judged(ranking=ranking))
    assert "true percentile 93.2" in page
    assert "Simulated data only" in page


def test_pattern_scores_have_tables_and_explanations(make_recording, make_encoding, judged):
    encoding = make_encoding(make_recording())
    page = Page(render(judged(encoding=encoding)))
    assert not any("pattern" in text.lower() for text in page.text)
    encoding.regions["2V2"], encoding.regions["shuffled 2V2"] = [0.7312, np.nan], [0.4987, np.nan]
    encoding.regions["pattern r"] = [0.0912, np.nan]
    text = " ".join(Page(render(judged(encoding=encoding))).text)
    for said in ("shuffled 2V2", "0.731", "0.499", "pattern r", "0.0912", "Chance is .5"):
        assert said in text


@pytest.mark.parametrize("ceilings", [True, False])
def test_recordings_without_a_volume_have_no_map(make_recording, make_encoding, ceilings, judged):
    recording = make_recording(space=None)
    page = render(judged(encoding=make_encoding(recording, ceilings=ceilings)))
    assert "No map is drawn: the recording has no space" in page
    assert ("Score against ceiling, unit by unit." in page) is ceilings
    assert ("Distribution of r by region" in page) is not ceilings


def test_nothing_scored_is_said_not_drawn(make_recording, make_encoding, judged):
    result = make_encoding(make_recording())
    result.units["r"] = np.nan
    page = render(judged(encoding=result))
    assert "No unit has a score" in page


def test_no_results_are_an_error():
    with pytest.raises(InputError, match="at least one subject"):
        render_report({}, title="T", manifest={}, metrics={})


def test_a_report_is_written_whole(make_recording, make_encoding, tmp_path, judged):
    part = judged(encoding=make_encoding(make_recording()))
    options = {"title": "T", "manifest": MANIFEST, "metrics": {}}
    write_report(tmp_path / "report.html", {"s1": part.report}, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    written = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert written == render_report({"s1": part.report}, **options)
    with pytest.raises(OutputError, match="is a folder"):
        write_report(tmp_path, {"s1": part.report}, **options)
