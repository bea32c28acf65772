"""The HTTP server: listening, authentication, bodies, problems, and the operators' endpoints."""
