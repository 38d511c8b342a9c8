"""Put a method at a site: build the view, let it choose, shorten everything behind it."""

from __future__ import annotations

from edgevlm.passes.tokens.placing.connector import place_at_connector
from edgevlm.passes.tokens.placing.prompt import place_in_prompt
from edgevlm.passes.tokens.placing.request import Request
from edgevlm.passes.tokens.placing.vision import place_in_vision

__all__ = ["PLACES", "Request"]

#: kind of site -> what puts a method there
PLACES = {
    "vision": place_in_vision,
    "vision-out": place_in_vision,
    "connector-out": place_at_connector,
    "llm": place_in_prompt,
}
