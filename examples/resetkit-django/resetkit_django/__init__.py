"""Keeps the tokens of resetkit in the Django ORM: `resetkit_django.store.DjangoTokenStore`."""
