"""A stand-in for Binance's spot exchange: a process of its own that speaks its REST over HTTP on loopback.

``python -m bench.binance --port 0`` prints ``{"url", "pid", "symbol", "api_key", "api_secret", ...}`` as its first line
and serves until SIGTERM. One account, one market. What it keeps is the truth that a bot's books are compared with:

    ==========  ==================================================================
    path        the price: a function of time and seed, so any bar can be computed
    account     the coins of the account, free and locked, exact to the last digit
    orders      what an order, a trade and an arrival are
    book        all of them, and how orders meet the price; nothing is forgotten
    rules       what Binance checks of an order before it takes it, in its words
    rest        the requests under /api and /sapi, their signatures and times
    replies     the answers, in Binance's shapes
    limits      how much a client may ask
    faults      what goes wrong between a client and the exchange, on demand
    door        each request's way through all of these
    control     /control/...: faults, kills, the market, the ledger; not Binance's
    wire        HTTP/1.1, by hand: replies can be lost, cut short or held back
    process     starts it from a test or a campaign, and speaks to its controls
    ==========  ==================================================================

Its rules are written from Binance's documentation and share no code with the bot that they judge.
"""
