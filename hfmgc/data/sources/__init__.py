"""Sources of tracks: one module for each dataset or kind of data.

`contract.py` defines what a source is, and `registry.py` opens the source that `--data` names. The sources share
`tables.py` (lists, labels and sides) and `hub.py` (data from the Hub).
"""

from .registry import SOURCES, open_source


__all__ = ["SOURCES", "open_source"]
