"""tarfile with its extraction filters, which Pythons before 3.11.4, such as Debian 12's own, lack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.version_info >= (3, 11, 4):
    import tarfile
else:
    from backports import tarfile

__all__ = ["tarfile"]
