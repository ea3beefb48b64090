import copy
import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError, QuantityError
from brainkit.evaluation import (
    NCSNR,
    CeilingFraction,
    CeilingPercent,
    Correlation,
    NoiseCeiling,
    RSquared,
    effective_repeats,
    ncsnr_to_ceiling,
)

VALUES = [0.1, 0.2, np.nan, 0.4]


def one_of_each():
    return [
        Correlation(VALUES),
        RSquared(VALUES),
        NoiseCeiling(VALUES, definition="nsd", n_repeats=3),
        CeilingPercent(VALUES, definition="nsd", n_repeats=3),
        NCSNR(VALUES),
        CeilingFraction(VALUES, normalisation="pooled", definition="nsd"),
    ]


@pytest.mark.parametrize("quantity", one_of_each(), ids=lambda q: type(q).__name__)
class TestEachKind:
    def test_rearranging_keeps_kind_and_attributes(self, quantity):
        attributes = vars(quantity)
        kept = [
            quantity[1:],
            quantity[np.array([0, 3])],
            quantity[np.isfinite(quantity)],
            quantity.reshape(2, 2),
            quantity.copy(),
            copy.deepcopy(quantity),
            copy.copy(quantity),
            pickle.loads(pickle.dumps(quantity)),
            np.concatenate([quantity, quantity]),
            np.stack([quantity, quantity]),
            np.reshape(quantity, (2, 2)),
            np.take(quantity, [1, 0]),
            type(quantity)._wrap(quantity, **attributes),
        ]
        for array in kept:
            assert type(array) is type(quantity)
            assert vars(array) == attributes

    def test_arithmetic_and_reductions_are_plain(self, quantity):
        plain = [quantity * 2, 1 - quantity, quantity > 0.15, quantity + quantity, -quantity]
        plain += [np.sqrt(quantity), np.where(quantity > 0.15, quantity, 0), np.asarray(quantity)]
        assert {type(array) for array in plain} == {np.ndarray}
        assert isinstance(np.nanmean(quantity), float)
        assert isinstance(quantity[:2].mean(), float)
        assert np.nanmean(quantity) == pytest.approx(0.7 / 3)
        assert np.nanmedian(quantity) == 0.2
        assert np.nanpercentile(quantity, 50) == 0.2
        assert quantity[:2].max() == 0.2
        assert quantity[:2].std() == pytest.approx(0.05)
        assert type(quantity.reshape(2, 2).mean(axis=0)) is np.ndarray

    def test_changes_in_place_are_refused(self, quantity):
        with pytest.raises(QuantityError, match="in place"):
            quantity *= 2
        with pytest.raises(QuantityError, match="in place"):
            np.add.at(quantity, [0], 1)

    def test_a_scalar_is_a_number(self, quantity):
        single = type(quantity)._wrap(0.25, **vars(quantity))
        assert float(single) == 0.25
        assert f"{single:.2f}" == "0.25"
        assert isinstance(quantity[0], float)

    def test_the_kind_is_in_the_repr(self, quantity):
        assert repr(quantity).startswith(type(quantity).__name__)

    def test_does_not_share_memory_with_the_caller(self, quantity):
        source = np.array([0.1, 0.2])
        type(quantity)._wrap(source, **vars(quantity))[0] = 0.9
        assert source[0] == 0.1


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (Correlation, [1.2]),
        (RSquared, [1.5]),
        (NCSNR, [-0.1]),
        (lambda v: NoiseCeiling(v, definition="nsd", n_repeats=3), [41.9]),
        (lambda v: CeilingPercent(v, definition="nsd", n_repeats=3), [101.0]),
    ],
)
def test_values_outside_the_range_are_refused(make, values):
    with pytest.raises(QuantityError, match=f"{values[0]:g}"):
        make(values)


def test_rounding_at_the_bound_is_accepted():
    assert Correlation([1 + 1e-9]).shape == (1,)


