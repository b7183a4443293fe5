"""Files of any kind: written whole or not at all, YAML and JSON, folders made beside and moved."""
