"""Files of the cache: written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any


def replace_file(file: Path, parts: Iterable[Any]) -> str:
    """Write the ``parts`` (bytes or contiguous arrays) to ``file``, in one step for whoever reads it; its folder is
    made. Empty, or why that can't be done: a cache that can't be written is none, and no error."""
    name = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(descriptor, "wb") as target:
            for part in parts:
                target.write(part)
        Path(name).replace(file)
    except OSError as error:
        if name is not None:
            with suppress(OSError):
                Path(name).unlink()
        return error.strerror or type(error).__name__
    return ""
