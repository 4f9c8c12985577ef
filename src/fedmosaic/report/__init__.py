"""From a run folder to one HTML page that opens offline, and to a table in the terminal."""

from fedmosaic.report.adaptation import adaptation_page
from fedmosaic.report.comparison import comparison_page
from fedmosaic.report.page import write_report
from fedmosaic.report.terminal import final_table, headline, literal

__all__ = ["adaptation_page", "comparison_page", "final_table", "headline", "literal", "write_report"]
