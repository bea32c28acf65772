"""The Alembic environment: migrations run on the connection that the store passes."""

from alembic import context

from bridge.adapters.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
