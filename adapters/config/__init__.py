"""Reads and checks the settings of the person and the administrator: config.toml, the environment and `-c`."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from authstate.adapters.config.home import ConfigError as ConfigError
    from authstate.adapters.config.settings import Config as Config
    from authstate.adapters.config.settings import Environment as Environment
    from authstate.adapters.config.settings import StoreMode as StoreMode
    from authstate.adapters.config.settings import load_config as load_config
else:
    from authstate._lazy_names import lazy_names

    __getattr__, __dir__ = lazy_names(
        __name__,
        {"adapters.config.home": "ConfigError", "adapters.config.settings": "Config Environment StoreMode load_config"},
    )

__all__ = ["Config", "ConfigError", "Environment", "StoreMode", "load_config"]
