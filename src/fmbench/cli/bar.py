"""The former name of `fmbench.progress.progress_bar`."""

from fmbench.progress import progress_bar as progress

__all__ = ["progress"]
