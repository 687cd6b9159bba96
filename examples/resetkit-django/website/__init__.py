"""A password reset in Django: ``python manage.py``, beside this folder, and open http://127.0.0.1:8000/forgot.

It prints its mails, until the environment names an SMTP server. docs/django.md goes through it.
"""
