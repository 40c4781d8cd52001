"""Secrets that the tests plant in jobs, and a function that searches for them."""

PLANTED = {
    "key": "PLANTEDKEY1",
    "secret": "PLANTED/secret+2",
    "token": "PLANTED_token_3",
    "password": "PLANTED-password-4",
}


def planted_in(text: str | bytes) -> list[str]:
    """Return the names of the planted secrets that a text contains."""
    data = text.encode() if isinstance(text, str) else text
    return [name for name, secret in PLANTED.items() if secret.encode() in data]
