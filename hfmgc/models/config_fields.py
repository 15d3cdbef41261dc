"""Validated config fields: `hidden_size: int = size(default=128)` is an integer of at least 1.

`@strict` checks a field's type, and these validators its range, whenever the field is set.
"""

from typing import Any

from huggingface_hub.dataclasses import as_validated_field
from transformers.utils.type_validators import interval


size = interval(min=1)
count = interval(min=0)
# A dropout rate; 1 would drop everything.
rate = interval(min=0, max=1, exclude_max=True)


@as_validated_field
def sizes(values: list[int] | tuple[int, ...]) -> None:
    """Validate a non-empty list of integers of at least 1."""
    check_sizes(values=values)


def check_sizes(**fields: Any) -> None:
    """Raise a ValueError naming the first field that is neither a positive integer nor a non-empty list of them."""
    for name, value in fields.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not numbers or any(not isinstance(number, int) or number < 1 for number in numbers):
            raise ValueError(f"{name} must be a positive integer or a list of positive integers, not {value!r}")
