"""The explorer of one method: `bench` is its state, without any widget; `explorer` what one sees of it."""
