"""The feature store: arrays on disk, found by what they are features of.

An entry's address is the SHA-256 of its key, a JSON object that names everything the values depend
on: the model and a hash of its weights, the preprocessing, the layer, pooling, dtype, batch size,
the versions of libraries that change numbers, and the stimuli. Another key is another entry, so
nothing in the store is ever out of date. See `store_entry` for what an entry looks like on disk and
why it survives kills and several writers.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from brainkit.arrays.files import read_json, reading
from brainkit.errors import InputError, OutputError, unknown_name
from brainkit.features.store_entry import KEY, Entry
from brainkit.features.store_files import check_store


def address(key: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a key in canonical JSON (sorted names, no spaces), hexadecimal.

    Raises
    ------
    InputError
        If the key cannot be written as JSON, exactly.
    """
    return hashlib.sha256(_canonical(key).encode()).hexdigest()


def _canonical(key: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(key), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The key of an entry must be JSON: text, finite numbers, lists and objects ({error})."
        ) from error


class FeatureStore:
    """A folder of features.

    Parameters
    ----------
    folder : path
        Where the store is, or shall be: an earlier store, an empty folder, or none yet. It is made
        when the first entry is begun, under the user's umask.

    Raises
    ------
    InputError
        If `folder` holds something else.
    CorruptFileError
        If another version of the store wrote it.

    Examples
    --------
    >>> store = FeatureStore("features")  # doctest: +SKIP
    >>> entry = store.entry({"model": "…", "layer": "blocks.6"})  # doctest: +SKIP
    >>> entry.begin(1000, (768,), "float32", chunk=256)  # doctest: +SKIP
    >>> for rows in entry.missing():  # doctest: +SKIP
    ...     entry.write(rows.start, compute(rows))
    >>> entry.finish()  # doctest: +SKIP
    >>> features = entry.read()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        check_store(self.folder)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r})"

    def entry(self, key: Mapping[str, Any]) -> Entry:
        """Return the entry of a key, whether or not it is there yet. Changes nothing.

        Raises
        ------
        InputError
            If the key cannot be written as JSON.
        """
        plain = json.loads(_canonical(key))
        return Entry(self._place(address(plain)), plain)

    def entries(self) -> list[Entry]:
        """Return all entries, complete or not, by address."""
        found = []
        for path in sorted(self.folder.glob(f"[0-9a-f][0-9a-f]/*/{KEY}")):
            mend = f"delete the folder {path.parent}"
            written = read_json(path, "The key of an entry", mend)
            with reading(
                path, "cannot be read as the key of an entry", mend=mend, also=[KeyError, TypeError]
            ):
                found.append(Entry(path.parent, written["key"]))
        return found

    def remove(self, entry: Entry | str) -> None:
        """Remove one entry, given itself or its address; arrays mapped from it stay readable.

        Raises
        ------
        UnknownNameError
            If there is no such entry.
        OutputError
            If it cannot be removed.
        """
        name = entry if isinstance(entry, str) else entry.address
        place = self._place(name)
        if not (place / KEY).is_file():
            known = [found.address for found in self.entries()]
            raise unknown_name("entry of the feature store", name, known)
        # Away by one rename, so that nobody reads an entry that is half removed.
        away = place.with_name(f".{place.name}.{secrets.token_hex(4)}.removed")
        try:
            place.rename(away)
            shutil.rmtree(away)
        except OSError as error:
            raise OutputError(f"The entry {place} cannot be removed ({error}).") from error

    def verify(self) -> dict[str, list[range]]:
        """Compare all entries with their checksums.

        Returns
        -------
        dict
            By address, the stimuli of every chunk that has changed since it was written. Entries
            that are sound are left out.
        """
        found = {entry.address: entry.verify() for entry in self.entries()}
        return {name: bad for name, bad in found.items() if bad}

    def _place(self, name: str) -> Path:
        return self.folder / name[:2] / name


def open_store(store: "FeatureStore | str | Path") -> FeatureStore:
    """Return a store, given itself, its folder, or "default" for the user's own."""
    if isinstance(store, FeatureStore):
        return store
    return default_store() if store == "default" else FeatureStore(store)


def default_store() -> FeatureStore:
    """Return the user's own store: $BRAINKIT_STORE, or ``~/.cache/brainkit/features``."""
    folder = os.environ.get("BRAINKIT_STORE") or Path.home() / ".cache" / "brainkit" / "features"
    return FeatureStore(folder)
