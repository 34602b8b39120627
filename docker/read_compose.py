"""Read docker-compose.yml as docker-compose does; its command line does not start on Python 3.13 and newer."""

import sys

from compose.config import config, environment
from compose.config.errors import ConfigurationError
from compose.config.serialize import serialize_config

try:
    found = config.find(".", ["docker-compose.yml"], environment.Environment())
    serialize_config(config.load(found))
except ConfigurationError as error:
    sys.exit(str(error))
