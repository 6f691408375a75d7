"""The explorer of one method: `state` without any widget, `explorer` the widget over it."""
