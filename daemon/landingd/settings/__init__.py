"""Everything that can be set (`schema`), and how it is read and checked (`reading`)."""

from landingd.settings.reading import load
from landingd.settings.schema import Settings

__all__ = ["Settings", "load"]
