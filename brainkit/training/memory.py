"""What a training step needs: memory and arithmetic, computed from shapes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from brainkit.errors import InputError

MOMENTS = 2  # that AdamW keeps of each parameter


@dataclass(frozen=True)
class TrainingMemory:
    """What one training step with AdamW needs.

    Attributes
    ----------
    parameters : int
        Bytes of parameters and buffers.
    gradients : int
        Bytes of the gradients of trained parameters.
    moments : int
        Bytes of the two running moments of trained parameters.
    activations : int
        Bytes that the forward pass keeps for the backward pass.
    flops : int
        Floating-point operations of matrix products and convolutions, forward and backward; an
        addition and a multiplication count as two.
    """

    parameters: int
    gradients: int
    moments: int
    activations: int
    flops: int

    @property
    def total(self) -> int:
        """Bytes of all together."""
        return self.parameters + self.gradients + self.moments + self.activations


def training_memory(
    module: nn.Module,
    batch: Sequence[Any],
    loss: Callable[[Any], Tensor] | None = None,
) -> TrainingMemory:
    """Return what a training step of a module needs, from one pass over a batch.

    On the meta device nothing is computed or held, so that modules which no machine at hand could
    train can be asked about: build them, and the batch, within ``torch.device("meta")``. Neither
    parameters nor gradients nor torch's global generator are changed.

    What is left out: scratch memory of single operations, what an allocator holds beyond what it
    gave, and the batch itself. On the meta device attention takes the memory of the plain formula,
    which keeps all its weights; fused kernels keep none.

    Parameters
    ----------
    module : Module
    batch : sequence
        Arguments of the module.
    loss : callable, optional
        From what the module gives to a scalar. Where not given, the sum of all tensors in it
        (directly, in a sequence or in a dict).

    Returns
    -------
    TrainingMemory

    Raises
    ------
    InputError
        If no parameter is trained, or the module gives no tensor that depends on one.

    Examples
    --------
    >>> with torch.device("meta"):  # doctest: +SKIP
    ...     needed = training_memory(nn.Linear(15_724, 4096), [torch.empty(32, 15_724)])
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    if not trained:
        raise InputError("No parameter of the module requires a gradient: nothing to train.")
    known = [*module.parameters(), *module.buffers(), *_tensors(batch)]
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage  # held, so that no other gets its place
        return tensor

    modes = {name: part.training for name, part in module.named_modules()}
    cuda = sorted({p.device.index for p in trained if p.device.type == "cuda"})
    counter = FlopCounterMode(display=False, custom_mapping=_FUSED)
    module.train()
    try:
        with torch.random.fork_rng(devices=cuda), counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                value = _summed(module(*batch)) if loss is None else loss(module(*batch))
            if not value.requires_grad:
                raise InputError("What the module gives depends on none of its parameters.")
            torch.autograd.grad(value, trained, allow_unused=True)
    finally:
        for name, part in module.named_modules():
            part.training = modes[name]
    for tensor in known:
        saved.pop(tensor.untyped_storage()._cdata, None)
    of_trained = _bytes(trained)
    return TrainingMemory(
        parameters=_bytes([*module.parameters(), *module.buffers()]),
        gradients=of_trained,
        moments=MOMENTS * of_trained,
        activations=sum(storage.nbytes() for storage in saved.values()),
        flops=int(counter.get_total_flops()),
    )


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


# torch's counter knows the fused kernels of GPUs, and not those of processors.
_FUSED: dict[Any, Any] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors in a value, a sequence or a dict."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def _summed(values: Any) -> Tensor:
    tensors = _tensors(values)
    if not tensors:
        raise InputError("The module gives no tensor; say by loss what is to be made small.")
    return torch.stack([tensor.sum() for tensor in tensors]).sum()
