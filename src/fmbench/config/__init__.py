"""From signatures, YAML files and flags to the arguments of a command, and to one `Config`."""
