"""The API for clients, a file for each resource."""
