"""Text for messages: printable, in one line, without secrets."""

import re
import sys


def to_unicode(name: str) -> str:
    r"""Return a file name as Unicode text; bytes that are not UTF-8 are escaped as `\xe9`."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can contain
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: object) -> str:
    """Replace all whitespace by single spaces; names of genres and files can contain line breaks."""
    return " ".join(str(text).split())


def escape_output() -> None:
    """Make standard output escape characters that its encoding lacks, such as an umlaut in the C locale."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def format_size(count: float) -> str:
    """Return a number of bytes as text, in GB, MB or kB."""
    unit, name = next(((size, name) for size, name in ((1e9, "GB"), (1e6, "MB")) if count >= size), (1e3, "kB"))
    return f"{count / unit:.1f} {name}"


def redact_url(text: str) -> str:
    """Remove the password from the URL of a database, and the folder from that of an SQLite file."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"(sqlite[^:]*:///)/.*/", r"\1", text)
