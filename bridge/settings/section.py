"""What every section of the settings has in common, and the one thing that sections know of each other."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator, model_validator

from bridge.core.addresses import is_loopback
from bridge.settings.placeholders import PUBLIC, SANDBOX_TOKEN, is_placeholder


class Section(BaseModel):
    """One block of settings: frozen, strict about names, silent about values."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_absent(cls, data: Any) -> Any:
        """A name with nothing behind it (`ops_port:`) counts as left out."""
        if not isinstance(data, dict):
            return data
        return {name: value for name, value in data.items() if value is not None or name not in cls.model_fields}

    @field_validator("*")
    @classmethod
    def _secrets_are_not_public(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse placeholders in every field that holds secrets, whatever its name."""
        for secret in value if isinstance(value, tuple) else (value,):
            if not isinstance(secret, SecretStr):
                continue
            text = secret.get_secret_value()
            if is_placeholder(text):
                raise ValueError(PUBLIC)
            if SANDBOX_TOKEN in text and not cls._is_for_this_machine(info):
                raise ValueError(
                    "is the token of the sandbox, and public; only a crew on a loopback address may have it"
                )
        return value

    @classmethod
    def _is_for_this_machine(cls, info: ValidationInfo) -> bool:
        """Whether the section's `url` leads to this machine; one that is wrong is reported by itself."""
        if "url" not in cls.model_fields or info.field_name == "url":
            return False
        url = info.data.get("url")
        return not isinstance(url, str) or is_loopback(urlsplit(url).hostname or "")


class Whole(Section):
    """All sections together: while they are validated, `info.context` is what `crews` names, sound or not.

    It is None where that is not known. To be inherited behind `BaseSettings`, which takes no context and hands its
    values on to here.
    """

    def __init__(self, /, **values: Any) -> None:  # a setting may be called `self`, and is unknown then
        crews = values.get("crews")
        names = frozenset(map(str, crews)) if isinstance(crews, Mapping) else None
        self.__pydantic_validator__.validate_python(values, self_instance=self, context=names)
