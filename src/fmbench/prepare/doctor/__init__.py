"""What a person must look at before training on a data set: findings, and one page of pictures."""

from fmbench.prepare.doctor.examine import Report, examine
from fmbench.prepare.doctor.findings import Finding
from fmbench.prepare.doctor.page import page

__all__ = ["Finding", "Report", "examine", "page"]
