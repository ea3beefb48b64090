"""Layers against regions: a simulated hierarchy is found, and none where there is none."""

import numpy as np
import pytest

from brainkit.data.dissimilarities import Dissimilarities
from brainkit.data.stimuli import Stimuli
from brainkit.encoding import RSAProtocol, assess_rsa, layer_rdm
from brainkit.errors import InputError
from brainkit.evaluation.rsa import compare_rdms, rdm, rdm_noise_ceiling

N, PEOPLE = 20, 9
QUICK = RSAProtocol(bootstraps=100, permutations=199)


def simulated(related=True, seed=0):
    """Four layers that go from one code to another; early people have the first, late the last."""
    generator = np.random.default_rng(seed)
    first, last = generator.normal(size=(2, N, 40))
    layers = {f"layer{i}": rdm((1 - i / 3) * first + i / 3 * last, "correlation") for i in range(4)}
    codes = {"early": 0.9 * first + 0.1 * last, "late": 0.1 * first + 0.9 * last}
    if not related:
        codes = dict(zip(codes, generator.normal(size=(2, N, 40)), strict=True))
    people = {
        name: np.stack([rdm(code + generator.normal(size=code.shape)) for _ in range(PEOPLE)])
        for name, code in codes.items()
    }
    stimuli = Stimuli(generator.random((N, 8, 8, 3)).astype(np.float32))
    names = tuple(f"p{i}" for i in range(PEOPLE))
    return Dissimilarities(people, names, stimuli), layers


@pytest.fixture(scope="module")
def case():
    data, layers = simulated()
    return data, layers, assess_rsa(data, layers, QUICK)


def test_the_hierarchy_is_found(case):
    _, _, result = case
    best = result.best.set_index("region")
    assert best["layer"].to_dict() == {"early": "layer0", "late": "layer3"}
    assert best["position"].tolist() == [1, 4]
    assert (best["p_familywise"] == 1 / 200).all()
    gap = result.order["early", "late"]
    assert gap.value == 3
    assert gap.later > 0.95
    assert result.rise["early", "late"].low > 0
    assert 0 < result.null_maximum < 0.4


def test_numbers_are_those_of_the_parts(case):
    data, layers, result = case
    for region in data.regions:
        expected = np.asarray(compare_rdms(np.stack(list(layers.values())), data[region]))
        part = result.layers[result.layers["region"] == region]
        np.testing.assert_allclose(part["similarity"], expected.mean(axis=1), atol=1e-12)
        people = result.people[result.people["region"] == region]["similarity"]
        np.testing.assert_allclose(people.to_numpy().reshape(4, PEOPLE), expected)
        assert result.ceilings[region]["matched"] == rdm_noise_ceiling(data[region])
        metric = result.metrics[f"rsa_best_layer[{region}]"]
        assert metric["value"] == part["similarity"].max()
        assert metric["ci"][0] < metric["value"] < metric["ci"][1]
        assert metric["preset"] == "rsa/correlation/spearman"
    assert (result.layers["low"] < result.layers["similarity"]).all()


def test_the_rise_is_the_difference_of_linear_trends(case):
    _, _, result = case
    place = np.linspace(0, 1, 4)
    slope = {
        region: np.polyfit(place, part["similarity"], 1)[0]
        for region, part in result.layers.groupby("region")
    }
    assert result.rise["early", "late"].value == pytest.approx(slope["late"] - slope["early"])


def test_nothing_is_found_where_nothing_is():
    data, layers = simulated(related=False)
    result = assess_rsa(data, layers, QUICK)
    assert (result.layers["p_familywise"] > 0.05).all()
    rise = result.rise["early", "late"]
    assert rise.low < 0 < rise.high
    for region in data.regions:
        metric = result.metrics[f"rsa_best_layer[{region}]"]
        assert metric["value"] < 0.3
        assert metric["nulls"]["best_of_relabelled_stimuli"] > 0  # the luck of choosing


def test_every_metric_has_a_null_and_an_interval(case):
    for metric in case[2].metrics.values():
        assert metric["nulls"]
        assert metric["ci"][0] <= metric["value"] <= metric["ci"][1]
        assert metric["n"] == PEOPLE


def test_one_region_and_one_layer_will_do(case):
    data, layers, _ = case
    small = Dissimilarities({"early": data["early"]}, data.subjects, data.stimuli)
    result = assess_rsa(small, {"only": layers["layer0"]}, QUICK)
    assert result.order == result.rise == {}
    assert result.best["layer"].tolist() == ["only"]
    pair = assess_rsa(data, {"only": layers["layer0"]}, QUICK)
    assert pair.rise == {}
    assert pair.order["early", "late"].value == 0


def test_a_layer_with_tokens_is_laid_out_in_one_row():
    features = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(layer_rdm(features), rdm(features.reshape(5, 12)))
    with pytest.raises(InputError, match="one row a stimulus"):
        layer_rdm(features[0, 0])


def test_what_does_not_fit_is_refused(case):
    data, layers, _ = case
    with pytest.raises(InputError, match="at least one layer"):
        assess_rsa(data, {}, QUICK)
    with pytest.raises(InputError, match="layer fc is of 19 stimuli, the people's of 20"):
        assess_rsa(data, {**layers, "fc": layers["layer0"][:19, :19]}, QUICK)
    with pytest.raises(InputError, match="RDM 4 of models is constant"):
        assess_rsa(data, {**layers, "fc": 1 - np.eye(N)}, QUICK)
    broken = np.full((N, N), np.nan)
    with pytest.raises(InputError, match="layer fc holds 400 values that are NaN"):
        assess_rsa(data, {**layers, "fc": broken}, QUICK)
