"""Adapters of port `notifier`: webhooks, Slack's format, mail."""
