"""Names for `ape console`, which creneau/ape/console.py provides. Never raises."""

from typing import Any


def ape_init_extras(project: Any) -> dict[str, Any]:
    """Return the names. Ape calls this when the console starts."""
    try:
        from creneau.ape.console import names

        return names(project.path)
    except Exception as error:  # noqa: BLE001  # whatever it was, the console starts
        print(f"Creneau's names are missing: {error!r}. Repeat: make setup")
        return {}
