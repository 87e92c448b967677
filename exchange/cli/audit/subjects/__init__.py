"""A person asks who saw their data: the office's request, the owners' answers, and what the log says of them."""
