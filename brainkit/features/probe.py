"""Whether a model's features are frozen: the same at every pass, whatever else is in the batch.

A model may draw at random in its forward pass (masks, dropout called by hand, hashes), a
preprocessing may crop at random, and both may look at the whole batch: batch statistics, or padding
to the longest of several texts without a mask. Nothing of that shows in one pass. When a model is
first used, a few stimuli are therefore prepared and run together, together once more, and each by
itself, at another place of a batch and without the others; a layer that differs is refused by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from brainkit.errors import InputError

if TYPE_CHECKING:
    import torch

    from brainkit.features.backbones.base import Backbone

OTHER_TEXTS = ("a", "two dogs run along a lake")
AGAIN = 64.0
"""How many units of rounding two equal passes may differ by, of a layer's largest value: parallel
sums need not be added in one order."""


def probe_items(items: Any) -> list[Any]:
    """Return a few items that no two of need to be treated alike.

    Parameters
    ----------
    items : Items
        What is to be extracted.

    Returns
    -------
    list
        The first image, and the same inverted and turned; or the first text, the longest and the
        shortest, and two of other lengths.
    """
    (first,) = items.read(range(1))
    if items.modality == "image":
        from PIL import ImageOps

        return [first, ImageOps.invert(first), first.rotate(180)]
    texts = items.read(range(len(items)))
    # Of one length, however they are counted, texts would need no padding.
    return list(dict.fromkeys([first, max(texts, key=len), min(texts, key=len), *OTHER_TEXTS]))


def check_frozen(
    backbone: "Backbone",
    items: Sequence[Any],
    features: "Callable[[torch.Tensor], Mapping[str, torch.Tensor]]",
) -> None:
    """Raise unless a model gives an item the same features at every pass and in every company.

    Parameters
    ----------
    backbone : Backbone
    items : sequence of images or strings
    features : function
        From a prepared batch to the features of each layer, (n, ...).

    Raises
    ------
    InputError
        If layers differ; the message names them and says what may be the reason.
    """
    forward, again = (features(backbone.prepare(items)) for _ in range(2))
    _compare(backbone, forward, again, "from one pass to the next", RANDOM, AGAIN)
    for place in range(len(items)):
        here = slice(place, place + 1)
        alone = features(backbone.prepare(items[here]))
        together = {layer: values[here] for layer, values in forward.items()}
        _compare(backbone, together, alone, "with what else is in the batch", COMPANY, None)


RANDOM = (
    "Something random is left in its forward pass or in its preprocessing: a mask, dropout that is "
    "called by hand, a hash, a random crop. Fix it by a seed of its own or leave it out"
)
COMPANY = (
    "An item has to be computed by itself: no statistics of the batch, and texts padded to one "
    "length, or with a mask that the model heeds"
)


def _compare(
    backbone: "Backbone",
    one: "Mapping[str, torch.Tensor]",
    other: "Mapping[str, torch.Tensor]",
    how: str,
    why: str,
    units: float | None,
) -> None:
    for layer, values in one.items():
        share = _difference(values, other[layer])
        rounding = _rounding(values)
        # In other company matrices are multiplied in other blocks: half of the digits stay.
        if not share <= (rounding**0.5 if units is None else units * rounding):
            told = "in shape" if share == float("inf") else f"by {share:.2g} of its largest value"
            raise InputError(
                f"The features of {backbone.spec}, layer {layer}, differ {how} ({told}), so they "
                f"are not those of a frozen model. {why}, or name another layer."
            )


def _difference(one: "torch.Tensor", other: "torch.Tensor") -> float:
    """Return the largest difference as a share of the largest value; NaN equals NaN."""
    import torch

    if one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    left, right = one.double(), other.double()
    finite = torch.isfinite(left)
    if not torch.equal(finite, torch.isfinite(right)):
        return float("nan")
    if not bool(finite.any()):
        return 0.0
    largest = float(left[finite].abs().max())
    apart = float((left - right)[finite].abs().max())
    kind = torch.finfo(one.dtype if one.is_floating_point() else torch.float64)
    # Numbers that are next to nothing have no digits left that could agree.
    return apart / max(largest, kind.tiny / kind.eps)


def _rounding(values: "torch.Tensor") -> float:
    import torch

    return float(torch.finfo(values.dtype).eps) if values.is_floating_point() else 0.0
