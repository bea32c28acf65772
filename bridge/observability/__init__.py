"""What operators see of the process: logs, metrics, faults, and the watchdog."""
