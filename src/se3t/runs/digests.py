"""Digests that tell whether a record was changed.

A digest guards against damage and careless edits. It is not a signature: whoever can write a record can write its
digest as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from se3t.errors import UserError
from se3t.runs.names import ADVICE, COSTS, DIGEST, DIGESTS


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys and the white space in its file."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with the digest of all its fields; read back from JSON it has the same digest."""
    fields = {name: value for name, value in content.items() if name != DIGEST}
    return {**fields, DIGEST: digest_of(fields)}


def require_sealed(content: Mapping[str, Any], origin: str) -> bool:
    """Refuse content that does not match its digest.

    Returns:
        Whether there is a digest: records of earlier versions have none, nor any of the files beside them.

    Raises:
        UserError: naming the file.
    """
    if DIGEST not in content and DIGESTS not in content:
        return False
    if DIGEST not in content:
        raise UserError(f"{origin}: field {DIGEST!r} is missing; {ADVICE}")
    if seal(content)[DIGEST] != content[DIGEST]:
        raise UserError(f"{origin}: its content does not match its field {DIGEST!r}; {ADVICE}")
    return True


def digest_of_metrics(lines: Iterable[Mapping[str, Any]]) -> str:
    """The digest of what a training measured, without what it says of the machine."""
    return digest_of([{name: value for name, value in line.items() if name not in COSTS} for line in lines])
