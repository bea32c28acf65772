"""What operators see of the process: logs, metrics, and the watchdog."""
