"""The composition root: settings become rules, and rules and adapters become a running bridge."""
