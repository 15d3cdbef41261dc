"""The ten genres of GTZAN, as procedural music: tempo, harmony, drums, timbre and production of each.

Source: ours; the two tables beside this file are the data.
"""

from hfmgc.data.synthesis.arrangement import GenreStyle
from hfmgc.data.synthesis.styles_acoustic import ACOUSTIC_STYLES
from hfmgc.data.synthesis.styles_electric import ELECTRIC_STYLES


STYLES: dict[str, GenreStyle] = dict(sorted({**ACOUSTIC_STYLES, **ELECTRIC_STYLES}.items()))
GENRES: tuple[str, ...] = tuple(STYLES)
