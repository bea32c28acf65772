"""What happens to one run, one step per file: one I/O through a port, one decision of the core, one write."""
