"""The product that pooling readouts share: a field over tokens times weights over features.

The response of target v to tokens x is Σ_c f_vc Σ_t w_vt x_tc. The pooled features (batch, target,
feature) of a whole cortex would not fit in memory, so targets are treated in slices. In training
what a slice pooled is computed again on the way back rather than kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

SLICE_VALUES = 16 << 20  # float32 numbers that a slice may take: 64 MiB


def target_slices(n_targets: int, values_per_target: int) -> list[slice]:
    """Cut targets into slices of at most `SLICE_VALUES` numbers, one target at least."""
    size = max(1, SLICE_VALUES // max(values_per_target, 1))
    return [slice(i, min(i + size, n_targets)) for i in range(0, n_targets, size)]


def by_slices(respond: Callable[[slice], Tensor], parts: list[slice]) -> Tensor:
    """Put the responses of slices of targets, each (batch, targets), side by side.

    Parameters
    ----------
    respond : callable
        From a slice of the targets to their responses.
    parts : list of slice
    """
    if len(parts) == 1:
        return respond(parts[0])
    if not torch.is_grad_enabled():
        return torch.cat([respond(part) for part in parts], dim=1)
    # preserve_rng_state: nothing in a slice is random.
    kept = [checkpoint(respond, p, use_reentrant=False, preserve_rng_state=False) for p in parts]
    return torch.cat(kept, dim=1)


def pooled_response(
    x: Tensor, fields: Callable[[slice], Tensor], weight: Tensor, bias: Tensor
) -> Tensor:
    """Respond to tokens through a field and feature weights for each target.

    Parameters
    ----------
    x : tensor (batch, token, feature)
    fields : callable
        From a slice of the targets to their weights of tokens, (targets, token).
    weight : tensor (target, feature)
    bias : tensor (target,)

    Returns
    -------
    tensor (batch, target)
    """

    def respond(part: slice) -> Tensor:
        pooled = torch.matmul(fields(part), x)  # (batch, targets, feature)
        return torch.einsum("bvc,vc->bv", pooled, weight[part]) + bias[part]

    return by_slices(respond, target_slices(len(weight), x.shape[0] * x.shape[2]))
