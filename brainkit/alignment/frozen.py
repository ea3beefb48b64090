"""A fitted aligner as a torch module, to stand under a network: its parameters are frozen."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from brainkit.alignment.aligner import Affine, Block
from brainkit.errors import unknown_name


class FrozenAlignment(nn.Module):
    """People's maps to the shared space; gradients pass through to the responses.

    Parameters
    ----------
    maps : mapping of str to Affine
        Each person's.

    Examples
    --------
    >>> module = aligner.as_module()  # doctest: +SKIP
    >>> shared = module(responses, "subj01")  # (n, units) -> (n, dimensions)  # doctest: +SKIP
    """

    def __init__(self, maps: dict[str, Affine]) -> None:
        super().__init__()
        self.subjects = tuple(maps)
        self.maps = nn.ModuleList(_AffineModule(map_) for map_ in maps.values())
        self.requires_grad_(False)

    def forward(self, responses: Tensor, subject: str) -> Tensor:
        """Map (n, units) or (n, units, time) of one person to the shared space.

        Raises
        ------
        UnknownNameError
            If the aligner was not fitted on this person.
        """
        if subject not in self.subjects:
            raise unknown_name("subject", subject, self.subjects)
        map_ = self.maps[self.subjects.index(subject)]
        if responses.ndim == 3:
            return torch.stack([map_(part) for part in responses.unbind(dim=2)], dim=2)
        out: Tensor = map_(responses)
        return out


class _AffineModule(nn.Module):
    """`Affine` in torch."""

    places: Tensor | None

    def __init__(self, map_: Affine) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_BlockModule(block) for block in map_.blocks)
        self.before, self.after = _frozen(map_.before), _frozen(map_.after)
        self.register_buffer("places", _places(map_.places))
        self.width = map_.width

    def forward(self, values: Tensor) -> Tensor:
        values = values if self.before is None else values - self.before
        out = torch.cat([block(values) for block in self.blocks], dim=1)
        if self.places is not None:
            out = out.new_zeros(len(out), self.width).index_copy(1, self.places, out)
        return out if self.after is None else out + self.after


class _BlockModule(nn.Module):
    """`Block` in torch."""

    columns: Tensor | None

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.register_buffer("columns", _places(block.columns))
        self.factors = nn.ParameterList([_frozen(factor) for factor in block.factors])

    def forward(self, values: Tensor) -> Tensor:
        values = values if self.columns is None else values[:, self.columns]
        for factor in self.factors:
            # torch multiplies sparse by dense from the left alone
            values = (factor.T @ values.T).T if factor.is_sparse else values @ factor
        return values


def _frozen(matrix: Any) -> nn.Parameter | None:
    if matrix is None:
        return None
    if hasattr(matrix, "tocoo"):
        coo = matrix.tocoo()
        places = torch.from_numpy(np.stack(coo.coords).astype(np.int64))
        values = torch.from_numpy(np.asarray(coo.data, dtype=np.float32))
        tensor = torch.sparse_coo_tensor(
            places, values, coo.shape, check_invariants=True
        ).coalesce()
    else:
        tensor = torch.from_numpy(np.array(matrix, dtype=np.float32))
    return nn.Parameter(tensor, requires_grad=False)


def _places(index: Any) -> Tensor | None:
    return None if index is None else torch.from_numpy(np.array(index, dtype=np.int64))
