"""Examination of a data set before training: findings, and one page with pictures."""

from fmbench.prepare.doctor.examination import Report
from fmbench.prepare.doctor.examine import examine
from fmbench.prepare.doctor.findings import Finding
from fmbench.prepare.doctor.page import page

__all__ = ["Finding", "Report", "examine", "page"]
