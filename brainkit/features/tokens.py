"""Which tokens of a layer are taken, and how they are pooled.

A layer gives, for each stimulus, tokens (transformers), a map of channels (convolutional
networks) or one vector. The positions of a map are treated as tokens; a layer with one vector for
each stimulus has nothing to select or pool and is left as it is.
"""

from typing import TYPE_CHECKING, Literal, get_args

from brainkit.errors import InputError, unknown_name

if TYPE_CHECKING:
    import torch

Tokens = Literal["all", "patch", "class"]
Pool = Literal["mean", "max", "class", "last", "flatten"]


def check_policy(tokens: str, pool: str | None) -> None:
    """Raise unless `tokens` and `pool` are known and go together.

    Raises
    ------
    UnknownNameError
        If there is no such policy.
    InputError
        If the class token is to be pooled from among the patches.
    """
    if tokens not in get_args(Tokens):
        raise unknown_name("choice of tokens", tokens, get_args(Tokens))
    if pool is not None and pool not in get_args(Pool):
        raise unknown_name("way of pooling", pool, get_args(Pool))
    if tokens == "patch" and pool == "class":
        raise InputError("pool='class' takes the class token, which tokens='patch' leaves out.")


def select_tokens(
    values: "torch.Tensor", tokens: Tokens = "all", prefix: int = 0, suffix: int = 0
) -> "torch.Tensor":
    """Select tokens.

    Parameters
    ----------
    values : tensor (n, tokens, width), (n, channels, height, width) or (n, features)
    tokens : {"all", "patch", "class"}
        All of them, those of the image's patches, or the class token.
    prefix : int, default=0
        Number of leading tokens that stand for no patch: the class token, then registers.
    suffix : int, default=0
        Number of tokens at the end that stand for no patch, such as a detector's.

    Returns
    -------
    tensor
        (n, tokens, width), or (n, width) for the class token; maps and vectors as they are.

    Raises
    ------
    InputError
        If the class token is wanted of a layer without one.
    """
    if tokens == "class" and values.ndim > 2:
        if values.ndim != 3 or not prefix:
            raise InputError(
                f"tokens='class' needs a layer with a class token; this one has values of shape "
                f"{tuple(values.shape[1:])} and no such token. Take tokens='patch' and a pool."
            )
        return values[:, 0]
    if tokens == "patch" and values.ndim == 3:
        return values[:, prefix : values.shape[1] - suffix]
    return values


def pool_tokens(
    values: "torch.Tensor",
    pool: Pool | None = None,
    *,
    prefix: int = 0,
    valid: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """Pool the tokens of each stimulus.

    Parameters
    ----------
    values : tensor (n, tokens, width), (n, channels, height, width) or (n, features)
    pool : {None, "mean", "max", "class", "last", "flatten"}
        None keeps the tokens; "class" takes the first token, "last" the last one that is no
        padding; "flatten" puts everything in one row, in the library's own order (channels first
        in a map).
    prefix : int, default=0
        Number of leading tokens that stand for no patch, among `values`.
    valid : bool tensor (n, tokens), optional
        False where a token is padding, which "mean", "max" and "last" leave out.

    Returns
    -------
    tensor
        (n, tokens, width) without pooling, otherwise (n, features).

    Raises
    ------
    InputError
        If the class token is wanted of a layer without one, or the values or `valid` have another
        shape.
    """
    if values.ndim == 2:
        return values
    if values.ndim not in (3, 4):
        raise InputError(
            f"A layer must give (n, tokens, width), (n, channels, height, width) or (n, features); "
            f"this one gave {tuple(values.shape)}."
        )
    if pool == "flatten":
        return values.flatten(1)
    if pool == "class":
        if values.ndim != 3 or not prefix:
            raise InputError(
                "pool='class' needs a layer with a class token, and this one has none. Take "
                "pool='mean'."
            )
        return values[:, 0]
    sequence = values.flatten(2).transpose(1, 2) if values.ndim == 4 else values
    return sequence if pool is None else _pooled(sequence, pool, valid)


def _pooled(
    values: "torch.Tensor", pool: Literal["mean", "max", "last"], valid: "torch.Tensor | None"
) -> "torch.Tensor":
    import torch

    if valid is not None and valid.shape != values.shape[:2]:
        raise InputError(
            f"valid must tell of each of {values.shape[1]} tokens of {len(values)} stimuli whether "
            f"it is no padding; got shape {tuple(valid.shape)}."
        )
    if valid is None:
        valid = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    valid = valid.to(values.device)
    if pool == "mean":
        if valid.all():
            return values.mean(dim=1)
        kept = torch.where(valid[:, :, None], values, 0)
        return kept.sum(dim=1) / valid.sum(dim=1, keepdim=True)
    if pool == "max":
        return torch.where(valid[:, :, None], values, -torch.inf).amax(dim=1)
    positions = torch.arange(values.shape[1], device=values.device)
    last = torch.where(valid, positions, -1).amax(dim=1)
    return values[torch.arange(len(values), device=values.device), last]
