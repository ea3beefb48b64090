"""Reporting: the widgets that results are shown by, figures, maps and the self-contained page."""

from brainkit.reporting.page import PersonReport, render_report, write_report
from brainkit.reporting.widgets import (
    Folded,
    ImageCell,
    ImageGrid,
    ImageStrip,
    Picture,
    Section,
    Table,
    Text,
    Widget,
)

__all__ = [
    "Folded",
    "ImageCell",
    "ImageGrid",
    "ImageStrip",
    "PersonReport",
    "Picture",
    "Section",
    "Table",
    "Text",
    "Widget",
    "render_report",
    "write_report",
]
