"""What an ACL of the scheme `x509` may name: a distinguished name, as Java reads one.

Parts `type=value`, joined by `,` or `;`, or by `+` within one.  A type is a keyword or an object
identifier; a value is plain text with backslashes, quoted, or `#` and hexadecimal digits.
Nothing follows from what a name says: it is compared, as a whole, with that of a certificate.
"""

import re
from typing import Final

_KEYWORD: Final = (
    "(?i:C|CN|DC|DNQ|DNQUALIFIER|EMAILADDRESS|GENERATION|GIVENNAME|INITIALS|IP|L|O|OU|S|"
    "SERIALNUMBER|ST|STREET|SURNAME|T|UID)"
)
_OBJECT_IDENTIFIER: Final = r"(?i:OID\.)?(?:[01]\.[123]?[0-9]|2\.[0-9]+)(?:\.[0-9]+)*"
_HEX: Final = "#(?:[0-9a-fA-F]{2})+"
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PLAIN: Final = r'(?:[^,;+"\\<>]|\\(?:[0-9a-fA-F]{2}|[,=+<>#;"\\ ]))*'
_PART: Final = re.compile(
    rf"\s*(?:{_KEYWORD}|{_OBJECT_IDENTIFIER})\s*="
    rf"(?:\s*(?:{_HEX}|{_QUOTED})\s*|(?!\s*#){_PLAIN})",
    re.DOTALL,
)
"""As much as belongs to one part.  It is found, or not, in steady time, without trying anything
again and again.  (Possessive quantifiers would say so, but fail before Python 3.11.5.)"""
LENGTH_MAX: Final = 16 * 1024
"""What a connection's identities may come to (`Limits.identity_bytes_max`): a longer name is
nobody's, and takes long to look at."""


def is_name(text: str) -> bool:
    """Whether it may be a subject's name; the empty one is."""
    at, end = 0, len(text)
    if not end:
        return True
    if end > LENGTH_MAX:
        return False
    while (part := _PART.match(text, at)) is not None:
        at = part.end()
        if at == end:
            return True
        if text[at] not in ",;+":
            return False
        at += 1
    return False
