"""An RPC gateway in front of PostgreSQL that behaves as PostgREST 14 does, for functions only.

One request is one transaction: settings of the request (role, claims, headers) are made local to it, the function is
called with the body's keys as named arguments, and the transaction ends with the reply. Nothing of a request outlives
it. A call is never repeated unless PostgreSQL has said that it was rolled back.

- ``errors``: what went wrong, as HTTP status and body
- ``auth``: who calls: a token's or key's role and claims
- ``request``: what is asked: path, profile, media types, arguments
- ``binding``: which function that means, and the statement that calls it
- ``pool``: connections that are known to be alive
- ``call``: the transaction
- ``app``: HTTP in, HTTP out
- ``server``: the thread it runs in
"""
