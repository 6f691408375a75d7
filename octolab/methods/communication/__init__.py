"""Communication compression and error feedback."""
