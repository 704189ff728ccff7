"""What authorizes the requests of HTTP clients other than through httpx, and what all of that shares.

`authstate.adapters.httpx_auth` is for httpx and httpx2. No module here imports an HTTP client before it is used.
"""
