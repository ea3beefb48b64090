"""One type per quantity, so that r, R², ceilings and ncsnr cannot be mixed by accident.

A kind is a float64 :class:`numpy.ndarray` subclass. Indexing, reshaping, copying and joining keep
the kind and its attributes. Everything else NumPy computes (arithmetic, comparisons, reductions
such as ``mean`` and ``np.nanmean``) gives plain arrays and floats, because the mean of squared
correlations, say, is for the caller to name. Two different kinds in one operation raise
:class:`brainkit.errors.QuantityError`; so do two ceilings of different definitions or repeats.
``numpy.asarray(quantity)`` drops the kind on purpose.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, QuantityError

BOUND_TOLERANCE = 1e-6

# NumPy functions that only rearrange values, and those that join arrays: both keep a kind.
_REARRANGE: frozenset[Callable[..., Any]] = frozenset(
    {np.reshape, np.ravel, np.squeeze, np.transpose, np.take, np.copy, np.atleast_1d}
)
_JOIN: frozenset[Callable[..., Any]] = frozenset({np.concatenate, np.stack, np.hstack, np.vstack})

_KIND_NAMES = (
    "Correlation, RSquared, NoiseCeiling, CeilingPercent, NCSNR, ExplainableVariance, "
    "CeilingFraction or CorrelationFraction"
)

_NORMALISE = (
    "divide a score by a ceiling with pooled_ceiling_fraction or thresholded_ceiling_fraction"
)
_CONVERSIONS = {
    frozenset({"Correlation", "RSquared"}): "Correlation.signed_square() gives an RSquared",
    frozenset({"Correlation", "NoiseCeiling"}): (
        f"{_NORMALISE}; NoiseCeiling.max_correlation() gives the largest expected r"
    ),
    frozenset({"RSquared", "NoiseCeiling"}): _NORMALISE,
    frozenset({"NoiseCeiling", "CeilingPercent"}): (
        "NoiseCeiling.percent() and CeilingPercent.fraction() convert"
    ),
    frozenset({"NCSNR", "NoiseCeiling"}): "ncsnr_to_ceiling(ncsnr, n_repeats) converts",
    frozenset({"NCSNR", "CeilingPercent"}): (
        "ncsnr_to_ceiling(ncsnr, n_repeats).percent() converts"
    ),
    frozenset({"ExplainableVariance", "NoiseCeiling"}): (
        "ExplainableVariance.ceiling(n_repeats) converts"
    ),
    frozenset({"ExplainableVariance", "Correlation"}): (
        f"take ExplainableVariance.ceiling(n_repeats), then {_NORMALISE}"
    ),
    frozenset({"ExplainableVariance", "RSquared"}): (
        f"take ExplainableVariance.ceiling(n_repeats), then {_NORMALISE}"
    ),
}


class Quantity(np.ndarray[tuple[Any, ...], np.dtype[np.float64]]):
    """Base of the kinds; use one of its subclasses.

    Parameters
    ----------
    values : array_like
        Plain numbers of the kind, or an array of the same kind. Another kind is refused.

    Raises
    ------
    QuantityError
        If `values` are of another kind, or outside the range the kind can have.
    """

    bounds: ClassVar[tuple[float, float]] = (-np.inf, np.inf)
    attributes: ClassVar[tuple[str, ...]] = ()

    def __new__(cls, values: ArrayLike) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values)

    @classmethod
    def _wrap(cls, values: ArrayLike, **attributes: object) -> Self:
        if isinstance(values, Quantity) and not isinstance(values, cls):
            raise _mixed(type(values), cls)
        plain = _as_float64(values, cls.__name__)
        low, high = cls.bounds
        outside = (plain < low - BOUND_TOLERANCE) | (plain > high + BOUND_TOLERANCE)
        if outside.any():
            raise QuantityError(
                f"{cls.__name__} lies in [{low:g}, {high:g}], but {int(outside.sum())} of "
                f"{plain.size} values do not (for example {plain[outside].flat[0]:g}). "
                f"Wrap them in the kind that they are: {_KIND_NAMES}."
            )
        wrapped = plain.view(cls)
        for name, value in attributes.items():
            setattr(wrapped, name, value)
        return wrapped

    def __array_finalize__(self, source: NDArray[Any] | None, /) -> None:
        """Carry the attributes over to views, and refuse a view as another kind."""
        if isinstance(source, Quantity) and type(source) is not type(self):
            raise _mixed(type(source), type(self))
        for name in self.attributes:
            setattr(self, name, getattr(source, name, None))

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any
    ) -> Any:  # Any: a ufunc's result has any type
        """Compute on plain arrays after checking that the operands are of one kind."""
        _check_one_kind((inputs, kwargs))
        targets = inputs[:1] if method == "at" else kwargs.get("out", ())
        changed = [type(target).__name__ for target in targets if isinstance(target, Quantity)]
        if changed:
            raise QuantityError(
                f"{ufunc.__name__} would change a {changed[0]} in place, and the result need not "
                f"be a {changed[0]}. Compute a new array instead, such as `b = a * 2`."
            )
        return getattr(ufunc, method)(*_plain(inputs), **_plain(kwargs))

    def __array_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:  # Any: a NumPy function's result has any type
        """Compute on plain arrays; rearranging and joining give the kind back."""
        positional = tuple(args)
        _check_one_kind((positional, kwargs))
        result = func(*_plain(positional), **_plain(kwargs))
        joined = func in _JOIN and all(isinstance(part, Quantity) for part in positional[0])
        if joined or func in _REARRANGE:
            return self._like(result)
        return result

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set values of the same kind, or plain numbers."""
        _check_one_kind((self, value))
        super().__setitem__(key, value)

    def dot(self, other: Any, out: Any = None) -> Any:
        """Multiply as :func:`numpy.dot`, with the same check of kinds."""
        return np.dot(self, other, out)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the attributes when a worker process receives the array."""
        return _rebuild, (type(self), np.asarray(self), self._attribute_values())

    def __deepcopy__(self, memo: dict[int, Any] | None, /) -> Self:
        """Copy with the attributes."""
        return self.copy()

    def _attribute_values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.attributes}

    def _like(self, values: NDArray[Any]) -> Self:
        return type(self)._wrap(values, **self._attribute_values())


KindT = TypeVar("KindT", bound=Quantity)


def require_kind(values: object, kinds: type[KindT] | tuple[type[KindT], ...], name: str) -> None:
    """Refuse plain arrays and other kinds.

    Parameters
    ----------
    values : object
        What the caller gave.
    kinds : type or tuple of types
        The kinds that will do.
    name : str
        Name of the argument, for the message.

    Raises
    ------
    QuantityError
        If `values` is of none of the kinds.
    """
    if isinstance(values, kinds):
        return
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    expected = " or ".join(kind.__name__ for kind in wanted)
    if isinstance(values, Quantity):
        raise QuantityError(
            f"{name} is a {type(values).__name__}, expected {expected}: "
            f"{_conversion(type(values), wanted[0])}."
        )
    raise QuantityError(
        f"{name} is a plain {type(values).__name__}, expected {expected}. Say what the numbers "
        f"are by wrapping them, such as {wanted[0].__name__}(values)."
    )


def _as_float64(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.array(values, dtype=np.float64, subok=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} needs an array of real numbers: {error}.") from error


def _conversion(first: type[Quantity], second: type[Quantity]) -> str:
    fallback = "there is no conversion; np.asarray(values) drops the kind if that is meant"
    return _CONVERSIONS.get(frozenset({first.__name__, second.__name__}), fallback)


def _mixed(first: type[Quantity], second: type[Quantity]) -> QuantityError:
    return QuantityError(
        f"{first.__name__} and {second.__name__} are different quantities: "
        f"{_conversion(first, second)}."
    )


def _quantities_in(value: Any) -> Iterator[Quantity]:
    if isinstance(value, Quantity):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _quantities_in(part)
    elif isinstance(value, dict):
        yield from _quantities_in(list(value.values()))


def _check_one_kind(operands: Any) -> None:
    quantities = list(_quantities_in(operands))
    for other in quantities[1:]:
        first = quantities[0]
        if type(other) is not type(first):
            raise _mixed(type(first), type(other))
        if other._attribute_values() != first._attribute_values():
            raise QuantityError(
                f"Two {type(first).__name__} differ in what they are, "
                f"{first._attribute_values()} and {other._attribute_values()}: bring them to the "
                "same definition first, or drop the kind with np.asarray if that is meant."
            )


def _plain(value: Any) -> Any:  # Any: the arguments of any NumPy function
    if isinstance(value, Quantity):
        return value.view(np.ndarray)
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return value


def _rebuild(
    kind: type[Quantity], values: NDArray[np.float64], attributes: dict[str, object]
) -> Quantity:
    return kind._wrap(values, **attributes)


class Correlation(Quantity):
    """Pearson correlation r, in [-1, 1]."""

    bounds = (-1.0, 1.0)

    def signed_square(self) -> "RSquared":
        """Give r·|r|, in units of variance.

        The sign is kept because a predictor without information has r symmetric about 0: its
        r·|r| averages 0, whereas its r² averages 1/n.
        """
        r = np.asarray(self)
        return RSquared(r * np.abs(r), definition="signed-square")


class RSquared(Quantity):
    """A fraction of the measured variance, at most 1.

    Parameters
    ----------
    values : array_like
        The fractions.
    definition : str, default "determination"
        ``"determination"`` (1 - SS_res/SS_tot), ``"explained-variance"`` (residual mean removed)
        or ``"signed-square"`` (r·|r|). Different definitions do not mix.
    """

    bounds = (-np.inf, 1.0)
    attributes = ("definition",)
    definition: str

    def __new__(cls, values: ArrayLike, definition: str = "determination") -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition)


class NoiseCeiling(Quantity):
    """Fraction of the measured variance that any model could explain, in [0, 1]; in r² units.

    Parameters
    ----------
    values : array_like
        The fractions.
    definition : str
        Way in which the ceiling was estimated, such as ``"nsd"``.
    n_repeats : float
        Number of trials averaged in the response that the ceiling is for. Where responses average
        different numbers of trials it is their harmonic mean (:func:`effective_repeats`).
    """

    bounds = (0.0, 1.0)
    attributes = ("definition", "n_repeats")
    definition: str
    n_repeats: float

    def __new__(cls, values: ArrayLike, *, definition: str, n_repeats: float) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition, n_repeats=_positive_repeats(n_repeats))

    def percent(self) -> "CeilingPercent":
        """Give the ceiling in percent of variance."""
        return CeilingPercent(100.0 * np.asarray(self), **self._attribute_values())

    def max_correlation(self) -> Correlation:
        """Give the largest expected r, the square root of the ceiling."""
        return Correlation(np.sqrt(np.clip(np.asarray(self), 0.0, None)))


class CeilingPercent(Quantity):
    """A noise ceiling in percent of variance, in [0, 100]; attributes as :class:`NoiseCeiling`."""

    bounds = (0.0, 100.0)
    attributes = ("definition", "n_repeats")
    definition: str
    n_repeats: float

    def __new__(cls, values: ArrayLike, *, definition: str, n_repeats: float) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition, n_repeats=_positive_repeats(n_repeats))

    def fraction(self) -> NoiseCeiling:
        """Give the ceiling as a fraction of variance."""
        return NoiseCeiling(np.asarray(self) / 100.0, **self._attribute_values())


class NCSNR(Quantity):
    """Noise-ceiling signal-to-noise ratio: signal sd over single-trial noise sd, at least 0.

    Parameters
    ----------
    values : array_like
        The ratios.
    definition : str, default "nsd"
        Way in which signal and noise were estimated.
    """

    bounds = (0.0, np.inf)
    attributes = ("definition",)
    definition: str

    def __new__(cls, values: ArrayLike, definition: str = "nsd") -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, definition=definition)


class ExplainableVariance(Quantity):
    """Share of a single trial's variance that repeats have in common, at most 1.

    Units without signal scatter about 0 where the bias of the noise has been taken off.

    Parameters
    ----------
    values : array_like
        The shares.
    bias_corrected : bool, default True
        Whether the share that noise contributes to the mean over repeats has been taken off.
    """

    bounds = (-np.inf, 1.0)
    attributes = ("bias_corrected",)
    bias_corrected: bool

    def __new__(cls, values: ArrayLike, *, bias_corrected: bool = True) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, bias_corrected=bool(bias_corrected))

    def ceiling(self, n_repeats: float | Mapping[int, int]) -> NoiseCeiling:
        """Give the noise ceiling of means over `n_repeats` trials.

        NC(n) = n·EV / (1 + (n - 1)·EV), 0 where EV is below 0.

        Raises
        ------
        QuantityError
            If the values are not corrected for bias.
        """
        if not self.bias_corrected:
            raise QuantityError(
                "Explainable variance without bias correction contains noise and is no ceiling: "
                "use explainable_variance(..., bias_correction=True)."
            )
        n = effective_repeats(n_repeats)
        share = np.maximum(np.asarray(self), 0.0)
        values = n * share / (1.0 + (n - 1.0) * share)
        return NoiseCeiling(values, definition="explainable-variance", n_repeats=n)


class CeilingFraction(Quantity):
    """Explained share of the explainable variance; 1 is a perfect model, chance is 0.

    It may exceed 1 or fall below 0 by sampling error: nothing is clamped.

    Parameters
    ----------
    values : array_like
        The shares.
    normalisation : str
        ``"pooled"``, or ``"above 0.1"`` for units above a stated ceiling.
    definition : str
        Definition of the noise ceiling that divided.
    """

    attributes = ("normalisation", "definition")
    normalisation: str
    definition: str

    def __new__(cls, values: ArrayLike, *, normalisation: str, definition: str) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, normalisation=normalisation, definition=definition)


class CorrelationFraction(Quantity):
    """Share of the largest correlation that can be expected; 1 is a perfect model, chance is 0.

    The square of neither side: it does not mix with :class:`CeilingFraction`, a share of variance.
    Nothing is clamped.

    Parameters
    ----------
    values : array_like
        The shares.
    normalisation : str
        ``"pooled"``, or ``"above 0.05"`` for units above a stated largest correlation.
    definition : str
        Definition of the noise ceiling that divided.
    """

    attributes = ("normalisation", "definition")
    normalisation: str
    definition: str

    def __new__(cls, values: ArrayLike, *, normalisation: str, definition: str) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, normalisation=normalisation, definition=definition)


def effective_repeats(n_repeats: float | Mapping[int, int]) -> float:
    """Give the harmonic mean of the number of trials that responses average.

    Parameters
    ----------
    n_repeats : float or mapping
        One number of trials for all responses, or ``{trials averaged: number of images}``.

    Returns
    -------
    float
        1/norm with norm = (n_3/3 + n_2/2 + n_1/1)/(n_3 + n_2 + n_1).

    Raises
    ------
    InputError
        If a number of trials is below 1, a count negative, or there is no image.
    """
    if not isinstance(n_repeats, Mapping):
        return _positive_repeats(n_repeats)
    counts = {_positive_repeats(repeats): images for repeats, images in n_repeats.items()}
    total = sum(counts.values())
    if total <= 0 or min(counts.values()) < 0:
        raise InputError(
            f"n_repeats={dict(n_repeats)} counts no image: "
            "give {trials averaged: number of images}, such as {3: 515, 2: 99, 1: 0}."
        )
    return float(total / sum(images / repeats for repeats, images in counts.items()))


def ncsnr_to_ceiling(ncsnr: NCSNR, n_repeats: float | Mapping[int, int]) -> NoiseCeiling:
    """Give the noise ceiling of responses that average `n_repeats` trials.

    NC(n) = ncsnr² / (ncsnr² + 1/n), after Allen et al. (2022).

    Parameters
    ----------
    ncsnr : NCSNR of any shape
        Signal sd over single-trial noise sd.
    n_repeats : float or mapping
        Trials averaged, or ``{trials averaged: number of images}`` where images differ; then
        1/n is the mean of the reciprocals over images.

    Returns
    -------
    NoiseCeiling
        Fraction of variance, same shape.

    Raises
    ------
    QuantityError
        If `ncsnr` is not an :class:`NCSNR`.
    InputError
        If `n_repeats` is below 1 or counts no image.
    """
    require_kind(ncsnr, NCSNR, "ncsnr")
    repeats = effective_repeats(n_repeats)
    # Written with reciprocals so that the limits hold: 0 for ncsnr 0, 1 for an infinite one.
    with np.errstate(divide="ignore", over="ignore"):
        noise_to_signal = 1.0 / (repeats * np.asarray(ncsnr) ** 2)
    return NoiseCeiling(
        1.0 / (1.0 + noise_to_signal), definition=ncsnr.definition, n_repeats=repeats
    )


def _positive_repeats(n_repeats: float) -> float:
    if not np.isfinite(n_repeats) or n_repeats < 1:
        raise InputError(f"n_repeats={n_repeats}: a response averages at least 1 trial.")
    return float(n_repeats)
