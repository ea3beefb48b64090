"""Real tunings of three people: aligners carry the signal of two to the third.

The protocol is that of `scripts/compare_aligners.py`, on every eighth voxel. Weights are real;
stimuli and noise are drawn, so that these are simulated responses.
"""

import pytest
from compare_aligners import CARRIERS, carried, draw, read_weights

from brainkit.alignment import ByFeatures

NEEDING = [name for name, one in CARRIERS.items() if one.needs_common_stimuli]


@pytest.fixture(scope="module")
def weights(shared_data):
    found = read_weights(shared_data / "bold5000_encoders")
    assert {name: len(W) for name, W in found.items()} == {"CSI1": 1685, "CSI2": 2270, "CSI3": 3104}
    return {name: W[::8] for name, W in found.items()}


@pytest.fixture(scope="module")
def draws(weights):
    return {
        condition: draw(weights, "flat", 0, condition, "CSI1")
        for condition in ("true", "shuffled", "rotated")
    }


def test_ceilings_are_those_of_three_trials(draws):
    # sqrt(n²/(n² + 1/3)) at the median ncsnr .49 is .647.
    assert draws["true"].ceilings["CSI1"] == pytest.approx(0.64, abs=0.02)


@pytest.mark.parametrize("name", NEEDING)
def test_two_people_tell_of_the_third(draws, name):
    r = {condition: carried(CARRIERS[name], drawn, "CSI1") for condition, drawn in draws.items()}
    assert r["true"] > 0.35 * draws["true"].ceilings["CSI1"]
    assert abs(r["shuffled"]) < 0.12  # one order; the spread of r over 200 stimuli is .07
    # Turned weights still answer the same stimuli, so that something is left, but little.
    assert r["rotated"] < 0.65 * r["true"]


def test_encoders_carry_it_without_a_stimulus_in_common(draws):
    drawn = draws["true"]
    assert carried(ByFeatures(), drawn, "CSI1") > 0.35 * drawn.ceilings["CSI1"]
    assert not set(drawn.features["CSI1"][:, 0]) & set(drawn.features["CSI2"][:, 0])
