"""Options of a command: schema, YAML files and flags, resolved to one `Config`."""
