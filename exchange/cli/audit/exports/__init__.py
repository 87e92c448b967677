"""Exports: views of the access log in other programs' formats. The leaf is the evidence, and each row names its own."""
