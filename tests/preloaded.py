"""Modules that a run of the program imports, loaded once in the server from which the tests fork their processes.

Only imports: nothing is calculated here and no thread started, because threads do not survive the fork.
"""
