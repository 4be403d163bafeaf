"""Conversations: messages, and the forms in which files hold them."""
