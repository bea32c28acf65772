"""The HTTP server: connections, authentication, bodies, problems, the client API, webhooks, and the ops endpoints."""
