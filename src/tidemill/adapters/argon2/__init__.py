"""Passwords, hashed by Argon2."""
