"""What all data of a report share: it comes from files of strangers, and readers pass over the new.

A field that is known has its type and a bound, or the whole is refused; one that is not known is
passed over, as docs/json.md promises for every later version.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from edgevlm.devices.stats import check_how

__all__ = ["Amount", "Count", "How", "Loose", "Measure", "Moment", "Name", "Text"]


class Loose(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Name = Annotated[str, StringConstraints(max_length=400)]
Text = Annotated[str, StringConstraints(max_length=4000)]
How = Annotated[str, StringConstraints(max_length=80), AfterValidator(check_how)]
Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Count = Annotated[int, Field(ge=0, le=10**15)]
Amount = Annotated[float, Field(ge=0, le=1e12)]  # ms, watts, joules, a rate: never under zero
Measure = Annotated[float, Field(ge=-1e12, le=1e12)]
