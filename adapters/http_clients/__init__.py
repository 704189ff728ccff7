"""Authorized requests: token providers for other libraries, and what they share with the classes for httpx.

`authstate.adapters.httpx_auth` is for httpx and httpx2. No module here imports an HTTP client before it is used.
"""
