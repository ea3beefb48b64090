"""The leading singular vectors of a large matrix, by a fixed and repeatable iteration."""

from typing import Any

from array_api_compat import array_namespace

from brainkit.arrays.seeds import rng

Array = Any  # a NumPy array or a torch tensor
EXACT_SIZE = 400  # on the smaller side; beyond it the vectors are found by iteration
ITERATIONS = 8
OVERSAMPLING = 20


def leading_right_vectors(matrix: Array, rank: int) -> tuple[Array, Array]:
    """Return the leading right singular vectors and the squares of the singular values.

    From the smaller Gram matrix where one side is small, else by subspace iteration from a fixed
    start (Halko, Martinsson and Tropp, 2011, SIAM Review 53:217).

    Parameters
    ----------
    matrix : array (n_rows, n_columns)
    rank : int
        How many; fewer are returned where the matrix has fewer rows or columns.

    Returns
    -------
    vectors : array (n_columns, at most rank)
        Orthonormal, of the matrix's dtype.
    values : float64 array (at most rank,)
        Largest first.
    """
    xp = array_namespace(matrix)
    n_rows, n_columns = matrix.shape
    if min(n_rows, n_columns) <= EXACT_SIZE:
        by_column = n_columns <= n_rows
        gram = xp.matmul(matrix.T, matrix) if by_column else xp.matmul(matrix, matrix.T)
        values, vectors = xp.linalg.eigh(xp.astype(gram, xp.float64))
        top = xp.astype(xp.flip(vectors, axis=1)[:, :rank], matrix.dtype)
        found = top if by_column else orthonormal(xp.matmul(matrix.T, top))
        return found, xp.flip(values, axis=0)[:rank]
    basis = fixed_start(matrix, rank)
    for _ in range(ITERATIONS):
        basis = orthonormal(xp.matmul(matrix.T, xp.matmul(matrix, basis)))
    reached = xp.matmul(matrix, basis)  # (n_rows, width)
    values, rotation = xp.linalg.eigh(xp.astype(xp.matmul(reached.T, reached), xp.float64))
    rotation = xp.astype(xp.flip(rotation, axis=1)[:, :rank], matrix.dtype)
    return xp.matmul(basis, rotation), xp.flip(values, axis=0)[:rank]


def fixed_start(matrix: Array, rank: int) -> Array:
    """Return what the iteration starts from, (n_columns, some more than rank)."""
    xp = array_namespace(matrix)
    n_rows, n_columns = matrix.shape
    width = min(rank + OVERSAMPLING, n_rows, n_columns)
    start = rng(0, "subspace iteration").standard_normal((n_columns, width))
    return xp.asarray(start, dtype=matrix.dtype, device=matrix.device)


def leading_combinations(gram: Array, start: Array, rank: int) -> Array:
    """Return how the rows of a matrix S add up to its leading right singular vectors.

    The same vectors as `leading_right_vectors` gives, by the same iteration, from SS' alone: where
    S has many columns, they are not gone through again and again.

    Parameters
    ----------
    gram : float64 array (n_rows, n_rows)
        SS'.
    start : float64 array (n_rows, width)
        S times `fixed_start`.
    rank : int
        How many.

    Returns
    -------
    float64 array (n_rows, at most rank)
        P: the vectors are S'P.
    """
    xp = array_namespace(gram)
    if gram.shape[0] <= EXACT_SIZE:
        lengths, vectors = xp.linalg.eigh(gram)
        return (xp.flip(vectors, axis=1) * _inverse_root(xp.flip(lengths, axis=0)))[:, :rank]
    reached = start
    for _ in range(ITERATIONS):
        combinations = reached
        reached = xp.matmul(gram, combinations)
        lengths, vectors = xp.linalg.eigh(xp.matmul(combinations.T, reached))
        lengths, vectors = xp.flip(lengths, axis=0), xp.flip(vectors, axis=1)
        root = vectors * _inverse_root(lengths)
        combinations, reached = xp.matmul(combinations, root), xp.matmul(reached, root)
    _, rotation = xp.linalg.eigh(xp.matmul(reached.T, reached))
    return xp.matmul(combinations, xp.flip(rotation, axis=1)[:, :rank])


def orthonormal(values: Array) -> Array:
    """Return orthonormal columns of the same span, by the small Gram matrix in double precision.

    Much faster than a QR decomposition of a tall matrix. The longest direction comes first, so that
    orthogonal columns ordered by length stay in place; directions without length become 0.
    """
    xp = array_namespace(values)
    wide = xp.astype(values, xp.float64)
    lengths, vectors = xp.linalg.eigh(xp.matmul(wide.T, wide))
    lengths, vectors = xp.flip(lengths, axis=0), xp.flip(vectors, axis=1)
    return xp.astype(xp.matmul(wide, vectors * _inverse_root(lengths)), values.dtype)


def _inverse_root(lengths: Array) -> Array:
    """Return lengths to the power of -1/2, and 0 for what has no length."""
    xp = array_namespace(lengths)
    if not lengths.shape[0]:
        return lengths
    kept = lengths > xp.max(lengths) * 1e-14
    return xp.where(kept, xp.where(kept, lengths, xp.ones_like(lengths)) ** -0.5, 0.0)
