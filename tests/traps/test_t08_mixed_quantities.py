"""r, r², ceiling fraction, ceiling percent and ncsnr are different quantities."""

import numpy as np
import pytest

from brainkit.errors import QuantityError
from brainkit.evaluation import (
    NCSNR,
    CeilingFraction,
    Correlation,
    CorrelationFraction,
    ExplainableVariance,
    NoiseCeiling,
    RSquared,
    ncsnr_to_ceiling,
    pearson_r,
    pooled_ceiling_fraction,
    pooled_correlation_fraction,
    r2,
    thresholded_ceiling_fraction,
    thresholded_correlation_fraction,
)

r = Correlation([0.3, 0.5])
ceiling = NoiseCeiling([0.4, 0.6], definition="nsd", n_repeats=3)
ncsnr = NCSNR([0.5, 0.8])
share = ExplainableVariance([0.2, 0.4])


@pytest.mark.parametrize(
    ("first", "second", "conversion"),
    [
        (r, ceiling, "pooled_ceiling_fraction"),
        (r, r.signed_square(), "signed_square"),
        (r.signed_square(), ceiling, "thresholded_ceiling_fraction"),
        (ceiling, ceiling.percent(), r"percent\(\)"),
        (ncsnr, ceiling, "ncsnr_to_ceiling"),
        (ceiling.percent(), ncsnr, r"ncsnr_to_ceiling\(ncsnr, n_repeats\)\.percent"),
        (r, ncsnr, "no conversion"),
        (share, ceiling, r"ExplainableVariance\.ceiling\(n_repeats\)"),
        (r, share, r"ExplainableVariance\.ceiling\(n_repeats\), then divide"),
        (r.signed_square(), share, r"ExplainableVariance\.ceiling\(n_repeats\), then divide"),
        (
            thresholded_ceiling_fraction(r, ceiling, above=0.1),
            thresholded_correlation_fraction(r, ceiling, above=0.1),
            "no conversion",
        ),
    ],
)
def test_mixing_raises_and_tells_the_conversion(first, second, conversion):
    names = f"{type(first).__name__} and {type(second).__name__}.*{conversion}"
    with pytest.raises(QuantityError, match=names):
        _ = first / second
    with pytest.raises(QuantityError, match=names):
        _ = first < second


def test_definitions_and_repeats_do_not_mix():
    single = ncsnr_to_ceiling(ncsnr, 1)
    triple = ncsnr_to_ceiling(ncsnr, 3)
    with pytest.raises(QuantityError, match=r"'n_repeats': 1\.0.*'n_repeats': 3\.0"):
        _ = single - triple
    with pytest.raises(QuantityError, match="definition"):
        _ = RSquared([0.1], definition="determination") - RSquared([0.1], "signed-square")


def test_no_two_definitions_of_a_ceiling_mix():
    names = ["nsd", "split-half", "explainable-variance", "cross-subject", "cross-subject-all"]
    ceilings = [NoiseCeiling([0.4], definition=name, n_repeats=3) for name in names]
    for i, one in enumerate(ceilings):
        for other in ceilings[i + 1 :]:
            with pytest.raises(QuantityError, match="differ in what they are"):
                _ = one - other
            with pytest.raises(QuantityError, match="differ in what they are"):
                np.concatenate([one, other])
    corrected = ExplainableVariance([0.4])
    with pytest.raises(QuantityError, match="bias_corrected"):
        _ = corrected - ExplainableVariance([0.4], bias_corrected=False)


def test_shares_say_what_they_are_shares_of():
    of_variance = pooled_ceiling_fraction(r, ceiling)
    of_correlation = pooled_correlation_fraction(r, ceiling)
    assert isinstance(of_variance, CeilingFraction)
    assert isinstance(of_correlation, CorrelationFraction)
    with pytest.raises(QuantityError, match="CeilingFraction and CorrelationFraction"):
        _ = of_variance + of_correlation
    with pytest.raises(QuantityError, match="expected Correlation"):
        pooled_correlation_fraction(r.signed_square(), ceiling)
    with pytest.raises(QuantityError, match="NoiseCeiling"):
        thresholded_correlation_fraction(r, share, above=0.1)


def test_wrapping_again_does_not_relabel():
    with pytest.raises(QuantityError, match="signed_square"):
        RSquared(r)
    with pytest.raises(QuantityError, match="ncsnr_to_ceiling"):
        NoiseCeiling(ncsnr, definition="nsd", n_repeats=3)


def test_functions_refuse_the_wrong_kind_and_plain_arrays():
    for wrong in (np.array([0.4, 0.6]), ceiling.percent(), ncsnr, r):
        with pytest.raises(QuantityError, match="NoiseCeiling"):
            pooled_ceiling_fraction(r, wrong)
        with pytest.raises(QuantityError, match="NoiseCeiling"):
            thresholded_ceiling_fraction(r, wrong, above=0.1)
    for wrong in (np.array([0.4, 0.6]), ceiling, ncsnr):
        with pytest.raises(QuantityError, match="Correlation or RSquared"):
            pooled_ceiling_fraction(wrong, ceiling)
    for wrong in (np.array([0.4, 0.6]), ceiling, r):
        with pytest.raises(QuantityError, match="NCSNR"):
            ncsnr_to_ceiling(wrong, 3)


def test_scores_come_with_their_kind():
    x, y = np.random.default_rng(0).normal(size=(2, 20, 2))
    with pytest.raises(QuantityError, match="Correlation and RSquared"):
        _ = pearson_r(x, y) - r2(x, y)
