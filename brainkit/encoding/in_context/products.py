"""Matrix products of a network that is read from, by oneDNN where that is possible.

torch multiplies single-precision matrices by MKL, which leaves out the widest vector instructions
on processors of other makers than its own; oneDNN, with which torch convolves, does not, and takes
half the time there (AMD Zen 5: 110 Gflop/s a core in place of 55). torch has no public way to its
linear layer for plain tensors; compiled models use the one below. Without it, all is left to torch.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_KIND = "_linear_pointwise"
_ONEDNN: Any = (
    getattr(torch.ops.mkldnn, _KIND, None) if torch.backends.mkldnn.is_available() else None
)


def product(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``tokens @ weight.T``, with a constant added where one is given.

    Parameters
    ----------
    tokens : tensor (..., width)
    weight : tensor (outputs, width)
    bias : tensor (outputs,), optional
    """
    if not _by_onednn(tokens, weight):
        return functional.linear(tokens, weight, bias)
    flat = _ONEDNN(tokens.reshape(-1, tokens.shape[-1]), weight, bias, "none", [], "")
    return torch.as_tensor(flat.view(*tokens.shape[:-1], -1))


def add_product(total: Tensor, part: Tensor, linear: nn.Linear) -> Tensor:
    """Return ``total + linear(part)``; may change `total` where no gradient is kept.

    Parameters
    ----------
    total : tensor (..., outputs)
        Contiguous.
    part : tensor (..., width)
    linear : Linear
    """
    if torch.is_grad_enabled():
        return total + linear(part)
    if _by_onednn(part, linear.weight):
        return total.add_(product(part, linear.weight, linear.bias))
    flat = total.view(-1, total.shape[-1])
    flat.addmm_(part.reshape(-1, part.shape[-1]), linear.weight.T)
    return total if linear.bias is None else total.add_(linear.bias)


def _by_onednn(tokens: Tensor, weight: Tensor) -> bool:
    """Tell whether oneDNN can: on a processor, in single precision, without gradients."""
    return (
        _ONEDNN is not None
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and tokens.device.type == weight.device.type == "cpu"
        and tokens.dtype == weight.dtype == torch.float32
        and tokens.numel() > 0
    )
