"""Examination of a data set before training: findings, and one page with pictures."""

from fmbench.prepare.doctor.examine import examine
from fmbench.prepare.doctor.findings import Finding
from fmbench.prepare.doctor.page import page
from fmbench.prepare.doctor.report import Report

__all__ = ["Finding", "Report", "examine", "page"]
