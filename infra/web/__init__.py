"""The live page: every model with its best-before date, kept up by server-sent events.

store ─> overview ─> hub ─┬─> /stream        one reader of the store, however many pages are open
                          ├─> /models.json
                          └─> /model.json    one model in detail, made once for each change
"""
