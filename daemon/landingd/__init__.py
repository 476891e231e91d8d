"""landingd: files dropped into landing directories become bronze, silver and gold tables."""

__version__ = "0.1.0"
