import numpy as np
import pytest

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation import (
    CeilingFraction,
    Correlation,
    CorrelationFraction,
    NoiseCeiling,
    RSquared,
    pooled_ceiling_fraction,
    pooled_correlation_fraction,
    thresholded_ceiling_fraction,
    thresholded_correlation_fraction,
)


def ceilings(values):
    return NoiseCeiling(values, definition="nsd", n_repeats=3)


def test_pooled_by_hand():
    scores = Correlation([0.6, -0.2, 0.5, np.nan, 0.9])
    ceiling = ceilings([0.5, 0.1, 0.0, 0.4, np.nan])
    fraction = pooled_ceiling_fraction(scores, ceiling)
    assert isinstance(fraction, CeilingFraction)
    assert float(fraction) == pytest.approx((0.36 - 0.04 + 0.25) / 0.6)
    assert (fraction.normalisation, fraction.definition) == ("pooled", "nsd")


def test_pooled_takes_fractions_of_variance_as_they_are():
    fraction = pooled_ceiling_fraction(RSquared([0.3, -0.1]), ceilings([0.5, 0.3]))
    assert float(fraction) == pytest.approx(0.2 / 0.8)


def test_thresholded_by_hand_without_clamping():
    scores = Correlation([0.6, -0.6, 0.9, 0.5, np.nan])
    ceiling = ceilings([0.4, 0.4, 0.1, np.nan, 0.5])
    fractions = thresholded_ceiling_fraction(scores, ceiling, above=0.1)
    np.testing.assert_allclose(np.asarray(fractions), [0.9, -0.9, np.nan, np.nan, np.nan])
    assert fractions.normalisation == "above 0.1"
    beyond = thresholded_ceiling_fraction(Correlation([0.9]), ceilings([0.2]), above=0.1)
    assert float(beyond[0]) == pytest.approx(4.05)


def test_nothing_to_explain_is_nan():
    assert np.isnan(float(pooled_ceiling_fraction(Correlation([0.1]), ceilings([0.0]))))
    assert np.isnan(float(pooled_ceiling_fraction(Correlation([np.nan]), ceilings([0.3]))))


@pytest.mark.parametrize("above", [0, 1, -0.1, 10, np.nan])
def test_the_threshold_is_a_fraction(above):
    with pytest.raises(InputError, match="between 0 and 1"):
        thresholded_ceiling_fraction(Correlation([0.1]), ceilings([0.1]), above=above)


def test_shapes_have_to_agree():
    with pytest.raises(InputError, match=r"\(2,\) and ceiling \(1,\)"):
        pooled_ceiling_fraction(Correlation([0.1, 0.2]), ceilings([0.1]))


def test_the_perfect_model_scores_one():
    generator = np.random.default_rng(0)
    truth = generator.uniform(0.05, 0.8, size=2000)
    scores = Correlation(np.sqrt(truth))
    assert float(pooled_ceiling_fraction(scores, ceilings(truth))) == pytest.approx(1)


def test_kinds_are_required():
    with pytest.raises(QuantityError, match=r"plain ndarray.*Correlation\(values\)"):
        pooled_ceiling_fraction(np.array([0.1]), ceilings([0.1]))
    with pytest.raises(QuantityError, match=r"NoiseCeiling\(values\)"):
        pooled_ceiling_fraction(Correlation([0.1]), np.array([0.1]))
    with pytest.raises(QuantityError, match="fraction"):
        pooled_ceiling_fraction(Correlation([0.1]), ceilings([0.1]).percent())


def test_correlation_fractions_by_hand():
    scores = Correlation([0.3, -0.1, 0.2, np.nan])
    ceiling = ceilings([0.36, 0.01, 0.0, 0.25])
    pooled = pooled_correlation_fraction(scores, ceiling)
    assert isinstance(pooled, CorrelationFraction)
    assert float(pooled) == pytest.approx(0.4 / 0.7)
    assert (pooled.normalisation, pooled.definition) == ("pooled", "nsd")
    fractions = thresholded_correlation_fraction(scores, ceiling, above=0.05)
    np.testing.assert_allclose(np.asarray(fractions), [0.5, -1.0, np.nan, np.nan])
    assert fractions.normalisation == "above 0.05"
    assert np.isnan(float(pooled_correlation_fraction(Correlation([0.1]), ceilings([0.0]))))
    with pytest.raises(InputError, match="state a correlation between 0 and 1"):
        thresholded_correlation_fraction(scores, ceiling, above=0)
    with pytest.raises(QuantityError, match="expected Correlation"):
        pooled_correlation_fraction(RSquared([0.1] * 4), ceiling)
