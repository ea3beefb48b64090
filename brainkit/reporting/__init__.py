"""Reporting: figures, maps and the self-contained HTML report."""

from brainkit.reporting.page import SubjectResults, render_report, write_report

__all__ = ["SubjectResults", "render_report", "write_report"]
