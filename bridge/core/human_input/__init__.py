"""Human input: questions of executions, and their answers."""
