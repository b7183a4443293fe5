"""From a `Config` to a trained and measured detector."""
