"""Whether a sentence names what an image mainly shows.

The main category is that of the largest object, and captions tell of the largest object first, so
it is the category named *first* that counts: a caption that lists every category names them all.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError

Words = Mapping[str, Sequence[str]]


def words_for(categories: Sequence[str], synonyms: Sequence[Sequence[str]] = ()) -> Words:
    """Return the words of some categories: their own names, and what else they are called.

    Parameters
    ----------
    categories : sequence of str
        May come several times.
    synonyms : sequence of (sequence of str), optional
        Of each of `categories`, as the column ``synonyms`` of a dataset's stimuli has them.
    """
    more = dict(zip(categories, synonyms, strict=False))
    return {
        name: tuple(dict.fromkeys(word.lower() for word in (name, *more.get(name, ()))))
        for name in dict.fromkeys(categories)
    }


def first_named(sentence: str, words: Words) -> str | None:
    """Return the category that a sentence names first, or None.

    Parameters
    ----------
    sentence : str
    words : mapping of str to sequence of str
        For each category the words that name it; whole words, in any case. Of two that begin at
        the same place the longer counts.

    Raises
    ------
    InputError
        If one word names two categories.
    """
    category_of = _category_of(words)
    by_length = sorted(category_of, key=len, reverse=True)
    pattern = "|".join(re.escape(word) for word in by_length)
    found = re.search(rf"\b(?:{pattern})\b", sentence.lower())
    return None if found is None else category_of[found.group()]


def _category_of(words: Words) -> dict[str, str]:
    category_of: dict[str, str] = {}
    for category, names in words.items():
        for word in names:
            other = category_of.setdefault(word.lower(), category)
            if other != category:
                raise InputError(f"The word {word!r} names both {other!r} and {category!r}.")
    if not category_of:
        raise InputError("There are no words for any category; give at least one.")
    return category_of


def names_category(
    sentences: Sequence[str], categories: Sequence[str], words: Words | None = None
) -> NDArray[np.float64]:
    """Tell for each sentence whether the category that it names first is the right one.

    Parameters
    ----------
    sentences : sequence of str
    categories : sequence of str
        Of each image's largest object.
    words : mapping of str to sequence of str, optional
        See `first_named`; the categories' own names where not given.

    Returns
    -------
    array (n_sentences,)
        1 or 0.

    Raises
    ------
    InputError
        If there are not as many categories as sentences, or a category has no words.
    """
    if len(sentences) != len(categories):
        raise InputError(
            f"There are {len(sentences)} sentences and {len(categories)} categories; give pairs."
        )
    known = words_for(categories) if words is None else words
    lacking = sorted({str(name) for name in categories} - set(known))
    if lacking:
        raise InputError(f"There are no words for the categories {', '.join(lacking)}.")
    return np.array(
        [
            float(first_named(text, known) == name)
            for text, name in zip(sentences, categories, strict=True)
        ]
    )
