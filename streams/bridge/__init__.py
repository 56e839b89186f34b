"""Events that come over HTTP and go to Kafka: what a request holds, where it goes, and the queue in between.

The server itself is infra/bridge.py.
"""
