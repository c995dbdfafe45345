"""Takes a secret out of what others say: whole, in part, or masked with stars."""

import re

_PART = 4  # characters in a row that count as part of the secret; services quote that many
_REPLACEMENT = "<key>"
# A word with stars or bullets in it is how services mask a key, whatever they left of it.
_MASKED = re.compile(r"[^\s'\"]*(?:\*{2,}|\u2022{2,})[^\s'\"]*")


def redact(message: str, secret: str | None) -> str:
    """The message without the secret and without any part of it of four characters or more.

    Harmless words that happen to share four characters with the secret go with it: better a message
    with a hole than a dataset with a key.

    Example:
        >>> redact("Incorrect API key provided: sk-ab***yz12. See your account.", "sk-abcdefyz12")
        'Incorrect API key provided: <key> See your account.'
    """
    if not secret:
        return message
    message = _MASKED.sub(_REPLACEMENT, message)
    length = min(_PART, len(secret))
    lowered, folded = secret.lower(), message.lower()
    if len(folded) != len(message):  # some letters grow when lowered; positions must agree
        folded = message
    parts = {lowered[i : i + length] for i in range(len(lowered) - length + 1)}
    secret_at = [False] * len(message)
    for i in range(len(message) - length + 1):
        if folded[i : i + length] in parts:
            secret_at[i : i + length] = [True] * length
    out: list[str] = []
    for i, letter in enumerate(message):
        if not secret_at[i]:
            out.append(letter)
        elif i == 0 or not secret_at[i - 1]:
            out.append(_REPLACEMENT)
    return "".join(out)
