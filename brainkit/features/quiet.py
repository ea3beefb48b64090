"""Silence for libraries that talk while they load: what they would say is checked by brainkit."""

import contextlib
import importlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Keep the logs and bars of libraries from the screen during a block; errors stay.

    Parameters
    ----------
    libraries : str
        ``"transformers"``, ``"diffusers"``; both of them have the same switches.
    """
    logs = [importlib.import_module(f"{library}.utils.logging") for library in libraries]
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
