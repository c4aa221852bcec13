"""Signals as cases."""

from medtl_core.data.readers import Reader

READERS: tuple[Reader, ...] = ()
