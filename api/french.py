"""French for what frameworks say in English: HTTP statuses, and why a field can't be read."""

from collections.abc import Mapping
from typing import Any

TITLES = {
    400: "Requête illisible",
    401: "Connexion requise",
    402: "Paiement requis",
    403: "Accès refusé",
    404: "Introuvable",
    405: "Méthode refusée",
    409: "Conflit",
    413: "Contenu trop volumineux",
    422: "Contenu refusé",
    429: "Trop de requêtes",
    500: "Erreur interne",
    502: "Réponse inattendue d'un autre service",
    503: "Service indisponible",
}

OWN_REASONS = {
    "a date looks like 2035-03-05, and exists": "une date s'écrit 2035-03-05, et existe",
    "a day looks like 2035-03-05": "un jour s'écrit 2035-03-05",
    "a time looks like 09:30": "une heure s'écrit 09:30",
    "a time looks like 2035-03-05T09:00:00Z": "un instant s'écrit 2035-03-05T09:00:00Z",
    "an amount in a text looks like 35 or 35.50": "un montant en texte s'écrit 35 ou 35.50",
    "not an id": "identifiant inattendu",
    "a text has no zero bytes and no half characters": "caractère inattendu",
    "not an IANA time zone, such as Europe/Paris": "fuseau horaire inconnu ; Europe/Paris en est un",
    "an address is 20 bytes, as 0x and 40 hex digits": "une adresse s'écrit 0x et 40 chiffres hexadécimaux",
    "a date is from 1971-01-01 to 9998-12-31": "une date va de 1971-01-01 à 9998-12-31",
    "a signature is hex, 0x and up to 4096 bytes": "une signature s'écrit 0x et jusqu'à 4096 octets en hexa",
    "a signature and its deadline go together": "une signature va avec son échéance",
    "not a number": "ce n'est pas un nombre",
    "an amount is not negative": "un montant n'est pas négatif",
    "an amount has at most 18 decimal places": "un montant a au plus 18 décimales",
    "an amount has at most 59 digits before the point, and 400 after it": (
        "un montant a au plus 59 chiffres avant la virgule, et 400 après"
    ),
    "an amount has at most 256 bits of base units": "un montant trop grand",
}
_TYPES = {
    "missing": "champ requis",
    "string_type": "un texte est attendu",
    "int_type": "un nombre entier est attendu",
    "int_parsing": "un nombre entier est attendu",
    "int_from_float": "un nombre entier est attendu",
    "bool_type": "true ou false est attendu",
    "bool_parsing": "true ou false est attendu",
    "list_type": "une liste est attendue",
    "too_short": "au moins {min_length} éléments",
    "too_long": "au plus {max_length} éléments",
    "string_too_long": "au plus {max_length} caractères",
    "string_pattern_mismatch": "forme inattendue",
    "greater_than_equal": "au moins {ge}",
    "greater_than": "plus de {gt}",
    "less_than_equal": "au plus {le}",
    "less_than": "moins de {lt}",
    "extra_forbidden": "champ inconnu",
}


def french_reason(kind: str, said: str, context: Mapping[str, Any]) -> str:
    """Return why a field can't be read, by Pydantic's type of error and what it says in English."""
    if kind in _TYPES:
        return _TYPES[kind].format(**context)
    return OWN_REASONS.get(said.partition(": ")[0], "valeur inattendue")
