"""What happens to one run, a step a file: one I/O through a port, one decision of the core, one write."""
