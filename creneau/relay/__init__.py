"""Between the database and the chain: the outbox and its relayer, the view and its follower.

Knows nothing of HTTP, and of users no more than their ids.
"""
