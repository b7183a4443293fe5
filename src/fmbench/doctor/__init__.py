"""What a person must look at before training on a data set: findings, and one page of pictures."""

from fmbench.doctor.examine import Report, examine
from fmbench.doctor.findings import Finding
from fmbench.doctor.page import page

__all__ = ["Finding", "Report", "examine", "page"]
