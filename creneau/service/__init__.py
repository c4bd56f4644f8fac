"""What can be asked of Creneau: to book, prepare, act, publish and list; and who is who.

Knows nothing of HTTP.
"""
