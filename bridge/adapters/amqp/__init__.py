"""RabbitMQ: one connection for each direction, reading messages, publishing events."""
