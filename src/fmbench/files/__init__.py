"""Files of any kind: atomic writes, YAML and JSON, folders made beside and moved, one lock."""
