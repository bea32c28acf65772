"""The client API, one module per resource."""
