"""What flows, and where it comes to rest.

inference, inputs, labels ─> records, frames ─> columns ─> agents ─> profiles ─> event store ─> outbox ─> topics out
"""
