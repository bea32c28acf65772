"""Human input: the questions of executions, and their answers."""
