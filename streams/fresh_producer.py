"""Faust's producer, less one patience of its client that has no end."""

from typing import Any

from aiokafka.conn import CloseReason
from aiokafka.errors import UnknownTopicOrPartitionError
from faust.exceptions import ProducerSendError
from faust.transport.drivers.aiokafka import Producer


class FreshProducer(Producer):
    """Leaves connections on which it has asked in vain where a topic is.

    aiokafka closes a connection on which a record was not acknowledged in time, but not one on which metadata were not
    told: over a dead one it would ask for minutes. A topic that this worker has not yet sent to cannot be sent to then.
    """

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """As Faust's."""
        try:
            return await super().send(*args, **kwargs)
        except ProducerSendError as error:
            if isinstance(error.__cause__, UnknownTopicOrPartitionError):
                for connection in list(self._ensure_producer().client._conns.values()):
                    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)
            raise
