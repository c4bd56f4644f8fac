"""What `ape console` knows from the start: creneau/ape/console.py says what. Nothing here raises."""

from typing import Any


def ape_init_extras(project: Any) -> dict[str, Any]:
    """Called by Ape when the console starts."""
    try:
        from creneau.ape.console import names

        return names(project.path)
    except Exception as error:  # noqa: BLE001  # whatever it was, the console starts
        print(f"Creneau's names are missing: {error!r}. Repeat: make setup")
        return {}
