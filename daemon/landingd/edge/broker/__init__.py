"""The link to the MQTT broker: one connection (`link`), and having one again whenever it is lost (`keeping`)."""

from landingd.edge.broker.keeping import keep_connected
from landingd.edge.broker.link import Address, Incoming, Link, LinkLost, Message, Refused, Taker, connect

__all__ = ["Address", "Incoming", "Link", "LinkLost", "Message", "Refused", "Taker", "connect", "keep_connected"]