def test_other_input_is_refused():
    with pytest.raises(InputError, match="real numbers"):
        Correlation(["a"])
    with pytest.raises(InputError, match="at least 1 trial"):
        NoiseCeiling([0.5], definition="nsd", n_repeats=0)


def test_signed_square_keeps_the_sign():
    squared = Correlation([0.5, -0.5, 0.0, np.nan]).signed_square()
    assert isinstance(squared, RSquared)
    assert squared.definition == "signed-square"
    np.testing.assert_array_equal(np.asarray(squared), [0.25, -0.25, 0.0, np.nan])


def test_percent_and_fraction_are_inverse():
    ceiling = NoiseCeiling([0.0, 0.419, 1.0], definition="nsd", n_repeats=3)
    percent = ceiling.percent()
    np.testing.assert_allclose(np.asarray(percent), [0.0, 41.9, 100.0])
    back = percent.fraction()
    np.testing.assert_allclose(np.asarray(back), np.asarray(ceiling))
    assert (back.definition, back.n_repeats) == ("nsd", 3)
    np.testing.assert_allclose(np.asarray(ceiling.max_correlation()) ** 2, np.asarray(ceiling))


# Published medians over nsdgeneral of NSD's eight subjects: ncsnr, and the ceiling in percent.
@pytest.mark.parametrize(
    ("ncsnr", "percent"),
    list(
        zip(
            [0.490, 0.510, 0.431, 0.392, 0.542, 0.439, 0.371, 0.323],
            [41.9, 43.8, 35.8, 31.6, 46.9, 36.6, 29.2, 23.8],
            strict=True,
        )
    ),
)
def test_ceiling_of_published_ncsnr(ncsnr, percent):
    ceiling = ncsnr_to_ceiling(NCSNR([ncsnr]), 3)
    assert float(ceiling.percent()[0]) == pytest.approx(percent, abs=0.1)


def test_ceiling_limits():
    ceiling = ncsnr_to_ceiling(NCSNR([0.0, 1.0, np.inf, np.nan]), 1)
    np.testing.assert_allclose(np.asarray(ceiling), [0.0, 0.5, 1.0, np.nan])


def test_unequal_repeats_average_the_reciprocals():
    counts = {3: 515, 2: 250, 1: 235}
    norm = (515 / 3 + 250 / 2 + 235 / 1) / 1000
    ceiling = ncsnr_to_ceiling(NCSNR([0.5]), counts)
    assert float(ceiling[0]) == pytest.approx(0.25 / (0.25 + norm))
    assert ceiling.n_repeats == pytest.approx(1 / norm)
    assert effective_repeats({3: 7, 2: 0}) == pytest.approx(3)


@pytest.mark.parametrize("counts", [{}, {3: 0}, {0: 5}, {3: -1, 2: 5}, 0.5, np.nan])
def test_bad_repeats_are_refused(counts):
    with pytest.raises(InputError):
        effective_repeats(counts)


@given(st.floats(0, 10), st.floats(1, 20), st.floats(1, 20))
def test_ceiling_rises_with_repeats(ncsnr, few, many):
    few, many = sorted((few, many))
    ceilings = [float(ncsnr_to_ceiling(NCSNR([ncsnr]), n)[0]) for n in (few, many)]
    assert 0 <= ceilings[0] <= ceilings[1] + 1e-12 <= 1 + 1e-12


def test_every_pair_of_kinds_refuses_to_mix():
    for first, second in itertools.combinations(one_of_each(), 2):
        names = f"{type(first).__name__} and {type(second).__name__}"
        for mix in (np.divide, np.less, np.equal, np.maximum):
            with pytest.raises(QuantityError, match=names):
                mix(first, second)
        with pytest.raises(QuantityError):
            first @ second
        with pytest.raises(QuantityError):
            first.dot(second)
        with pytest.raises(QuantityError):
            np.where(first > 0.15, first, second)
        with pytest.raises(QuantityError):
            np.concatenate([first, second])
        with pytest.raises(QuantityError):
            first.view(type(second))
        with pytest.raises(QuantityError):
            first.copy()[:] = second
