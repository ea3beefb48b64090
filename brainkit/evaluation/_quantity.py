"""The array type behind every kind of quantity, and the rules by which kinds refuse to mix."""

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


def _found(value: Any) -> Iterator[Quantity]:
    if isinstance(value, Quantity):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _found(part)
    elif isinstance(value, dict):
        yield from _found(list(value.values()))


def _check_one_kind(operands: Any) -> None:
    found = list(_found(operands))
    for other in found[1:]:
        first = found[0]
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
