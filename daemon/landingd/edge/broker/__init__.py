"""The link to the MQTT broker: one connection (`link`), and having one again whenever it is lost (`keeping`)."""

from landingd.edge.broker.keeping import keep_connected
from landingd.edge.broker.link import Link, connect
from landingd.edge.broker.values import Address, Incoming, LinkLost, Message, Refused, Taker

__all__ = ["Address", "Incoming", "Link", "LinkLost", "Message", "Refused", "Taker", "connect", "keep_connected"]
