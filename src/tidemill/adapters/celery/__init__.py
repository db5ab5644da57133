"""Workers on other machines, through Celery on RabbitMQ or Redis."""
