"""Selecting and pooling tokens, against sums written out."""

import pytest
import torch

from brainkit.errors import InputError, UnknownNameError
from brainkit.features.tokens import check_policy, pool_tokens, select_tokens

TOKENS = torch.arange(2 * 5 * 3, dtype=torch.float32).reshape(2, 5, 3)
MAPS = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).reshape(2, 3, 2, 4)
VECTORS = torch.arange(6.0).reshape(2, 3)


def test_select() -> None:
    assert torch.equal(select_tokens(TOKENS, "all", 2), TOKENS)
    assert torch.equal(select_tokens(TOKENS, "patch", 2), TOKENS[:, 2:])
    assert torch.equal(select_tokens(TOKENS, "class", 2), TOKENS[:, 0])
    assert torch.equal(select_tokens(MAPS, "patch"), MAPS)
    for tokens in ("all", "patch", "class"):
        assert torch.equal(select_tokens(VECTORS, tokens), VECTORS)


@pytest.mark.parametrize(("values", "prefix"), [(TOKENS, 0), (MAPS, 0), (MAPS, 1)])
def test_no_class_token(values: torch.Tensor, prefix: int) -> None:
    with pytest.raises(InputError, match="class token"):
        select_tokens(values, "class", prefix)
    with pytest.raises(InputError, match="class token"):
        pool_tokens(values, "class", prefix=prefix)


def test_pool_tokens() -> None:
    assert torch.equal(pool_tokens(TOKENS), TOKENS)
    torch.testing.assert_close(pool_tokens(TOKENS, "mean"), TOKENS.sum(1) / 5)
    assert torch.equal(pool_tokens(TOKENS, "max"), TOKENS[:, 4])
    assert torch.equal(pool_tokens(TOKENS, "last"), TOKENS[:, 4])
    assert torch.equal(pool_tokens(TOKENS, "class", prefix=1), TOKENS[:, 0])
    assert torch.equal(pool_tokens(TOKENS, "flatten"), TOKENS.reshape(2, 15))


def test_pool_maps() -> None:
    kept = pool_tokens(MAPS)
    assert kept.shape == (2, 8, 3)
    assert torch.equal(kept[1, 5], MAPS[1, :, 1, 1])
    torch.testing.assert_close(pool_tokens(MAPS, "mean"), MAPS.mean(dim=(2, 3)))
    assert torch.equal(pool_tokens(MAPS, "max"), MAPS.amax(dim=(2, 3)))
    assert torch.equal(pool_tokens(MAPS, "flatten"), MAPS.reshape(2, 24))


@pytest.mark.parametrize("pool", [None, "mean", "max", "class", "last", "flatten"])
def test_vectors_stay(pool: str | None) -> None:
    assert torch.equal(pool_tokens(VECTORS, pool), VECTORS)


def test_padding_is_left_out() -> None:
    valid = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    torch.testing.assert_close(pool_tokens(TOKENS, "mean", valid=valid)[0], TOKENS[0, :3].mean(0))
    torch.testing.assert_close(pool_tokens(TOKENS, "mean", valid=valid)[1], TOKENS[1].mean(0))
    assert torch.equal(pool_tokens(-TOKENS, "max", valid=valid), -TOKENS[:, 0])
    last = torch.stack([TOKENS[0, 2], TOKENS[1, 4]])
    assert torch.equal(pool_tokens(TOKENS, "last", valid=valid), last)


def test_unknown_policies() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'patch'"):
        check_policy("patches", None)
    with pytest.raises(UnknownNameError, match="Did you mean 'mean'"):
        check_policy("all", "means")
    with pytest.raises(InputError, match="leaves out"):
        check_policy("patch", "class")
    with pytest.raises(InputError, match=r"this one gave \(2,\)"):
        pool_tokens(torch.ones(2), "mean")


def test_a_mask_of_another_shape_is_refused() -> None:
    valid = torch.ones(2, 4, dtype=torch.bool)
    for pool in ("mean", "max", "last"):
        with pytest.raises(InputError, match=r"5 tokens of 2 stimuli .* got shape \(2, 4\)"):
            pool_tokens(TOKENS, pool, valid=valid)
