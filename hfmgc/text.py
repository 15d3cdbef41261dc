"""Names as text to print: in one line, and what is not UTF-8 or not in the terminal's encoding escaped."""

import re
import sys


def as_text(name: str) -> str:
    r"""Return a file's name as Unicode text; bytes of it that are not UTF-8 become `\xe9`."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, as JSON can write it: no file system has such a name
        return name.encode("utf-8", "backslashreplace").decode("utf-8")


def one_line(text: object) -> str:
    """Return a text without line breaks: a genre or a file may be named with one."""
    return " ".join(str(text).split())


def escape_output() -> None:
    """Have standard output escape what its encoding does not have, such as an umlaut in the locale C."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def shown_url(text: str) -> str:
    """Return a text that names a database without its password, and without the folder of an SQLite file."""
    text = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", text)
    return re.sub(r"(sqlite[^:]*:///)/.*/", r"\1", text)
