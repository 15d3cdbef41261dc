"""Fields of the configs with a range; `strict` checks their types, and both name the field."""

from typing import Any

from huggingface_hub.dataclasses import as_validated_field
from transformers.utils.type_validators import interval


# Whole numbers; `size(default=128)` is a field.
size = interval(min=1)
count = interval(min=0)
# The rate of a dropout.
rate = interval(min=0, max=1, exclude_max=True)


@as_validated_field
def sizes(values: list[int] | tuple[int, ...]) -> None:
    """A field with one or more whole numbers of at least 1."""
    check_sizes(values=values)


def check_sizes(**fields: Any) -> None:
    """Raise a ValueError naming the first field that is not a whole number of at least 1, or one or more of them."""
    for name, value in fields.items():
        numbers = value if isinstance(value, (list, tuple)) else [value]
        if not numbers or any(not isinstance(number, int) or number < 1 for number in numbers):
            raise ValueError(f"{name} must be at least 1, not {value!r}")
