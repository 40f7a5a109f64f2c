"""Credentials in addresses: what stands before the @ of a URL is shown to nobody."""

import re

MASK = "***"
IN_URL = r"[A-Za-z][A-Za-z0-9+.-]*://(?P<user>[^\s/:@]*)(:(?P<password>[^\s/@]*))?@"


def without_credentials(text: str) -> str:
    """The text with what stands before the @ of a URL replaced."""
    return re.sub(IN_URL, lambda match: match[0].partition("//")[0] + f"//{MASK}@", text)
