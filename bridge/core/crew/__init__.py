"""The crew API: requests, responses, webhooks, and the rate at which it is called."""
