"""Every knob of the bridge: read once from one YAML file and the environment, typed, checked, frozen.

    settings = load(default_path())        # or SettingsError, which tells every problem at once

The way of a value: `yaml_file` reads, `environment` lays BRIDGE_… over it and expands ${NAME}, `secret_files` fetches
what a `…_file` points to, `model` checks, `problems` puts into words what is wrong. `load` holds them together.
"""

from bridge.config.errors import SettingsError
from bridge.config.hooks import Hook, Verify
from bridge.config.loading import Renewable, default_path, load, load_renewable
from bridge.config.model import Amqp, Budget, Callbacks, Client, Crew, Http, Human, Log, Poll, Role, Settings, Store
from bridge.config.names import setting_names
from bridge.config.secret_watch import Renewal, SecretWatch
from bridge.config.secrets import secret_values

__all__ = [
    "Amqp",
    "Budget",
    "Callbacks",
    "Client",
    "Crew",
    "Hook",
    "Http",
    "Human",
    "Log",
    "Poll",
    "Renewable",
    "Renewal",
    "Role",
    "SecretWatch",
    "Settings",
    "SettingsError",
    "Store",
    "Verify",
    "default_path",
    "load",
    "load_renewable",
    "secret_values",
    "setting_names",
]
