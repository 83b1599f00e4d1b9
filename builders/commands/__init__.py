"""The commands of ``python -m builders``: flags, messages and exit status of each.

``builders.__main__`` imports a command when it is asked for, and nothing else imports one. What a
command does lives in the packages below it.
"""
