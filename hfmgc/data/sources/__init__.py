"""Where tracks come from: one module for each dataset, all with the contract of `contract.TrackSource`."""

from .registry import SOURCES, open_source


__all__ = ["SOURCES", "open_source"]
