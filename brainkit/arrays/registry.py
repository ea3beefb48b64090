"""Parts by name: those of brainkit, and those that other packages add through entry points.

A package adds a part by an entry point of the group ``brainkit.parts`` whose name is the kind of
the part, a dot and the part's own name, for instance in its ``pyproject.toml``::

    [project.entry-points."brainkit.parts"]
    "model.my-ridge" = "my_lab.models:MyRidge"

Nothing of it is imported before the part is asked for by name, so that a package that is broken
breaks its own parts alone.
"""

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from brainkit.arrays.files import is_file, share_folder
from brainkit.errors import PartError, listed, unknown_name

GROUP = "brainkit.parts"


class Registry(Mapping[str, Any]):
    """The parts of one kind by name, imported when they are asked for.

    Parameters
    ----------
    kind : str
        How entry points name the kind: ``"dataset"``, ``"feature"``, ``"model"``, ``"aligner"``,
        ``"job"`` or ``"metric"``.
    title : str
        How messages call a part of this kind.
    builtin : mapping of str to part, or to str
        Brainkit's own parts: for each name the part itself, or ``"module:attribute"`` where it is
        imported when it is asked for (``"module"`` where the part is a module).
    has : sequence of str
        Attributes that a part of another package must have to be one of this kind.
    """

    def __init__(
        self, kind: str, title: str, builtin: Mapping[str, Any], has: tuple[str, ...] = ()
    ) -> None:
        self.kind = kind
        self.title = title
        self.has = has
        self._builtin = dict(builtin)

    @property
    def builtin(self) -> dict[str, Any]:
        """Brainkit's own parts, or where they are imported from, by name."""
        return self._builtin

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.builtin, *sorted(self.added())]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self.added()

    def added(self) -> dict[str, list[EntryPoint]]:
        """Return the entry points of other packages by the names of their parts."""
        registered: dict[str, list[EntryPoint]] = {}
        for kind, name, entry in registered_parts():
            if kind == self.kind and name:
                registered.setdefault(name, []).append(entry)
        return registered

    def owners(self, name: str) -> list[str]:
        """Return who registers a name: ``"brainkit"``, or packages with their versions."""
        packages = ["brainkit"] if name in self.builtin else []
        return packages + [package_of(entry) for entry in self.added().get(name, [])]

    def __getitem__(self, name: str) -> Any:
        """Return a part, imported.

        Raises
        ------
        UnknownNameError
            If there is none of this name.
        PartError
            If two packages (or a package and brainkit) register the name, or what the package
            registers cannot be imported, or is no part of this kind; the message names the
            packages.
        """
        if name not in self:
            raise unknown_name(self.title, name, sorted(self))
        owners, entries = self.owners(name), self.added().get(name, [])
        if len(owners) > 1:
            raise PartError(
                f"The {self.title} {name!r} is registered {len(owners)} times, by "
                f"{listed(owners)}: uninstall all but one of them, or rename the part in the "
                f"entry points ({GROUP!r}) of one."
            )
        if entries:
            return self._checked(name, entries[0], load_part(entries[0]))
        part = self.builtin[name]
        return imported(part) if isinstance(part, str) else part

    def _checked(self, name: str, entry: EntryPoint, part: Any) -> Any:
        lacking = [attribute for attribute in self.has if not hasattr(part, attribute)]
        if lacking:
            raise PartError(
                f"{entry.value!r}, which the package {package_of(entry)} registers as the "
                f"{self.title} {name!r}, is none: it has no {listed(lacking)}."
            )
        return part


class FileRegistry(Registry):
    """Files by name: those in a folder that comes with brainkit, and those of other packages.

    What another package registers is a path, as by ``"card.my-set" = "my_lab:CARD"`` where
    ``CARD = Path(__file__).with_name("my-set.yaml")`` stands in ``my_lab/__init__.py``.

    Parameters
    ----------
    kind, title : str
        See `Registry`.
    folder : {"datasets", "models"}
        The folder whose YAML files are brainkit's own.
    """

    def __init__(self, kind: str, title: str, folder: str) -> None:
        super().__init__(kind, title, {})
        self.folder = folder

    @property
    def builtin(self) -> dict[str, Any]:
        """The files that come with brainkit, by name."""
        return {path.stem: path for path in sorted(share_folder(self.folder).glob("*.yaml"))}

    def _checked(self, name: str, entry: EntryPoint, part: Any) -> Path:
        if not isinstance(part, str | Path) or not is_file(Path(part)):
            raise PartError(
                f"{entry.value!r}, which the package {package_of(entry)} registers as the "
                f"{self.title} {name!r}, must be the path of a YAML file; it is {part!r}."
            )
        return Path(part)


def registered_parts() -> list[tuple[str, str, EntryPoint]]:
    """Return the parts of other packages that are installed: kind, name and entry point."""
    registered = []
    for entry in _entry_points(tuple(sys.path)):
        kind, _, name = entry.name.partition(".")
        registered.append((kind, name, entry))
    return registered


def load_part(entry: EntryPoint) -> Any:
    """Import what an entry point names.

    Raises
    ------
    PartError
        If it cannot be imported; the message names the part, the package and the reason.
    """
    try:
        return entry.load()
    except (Exception, SystemExit) as error:  # whatever the modules of others do
        raise PartError(
            f"{entry.name!r} of the package {package_of(entry)} cannot be imported from "
            f"{entry.value!r}: {type(error).__name__}: {error}. Mend or uninstall that package; "
            "all other parts work."
        ) from error


def imported(place: str) -> Any:
    """Return what ``"module:attribute"`` names, or the module itself for ``"module"``."""
    module, _, attribute = place.partition(":")
    part = import_module(module)
    return getattr(part, attribute) if attribute else part


def package_of(entry: EntryPoint) -> str:
    """Return the package that has an entry point, with its version."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.value


def part_packages() -> dict[str, str]:
    """Return the versions of the installed packages that register parts, by name."""
    owners = [entry.dist for _, _, entry in registered_parts() if entry.dist is not None]
    return {owner.name: owner.version for owner in owners}


@lru_cache(maxsize=4)
def _entry_points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of the installed packages; they are looked up once for a path."""
    return tuple(entry_points(group=GROUP))
