"""What a written radiology or pathology report states: rules and a table of words, no model.

What is not understood gives no statement; it is listed as unread.
"""

from voxicon.statements.reading import MOST_CHARACTERS, load_report, read_report
from voxicon.statements.statement import Report, Sentence, Statement

__all__ = ["MOST_CHARACTERS", "Report", "Sentence", "Statement", "load_report", "read_report"]
