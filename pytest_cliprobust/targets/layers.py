"""How a layer of an image tower is named. Imports nothing heavy: properties name layers, too."""

from __future__ import annotations

from typing import Literal

#: Which patch features: those of a block by its number (negative ones count from the last), or the values
#: that the last block's attention weighs.
Layer = int | Literal["values"]
LAST: Layer = -1
