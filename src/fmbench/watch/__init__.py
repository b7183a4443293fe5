"""Watch a furnace: live video and currents to decisions and alarms."""
