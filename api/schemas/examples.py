"""Examples of requests, for the documentation; each of them books."""

from typing import Any

from api.schemas.requests import ANNONCE, TUTOR


def _slot(day: str, clock: str, amount: object, duration: int) -> dict[str, object]:
    return {"date": day, "time": clock, "amount": amount, "duration": duration}


_PARTIES = {"tutorId": TUTOR, "annonceId": ANNONCE}
BATCH_EXAMPLES: dict[str, Any] = {
    "twoLessons": {
        "summary": "Two consecutive lessons, as the booking page sends them",
        "value": {
            **_PARTIES,
            "bookings": [_slot("2035-03-05", "09:00", 35, 60), _slot("2035-03-05", "10:00", 35, 60)],
            "studentNotes": "Réseaux de neurones, chapitre 3",
        },
    },
    "allOrNothing": {
        "summary": "All or nothing, in another time zone, amounts as text",
        "value": {
            **_PARTIES,
            "bookings": [_slot("2035-03-06", "14:30", "52.5", 90), _slot("2035-03-07", "14:30", "17.50", 30)],
            "timeZone": "America/Montreal",
            "allowPartial": False,
        },
    },
}
BOOKING_EXAMPLES: dict[str, Any] = {
    "oneLesson": {"summary": "One lesson", "value": _PARTIES | _slot("2035-03-08", "18:00", 70, 120)}
}
