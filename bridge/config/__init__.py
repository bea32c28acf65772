"""The settings of the bridge: read once from a YAML file and the environment, typed, validated, and frozen.

    settings = load(default_path())        # or SettingsError, which lists every problem

A value passes through these modules: `yaml_file` reads the file, `environment` applies BRIDGE_… and expands ${NAME},
`secrets` reads the files that `…_file` names, `model` validates, `errors` describes the problems; `loading` calls them.
"""

from bridge.config.amqp import Amqp, Source
from bridge.config.errors import SettingsError
from bridge.config.hooks import Hook, Verify
from bridge.config.loading import Renewable, default_path, load, load_renewable, otel_variables
from bridge.config.model import (
    Budget,
    Callbacks,
    Client,
    Crew,
    Destination,
    Http,
    Human,
    Log,
    Poll,
    Role,
    Settings,
    Store,
)
from bridge.config.names import setting_names
from bridge.config.secrets import secret_values

__all__ = [
    "Amqp",
    "Budget",
    "Callbacks",
    "Client",
    "Crew",
    "Destination",
    "Hook",
    "Http",
    "Human",
    "Log",
    "Poll",
    "Renewable",
    "Role",
    "Settings",
    "SettingsError",
    "Source",
    "Store",
    "Verify",
    "default_path",
    "load",
    "load_renewable",
    "otel_variables",
    "secret_values",
    "setting_names",
]
