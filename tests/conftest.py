"""Small networks are slower on several threads, and far slower where tests share the cores."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for processes that tests start
